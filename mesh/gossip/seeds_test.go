package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/simnet"
	"banmesh/mesh/packed"
)

// alone is a member on a loopback port of its own.
func alone(t *testing.T, name string, change func(*Config)) *Mesh {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Name, cfg.Set, cfg.Profile = name, newFakeSet(name, 1), "local"
	cfg.Bind, cfg.Keys = netip.MustParseAddrPort("127.0.0.1:0"), [][]byte{testKey}
	change(&cfg)
	m, err := New(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Shutdown() })
	return m
}

func TestWhyAMemberToJoinDoesNotAnswer(t *testing.T) {
	none := func(*Config) {}
	other := alone(t, "other", func(c *Config) { c.Keys = [][]byte{bytes.Repeat([]byte{9}, 32)} })
	label := alone(t, "label", func(c *Config) { c.Label = "another" })
	open := alone(t, "open", func(c *Config) { c.Keys = nil })
	well := alone(t, "well", none)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := closed.Addr().String()
	_ = closed.Close()
	m := alone(t, "self", none)
	for _, tt := range []struct {
		name, addr string
		want       error
	}{
		{"another key", other.Addr(), errOtherKey}, {"another label", label.Addr(), errOtherKey}, {"no key", open.Addr(), errOtherKey},
		{"nobody there", refused, errNoAgent}, {"itself", m.Addr(), errItself},
	} {
		if got := m.whyNot(context.Background(), tt.addr); !errors.Is(got, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	_, err = m.Join(context.Background(), []string{other.Addr()})
	if err == nil || !strings.Contains(err.Error(), errOtherKey.Error()) {
		t.Errorf("join says %v, want the reason", err)
	}
	// What was mistyped is not looked for, nor warned of, for ever.
	if got := m.known.hosts(); slices.Contains(got, other.Addr()) {
		t.Errorf("after a join that failed it looks for %q", got)
	}
	if k := other.Knocks(); len(k) != 1 || !strings.Contains(k[0], "127.0.0.1") || !strings.Contains(k[0], "key") {
		t.Errorf("the one with another key says of who knocks %q", k)
	}
	// By whichever address it reaches itself: here it listens at all of them.
	wide := alone(t, "wide", func(c *Config) { c.Bind, c.Advertise = netip.MustParseAddrPort("0.0.0.0:0"), "127.0.0.1" })
	_, port, _ := net.SplitHostPort(wide.Addr())
	for _, a := range []string{wide.Addr(), net.JoinHostPort("127.0.0.2", port), net.JoinHostPort("::ffff:127.0.0.3", port)} {
		if n, err := wide.Join(context.Background(), []string{a}); n != 0 || !errors.Is(err, errItself) {
			t.Errorf("a join of itself at %s: joined %d, %v", a, n, err)
		}
	}
	if _, err := m.Join(context.Background(), []string{well.Addr()}); err != nil {
		t.Errorf("join of one that is well: %v", err)
	}
	if got := m.known.hosts(); !slices.Contains(got, well.Addr()) {
		t.Errorf("after a join it looks for %q", got)
	}
	if k := well.Knocks(); len(k) != 0 {
		t.Errorf("the one that is well says of who knocks %q", k)
	}
}

func TestMembersThatHaveNotAnsweredAreNamed(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		nd := &node{name: "late", addr: hostAddr(9), set: newFakeSet("late", 9)}
		fl.nodes = append(fl.nodes, nd)
		err := fl.start(nd, func(c *Config) {
			c.Keys = [][]byte{bytes.Repeat([]byte{9}, 32)}
			c.Join = []string{fl.nodes[0].addr.String(), hostAddr(200).String()}
		})
		if err != nil {
			t.Fatal(err)
		}
		if nd.mesh.InSync() {
			t.Error("it says that it is in sync before anybody has answered")
		}
		time.Sleep(seedWait + 5*time.Second)
		w := strings.Join(nd.mesh.Unanswered(), "\n")
		for _, want := range []string{fl.nodes[0].addr.String() + ", which this router joins", hostAddr(200).String()} {
			if !strings.Contains(w, want) {
				t.Errorf("%q does not name %q", w, want)
			}
		}
		if !nd.mesh.NeverMet() {
			t.Error("it does not know that it has met nobody")
		}
		if fl.nodes[1].mesh.NeverMet() || len(fl.nodes[1].mesh.Unanswered()) > 0 {
			t.Errorf("one that has met others: never met %v, %q", fl.nodes[1].mesh.NeverMet(), fl.nodes[1].mesh.Unanswered())
		}
	})
}

// TestANameIsNotTakenOnOneWord: a member says of a restarting one that it has its
// name; the others do not confirm it.
func TestANameIsNotTakenOnOneWord(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		ring, err := newKeyring([][]byte{testKey})
		if err != nil {
			t.Fatal(err)
		}
		host, err := fl.net.Attach(hostAddr(60))
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		go squat(host, ring, fl.nodes[2].name, stop)
		defer close(stop)
		nd := fl.nodes[2]
		fl.stop(nd)
		fl.wait(time.Minute, "its death", func() bool { return fl.nodes[0].mesh.table.alive() == 2 })
		join := func(c *Config) {
			c.Join = []string{host.Addr().String(), fl.nodes[0].addr.String(), fl.nodes[1].addr.String()}
		}
		if err := fl.start(nd, join); err != nil {
			t.Fatalf("one rogue keeps a router from starting: %v", err)
		}
		if nd.mesh.Squatter() != host.Addr().String() {
			t.Errorf("the squatter is at %q, want %s", nd.mesh.Squatter(), host.Addr())
		}
		fl.wait(time.Minute, "all to be there again", fl.whole)
	})
}

