package gossip

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"banmesh/internal/random"
	"banmesh/mesh/packed"
)

// The protocol of an exchange: hello (name, run, minute, root) → welcome (name, run, same) or busy. Unless the roots are the
// same, each side then sends its digest of that minute and answers the other's with the chunks that the other lacks, then done.
// Both directions run at once. Every chunk is merged as it arrives, so that a broken exchange still helps.
const (
	// maxServed is how many exchanges are served at the same time.
	// Each walks over the set and holds a digest and a chunk; two let a repair go on beside a joiner's long stream.
	maxServed = 2
	// maxDigest suffices for about 100,000 logs.
	// Read before it is understood, hence a bound.
	maxDigest = 2 << 20
	maxHello  = 2 << 10
	// A peer that sends one byte each nine seconds would otherwise hold one of two slots for ever.
	maxTime = 5 * time.Minute // of one exchange; the next one resumes
	// About what a small exchange takes.
	busyFor = 60 * time.Millisecond
	// Chunks are cut after the record that fills them.
	chunkLeeway = 2 << 10
	// Shorter than the stall: a peer that opens a stream has its question ready.
	firstTimeout = 5 * time.Second
)

// helloInfo opens an exchange: the caller's summary as of a minute that it chooses and that both sides use.
// The structs here are MessagePack arrays, so the order of their fields is the wire's.
type helloInfo struct {
	From   string
	Run    uint64
	Minute int64
	Root   []byte
}

// welcomeInfo answers it. Same ends the exchange: there is nothing to send.
type welcomeInfo struct {
	From string
	Run  uint64
	Same bool
}

type busyInfo struct {
	After uint32 // ms
}

type busyError struct{ after time.Duration }

func (e *busyError) Error() string { return fmt.Sprintf("busy for %v", e.after) }

// exchanged is what an exchange brought and sent.
type exchanged struct {
	merged int  // records new to this member
	own    int  // those of them from the other member's own log
	chunks int  // sent
	same   bool // the roots agreed: there was nothing to exchange
}

// messages reads and writes length-prefixed messages on a stream, each within
// the stall time.
type messages struct {
	c     *secureConn
	stall time.Duration
	// Counted down over the whole exchange: a peer could otherwise send for five minutes at full speed.
	left int64 // how many bytes may still come
	buf  []byte
}

var errBrought = errors.New("the exchange brought more than it may: the rest is for the next one")

// write sends a message as its length, the version, its kind and the payload. The deadline is renewed for
// each part: a slow receiver may take as long as it likes, one that takes nothing for the length of a stall
// is given up.
func (s *messages) write(kind byte, payload []byte) error {
	if err := s.c.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
		return err
	}
	b := make([]byte, 0, 6+min(len(payload), maxRecord))
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)+2))
	b = append(b, frameVersion, kind)
	// A small message goes out in one record with its header.
	if len(payload) <= maxRecord-6 {
		_, err := s.c.Write(append(b, payload...))
		return err
	}
	if _, err := s.c.Write(b); err != nil {
		return err
	}
	for len(payload) > 0 {
		part := payload[:min(len(payload), maxRecord)]
		if _, err := s.c.Write(part); err != nil {
			return err
		}
		payload = payload[len(part):]
		if err := s.c.SetWriteDeadline(time.Now().Add(s.stall)); err != nil {
			return err
		}
	}
	return nil
}

func (s *messages) writeMsg(kind byte, msg any) error { return s.write(kind, encode(kind, msg)[2:]) }

// read returns the next message; the payload is valid until the next read.
func (s *messages) read(limit int) (kind byte, payload []byte, err error) {
	if err := s.c.SetReadDeadline(time.Now().Add(s.stall)); err != nil {
		return 0, nil, err
	}
	var head [6]byte
	if _, err := io.ReadFull(s.c, head[:]); err != nil {
		return 0, nil, err
	}
	n := int64(binary.BigEndian.Uint32(head[:]))
	if n < 2 {
		return 0, nil, fmt.Errorf("message of %d bytes: %w", n, errNotOurs)
	}
	if n-2 > int64(limit) {
		return 0, nil, fmt.Errorf("message of %d bytes: %w", n, errTooMuch)
	}
	if s.left -= n; s.left < 0 {
		return 0, nil, errBrought
	}
	if head[4] != frameVersion {
		return 0, nil, fmt.Errorf("message of version %d", head[4])
	}
	n -= 2
	// The announced length is not trusted: memory grows only as bytes arrive.
	s.buf = s.buf[:0]
	for int64(len(s.buf)) < n {
		part := min(n-int64(len(s.buf)), 64<<10)
		at := len(s.buf)
		s.buf = append(s.buf, make([]byte, part)...)
		if _, err := io.ReadFull(s.c, s.buf[at:]); err != nil {
			return 0, nil, fmt.Errorf("read message: %w", err)
		}
		if err := s.c.SetReadDeadline(time.Now().Add(s.stall)); err != nil {
			return 0, nil, err
		}
	}
	return head[5], s.buf, nil
}

