// Package leader decides which member commits to the conductor.
//
// A claim is {term, name} and sticky: the leader goes on leading while its
// heartbeats arrive and it is able; a better-ranked newcomer does not preempt.
// Rank is priority (higher first), then name. Leadership is for efficiency
// only: two leaders, one on each side of a partition, are expected, and the
// conductor's lock keeps them apart. When they meet, the higher term wins, ties
// go by rank.
//
// Silence is what takes leadership away, never slowness: a leader that waits for
// a lock or for a slow commit says so in its heartbeats and keeps its place.
package leader
