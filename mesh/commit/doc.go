// Package commit brings the effective bans into the conductor's tenant.
//
// A Committer runs on every member, but only the leader's edits; the others read the tenant now and then, to know whether they
// could take over. Notify reports a change of the set. Changes gather for a moment (batch), then one plan is made from the
// tenant in running and the effective bans (makePlan), the additions are recorded as Placed in the set, and one edit carries
// the difference to the conductor and reads it back. Status, events and the election's Work report what happened.
//
// A plan removes only prefixes that a leader has Placed and that no live ban covers any more, so that an empty store, a lost
// disk or the other side of a partition unbans nothing.
//
// The goroutine of Run does all of this. Only it talks to the conductor, except for Plan, and only it changes memory, what this
// member has seen in the tenant. The order of locks is written at Committer.
package commit
