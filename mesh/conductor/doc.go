// Package conductor keeps a set of address prefixes in one tenant of a conductor's configuration.
//
// A [Conductor] reads the tenant and changes it through an [Edit]: a read-modify-write under the server's lock or, where the
// server has no lock, between two comparisons of the candidate with running. Servers have been seen to answer ok and do
// something else, so the result is read back after every write. A [Session] knows how to talk to one kind of server; packages
// netconf and rest implement it. It returns errors.ErrUnsupported for an operation that the server lacks, and the Conductor
// does not ask for that again.
//
// The package deals in prefixes and knows nothing of the agent. The caller decides in a [Permit] what may be undone and whose
// session may be killed.
//
// It starts no goroutines: all work runs in the caller's. Several edits and reads may run at once, each with a session of its
// own. Conductor.mu guards the memory that they share and is never held during a call to the server.
package conductor
