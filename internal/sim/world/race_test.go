//go:build race

package world

// raced: this is a build with the race detector.
const raced = true