// TestMadeUpMembersTakeNoName: more of them than honest members say that a restarting one's name is taken. Its seed does not.
func TestMadeUpMembersTakeNoName(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		ring, err := newKeyring([][]byte{testKey})
		if err != nil {
			t.Fatal(err)
		}
		stop := make(chan struct{})
		defer close(stop)
		nd := fl.nodes[2]
		fl.stop(nd)
		fl.wait(time.Minute, "its death", func() bool { return fl.nodes[0].mesh.table.alive() == 2 })
		for i := range 5 {
			host, err := fl.net.Attach(hostAddr(60 + i))
			if err != nil {
				t.Fatal(err)
			}
			go squat(host, ring, nd.name, stop)
			remember(t, nd, fmt.Sprintf("rogue%d", i), host.Addr().String())
		}
		if err := fl.start(nd, func(c *Config) { c.Join = []string{fl.nodes[0].addr.String()} }); err != nil {
			t.Fatalf("made-up members keep a router from starting: %v", err)
		}
		if nd.mesh.Squatter() == "" {
			t.Error("the router does not say that its name was claimed")
		}
		fl.wait(time.Minute, "all to be there again", fl.whole)
	})
}

// remember adds a member to those that a node, stopped, knows from before.
func remember(t *testing.T, nd *node, name, addr string) {
	t.Helper()
	f := saved(t, nd)
	f.Members = append(f.Members, knownMember{Name: name, Addr: addr, Seen: time.Now().Unix()})
	save(t, nd, f)
}

// saved returns the members that a node has saved.
func saved(t *testing.T, nd *node) (f knownFile) {
	t.Helper()
	if b, ok := nd.set.Meta(knownKey); ok {
		if err := packed.Decode(b[1:], 2, &f); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func save(t *testing.T, nd *node, f knownFile) {
	t.Helper()
	b := encode(0, f)
	b[1] = knownVersion
	if err := nd.set.SaveMeta(t.Context(), knownKey, b[1:]); err != nil {
		t.Fatal(err)
	}
}

// A router that was off for longer than a silent member is looked for, or that lost power after a time without any news, still
// looks for those that it knew.
func TestLongOffIsNotLongGone(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		nd, other := fl.nodes[1], fl.nodes[0]
		time.Sleep(10 * time.Second) // they have answered each other
		fl.stop(nd)
		fl.stop(other)
		f := saved(t, nd)
		for i := range f.Members {
			f.Members[i].Seen -= int64((keepFailed + time.Hour) / time.Second)
		}
		save(t, nd, f)
		nobody := func(c *Config) { c.Join = nil }
		if err := fl.start(nd, nobody); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		other.set = newFakeSet(other.name, 9) // it knows nobody
		if err := fl.start(other, nobody); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Minute, "the two to meet", fl.whole)
	})
}

// When members were last seen is saved while nothing else changes.
func TestTheLivingAreSavedAsSeen(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		nd := fl.nodes[1]
		time.Sleep(10 * time.Second)
		now := time.Now()
		nd.mesh.known.review(now.Add(saveSeen)) // a day without news
		time.Sleep(2 * saveDelay)
		if f := saved(t, nd); len(f.Members) != 1 || f.Members[0].Seen < now.Unix() {
			t.Errorf("saved: %+v, want one seen at %d", f.Members, now.Unix())
		}
	})
}

// squat answers each who with the name.
func squat(host *simnet.Host, ring *keyring, name string, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case c := <-host.StreamCh():
			go func() {
				defer c.Close()
				s, _, err := acceptStream(c, ring, "", time.Second, &counters{})
				if err != nil {
					return
				}
				m := &messages{c: s, stall: time.Second, left: 1 << 20}
				if _, _, err := m.read(maxHello); err == nil {
					_ = m.writeMsg(kindHolder, holderInfo{From: name, Run: 99, Addr: host.Addr().String()})
				}
			}()
		case <-host.PacketCh():
		}
	}
}

func TestTheAddressIsThatOfTheRoute(t *testing.T) {
	for _, to := range []string{"127.0.0.1:7946", "127.9.9.9:7946"} {
		a, routed, err := sourceAddress([]netip.AddrPort{netip.MustParseAddrPort(to)}, true)
		if err != nil || !routed || !a.IsLoopback() {
			t.Errorf("towards %s: %v, %v; want a loopback address", to, a, err)
		}
	}
	both := []netip.AddrPort{netip.MustParseAddrPort("[::1]:7946"), netip.MustParseAddrPort("127.9.9.9:7946")}
	if a, routed, err := sourceAddress(both, true); err != nil || !routed || !a.Is4() {
		t.Errorf("0.0.0.0 tells %v, %v, where a target has IPv4", a, err)
	}
}
