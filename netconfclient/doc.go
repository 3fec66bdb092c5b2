// Package netconfclient speaks NETCONF (RFC 6241) over SSH (RFC 6242): host keys, framing, hello, operations and every
// rpc-error of a server, with a deadline on each step. It knows datastores, but not what is in them.
//
// Dial returns a Session, which runs one operation at a time under its mu. When a context ends before the reply has come, the
// connection is closed, because a late reply must never answer another operation.
//
// Each session has three goroutines until Close: one sends SSH keepalives, two discard what the server sends beside the
// protocol. Session.mu comes before transport.mu, which is a leaf, so that abort can be called from anywhere.
//
// The package uses the session and messages of Juniper's go-netconf, but not its transport, which leaves chunk headers in
// replies, does not check message-ids and has no deadlines.
package netconfclient
