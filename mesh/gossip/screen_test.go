package gossip

import (
	"bytes"
	"compress/lzw"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/internal/sim/simnet"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// ml is a message as memberlist writes it.
func ml(t testing.TB, kind byte, msg any) []byte {
	t.Helper()
	b := []byte{kind}
	var body []byte
	if err := codec.NewEncoderBytes(&body, mlHandle).Encode(msg); err != nil {
		t.Fatal(err)
	}
	return append(b, body...)
}

var goodVsn = []uint8{1, 5, 2, 0, 0, 0}

// bomb is n zero bytes, compressed as memberlist does.
func bomb(t testing.TB, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w := lzw.NewWriter(&b, lzw.LSB, 8)
	if _, err := w.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	return ml(t, 9, struct {
		Algo uint8
		Buf  []byte
	}{0, b.Bytes()})
}

func compound(parts ...[]byte) []byte {
	b := []byte{mlCompound, byte(len(parts))}
	for _, p := range parts {
		b = binary.BigEndian.AppendUint16(b, uint16(len(p)))
	}
	return append(b, bytes.Join(parts, nil)...)
}

func withCRC(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{mlCRC}, crc32.ChecksumIEEE(b)), b...)
}

func TestMemberlistIsShownOnlyWhatHonestMembersSay(t *testing.T) {
	ping := ml(t, mlPing, map[string]any{"SeqNo": 1, "Node": "r000"})
	alive := ml(t, mlAlive, mlAliveMsg{7, "r001", []byte{10, 0, 0, 1}, 7946, nil, goodVsn})
	suspect := ml(t, mlSuspect, mlAccusation{7, "r001", "r002"})
	left := ml(t, mlDead, mlAccusation{7, "r001", "r001"})
	dead := ml(t, mlDead, mlAccusation{7, "r001", "r002"})
	for name, b := range map[string][]byte{
		"ping": ping, "alive": alive, "suspicion": suspect, "leave": left, "with a sum": withCRC(ping),
		"together": compound(ping, alive, suspect), "together with a sum": withCRC(compound(ping, left)),
	} {
		if got := screenPacket(b, "10.0.0.9:7946", func(why string) { t.Errorf("%s: dropped: %s", name, why) }); !bytes.Equal(got, b) {
			t.Errorf("%s: changed from %x to %x", name, b, got)
		}
	}
	for _, tt := range []struct {
		name, reason string
		packet, left []byte
	}{
		{"nothing", "member message empty", nil, nil},
		{"a sum of nothing", "member message empty", withCRC(nil), nil},
		{"compressed", "member message kind", bomb(t, 1<<10), nil},
		{"compressed, with a sum", "member message kind", withCRC(bomb(t, 1<<10)), nil},
		{"encrypted", "member message kind", []byte{10, 1, 2, 3}, nil},
		{"a user's message", "member message kind", []byte{8, 1}, nil},
		{"a label", "member message kind", []byte{244, 1, 'a'}, nil},
		{"a ping with a time of two gigabytes", "member message malformed", append([]byte{mlPing, 0x81, 0xa1, 'x', 0xc9}, 0x7f, 0xff, 0xff, 0xff, 0xff), nil},
		{"one among the nodes of a probe", "member message malformed", append([]byte{mlIndirectPing, 0x81, 0xa1, 'x', 0x91, 0xc9}, 0x7f, 0xff, 0xff, 0xff, 0xff), nil},
		{"one in an answer", "member message malformed", append([]byte{mlNack, 0x81, 0xa1, 'x', 0xc9}, 0x7f, 0xff, 0xff, 0xff, 0xff), nil},
		{"death by hearsay", "death by hearsay", dead, nil},
		{"a suspicion that cannot be outbid", "member incarnation", ml(t, mlSuspect, mlAccusation{1<<32 - 1, "r001", "r002"}), nil},
		{"a leave that cannot be outbid", "member incarnation", ml(t, mlDead, mlAccusation{1<<32 - 1, "r001", "r001"}), nil},
		{"alive that cannot be outbid", "member incarnation", ml(t, mlAlive, mlAliveMsg{1<<32 - 1, "r001", []byte{10, 0, 0, 1}, 7946, nil, goodVsn}), nil},
		{"another protocol", "member protocol", ml(t, mlAlive, mlAliveMsg{7, "x", []byte{10, 0, 0, 1}, 7946, nil, []uint8{5, 5, 5, 0, 0, 0}}), nil},
		{"no protocol", "member protocol", ml(t, mlAlive, mlAliveMsg{7, "x", []byte{10, 0, 0, 1}, 7946, nil, nil}), nil},
		{"a name with a newline", "member name", ml(t, mlAlive, mlAliveMsg{7, "x\ny", []byte{10, 0, 0, 1}, 7946, nil, goodVsn}), nil},
		{"a name of a kilobyte", "member name", ml(t, mlAlive, mlAliveMsg{7, strings.Repeat("x", 1000), []byte{10, 0, 0, 1}, 7946, nil, goodVsn}), nil},
		{"half an address", "member message malformed", ml(t, mlAlive, mlAliveMsg{7, "x", []byte{10, 0}, 7946, nil, goodVsn}), nil},
		{"one of three", "death by hearsay", compound(ping, dead, alive), compound(ping, alive)},
		{"none of two", "death by hearsay", compound(dead, dead), nil},
		{"a compound in a compound", "member message kind", compound(compound(ping)), nil},
		{"a compound cut short", "member message malformed", compound(ping, alive)[:20], nil},
	} {
		var why []string
		got := screenPacket(tt.packet, "10.0.0.9:7946", func(reason string) { why = append(why, reason) })
		if !bytes.Equal(got, tt.left) || !slices.Contains(why, tt.reason) {
			t.Errorf("%s: left %x, want %x; dropped for %q, want %q", tt.name, got, tt.left, why, tt.reason)
		}
	}
}

