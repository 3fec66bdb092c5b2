// Package conductor keeps a set of address prefixes in one tenant of a conductor's configuration.
//
// A [Conductor] reads the tenant, and changes it by an [Edit]: a read-modify-write under the server's lock, or, where a
// server has none, between two comparisons of the candidate with running. Servers have been seen to answer ok and do
// something else, so what they really hold is read back after every write. How a server is spoken to is a [Session]'s
// business: packages netconf and rest have one each. What a server turns out not to do, its session answers with
// errors.ErrUnsupported, and it is asked for no more.
//
// The package speaks of prefixes and knows no agent: what may be undone, and whose session may be killed, its caller says
// in a [Permit].
package conductor
