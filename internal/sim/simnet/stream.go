package simnet

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// stream is one end of a connection. Its lock comes before the network's. Written data arrives in order after a trip. While
// the way is cut it waits, like a TCP segment that is retransmitted.
type stream struct {
	net    *Network
	host   *Host         // nil until accepted; under the network's lock
	held   []part        // sent while the way is cut; under the network's lock
	pause  time.Duration // until held is sent again; under the network's lock
	local  netip.AddrPort
	remote netip.AddrPort
	peer   *stream

	mu       sync.Mutex
	change   chan struct{} // closed and replaced when anything below changes
	in       []byte        // arrived, but not read
	eof      bool          // the peer closed, and all of its data arrived
	err      error         // the stream is broken
	closed   bool
	flight   int       // sent by this end, but not read by the peer
	arrives  time.Time // when the last segment sent by this end arrives
	readBy   time.Time // deadlines
	writeBy  time.Time
	finished bool // the end of this direction is on its way
}

const (
	window     = 256 << 10
	segment    = 16 << 10
	retransmit = 200 * time.Millisecond // the first one; each further one takes twice as long
	slowest    = 30 * time.Second
)

// newPair returns both ends of a stream from a new port, like a dialler's. The caller holds the network's lock.
func newPair(h *Host, to netip.AddrPort) (local, remote *stream) {
	h.dialled++
	from := netip.AddrPortFrom(h.addr.Addr(), 49152+uint16(h.dialled%16384))
	local = &stream{net: h.net, host: h, local: from, remote: to, change: make(chan struct{})}
	remote = &stream{net: h.net, local: to, remote: from, change: make(chan struct{})}
	local.peer, remote.peer = remote, local
	return local, remote
}

// changed wakes all waiters. The caller holds the lock.
func (s *stream) changed() {
	close(s.change)
	s.change = make(chan struct{})
}

// fail breaks this end.
func (s *stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		s.changed()
	}
	s.mu.Unlock()
}

// wait waits for a change or the deadline. The caller holds the lock, which wait releases meanwhile.
func (s *stream) wait(deadline time.Time) error {
	ch := s.change
	s.mu.Unlock()
	defer s.mu.Lock()
	if deadline.IsZero() {
		<-ch
		return nil
	}
	d := time.Until(deadline)
	if d <= 0 {
		return os.ErrDeadlineExceeded
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ch:
		return nil
	case <-t.C:
		return os.ErrDeadlineExceeded
	}
}

func (s *stream) Read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.closed:
			return 0, net.ErrClosed
		case s.err != nil:
			return 0, s.err
		case len(s.in) > 0:
			n := copy(b, s.in)
			s.in = s.in[n:]
			s.acknowledge(n)
			return n, nil
		case s.eof:
			return 0, io.EOF
		}
		if err := s.wait(s.readBy); err != nil {
			return 0, err
		}
	}
}

// acknowledge lets the peer send more.
func (s *stream) acknowledge(n int) {
	p := s.peer
	// Never lock both ends at once: the peer may be doing the same.
	s.mu.Unlock()
	p.mu.Lock()
	p.flight -= n
	p.changed()
	p.mu.Unlock()
	s.mu.Lock()
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := 0
	for len(b) > 0 {
		switch {
		case s.closed:
			return done, net.ErrClosed
		case s.err != nil:
			return done, s.err
		}
		if s.flight >= window {
			if err := s.wait(s.writeBy); err != nil {
				return done, err
			}
			continue
		}
		data := append([]byte(nil), b[:min(len(b), segment)]...)
		s.flight += len(data)
		s.send(data, false)
		done += len(data)
		b = b[len(data):]
	}
	return done, nil
}

// send puts a segment on its way, after all earlier ones. The caller holds the stream's lock.
func (s *stream) send(data []byte, last bool) {
	n := s.net
	n.mu.Lock()
	defer n.mu.Unlock()
	n.counts.StreamBytes += uint64(len(data))
	d := n.delay()
	if n.chance(n.cfg.Loss) {
		d += retransmit
	}
	at := time.Now().Add(d)
	if at.Before(s.arrives) {
		at = s.arrives
	}
	s.arrives = at
	n.after(time.Until(at), func() { s.arrive(part{data, last}) })
}

// part is a segment of a stream on its way.
type part struct {
	data []byte
	last bool // nothing comes after it
}

// arrive hands a segment to the peer. While the way is cut, it keeps this segment and all later ones.
func (s *stream) arrive(p part) {
	n := s.net
	n.mu.Lock()
	if s.down() {
		n.mu.Unlock()
		return
	}
	if len(s.held) > 0 || !n.open(s.local.Addr(), s.remote.Addr()) {
		s.held = append(s.held, p)
		if len(s.held) == 1 {
			s.pause = retransmit
			n.after(s.pause, s.retry)
		}
		n.mu.Unlock()
		return
	}
	n.mu.Unlock()
	s.hand(p)
}

// retry sends the held segments again.
func (s *stream) retry() {
	n := s.net
	n.mu.Lock()
	if s.down() {
		n.mu.Unlock()
		return
	}
	if !n.open(s.local.Addr(), s.remote.Addr()) {
		s.pause = min(2*s.pause, slowest)
		n.after(s.pause, s.retry)
		n.mu.Unlock()
		return
	}
	held := s.held
	s.held = nil
	n.mu.Unlock()
	for _, p := range held {
		s.hand(p)
	}
}

// down reports whether either end has crashed. The caller holds the network's lock.
func (s *stream) down() bool {
	return s.host != nil && s.host.crashed || s.peer.host != nil && s.peer.host.crashed
}

// hand passes a segment to the peer. Only the network's goroutine calls it.
func (s *stream) hand(q part) {
	p := s.peer
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.closed && !q.last:
		// The peer is gone, so it answers with a reset.
		s.net.mu.Lock()
		s.reset(s)
		s.net.mu.Unlock()
	case q.last:
		p.eof = true
	default:
		p.in = append(p.in, q.data...)
	}
	p.changed()
}

var errReset = errors.New("connection reset by peer")

// reset tells an end that what it sent will not be read. The caller holds the network's lock.
func (s *stream) reset(end *stream) {
	s.net.after(s.net.delay(), func() { end.fail(errReset) })
}

func (s *stream) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.changed()
	broken := s.err != nil
	unread := len(s.in) > 0
	if !broken && !s.finished {
		s.finished = true
		s.send(nil, true)
	}
	s.mu.Unlock()
	s.net.mu.Lock()
	if unread {
		s.reset(s.peer)
	}
	if s.host != nil {
		delete(s.host.conns, s)
	}
	s.net.mu.Unlock()
	return nil
}

// abandon closes an end that was never connected.
func (s *stream) abandon() {
	s.mu.Lock()
	s.finished = true
	s.mu.Unlock()
	_ = s.Close()
}

func (s *stream) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(s.local) }
func (s *stream) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(s.remote) }

func (s *stream) SetDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy, s.writeBy = t, t
	s.changed()
	return nil
}

func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readBy = t
	s.changed()
	return nil
}

func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writeBy = t
	s.changed()
	return nil
}