// rogue is a host that has the key and speaks for itself.
type rogue struct {
	fl   *fleet
	host *simnet.Host
	ring *keyring
}

func newRogue(fl *fleet) *rogue {
	fl.t.Helper()
	host, err := fl.net.Attach(hostAddr(77))
	if err != nil {
		fl.t.Fatal(err)
	}
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		fl.t.Fatal(err)
	}
	return &rogue{fl, host, ring}
}

// packet sends to every member.
func (r *rogue) packet(channel byte, b []byte) {
	r.fl.t.Helper()
	for _, nd := range r.fl.nodes {
		if _, err := r.host.WriteTo(sealPacket(r.ring, "", channel, b), nd.addr.String()); err != nil {
			r.fl.t.Fatal(err)
		}
	}
}

// stream opens one of memberlist's streams to a member.
func (r *rogue) stream(nd *node) *secureConn {
	r.fl.t.Helper()
	c, err := r.host.DialTimeout(nd.addr.String(), time.Second)
	if err != nil {
		r.fl.t.Fatal(err)
	}
	s, err := dialStream(c, r.ring, "", chanMembers, time.Second, &counters{})
	if err != nil {
		r.fl.t.Fatal(err)
	}
	return s
}

// whole reports whether every member has every other one alive.
func (fl *fleet) whole() bool {
	return !slices.ContainsFunc(fl.nodes, func(nd *node) bool { return nd.mesh.table.alive() != len(fl.nodes) })
}

