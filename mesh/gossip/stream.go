package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// A stream begins with a hello each way: magic, mode, 16 random bytes, length of the label and the label (only if the mesh is
// not encrypted). Sealed streams then carry records of at most 16 KiB: length (4 bytes), sealed text. Each direction has its
// own key, derived from a key of the mesh and both hellos, and uses record numbers as nonces: a recorded stream can neither be
// replayed nor reordered, and the messages inside show if it is cut short. The first byte inside is the channel.
const (
	// Sixteen bytes of each side make every stream's keys new, whatever the other side does.
	helloRandom = 16
	maxRecord   = 16 << 10
)

// helloMsg is the first thing on a stream in each direction. Both random parts go into the keys, so a
// recorded stream cannot be played again.
type helloMsg struct {
	mode   byte
	random [helloRandom]byte
	label  string
}

// writeHello sends the label only in the clear: with a key, it is part of what the keys are derived from
// instead.
func writeHello(w io.Writer, mode byte, label string) ([helloRandom]byte, error) {
	var random [helloRandom]byte
	_, _ = rand.Read(random[:]) // never fails, see crypto/rand
	if mode == sealed {
		label = ""
	}
	b := append([]byte{magic, mode}, random[:]...)
	b = append(b, byte(len(label)))
	b = append(b, label...)
	_, err := w.Write(b)
	return random, err
}

// readHello reads the first byte alone: a scanner of another protocol is told apart by it, and the rest would
// make it wait.
func readHello(r io.Reader) (h helloMsg, err error) {
	var b [2 + helloRandom + 1]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return h, err
	}
	if b[0] != magic {
		return h, errNotOurs
	}
	if _, err := io.ReadFull(r, b[1:]); err != nil {
		return h, err
	}
	h.mode = b[1]
	copy(h.random[:], b[2:])
	label := make([]byte, b[2+helloRandom])
	if _, err := io.ReadFull(r, label); err != nil {
		return h, err
	}
	h.label = string(label)
	return h, nil
}

// secureConn is a stream after its hellos. A read and a write may run at the same time; two reads or two writes may not.
// It is not TLS: members share keys and have no certificates, and rotating a key must not interrupt a stream. What it lacks
// is forward secrecy; a key that leaks opens recorded streams.
type secureConn struct {
	net.Conn
	count *counters

	ring  *keyring // nil: no records, bytes pass unchanged
	label string
	// Both sides contribute, so that neither can force a key that was in use before.
	salt  []byte // the random bytes of both hellos, the client's first
	read  *direction
	write *direction

	closeOnce sync.Once
	onClose   func()
}

// direction is one half of a sealed stream.
type direction struct {
	// Two directions with one key would use the same nonces twice, which breaks GCM.
	name    string // "c" or "s", part of the derivation
	aead    cipher.AEAD
	seq     uint64
	pending []byte // read side: decrypted and not read yet
	buf     []byte
}

// newSecureConn has a key for each direction, named after who sends: a message sent back to its sender does
// not open.
func newSecureConn(c net.Conn, ring *keyring, label string, client, server [helloRandom]byte, isClient bool, count *counters) *secureConn {
	s := &secureConn{Conn: c, ring: ring, label: label, count: count}
	s.salt = append(append(s.salt, client[:]...), server[:]...)
	if isClient {
		s.read, s.write = &direction{name: "s"}, &direction{name: "c"}
	} else {
		s.read, s.write = &direction{name: "c"}, &direction{name: "s"}
	}
	return s
}

func modeOf(ring *keyring) byte {
	if ring == nil {
		return unsealed
	}
	return sealed
}

// checkHello refuses a peer of another mesh.
func checkHello(h helloMsg, ring *keyring, label string) error {
	if h.mode != modeOf(ring) {
		return errUnsealed
	}
	if ring == nil && h.label != label {
		return errLabel
	}
	return nil
}

// dialStream does the client's half and names the channel.
func dialStream(c net.Conn, ring *keyring, label string, channel byte, timeout time.Duration, count *counters) (*secureConn, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, err
	}
	own, err := writeHello(c, modeOf(ring), label)
	if err != nil {
		return nil, err
	}
	h, err := readHello(c)
	if err != nil {
		return nil, err
	}
	if err := checkHello(h, ring, label); err != nil {
		return nil, err
	}
	s := newSecureConn(c, ring, label, own, h.random, true, count)
	if _, err := s.Write([]byte{channel}); err != nil {
		return nil, err
	}
	return s, c.SetDeadline(time.Time{})
}

// acceptStream does the server's half and returns the requested channel.
func acceptStream(c net.Conn, ring *keyring, label string, timeout time.Duration, count *counters) (*secureConn, byte, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, 0, err
	}
	h, err := readHello(c)
	if err != nil {
		return nil, 0, err
	}
	// Before anything is sent back: a stranger learns nothing but that the port is open.
	if err := checkHello(h, ring, label); err != nil {
		return nil, 0, err
	}
	own, err := writeHello(c, modeOf(ring), label)
	if err != nil {
		return nil, 0, err
	}
	s := newSecureConn(c, ring, label, h.random, own, false, count)
	var channel [1]byte
	if _, err := io.ReadFull(s, channel[:]); err != nil {
		return nil, 0, err
	}
	return s, channel[0], c.SetDeadline(time.Time{})
}

