package gossip

import (
	"net"
	"time"
)

// A guest is a stream on the gossip port that does not speak gossip: a machine that is not a member yet. Its first byte
// distinguishes it before anything else is read.

// beginning is a stream whose first byte has already been read.
type beginning struct {
	net.Conn
	first  byte
	unread bool
}

// Read is called by one goroutine at a time, as for every stream here.
func (b *beginning) Read(p []byte) (int, error) {
	if !b.unread || len(p) == 0 {
		return b.Conn.Read(p)
	}
	b.unread = false
	p[0] = b.first
	return 1, nil
}

// isGuest waits for the first byte of a stream, and returns the stream with it.
func (w *wire) isGuest(c net.Conn) (net.Conn, bool) {
	if w.guest == nil {
		return c, false
	}
	b := &beginning{Conn: c, unread: true}
	var p [1]byte
	if c.SetReadDeadline(time.Now().Add(helloTimeout)) != nil {
		return c, false
	}
	if n, _ := c.Read(p[:]); n == 0 {
		b.unread = false // the next Read meets the same error
		return b, false
	}
	b.first = p[0]
	return b, b.first == w.guestByte
}
