//go:build race

package store

// raced: this is a build with the race detector.
const raced = true
