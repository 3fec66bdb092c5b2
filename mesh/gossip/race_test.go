//go:build race

package gossip

// Raced says that the race detector runs: it makes the largest simulations ten
// times slower, and finds as much in smaller ones.
const Raced = true
