// Package store is the replicated set of bans: one log of records for each member, merged without conflicts, kept in memory and
// in one durable file. It does no networking, and knows no clock but the one it is given.
//
// Records come in two ways. A call such as Ban, Lift or Allow goes to the writer, which plans it against the set, writes the
// records to the file with those of all other waiting calls in one transaction, and only then makes them visible and answers. A
// peer's chunk goes to Merge, which makes its records visible at once and leaves them to one of the next transactions. Tick lets
// records expire and forgets them.
//
// Everything goes out through views: Effective and List say what is banned, Head, Since, Root, Digest and Deltas feed
// replication, Notices are what the local fail2ban has still to be told, and OnChange reports what has happened.
//
// Three goroutines belong to a Store. The writer alone uses the file. A second one calls OnChange. While the file shrinks, a
// third one copies it. The set has no locks of its own: Store guards it, in the order given there.
package store
