//go:build !race

package world

// raced: this is a build without the race detector.
const raced = false
