// Package gossip replicates the set to the members of the mesh: memberlist says who is there, pushes carry new records at once by
// packets, and anti-entropy makes sure of them by comparing roots and exchanging what differs over streams.
//
// Announce reports that the own log has grown. The pusher then reads the new records from the set and sends them. A received
// frame waits in one of two queues of the wire, one for frames with records and one for all others, so that a merge that waits
// for the disk never delays a heartbeat. Each answer to a probe carries a stamp with the sender's root. The syncer compares it
// with the own root and plans an exchange with a member that differs. Member events leave through Config.OnMember, other
// packages' messages through Send and Config.OnMessage.
//
// Each of these loops has a goroutine of its own, from New until Shutdown: two receivers, the dispatcher of events, the pusher,
// the syncer, the search for lost members, the saver of known members, and the housekeeper. The wire has two more, and one for
// each stream.
//
// Locks: memberlist calls the delegate under its node lock, and the lock of the table comes after that one and is a leaf. For a
// change of keys the order is Mesh.rotate, Mesh.keyMu, keyring.mu. All other locks guard one small structure each.
package gossip
