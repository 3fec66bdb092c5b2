// Package server is the agent's end of package control: it answers the commands on this machine, by HTTP over a unix socket.
//
// Listen makes the socket, whose mode decides who may connect, and holds a lock beside it, so that only one agent has it. Serve
// decodes and checks each call, asks the Agent and logs who changed something. Lists and events are streamed: the agent must hold
// no lock while a slow terminal reads them.
//
// Serve owns one goroutine, the HTTP server. Each connection has one, and each stream of events a second, which ends the stream
// when the agent stops. users bounds what one user takes up; its lock, the only one, is a leaf.
package server
