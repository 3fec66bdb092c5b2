// Package commit brings the effective bans into the conductor's tenant.
//
// One committer runs on every member; only the leader's does anything but look.
// Changes gather for a moment, then one plan is made from running's tenant and
// the set of bans, and one edit carries the difference. A plan removes only what
// a leader has Placed and no live ban covers any more, so an empty store, a lost
// disk or the other side of a partition unbans nothing.
package commit