// No word of somebody else sends a member away for longer than it takes to
// deny it.
func TestNobodySpeaksAMemberDead(t *testing.T) {
	for name, say := range map[string]func(r *rogue, nd *node){
		"dead": func(r *rogue, nd *node) {
			r.packet(chanMembers, ml(r.fl.t, mlDead, mlAccusation{1<<32 - 1, nd.name, "r000"}))
		},
		"left": func(r *rogue, nd *node) {
			r.packet(chanMembers, ml(r.fl.t, mlDead, mlAccusation{1<<32 - 1, nd.name, nd.name}))
		},
		"left, as far as it is believed": func(r *rogue, nd *node) {
			r.packet(chanMembers, ml(r.fl.t, mlDead, mlAccusation{maxAccused, nd.name, nd.name}))
		},
		"suspected": func(r *rogue, nd *node) {
			r.packet(chanMembers, ml(r.fl.t, mlSuspect, mlAccusation{1<<32 - 1, nd.name, "r000"}))
		},
		"of another protocol": func(r *rogue, nd *node) {
			r.packet(chanMembers, ml(r.fl.t, mlAlive, mlAliveMsg{1, "x", []byte{10, 9, 9, 9}, 7946, nil, []uint8{5, 5, 5, 0, 0, 0}}))
		},
		"about to leave": func(r *rogue, nd *node) {
			r.packet(chanFrames, encode(kindLeaving, leavingMsg{From: nd.name, Run: nd.mesh.run}))
		},
		"dead in a member list": func(r *rogue, nd *node) {
			for _, to := range r.fl.nodes {
				s := r.stream(to)
				var b bytes.Buffer
				b.WriteByte(mlPushPull)
				enc := codec.NewEncoder(&b, mlHandle)
				_ = enc.Encode(mlHeader{Nodes: 1, Join: true})
				a, _ := netip.ParseAddrPort(nd.addr.String())
				_ = enc.Encode(mlState{nd.name, a.Addr().AsSlice(), a.Port(), nil, 1<<32 - 1, 2, goodVsn})
				_, _ = s.Write(b.Bytes())
				go func() { _, _ = io.Copy(io.Discard, s); _ = s.Close() }()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 3, lan(), func(fl *fleet) {
				r := newRogue(fl)
				for _, nd := range fl.nodes {
					say(r, nd)
				}
				time.Sleep(2 * time.Second)
				fl.wait(5*time.Second, "all see all again", fl.whole)
				for i, nd := range fl.nodes {
					nd.ban(fmt.Sprint("after all that ", i))
				}
				fl.wait(time.Second, "bans go through", fl.all(3))
				for _, nd := range fl.nodes {
					if err := nd.mesh.pushPull(context.Background(), fl.nodes[(slices.Index(fl.nodes, nd)+1)%3].addr.String()); err != nil {
						t.Errorf("%s cannot exchange member lists any more: %v", nd.name, err)
					}
				}
			})
		})
	}
}

func TestMadeUpMembersAreBounded(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		r := newRogue(fl)
		const names = 20000
		for i := 0; i < names; {
			var parts [][]byte
			for range 10 {
				parts = append(parts, ml(t, mlAlive, mlAliveMsg{1, fmt.Sprint("x", i), []byte{10, 9, byte(i >> 8), byte(i)}, 7946, nil, goodVsn}))
				i++
			}
			r.packet(chanMembers, compound(parts...))
			if i%1000 == 0 {
				time.Sleep(20 * time.Millisecond)
			}
		}
		time.Sleep(100 * time.Millisecond)
		for _, nd := range fl.nodes {
			if n := nd.mesh.list.Load().NumMembers(); n > maxMembers+newcomersRate {
				t.Errorf("%s has taken in %d made-up members", nd.name, n)
			}
			if nd.mesh.Stats().Dropped["too many members"] == 0 {
				t.Errorf("%s does not say that it refuses some: %v", nd.name, nd.mesh.Stats().Dropped)
			}
		}
		fl.nodes[0].ban("still works")
		fl.wait(10*time.Second, "a ban beside the crowd", fl.all(1))
	})
}

// dialsOf counts the streams that a member opens, and the packets that it sends, to addresses that begin with a prefix.
type dialsOf struct {
	memberlist.Transport
	prefix     string
	n, packets *atomic.Int64
}

func (d dialsOf) WriteTo(b []byte, addr string) (time.Time, error) {
	if strings.HasPrefix(addr, d.prefix) {
		d.packets.Add(1)
	}
	return d.Transport.WriteTo(b, addr)
}

func (d dialsOf) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	if strings.HasPrefix(addr, d.prefix) {
		d.n.Add(1)
	}
	return d.Transport.DialTimeout(addr, timeout)
}

