// Package leader decides which member commits to the conductor.
//
// Heartbeats of other members come in through Receive, the committer's state through SetWork. Out go this member's own
// heartbeats through Config.Send and each change of leadership through Config.OnChange. The election itself is a state
// machine without clock, network or lock, so that a test can explore its states.
//
// A claim is {term, name} and sticky: the leader stays while its heartbeats arrive and it is able; a better-ranked newcomer
// does not preempt it. Rank is priority (higher first), then name. Only silence takes leadership away, never slowness: a
// leader that waits for a lock or a slow commit says so and stays. Leadership only saves work. Two leaders, one on each side
// of a partition, are expected, and the conductor's lock keeps them apart. When they meet, the higher term wins, then the
// rank.
//
// Run is the only goroutine. It sends and calls out without Elector.mu, which guards memory and has no lock below it.
package leader
