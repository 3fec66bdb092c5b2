// Package netconfclient keeps a set of address prefixes in one tenant of a conductor's configuration, over NETCONF.
//
// It has two layers. A [Session] is one NETCONF session over SSH: framing, hello, operations and every rpc-error
// the server gives, with a deadline on each step. A [Conductor] is the tenant on top: it reads the set, and changes
// it as a read-modify-write under the server's lock, reading back what the server really holds, because servers
// have been seen to answer ok and do something else.
package netconfclient