// Somebody who has the gossip key names addresses of his choice, for every router to knock at.
func TestMadeUpMembersSendNobodyToStrangers(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		var dialled, sent atomic.Int64
		nd := &node{name: "watched", addr: hostAddr(9), set: newFakeSet("watched", 9)}
		fl.nodes = append(fl.nodes, nd)
		if err := fl.start(nd, func(c *Config) {
			c.Transport = dialsOf{c.Transport, "10.9.", &dialled, &sent}
		}); err != nil {
			t.Fatal(err)
		}
		fl.wait(30*time.Second, "all to meet", fl.whole)
		r := newRogue(fl)
		began := time.Now()
		for round := range 6 {
			var parts [][]byte
			for i := range 50 {
				parts = append(parts, ml(t, mlAlive, mlAliveMsg{uint32(time.Now().Unix() % 1e6), fmt.Sprint("x", i), []byte{10, 9, 0, byte(i)}, 7946, nil, goodVsn}))
				if len(parts) == 10 {
					r.packet(chanMembers, compound(parts...))
					parts = nil
				}
			}
			for i := range 200 {
				nd.ban(fmt.Sprint("ban ", round, i))
				time.Sleep(50 * time.Millisecond)
			}
		}
		if n, most := sent.Load(), int64(strangePacketBurst+strangePacketRate*time.Since(began).Seconds()); n == 0 || n > most {
			t.Errorf("%d packets to them, want some and at most %d", n, most)
		}
		if n := dialled.Load(); n == 0 || n > 100 {
			t.Errorf("%d streams in a minute to addresses that somebody made up, want some, as they might be members, and at most 100", n)
		}
		fl.nodes[0].ban("still works")
		fl.wait(10*time.Second, "a ban beside the crowd", fl.all(1201))
		if !nd.mesh.InSync() && nd.mesh.table.alive() == len(fl.nodes) {
			t.Error("it is no longer in sync with the others")
		}
	})
}

// Members that never answered are neither saved nor shown for long; an honest one that failed is.
func TestMadeUpMembersAreForgottenSoon(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		fl.wait(30*time.Second, "all to meet", fl.whole)
		gone := fl.nodes[2]
		nd := fl.nodes[0]
		time.Sleep(10 * time.Second)
		fl.stop(gone)
		r := newRogue(fl)
		for i := range 50 {
			r.packet(chanMembers, ml(t, mlAlive, mlAliveMsg{1, fmt.Sprint("x", i), []byte{10, 9, 0, byte(i)}, 7946, nil, goodVsn}))
		}
		fl.wait(10*time.Second, "the made-up ones", func() bool { return nd.mesh.table.size() > 20 })
		time.Sleep(10 * time.Second)
		if f := saved(t, nd); len(f.Members) != 2 {
			t.Errorf("saved: %v", f)
		}
		time.Sleep(2 * keepUnmet)
		for _, m := range nd.mesh.Members() {
			if strings.HasPrefix(m.Name, "x") {
				t.Errorf("%s is still shown as %v", m.Name, m.State)
			}
		}
		if m := nd.member(gone.name); m.State != Failed {
			t.Errorf("the honest one that failed is %v", m.State)
		}
		nd.mesh.known.mu.Lock()
		kept := len(nd.mesh.known.members)
		nd.mesh.known.mu.Unlock()
		if kept != 2 {
			t.Errorf("%d members are remembered, want 2", kept)
		}
	})
}

