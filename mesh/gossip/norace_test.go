//go:build !race

package gossip

// Raced says that the race detector runs.
const Raced = false