// expect reads a message of one kind into msg.
func (s *messages) expect(kind byte, fields int, msg any) error {
	got, payload, err := s.read(maxHello)
	if err != nil {
		return err
	}
	// Clamped: a peer must neither have us hammer it nor put us off for good.
	if got == kindBusy && kind != kindBusy {
		var b busyInfo
		if err := packed.Decode(payload, 1, &b); err != nil {
			return err
		}
		return &busyError{min(max(time.Duration(b.After)*time.Millisecond, 10*time.Millisecond), 5*time.Second)}
	}
	if got != kind {
		return fmt.Errorf("message of kind %d where %d was expected", got, kind)
	}
	return packed.Decode(payload, fields, msg)
}

// talk opens a frame stream to a member.
func (m *Mesh) talk(addr string, timeout time.Duration) (*messages, func(), error) {
	return m.talkWith(m.ring, addr, timeout)
}

// talkWith is talk with the keys of another ring.
func (m *Mesh) talkWith(ring *keyring, addr string, timeout time.Duration) (*messages, func(), error) {
	c, err := m.wire.open(addr, chanFrames, ring, timeout)
	if err != nil {
		return nil, nil, err
	}
	if !m.conns.add(c) {
		_ = c.Close()
		return nil, nil, errClosed
	}
	return &messages{c: c, stall: m.tune.Stall, left: m.tune.ExchangeBytes}, func() {
		m.conns.remove(c)
		_ = c.Close()
	}, nil
}

// exchange runs one exchange with the member at the address.
func (m *Mesh) exchange(ctx context.Context, name, addr string) (exchanged, error) {
	s, done, err := m.talk(addr, m.tune.DialTimeout)
	if err != nil {
		return exchanged{}, err
	}
	defer done()
	// Closing is the only thing that ends a read which is under way.
	stop := context.AfterFunc(ctx, func() { _ = s.c.Close() })
	defer stop()
	minute := m.minute()
	root := m.set.Root(minute)
	if err := s.writeMsg(kindHello, helloInfo{From: m.cfg.Name, Run: m.run, Minute: minute, Root: root[:]}); err != nil {
		return exchanged{}, fmt.Errorf("greet %s: %w", name, err)
	}
	var w welcomeInfo
	if err := s.expect(kindWelcome, 3, &w); err != nil {
		return exchanged{}, fmt.Errorf("greet %s: %w", name, err)
	}
	// Somebody else's router may have taken over the address since.
	if w.From != name {
		return exchanged{}, fmt.Errorf("%s answers as %q", addr, w.From)
	}
	if w.Same {
		return exchanged{same: true}, nil
	}
	res, err := m.swap(s, minute, name, addr)
	if err != nil {
		return res, fmt.Errorf("exchange with %s: %w", name, stalled(err))
	}
	return res, nil
}

// serveStream answers one frame stream until it ends.
func (m *Mesh) serveStream(c *secureConn, from string) {
	if !m.conns.add(c) {
		return
	}
	defer m.conns.remove(c)
	s := &messages{c: c, stall: firstTimeout, left: m.tune.ExchangeBytes}
	kind, payload, err := s.read(maxHello)
	if err != nil {
		m.streamError(from, err)
		return
	}
	s.stall = m.tune.Stall
	switch kind {
	case kindHello:
		var h helloInfo
		if !m.read(payload, 4, &h, &h.From, from) {
			return
		}
		m.serveExchange(s, h, from)
	case kindWho:
		m.serveWho(s, payload, from)
	case kindKeyCall:
		m.serveKey(s, payload, from)
	default:
		m.refuse(from, "unknown stream kind")
	}
}

// streamError counts why a stream ended early.
func (m *Mesh) streamError(from string, err error) {
	switch {
	case errors.Is(err, errTooMuch), errors.Is(err, errBrought):
		m.refuse(from, "stream too long")
	case errors.Is(err, errNoKey), errors.Is(err, errNotOurs):
		m.refuse(from, "stream damaged")
	default:
		m.count.drop("stream ended early")
	}
}