// derive makes a direction's key by HKDF (RFC 5869) from the gossip key, the two random parts and the label.
func (s *secureConn) derive(d *direction, k *key) (cipher.AEAD, error) {
	secret, err := hkdf.Key(sha256.New, k.raw, s.salt, "banmesh stream "+d.name+" "+s.label, 32)
	if err != nil {
		return nil, fmt.Errorf("derive stream key: %w", err)
	}
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("derive stream key: %w", err)
	}
	return cipher.NewGCM(block)
}

// A counter cannot repeat within a stream, and the key belongs to this stream alone. After 2^64 records it would wrap.
func (d *direction) nonce() []byte {
	var n [nonceSize]byte
	binary.BigEndian.PutUint64(n[4:], d.seq)
	d.seq++
	return n[:]
}

// Write seals b in records of at most maxRecord bytes. The first one fixes the key for the stream: a change of keys concerns new
// streams only.
func (s *secureConn) Write(b []byte) (int, error) {
	if s.ring == nil {
		n, err := s.Conn.Write(b)
		s.count.streamBytesSent.Add(uint64(n))
		return n, err
	}
	d := s.write
	if d.aead == nil {
		aead, err := s.derive(d, s.ring.all()[0])
		if err != nil {
			return 0, err
		}
		d.aead = aead
	}
	done := 0
	for len(b) > 0 {
		part := b[:min(len(b), maxRecord)]
		d.buf = binary.BigEndian.AppendUint32(d.buf[:0], uint32(len(part)+tagSize))
		d.buf = d.aead.Seal(d.buf, d.nonce(), part, nil)
		n, err := s.Conn.Write(d.buf)
		s.count.streamBytesSent.Add(uint64(n))
		if err != nil {
			return done, err
		}
		done += len(part)
		b = b[len(part):]
	}
	return done, nil
}

// Read returns what is left of a record before it reads the next one.
func (s *secureConn) Read(b []byte) (int, error) {
	if s.ring == nil {
		n, err := s.Conn.Read(b)
		s.count.streamBytesReceived.Add(uint64(n))
		return n, err
	}
	d := s.read
	for len(d.pending) == 0 {
		if err := s.nextRecord(d); err != nil {
			return 0, err
		}
	}
	n := copy(b, d.pending)
	d.pending = d.pending[n:]
	return n, nil
}

// nextRecord reads and opens one record. Its length is in clear and believed only within the bounds; errNotOurs means that the other
// end speaks something else, errNoKey that no key of ours opens it.
func (s *secureConn) nextRecord(d *direction) error {
	var head [4]byte
	if _, err := io.ReadFull(s.Conn, head[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(head[:])
	// An empty record would let a peer keep a reader busy without ever delivering a byte.
	if size <= tagSize || size > maxRecord+tagSize {
		return fmt.Errorf("record of %d bytes: %w", size, errNotOurs)
	}
	if cap(d.buf) < int(size) {
		d.buf = make([]byte, size)
	}
	d.buf = d.buf[:size]
	if _, err := io.ReadFull(s.Conn, d.buf); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	s.count.streamBytesReceived.Add(uint64(size) + 4)
	nonce := d.nonce()
	if d.aead != nil {
		plain, err := d.aead.Open(d.buf[:0], nonce, d.buf, nil)
		if err != nil {
			return errNoKey
		}
		d.pending = plain
		return nil
	}
	// The first record shows which key the other side seals with: while keys are rotated it may be another than ours. Trying
	// costs one decryption a key, once a stream.
	for _, k := range s.ring.all() {
		aead, err := s.derive(d, k)
		if err != nil {
			return err
		}
		if plain, err := aead.Open(nil, nonce, d.buf, nil); err == nil {
			d.aead, d.pending = aead, plain
			return nil
		}
	}
	return errNoKey
}

// Close frees the slot of the stream once, however often memberlist closes it.
func (s *secureConn) Close() error {
	err := s.Conn.Close()
	s.closeOnce.Do(func() {
		if s.onClose != nil {
			s.onClose()
		}
	})
	return err
}

// limitedConn cuts a stream that brings more than it may.
// memberlist reads a whole push/pull into memory before it judges it.
type limitedConn struct {
	*secureConn
	left int64
	drop func()
}

var errTooMuch = errors.New("the peer sent more than a stream of this kind may carry")

// Read ends the stream when its bound is used up, so that memberlist cannot be made to read without end.
func (l *limitedConn) Read(b []byte) (int, error) {
	if l.left <= 0 {
		l.drop()
		return 0, errTooMuch
	}
	if int64(len(b)) > l.left {
		b = b[:l.left]
	}
	n, err := l.secureConn.Read(b)
	l.left -= int64(n)
	return n, err
}
