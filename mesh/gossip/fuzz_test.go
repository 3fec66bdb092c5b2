package gossip

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"banmesh/internal/random"
)

// quietMesh is enough of a mesh to take frames: it sends nowhere.
func quietMesh(set Set) *Mesh {
	cfg := DefaultConfig()
	cfg.Name, cfg.Set, cfg.Now = "self", set, time.Now
	cfg.OnMessage = func(string, []byte) {}
	m := &Mesh{
		random: random.New(nil), cfg: cfg, tune: cfg.tuning.withDefaults("lan"), set: set, log: slog.New(slog.DiscardHandler),
		run: 1, table: newTable("self"), server: make(chan struct{}, maxServed), events: make(chan MemberEvent, 16),
		started: time.Now(), startedWall: time.Now().Round(0),
	}
	m.setAddr(netip.MustParseAddrPort("127.0.0.1:1"))
	m.timers.closed = true // nothing is done later
	m.sync.init(m)
	m.push = newPusher(m)
	m.known = newKnown(m)
	m.wire = newWire(nowhere{}, nil, "", m.log, &m.count)
	m.table.up("r001", "127.0.0.1:2", nodeMeta{Run: 5}, time.Now())
	return m
}

type nowhere struct{ *link }

func (nowhere) WriteTo(b []byte, _ string) (time.Time, error) { return time.Now(), nil }

// seeds are one good frame of each kind.
func seeds() [][]byte {
	set := newFakeSet("r001", 7)
	set.add("one", "two")
	chunk, last := set.Since(0, 1000)
	push := encode(kindPush, pushMsg{From: "r001", Seq: last, Chunk: chunk})
	return [][]byte{
		push,
		encode(kindRelay, relayMsg{From: "r001", Slices: 3, Slice: 1, Salt: 9, Relays: []uint32{1, 2}, Frame: push}),
		encode(kindHeads, headsMsg{From: "r001", Heads: []headMsg{{"r001", 7, 2}}, Reply: true, Bulk: true}),
		encode(kindPull, pullMsg{From: "r001", Digest: set.DigestOf(0, set.own)}),
		encode(kindDelta, deltaMsg{From: "r001", Chunk: chunk}),
		encode(kindAsk, stampMsg{From: "r001", Nonce: 1, Stamp: stamp{minute: 5, millis: 9}.encode()}),
		encode(kindAnswer, stampMsg{From: "r001", Nonce: 1, Stamp: stamp{}.encode()}),
		encode(kindMessage, messageMsg{From: "r001", Payload: []byte("x")}),
		encode(kindLeaving, leavingMsg{From: "r001", Run: 5}),
		{2, 1, 0x90},
	}
}

func FuzzFrame(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := quietMesh(newFakeSet("self", 1))
		m.frame(b, "127.0.0.1:2", 0)
		if len(m.gaps.open) > maxHeads+1 {
			t.Errorf("one frame opened %d gaps", len(m.gaps.open))
		}
	})
}

func FuzzPacket(f *testing.F) {
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		f.Fatal(err)
	}
	for _, b := range seeds() {
		f.Add(sealPacket(ring, "", chanFrames, b))
		f.Add(sealPacket(nil, "l", chanMembers, b))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = openPacket(ring, "", b)
		channel, payload, err := openPacket(nil, "l", b)
		if err == nil && !bytes.Equal(sealPacket(nil, "l", channel, payload), b) {
			t.Errorf("an unsealed packet is not what it was opened from")
		}
	})
}

// FuzzSmall reads anything as what rides on memberlist's own messages: the stamp
// of a probe's answer, and a member's data.
func FuzzSmall(f *testing.F) {
	f.Add(stamp{minute: 1, millis: 2, members: 3}.encode())
	f.Add([]byte{stampVersion})
	f.Add(nodeMeta{Version: "1", Eligible: true, Priority: -3, Run: 9}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := decodeStamp(b); err == nil && !bytes.Equal(s.encode(), b) {
			t.Errorf("%x became %x", b, s.encode())
		}
		m, err := decodeMeta(b)
		if err != nil {
			return
		}
		if again, err := decodeMeta(m.encode()); err != nil || again != m {
			t.Errorf("%+v became %+v, %v", m, again, err)
		}
	})
}

// FuzzStream gives a member's side of a stream anything at all.
func FuzzStream(f *testing.F) {
	hello := func(rest ...[]byte) []byte {
		var b bytes.Buffer
		_, _ = writeHello(&b, unsealed, "")
		b.WriteByte(chanFrames)
		for _, r := range rest {
			b.Write(r)
		}
		return b.Bytes()
	}
	message := func(kind byte, msg any) []byte {
		p := encode(kind, msg)
		return append([]byte{0, 0, 0, byte(len(p))}, p...)
	}
	done := []byte{0, 0, 0, 2, frameVersion, kindDone}
	greet := message(kindHello, helloInfo{From: "r001", Run: 1, Root: bytes.Repeat([]byte{1}, 16)})
	f.Add(hello())
	f.Add(hello(greet, []byte{0, 0, 0, 3, frameVersion, kindDigest, 1}, done))
	f.Add(hello(greet, done))
	f.Add(hello(message(kindWho, whoInfo{From: "r001", Name: "self", Run: 3})))
	f.Add(hello(message(kindKeyCall, keyCall{From: "r001", Op: 1, Name: KeyName(testKey), Share: testKey})))
	f.Fuzz(func(t *testing.T, b []byte) {
		m := quietMesh(newFakeSet("self", 1))
		client, server := net.Pipe()
		go func() {
			_, _ = client.Write(b)
			_ = client.Close()
		}()
		go func() { _, _ = io.Copy(io.Discard, client) }()
		c, channel, err := acceptStream(server, nil, "", time.Second, &m.count)
		if err == nil && channel == chanFrames {
			m.serveStream(c, "127.0.0.1:2")
		}
		_ = server.Close()
		if len(m.server) != 0 {
			t.Error("an exchange kept its place")
		}
	})
}
