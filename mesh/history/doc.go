// Package history is what this router remembers of the bans that were: each ban, prolongation, lift, expiry and allow with
// the time at which it was seen here, also after the set itself has forgotten it.
//
// The memory is local, it is no part of the replicated set, and it is bounded in days and in entries. Note takes in what
// happened without waiting for anything; a goroutine of its own writes it, some at a time, into a bbolt file beside the store.
// What a crash loses of it (some seconds), and what was banned while no agent ran, is found again at the next start where it is
// still live: catch-up compares the memory with the set. A disk that is full or does not answer costs the memory its
// newest entries, which it counts, and nobody else anything.
package history
