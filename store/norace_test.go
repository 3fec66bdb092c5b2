//go:build !race

package store

// raced: this is a build without the race detector.
const raced = false