// serveExchange serves few callers at a time, because each costs the memory of a digest and reads the whole
// set. The others are told when to come again, each at another moment.
func (m *Mesh) serveExchange(s *messages, h helloInfo, from string) {
	if len(h.Root) != 16 {
		m.refuse(from, "stamp")
		return
	}
	select {
	case m.server <- struct{}{}:
		defer func() { <-m.server }()
	default:
		_ = s.writeMsg(kindBusy, busyInfo{After: uint32((busyFor + random.Below(m.random, busyFor)).Milliseconds())})
		return
	}
	// The caller's minute is used for root and digests of both sides; see stamp.
	root := m.set.Root(h.Minute)
	same := root == [16]byte(h.Root)
	if err := s.writeMsg(kindWelcome, welcomeInfo{From: m.cfg.Name, Run: m.run, Same: same}); err != nil {
		m.streamError(from, err)
		return
	}
	res := exchanged{same: same}
	if !same {
		var err error
		if res, err = m.swap(s, h.Minute, h.From, from); err != nil {
			m.streamError(from, err)
			return
		}
	}
	m.count.exchangesServed.Add(1)
	m.sync.completed(h.From, res)
}

// swap is the part of an exchange that both sides run once their roots differ.
func (m *Mesh) swap(s *messages, minute int64, name, from string) (exchanged, error) {
	var res exchanged
	deltas := m.set.Deltas
	m.table.with(name, func(p *peer) {
		// Deltas found nothing to send. Thorough looks closer, at a higher cost.
		if p.fruitless > 0 { // the last exchanges had nothing to send, and yet the roots differ
			deltas = m.set.Thorough
		}
	})
	own := m.set.Digest(minute)
	if len(own) > maxDigest {
		return res, fmt.Errorf("own digest of %d bytes is longer than %d", len(own), maxDigest)
	}
	cut := time.AfterFunc(maxTime, func() { _ = s.c.Close() })
	defer cut.Stop()

	// One goroutine writes while this one reads: both sides send at the same time, and would block each other if they waited to
	// finish first.
	// digest holds one, so that the reader never waits for the writer: two members that each wait for the other's reader would
	// stand still until the stall.
	digest := make(chan []byte, 1)
	wrote := make(chan error, 1)
	go func() {
		err := s.write(kindDigest, own)
		theirs, ok := <-digest
		if err == nil && ok {
			for chunk, derr := range deltas(theirs, m.tune.ChunkSize) {
				if derr != nil {
					m.refuse(from, "digest")
					err = fmt.Errorf("read their digest: %w", derr)
					break
				}
				if err = s.write(kindChunk, chunk); err != nil {
					break
				}
				m.count.sentChunk(chunk)
				res.chunks++
			}
		}
		if err == nil && ok {
			err = s.write(kindDone, nil)
		}
		if err != nil {
			_ = s.c.Close() // the reader has nothing left to wait for
		}
		wrote <- err
	}()

	brought, err := m.take(s, digest, name, from)
	if err != nil {
		_ = s.c.Close()
	}
	werr := <-wrote
	res.merged, res.own = brought.merged, brought.own
	if err != nil {
		return res, err
	}
	if werr != nil {
		return res, werr
	}
	return res, nil
}

// take reads the other side's digest and chunks.
func (m *Mesh) take(s *messages, digest chan<- []byte, name, from string) (res exchanged, err error) {
	given := false
	defer func() {
		if !given {
			close(digest)
		}
	}()
	for {
		// A digest may be larger than a chunk, and comes exactly once, first.
		limit := m.tune.ChunkSize + chunkLeeway
		if !given {
			limit = maxDigest
		}
		kind, payload, err := s.read(limit)
		if err != nil {
			return res, err
		}
		switch {
		case kind == kindDigest && !given:
			digest <- append([]byte(nil), payload...)
			given = true
		case kind == kindChunk && given:
			r, ok := m.merge(payload, from)
			if !ok {
				return res, errors.New("the peer sent malformed records")
			}
			if res.merged += r.New; r.Log.Origin == name {
				res.own += r.New
			}
			m.recent.note(r.Log, r.Last)
		case kind == kindDone && given && len(payload) == 0:
			return res, nil
		default:
			m.refuse(from, "message out of turn")
			return res, fmt.Errorf("message of kind %d out of turn", kind)
		}
	}
}