func TestStreamsOfMembersCarryNoBombs(t *testing.T) {
	list := func(h mlHeader) []byte { return ml(t, mlPushPull, h) }
	for name, b := range map[string][]byte{
		"compressed":           bomb(t, 64<<20),
		"a million members":    list(mlHeader{Nodes: 1 << 20}),
		"20 MB of state":       list(mlHeader{UserStateLen: 20 << 20}),
		"fewer than none":      list(mlHeader{Nodes: -1}),
		"a user's message":     ml(t, 8, map[string]any{"UserMsgLen": 20 << 20}),
		"nested beyond reason": append([]byte{mlPushPull}, bytes.Repeat([]byte{0x91}, 1<<20)...),
		"a label":              {244, 200},
		"a gigabyte announced": {mlPushPull, 0xc9, 0x44, 0, 0, 0, 1},
		"that in a ping":       {mlPing, 0x81, 0xa4, 'N', 'o', 'd', 'e', 0xc9, 0x44, 0, 0, 0, 1},
		"a name of 4 MB":       append([]byte{mlPing, 0x81, 0xa4, 'N', 'o', 'd', 'e', 0xdb, 0, 0x40, 0, 0}, make([]byte, 4<<20)...),
		"and in a list":        append([]byte{mlPushPull, 0x81, 0xa1, 'x', 0xc6, 0, 0x40, 0, 0}, make([]byte, 4<<20)...),
	} {
		client, server := net.Pipe()
		go func() {
			_, _ = client.Write(b)
			_ = client.Close()
		}()
		refused := 0
		s := &screenedConn{Conn: server, drop: func(string) { refused++ }}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		n, err := io.Copy(io.Discard, s)
		runtime.ReadMemStats(&after)
		_ = server.Close()
		if err == nil || refused != 1 || n != 0 {
			t.Errorf("%s: %d bytes let through, %d refusals, error %v", name, n, refused, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
			t.Errorf("%s: took %d MB", name, used>>20)
		}
	}
}

// Who is answered at one address has one voice about the time.
func TestAHostHasOneVoiceAboutTheTime(t *testing.T) {
	tb := newTable("self")
	now := time.Now()
	at := func(name, addr string, skew time.Duration) {
		tb.up(name, addr, nodeMeta{Run: 1}, now)
		tb.with(name, func(p *peer) { p.skew, p.hasSkew = skew, true })
	}
	for i, h := range []string{"192.0.2.1:7946", "192.0.2.2:7946", "[2001:db8::1]:7946"} {
		at(fmt.Sprint("honest", i), h, time.Duration(i)*time.Millisecond)
	}
	for i := range 50 {
		at(fmt.Sprint("x", i), fmt.Sprintf("198.51.100.1:%d", 1000+i), 1000*time.Hour)
		at(fmt.Sprint("y", i), fmt.Sprintf("[2001:db8:bad::%d]:7946", i+1), 1000*time.Hour)
	}
	all, _, measured, _ := tb.skews(0)
	slices.Sort(all)
	if len(all) != 5 || measured != 103 || all[len(all)/2] > time.Second {
		t.Errorf("%d voices of %d members, median %v", len(all), measured, all[len(all)/2])
	}
}

// TestAMemberThatIsBackIsNotForgotten: until its clock is measured again, what it told before says which of two clocks is wrong.
// At another host it has no voice before it has answered there.
func TestAMemberThatIsBackIsNotForgotten(t *testing.T) {
	m := &Mesh{cfg: Config{Now: time.Now}, table: newTable("self"), started: time.Now()}
	m.startedWall = m.started.Round(0)
	now := time.Now()
	m.table.up("wrong", "192.0.2.1:7946", nodeMeta{Run: 1}, now)
	m.table.up("right", "192.0.2.2:7946", nodeMeta{Run: 1}, now)
	m.table.measured("wrong", time.Hour, now)
	m.table.measured("right", time.Millisecond, now)
	offset := func(what string, want time.Duration) {
		t.Helper()
		if got, _ := m.Offset(); (got - want).Abs() > time.Minute {
			t.Errorf("%s: the mesh's time is %v off, want %v", what, got, want)
		}
	}
	offset("all are here", 0)
	for range 2 { // it may go again before it has answered
		m.table.down("right", now)
		offset("the right one is gone", 0)
		m.table.up("right", "192.0.2.2:7946", nodeMeta{Run: 2}, now)
		offset("it is back", 0)
	}
	m.table.down("right", now)
	m.table.up("right", "192.0.2.3:7946", nodeMeta{Run: 3}, now)
	offset("it is back elsewhere", 30*time.Minute)
}
