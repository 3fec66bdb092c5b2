// Package history remembers the bans of this router's past: each ban, prolongation, lift, expiry and allow, with the time at
// which this router saw it, even after the set has forgotten it.
//
// The history is local, not part of the replicated set, and bounded in days and entries. Note takes events without waiting.
// Start runs one goroutine, which alone writes: it appends blocks of entries to a bbolt file beside the store, some seconds
// after the events. Queries may come from any goroutine and read both the file and what still waits. History.mu guards the
// memory and is not held during a write.
//
// A crash loses the last seconds, and bans that began while no agent ran leave no events. The next start finds those that are
// still live: catch-up compares the history with the set. If the disk is full or hangs, the history loses and counts its
// newest entries, and nothing else suffers.
package history
