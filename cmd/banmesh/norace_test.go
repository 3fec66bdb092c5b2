//go:build !race

package main

// raced: this is a build without the race detector.
const raced = false
