// Package netconfdtest starts Debian's netconfd behind OpenSSH for a test: an independent NETCONF server.
//
// Start runs both in a directory of their own, on loopback with a model like the conductor's, and the test's end stops them.
// NcclientRead reads the configuration with python3-ncclient, which shares no code with the client under test. Each process
// has a goroutine that waits for its end on the thread that started it. A Server is for one goroutine, and has no locks.
package netconfdtest
