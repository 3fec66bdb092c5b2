//go:build race

package main

// raced: this is a build with the race detector.
const raced = true
