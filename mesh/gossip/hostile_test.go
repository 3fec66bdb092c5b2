package gossip

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/simnet"
	"banmesh/mesh/packed"
)

func asPacked(t testing.TB, v any) []byte {
	t.Helper()
	b, err := packed.Append(nil, v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A frame that is not right is dropped and counted, whatever is wrong with it.
func TestHostileFramesAreDroppedAndCounted(t *testing.T) {
	push := encode(kindPush, pushMsg{From: "r001", Seq: 1, Chunk: append(logHeader(newFakeSet("r001", 5).own), 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 'x')})
	frame := func(kind byte, payload []byte) []byte { return append([]byte{frameVersion, kind}, payload...) }
	tests := []struct {
		name, reason string
		frame        []byte
	}{
		{"empty", "truncated frame", nil},
		{"one byte", "truncated frame", []byte{1}},
		{"newer version", "unknown version", []byte{2, kindPush, 0x93}},
		{"newer kind", "unknown kind", []byte{frameVersion, 200, 0x90}},
		{"no payload", "wrong number of fields", frame(kindPush, nil)},
		{"truncated", "malformed frame", push[:len(push)-3]},
		{"trailing bytes", "trailing bytes", append(slices.Clone(push), 0)},
		{"short array", "wrong number of fields", frame(kindPush, []byte{0x92, 0xa1, 'a', 1})},
		{"long array", "wrong number of fields", frame(kindPush, []byte{0x94, 0xa1, 'a', 1, 0xc4, 0, 0})},
		{"a map", "wrong number of fields", frame(kindPush, []byte{0x83})},
		{"string of 4 GB", "malformed frame", frame(kindPush, []byte{0x93, 0xdb, 0xff, 0xff, 0xff, 0xff, 'a'})},
		{"bytes of 4 GB", "malformed frame", frame(kindPush, []byte{0x93, 0xa1, 'a', 1, 0xc6, 0xff, 0xff, 0xff, 0xff})},
		{"4 billion heads", "malformed frame", frame(kindHeads, []byte{0x94, 0xa1, 'a', 0xdd, 0xff, 0xff, 0xff, 0xff})},
		{"100 heads", "too many heads", frame(kindHeads, asPacked(t, headsMsg{From: "r001", Heads: make([]headMsg, 100)}))},
		{"nested arrays", "malformed frame", frame(kindPush, append([]byte{0x93}, bytes.Repeat([]byte{0x91}, 1000)...))},
		{"no sender", "sender's name", frame(kindMessage, asPacked(t, messageMsg{}))},
		{"long sender", "sender's name", frame(kindMessage, asPacked(t, messageMsg{From: strings.Repeat("a", 65)}))},
		{"sender with a newline", "sender's name", frame(kindMessage, asPacked(t, messageMsg{From: "a\nb"}))},
		{"malformed records", "records: truncated", frame(kindPush, asPacked(t, pushMsg{From: "r001", Seq: 1, Chunk: []byte{200, 1}}))},
		{"relay of a relay", "relay of another kind", frame(kindRelay, asPacked(t, relayMsg{From: "r001", Slices: 2, Frame: []byte{frameVersion, kindRelay}}))},
		{"relay to no slice", "relay shape", frame(kindRelay, asPacked(t, relayMsg{From: "r001", Frame: push}))},
		{"relay to 4 billion slices", "relay shape", frame(kindRelay, asPacked(t, relayMsg{From: "r001", Slices: 1<<32 - 1, Frame: push}))},
		{"digest", "digest", frame(kindPull, asPacked(t, pullMsg{From: "r001", Digest: []byte{1, 2, 3}}))},
		{"short stamp", "stamp", frame(kindAsk, asPacked(t, stampMsg{From: "r001", Stamp: []byte{1}}))},
		{"answer never asked for", "answer never asked for", frame(kindAnswer, asPacked(t, stampMsg{From: "r001", Nonce: 77, Stamp: stamp{}.encode()}))},
	}
	simulate(t, 2, simnet.Config{}, func(fl *fleet) {
		m := fl.nodes[0].mesh
		for _, tt := range tests {
			before := m.Stats().Dropped[tt.reason]
			if _, err := m.wire.send(fl.nodes[1].mesh.wire.envelope(tt.frame), fl.nodes[0].addr.String()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			if got := m.Stats().Dropped[tt.reason] - before; got == 0 {
				t.Errorf("%s: not counted as %q: %v", tt.name, tt.reason, m.Stats().Dropped)
			}
		}
		fl.nodes[1].ban("still works")
		fl.wait(time.Second, "a ban after all that", fl.all(1+1)) // and the push inside the relays
	})
}

func TestPacketsWithoutTheKeyAreDroppedAndCounted(t *testing.T) {
	other, err := newKeyring([][]byte{bytes.Repeat([]byte{9}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	ours, err := newKeyring([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	good := sealPacket(ours, "", chanFrames, []byte{1, 2, 3})
	flipped := slices.Clone(good)
	flipped[len(flipped)-1] ^= 1
	tests := []struct {
		name, reason string
		packet       []byte
	}{
		{"nothing", "not ours", nil},
		{"garbage", "not ours", []byte("GET / HTTP/1.1")},
		{"only magic", "not ours", []byte{magic}},
		{"unknown mode", "not ours", []byte{magic, 9, 9}},
		{"truncated", "truncated packet", good[:20]},
		{"changed", "no key", flipped},
		{"of another key", "no key", sealPacket(other, "", chanFrames, []byte{1, 2, 3})},
		{"of another label", "no key", sealPacket(ours, "other", chanFrames, []byte{1, 2, 3})},
		{"unsealed", "encryption differs", sealPacket(nil, "", chanFrames, []byte{1, 2, 3})},
		{"of another channel", "unknown channel", sealPacket(ours, "", 7, []byte{1, 2, 3})},
	}
	simulate(t, 1, simnet.Config{}, func(fl *fleet) {
		from, err := fl.net.Attach(hostAddr(50))
		if err != nil {
			t.Fatal(err)
		}
		m := fl.nodes[0].mesh
		for _, tt := range tests {
			before := m.Stats().Dropped[tt.reason]
			if _, err := from.WriteTo(tt.packet, fl.nodes[0].addr.String()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			if m.Stats().Dropped[tt.reason] == before {
				t.Errorf("%s: not counted as %q: %v", tt.name, tt.reason, m.Stats().Dropped)
			}
		}
	})
}

// dialAs opens a stream to a member as one that has the key.
func dialAs(t testing.TB, from *simnet.Host, to string, ring *keyring) *secureConn {
	t.Helper()
	c, err := from.DialTimeout(to, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	s, err := dialStream(c, ring, "", chanFrames, time.Second, &counters{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// endless is a peer that never stops sending.
type endless struct{ sent int64 }

func (e *endless) flood(c io.Writer, most int64) error {
	b := make([]byte, 16<<10)
	for e.sent < most {
		n, err := c.Write(b)
		e.sent += int64(n)
		if err != nil {
			return err
		}
	}
	return nil
}

func TestAPeerThatSendsAGigabyteIsCutOff(t *testing.T) {
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	chunk := logHeader(newFakeSet("evil", 1).own)
	huge := func(kind byte, n uint32) []byte {
		return append(binary.BigEndian.AppendUint32(nil, n), frameVersion, kind)
	}
	root := make([]byte, 16)
	hello := encode(kindHello, helloInfo{From: "evil", Run: 1, Root: append(root[:15:15], 1)})[2:]
	tests := []struct {
		name  string
		say   func(s *messages, e *endless) error
		most  int64
		count string
	}{
		{"no hello, bytes without end", func(s *messages, e *endless) error { return e.flood(s.c.Conn, 1<<30) }, 1 << 20, "stream damaged"},
		{"sealed bytes without end", func(s *messages, e *endless) error { return e.flood(s.c, 1<<30) }, 1 << 20, "stream damaged"},
		{"a hello of a gigabyte", func(s *messages, e *endless) error {
			if _, err := s.c.Write(huge(kindHello, 1<<30)); err != nil {
				return err
			}
			return e.flood(s.c, 1<<30)
		}, 1 << 20, "stream too long"},
		{"a digest of a gigabyte", func(s *messages, e *endless) error {
			if err := s.write(kindHello, hello); err != nil {
				return err
			}
			if _, err := s.c.Write(huge(kindDigest, 1<<30)); err != nil {
				return err
			}
			return e.flood(s.c, 1<<30)
		}, 1 << 20, "stream too long"},
		{"chunks that are never asked for, without end", func(s *messages, e *endless) error {
			if err := s.write(kindHello, hello); err != nil {
				return err
			}
			for e.sent < 1<<30 {
				e.sent += 10
				if err := s.write(kindChunk, chunk); err != nil {
					return err
				}
			}
			return nil
		}, 1 << 20, "message out of turn"},
		{"known chunks without end", func(s *messages, e *endless) error {
			if err := s.write(kindHello, hello); err != nil {
				return err
			}
			if err := s.write(kindDigest, []byte{1}); err != nil {
				return err
			}
			big := slices.Clone(chunk)
			for seq := range uint64(4000) {
				big = binary.BigEndian.AppendUint64(big, seq)
				big = append(big, 0, 10)
				big = append(big, "0123456789"...)
			}
			for e.sent < 1<<30 {
				e.sent += int64(len(big))
				if err := s.write(kindChunk, big); err != nil {
					return err
				}
			}
			return nil
		}, 6 << 20, "stream too long"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			simulate(t, 1, simnet.Config{}, func(fl *fleet) {
				nd := fl.nodes[0]
				fl.stop(nd)
				if err := fl.start(nd, func(c *Config) { c.tuning.ExchangeBytes = 4 << 20 }); err != nil {
					t.Fatal(err)
				}
				nd.set.add("something, so that roots differ")
				from, err := fl.net.Attach(hostAddr(50))
				if err != nil {
					t.Fatal(err)
				}
				c := dialAs(t, from, nd.addr.String(), ring)
				s := &messages{c: c, stall: 10 * time.Second, left: 1 << 40}
				go func() { _, _ = io.Copy(io.Discard, c) }()
				var e endless
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				if err := tt.say(s, &e); err == nil {
					t.Errorf("all of %d bytes were taken", e.sent)
				}
				runtime.ReadMemStats(&after)
				if e.sent > tt.most {
					t.Errorf("cut off after %d bytes, want at most %d", e.sent, tt.most)
				}
				time.Sleep(time.Second)
				if nd.mesh.Stats().Dropped[tt.count] == 0 {
					t.Errorf("not counted as %q: %v", tt.count, nd.mesh.Stats().Dropped)
				}
				if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 64<<20 {
					t.Errorf("%d MB of memory taken by it", used>>20)
				}
				_ = c.Close()
				if len(nd.mesh.server) != 0 {
					t.Error("the exchange still holds its place")
				}
			})
		})
	}
}

// A digest that is too long is a refusal, not a buffer.
func TestADigestOfAMillionLogsIsRefused(t *testing.T) {
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	simulate(t, 1, simnet.Config{}, func(fl *fleet) {
		nd := fl.nodes[0]
		nd.set.add("x")
		from, err := fl.net.Attach(hostAddr(50))
		if err != nil {
			t.Fatal(err)
		}
		c := dialAs(t, from, nd.addr.String(), ring)
		defer c.Close()
		s := &messages{c: c, stall: time.Second, left: 1 << 40}
		if err := s.writeMsg(kindHello, helloInfo{From: "evil", Run: 1, Root: make([]byte, 16)}); err != nil {
			t.Fatal(err)
		}
		_ = s.write(kindDigest, make([]byte, 20<<20))
		time.Sleep(time.Second)
		if nd.mesh.Stats().Dropped["stream too long"] != 1 {
			t.Errorf("not refused: %v", nd.mesh.Stats().Dropped)
		}
	})
}

func TestAThirdExchangeIsToldToWait(t *testing.T) {
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	simulate(t, 1, simnet.Config{}, func(fl *fleet) {
		nd := fl.nodes[0]
		nd.set.add("x")
		from, err := fl.net.Attach(hostAddr(50))
		if err != nil {
			t.Fatal(err)
		}
		greet := func() error {
			c := dialAs(t, from, nd.addr.String(), ring)
			fl.t.Cleanup(func() { _ = c.Close() })
			s := &messages{c: c, stall: time.Second, left: 1 << 40}
			if err := s.writeMsg(kindHello, helloInfo{From: "slow", Run: 1, Root: make([]byte, 16)}); err != nil {
				return err
			}
			var w welcomeInfo
			return s.expect(kindWelcome, 3, &w)
		}
		for i := range 2 {
			if err := greet(); err != nil {
				t.Errorf("exchange %d: %v", i+1, err)
			}
		}
		var busy *busyError
		if err := greet(); !errors.As(err, &busy) || busy.after <= 0 {
			t.Errorf("third exchange: %v, want busy", err)
		}
		// The two never went on: their places come free.
		time.Sleep(nd.mesh.tune.Stall + time.Second)
		if err := greet(); err != nil {
			t.Errorf("after the others stalled: %v", err)
		}
	})
}

func TestAStreamWithoutHelloIsClosed(t *testing.T) {
	simulate(t, 1, simnet.Config{}, func(fl *fleet) {
		nd := fl.nodes[0]
		from, err := fl.net.Attach(hostAddr(50))
		if err != nil {
			t.Fatal(err)
		}
		hang := func(from *simnet.Host, n int) {
			for range n {
				if _, err := from.DialTimeout(nd.addr.String(), time.Second); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
		}
		hang(from, maxGreeting+44)
		if n := nd.mesh.Stats().Dropped["too many streams of a host"]; n != 44 {
			t.Errorf("%d streams of one host refused, want 44", n)
		}
		for i := range 4 {
			other, err := fl.net.Attach(hostAddr(51 + i))
			if err != nil {
				t.Fatal(err)
			}
			hang(other, maxGreeting)
		}
		if n := nd.mesh.Stats().Dropped["too many streams of strangers"]; n != 5*maxGreeting-maxGreetingStrangers {
			t.Errorf("%d streams of strangers refused, want %d", n, 5*maxGreeting-maxGreetingStrangers)
		}
		time.Sleep(helloTimeout + time.Second)
		if n := nd.mesh.Stats().Dropped["stream without hello"]; n != maxGreetingStrangers {
			t.Errorf("%d silent streams closed, want %d", n, maxGreetingStrangers)
		}
	})
}

// TestManyStrangersKeepNoMemberOut: hosts that hold all the room for streams without a key leave room for those that have one.
func TestManyStrangersKeepNoMemberOut(t *testing.T) {
	simulate(t, 2, simnet.Config{}, func(fl *fleet) {
		nd, member := fl.nodes[0], fl.nodes[1]
		speak := func() error {
			s, err := member.mesh.wire.open(nd.addr.String(), chanFrames, member.mesh.wire.ring, time.Second)
			if err == nil {
				err = s.Close()
			}
			return err
		}
		if err := speak(); err != nil {
			t.Fatal(err)
		}
		for i := range 2 * maxStreams / maxGreeting {
			other, err := fl.net.Attach(hostAddr(50 + i))
			if err != nil {
				t.Fatal(err)
			}
			for range maxGreeting {
				if _, err := other.DialTimeout(nd.addr.String(), time.Second); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
		}
		if err := speak(); err != nil {
			t.Errorf("a member is kept out by strangers: %v", err)
		}
		if n := nd.mesh.Stats().Dropped["too many streams"]; n != 0 {
			t.Errorf("%d streams refused for want of room", n)
		}
	})
}

func TestARecordedStreamCannotBePlayedBack(t *testing.T) {
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	accept := func(c net.Conn) chan error {
		got := make(chan error, 1)
		go func() {
			s, _, err := acceptStream(c, ring, "", time.Second, &counters{})
			if err == nil {
				_, err = io.ReadFull(s, make([]byte, 5))
			}
			if err != nil {
				_ = c.Close()
			}
			got <- err
		}()
		return got
	}
	client, server := net.Pipe()
	rec := &recorder{Conn: client}
	first := accept(server)
	s, err := dialStream(rec, ring, "", chanFrames, time.Second, &counters{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := <-first; err != nil {
		t.Fatalf("the first time: %v", err)
	}
	client, server = net.Pipe()
	second := accept(server)
	go func() { _, _ = io.Copy(io.Discard, client) }()
	for _, b := range rec.wrote {
		if _, err := client.Write(b); err != nil {
			break
		}
	}
	if err := <-second; !errors.Is(err, errNoKey) {
		t.Errorf("played back: %v, want %v", err, errNoKey)
	}
}

type recorder struct {
	net.Conn
	wrote [][]byte
}

func (r *recorder) Write(b []byte) (int, error) {
	r.wrote = append(r.wrote, slices.Clone(b))
	return r.Conn.Write(b)
}

func TestDelegatesSurviveGarbage(t *testing.T) {
	simulate(t, 1, simnet.Config{}, func(fl *fleet) {
		m := fl.nodes[0].mesh
		d := delegate{m: m}
		for _, b := range [][]byte{nil, {1}, {1, 2, 3}, bytes.Repeat([]byte{0xff}, 1<<16)} {
			d.NotifyMsg(b)
			d.MergeRemoteState(b, true)
		}
		if _, err := decodeMeta([]byte{metaVersion, 0x94, 0xff}); err == nil {
			t.Error("garbage taken for member data")
		}
		if m.Stats().Dropped["push/pull state"] != 4 {
			t.Errorf("not counted: %v", m.Stats().Dropped)
		}
	})
}

func TestCallsAfterShutdownAreRefused(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		m := fl.nodes[1].mesh
		fl.stop(fl.nodes[1])
		if err := m.Send("r000", nil); !errors.Is(err, errClosed) {
			t.Errorf("Send: %v", err)
		}
		if _, err := m.Join(context.Background(), []string{"10.0.0.1"}); !errors.Is(err, errClosed) {
			t.Errorf("Join: %v", err)
		}
		if err := m.Leave(context.Background()); !errors.Is(err, errClosed) {
			t.Errorf("Leave: %v", err)
		}
		m.Announce()
		_ = m.Members()
		_ = m.Shutdown()
	})
}
