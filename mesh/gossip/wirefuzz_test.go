package gossip

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/store"
)

var wireSeed = flag.Uint64("wireseed", 0, "fuzz the sockets with this seed")

// fuzzMember is a member on real sockets with a real store.
type fuzzMember struct {
	store *store.Store
	mesh  *Mesh
}

func newFuzzMember(t *testing.T, name string, join ...string) *fuzzMember {
	t.Helper()
	m := &fuzzMember{}
	var mesh atomic.Pointer[Mesh]
	var err error
	m.store, err = store.Open(store.Config{
		Path: filepath.Join(t.TempDir(), "store.db"), Origin: name, Limits: store.DefaultLimits(),
		OnChange: func(c store.Change) {
			if g := mesh.Load(); c.OwnHead && g != nil {
				g.Announce()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.store.Close() })
	cfg := DefaultConfig()
	cfg.Name, cfg.Set, cfg.Keys, cfg.Profile, cfg.Join = name, m.store, [][]byte{testKey}, "local", join
	cfg.Bind, cfg.OnMessage = netip.MustParseAddrPort("127.0.0.1:0"), func(string, []byte) {}
	if m.mesh, err = New(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.mesh.Shutdown() })
	mesh.Store(m.mesh)
	return m
}

func (m *fuzzMember) ban(t *testing.T, p string) {
	t.Helper()
	if _, err := m.store.Ban(context.Background(), []store.BanRequest{{Prefix: netip.MustParsePrefix(p), Until: store.Never}}); err != nil {
		t.Fatal(err)
	}
}

func (m *fuzzMember) banned(p string) bool {
	return len(m.store.List(store.Query{Prefix: netip.MustParsePrefix(p)})) == 1
}

// mangler makes inputs out of good ones. Its seed makes the same ones again.
type mangler struct {
	rng     *rand.Rand
	frames  [][]byte // of this package's packets
	members [][]byte // memberlist's packets
	streams [][]byte // what follows the channel in a stream
	lists   [][]byte // likewise, memberlist's
}

// seeded is the same with random numbers of its own.
func (g mangler) seeded(seed, worker uint64) *mangler {
	g.rng = rand.New(rand.NewPCG(seed, worker))
	return &g
}

func newMangler(t *testing.T, honest *fuzzMember) mangler {
	t.Helper()
	g := mangler{frames: seeds()}
	if chunk, last := honest.store.Since(0, 1000); chunk != nil {
		g.frames = append(g.frames, encode(kindPush, pushMsg{From: "x", Seq: last, Chunk: chunk}))
	}
	alive := ml(t, mlAlive, mlAliveMsg{9, "made-up", []byte{127, 0, 0, 1}, 9, nil, goodVsn})
	ping := ml(t, mlPing, map[string]any{"SeqNo": 1, "Node": "fuzzed", "SourceAddr": []byte{127, 0, 0, 1}, "SourcePort": 9, "SourceNode": "x"})
	dead := ml(t, mlDead, mlAccusation{1<<32 - 1, "honest", "honest"})
	list := func(h mlHeader, n int) []byte {
		b := ml(t, mlPushPull, h)
		for i := range n {
			b = append(b, ml(t, 0, mlState{fmt.Sprint("m", i), []byte{127, 0, 0, 1}, 9, nil, 3, 0, goodVsn})[1:]...)
		}
		return b
	}
	g.members = [][]byte{
		alive, ping, dead, ml(t, mlSuspect, mlAccusation{7, "fuzzed", "honest"}), ml(t, mlIndirectPing, map[string]any{"SeqNo": 1, "Target": []byte{127, 0, 0, 1}, "Port": 9, "Node": "x"}),
		ml(t, mlAck, map[string]any{"SeqNo": 1, "Payload": make([]byte, stampSize)}), compound(alive, ping, dead), withCRC(compound(alive, alive)),
		bomb(t, 300<<10), compound(bomb(t, 100<<10)), {8, 1, 2}, {10, 1}, {244, 3, 'a', 'b', 'c'},
	}
	set := newFakeSet("x", 7)
	set.add("one")
	message := func(kind byte, payload []byte) []byte {
		return append(append(binary.BigEndian.AppendUint32(nil, uint32(len(payload)+2)), frameVersion, kind), payload...)
	}
	hello := message(kindHello, encode(kindHello, helloInfo{From: "x", Run: 1, Minute: store.Minute(time.Now()), Root: bytes.Repeat([]byte{1}, 16)})[2:])
	digest := message(kindDigest, honest.store.Digest(store.Minute(time.Now())))
	chunk, _ := honest.store.Since(0, 1000)
	g.streams = [][]byte{
		append(bytes.Clone(hello), digest...), append(append(bytes.Clone(hello), digest...), message(kindChunk, chunk)...),
		append(append(bytes.Clone(hello), digest...), message(kindDone, nil)...), append(bytes.Clone(hello), message(kindChunk, chunk)...),
		message(kindWho, encode(kindWho, whoInfo{From: "x", Name: "fuzzed", Run: 1})[2:]), message(99, []byte{0x90}),
		append(bytes.Clone(hello), 0xff, 0xff, 0xff, 0xff, frameVersion, kindDigest), append(bytes.Clone(hello), bytes.Repeat([]byte{0x91}, 5000)...),
		{0, 0, 0, 0}, {0, 0, 0, 1, 1},
	}
	g.lists = [][]byte{
		list(mlHeader{Nodes: 3, UserStateLen: 0, Join: true}, 3), list(mlHeader{Nodes: 1 << 20}, 1), list(mlHeader{Nodes: -5, UserStateLen: -9}, 0),
		list(mlHeader{UserStateLen: 20 << 20}, 0), list(mlHeader{Nodes: 2, UserStateLen: 10}, 2), ping, bomb(t, 8<<20), append([]byte{mlPushPull}, bytes.Repeat([]byte{0x91}, 9000)...),
		append([]byte{mlPushPull}, bytes.Repeat([]byte{0xdf, 0xff, 0xff, 0xff, 0xff}, 100)...), {8, 0x81}, {244, 255},
	}
	return g
}

// mangle returns one of the inputs, changed in some way or not at all.
func (g *mangler) mangle(from [][]byte) []byte {
	b := bytes.Clone(from[g.rng.IntN(len(from))])
	for range g.rng.IntN(4) {
		at := g.rng.IntN(len(b) + 1)
		switch g.rng.IntN(8) {
		case 0: // one bit
			if len(b) > 0 {
				b[at%len(b)] ^= 1 << g.rng.IntN(8)
			}
		case 1: // one byte, of those that mean much to msgpack
			if len(b) > 0 {
				b[at%len(b)] = []byte{0, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc4, 0xc6, 0xcf, 0xd3, 0xd9, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff}[g.rng.IntN(21)]
			}
		case 2:
			b = b[:at]
		case 3: // a huge length
			b = append(append(bytes.Clone(b[:at]), []byte{0xc6, 0xdb, 0xdd, 0xdf}[g.rng.IntN(4)], 0xff, 0xff, 0xff, 0xf0), b[at:]...)
		case 4: // nesting
			b = append(append(bytes.Clone(b[:at]), bytes.Repeat([]byte{0x91}, g.rng.IntN(800))...), b[at:]...)
		case 5: // part of another one
			o := from[g.rng.IntN(len(from))]
			b = append(bytes.Clone(b[:at]), o[g.rng.IntN(len(o)+1):]...)
		case 6: // twice
			b = append(b, b...)
		case 7:
			junk := make([]byte, g.rng.IntN(300))
			for i := range junk {
				junk[i] = byte(g.rng.Uint32())
			}
			b = append(b, junk...)
		}
		b = b[:min(len(b), 200<<10)]
	}
	return b
}

// fuzzWire sends packets and streams, sealed with the right key, to a member on
// real sockets for some time, with slow ones beside them.
func fuzzWire(t *testing.T, seed uint64, length time.Duration) {
	t.Logf("seed %d; again with -run '%s' -wireseed %d", seed, t.Name(), seed)
	fuzzed := newFuzzMember(t, "fuzzed")
	honest := newFuzzMember(t, "honest", fuzzed.mesh.Addr())
	until(t, 20*time.Second, "the two to meet", func() bool { return fuzzed.mesh.table.alive() == 2 && honest.mesh.table.alive() == 2 })
	honest.ban(t, "203.0.113.1/32")
	until(t, 10*time.Second, "a first ban", func() bool { return fuzzed.banned("203.0.113.1/32") })
	runtime.GC()
	goroutines := runtime.NumGoroutine()
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	inputs := newMangler(t, honest)
	ctx, stop := context.WithTimeout(context.Background(), length)
	defer stop()
	var wg sync.WaitGroup
	var packets, streams, slow atomic.Uint64
	for worker := range uint64(2) {
		wg.Go(func() { fuzzPackets(ctx, inputs.seeded(seed, worker), ring, fuzzed.mesh.Addr(), &packets) })
	}
	for worker := range uint64(6) {
		wg.Go(func() { fuzzStreams(ctx, inputs.seeded(seed, 100+worker), ring, fuzzed.mesh.Addr(), &streams) })
	}
	for range 60 {
		wg.Go(func() { slowStream(ctx, ring, fuzzed.mesh.Addr(), &slow) })
	}
	var heap uint64
	most := 0
	wg.Go(func() {
		for tick := time.NewTicker(50 * time.Millisecond); ctx.Err() == nil; <-tick.C {
			var ms runtime.MemStats
			runtime.ReadMemStats(&ms)
			heap, most = max(heap, ms.HeapAlloc), max(most, runtime.NumGoroutine())
		}
	})
	// The other's bans go on arriving meanwhile.
	var worst time.Duration
	for i := 0; ctx.Err() == nil; i++ {
		p := fmt.Sprintf("198.51.%d.%d/32", i/250%250, i%250+1)
		began := time.Now()
		honest.ban(t, p)
		until(t, 30*time.Second, "a ban among all that", func() bool { return fuzzed.banned(p) })
		worst = max(worst, time.Since(began))
		time.Sleep(50 * time.Millisecond)
	}
	wg.Wait()
	t.Logf("a ban arrived within %v at worst; %d packets, %d streams and %d slow ones in %v; %d MB of heap and %d goroutines at most; dropped: %v", worst,
		packets.Load(), streams.Load(), slow.Load(), length, heap>>20, most, fuzzed.mesh.Stats().Dropped)
	if packets.Load() < 1000 || streams.Load() < 30 || slow.Load() == 0 {
		t.Error("too few inputs to prove anything")
	}
	if heap > 256<<20 {
		t.Errorf("%d MB of heap", heap>>20)
	}
	if most > goroutines+2*maxStreams+4*200 {
		t.Errorf("%d goroutines where there were %d", most, goroutines)
	}
	honest.ban(t, "203.0.113.2/32")
	fuzzed.ban(t, "203.0.113.3/32")
	until(t, 30*time.Second, "bans to go through after all that", func() bool {
		return fuzzed.banned("203.0.113.2/32") && honest.banned("203.0.113.3/32")
	})
	until(t, 30*time.Second, "what was begun to end", func() bool { return runtime.NumGoroutine() <= goroutines+40 })
}

func fuzzPackets(ctx context.Context, g *mangler, ring *keyring, addr string, sent *atomic.Uint64) {
	c, err := net.Dial("udp", addr)
	if err != nil {
		return
	}
	defer c.Close()
	for ctx.Err() == nil {
		channel, from := byte(chanFrames), g.frames
		if g.rng.IntN(2) == 0 {
			channel, from = chanMembers, g.members
		}
		if g.rng.IntN(50) == 0 {
			channel = byte(g.rng.IntN(256))
		}
		b := sealPacket(ring, "", channel, g.mangle(from))
		if g.rng.IntN(50) == 0 { // what no key sealed
			b[g.rng.IntN(len(b))] ^= 0x55
		}
		_, _ = c.Write(b[:min(len(b), 60<<10)]) // longer than any packet may be, now and then
		if sent.Add(1)%64 == 0 {
			_, _ = c.Read(nil)
			time.Sleep(time.Millisecond) // what the kernel drops proves nothing
		}
	}
}

// fuzzStream opens a stream to a channel as one who has the key.
func fuzzStream(ring *keyring, addr string, channel byte) (*secureConn, error) {
	c, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return nil, err
	}
	s, err := dialStream(c, ring, "", channel, time.Second, &counters{})
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}

