// Package netconfclient speaks NETCONF (RFC 6241) over SSH (RFC 6242): host keys, framing, hello, operations, and every
// rpc-error that a server gives, with a deadline on each step. It knows datastores and nothing of what is in them.
//
// It is built on the session and messages of Juniper's go-netconf. That one's transport is not used: it leaves chunk headers
// in replies, checks no message-id and has no deadlines.
package netconfclient