func fuzzStreams(ctx context.Context, g *mangler, ring *keyring, addr string, sent *atomic.Uint64) {
	for ctx.Err() == nil {
		channel, from := byte(chanFrames), g.streams
		if g.rng.IntN(2) == 0 {
			channel, from = chanMembers, g.lists
		}
		s, err := fuzzStream(ring, addr, channel)
		if err != nil {
			continue
		}
		_ = s.SetDeadline(time.Now().Add(200 * time.Millisecond))
		if g.rng.IntN(20) == 0 { // bytes instead of records
			_, _ = s.Conn.Write(g.mangle(from))
		} else {
			_, _ = s.Write(g.mangle(from))
		}
		if g.rng.IntN(3) > 0 { // hang up at once, or read what comes
			_, _ = io.Copy(io.Discard, io.LimitReader(s, 64<<10))
		}
		_ = s.Close()
		sent.Add(1)
	}
}

// slowStream holds a stream for as long as it is let, a byte now and then.
func slowStream(ctx context.Context, ring *keyring, addr string, sent *atomic.Uint64) {
	for ctx.Err() == nil {
		s, err := fuzzStream(ring, addr, chanFrames)
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		sent.Add(1)
		for ctx.Err() == nil {
			if _, err := s.Write([]byte{0}); err != nil {
				break
			}
			time.Sleep(300 * time.Millisecond)
		}
		_ = s.Close()
	}
}

// TestAnythingOverRealSocketsLeavesTheMemberWell: random and mutated packets and
// streams with the right key, bombs among them, and slow ones.
func TestAnythingOverRealSocketsLeavesTheMemberWell(t *testing.T) {
	need.Long(t)
	seed := *wireSeed
	if seed == 0 {
		seed = 20261122
	}
	fuzzWire(t, seed, 5*time.Second)
}

// TestSoakAnythingOverRealSockets is the same for as long as BANMESH_SOAK says, with
// a new seed for each half minute.
func TestSoakAnythingOverRealSockets(t *testing.T) {
	length := need.Soak(t)
	for end := time.Now().Add(length); time.Now().Before(end); {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { fuzzWire(t, seed, min(30*time.Second, time.Until(end))) })
	}
}
