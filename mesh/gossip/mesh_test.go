package gossip

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/simnet"
)

var testKey = bytes.Repeat([]byte{7}, 32)

// fleet is a simulated mesh with fake sets.
type fleet struct {
	t     *testing.T
	net   *simnet.Network
	nodes []*node
}

type node struct {
	name string
	addr netip.AddrPort
	host *simnet.Host
	set  *fakeSet
	mesh *Mesh
	got  heard // messages
	evs  heard // member events
}

// heard collects what callbacks were told.
type heard struct {
	mu   sync.Mutex
	list []string
}

func (h *heard) add(s string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, s)
}

func (h *heard) all() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

func hostAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i / 250), byte(i%250 + 1)}), 7946)
}

// simulate runs f in a bubble with n members that have found each other.
func simulate(t *testing.T, n int, sim simnet.Config, f func(*fleet)) {
	t.Helper()
	simulateWith(t, n, sim, nil, f)
}

// simulateWith is simulate with members that are configured otherwise.
func simulateWith(t *testing.T, n int, sim simnet.Config, change func(*Config), f func(*fleet)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		fl := &fleet{t: t, net: simnet.New(sim)}
		defer func() { // of a failed test too, or its bubble panics
			for _, nd := range fl.nodes {
				fl.stop(nd)
			}
			// memberlist leaves timers behind.
			time.Sleep(5 * time.Minute)
			fl.net.Close()
			synctest.Wait()
		}()
		for i := range n {
			fl.nodes = append(fl.nodes, &node{name: fmt.Sprintf("r%03d", i), addr: hostAddr(i), set: newFakeSet(fmt.Sprintf("r%03d", i), uint64(i+1))})
		}
		for _, nd := range fl.nodes {
			if err := fl.start(nd, change); err != nil {
				t.Fatal(err)
			}
		}
		fl.wait(time.Minute, "all see all", func() bool {
			for _, nd := range fl.nodes {
				if nd.mesh.table.alive() != n {
					return false
				}
			}
			return true
		})
		f(fl)
	})
}

func (fl *fleet) start(nd *node, change func(*Config)) error {
	host, err := fl.net.Attach(nd.addr)
	if err != nil {
		return err
	}
	cfg := DefaultConfig()
	cfg.Name, cfg.Version, cfg.Set, cfg.Transport = nd.name, "test", nd.set, host
	cfg.Keys = [][]byte{testKey}
	cfg.Join = []string{fl.nodes[0].addr.String()}
	cfg.OnMessage = func(from string, b []byte) { nd.got.add(from + ": " + string(b)) }
	cfg.OnMember = func(e MemberEvent) { nd.evs.add(e.Kind.String() + " " + e.Member.Name) }
	if testing.Verbose() && os.Getenv("GOSSIP_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("self", nd.name)
	}
	if change != nil {
		change(&cfg)
	}
	m, err := New(context.Background(), cfg)
	if err != nil {
		return err
	}
	nd.host, nd.mesh = host, m
	return nil
}

func (fl *fleet) stop(nd *node) {
	if nd.mesh != nil {
		if err := nd.mesh.Shutdown(); err != nil {
			fl.t.Errorf("shut down %s: %v", nd.name, err)
		}
		nd.mesh = nil
	}
}

// wait waits in simulated time, and returns how long it took.
func (fl *fleet) wait(limit time.Duration, what string, ok func() bool) time.Duration {
	fl.t.Helper()
	began := time.Now()
	for !ok() {
		if time.Since(began) > limit {
			fl.t.Fatalf("not after %v: %s", limit, what)
		}
		time.Sleep(time.Millisecond)
		synctest.Wait()
	}
	return time.Since(began)
}

func (fl *fleet) all(n int) func() bool {
	return func() bool {
		for _, nd := range fl.nodes {
			if nd.mesh == nil {
				continue
			}
			if have, _ := nd.set.size(); have != n {
				return false
			}
		}
		return true
	}
}

func (n *node) ban(recs ...string) {
	n.set.add(recs...)
	n.mesh.Announce()
}

func (n *node) member(name string) Member {
	for _, m := range n.mesh.Members() {
		if m.Name == name {
			return m
		}
	}
	return Member{Name: name, State: 255}
}

func lan() simnet.Config { return simnet.Config{Seed: 1, Latency: 20 * time.Millisecond} }

func TestABanReachesAllInOneTrip(t *testing.T) {
	simulate(t, 10, lan(), func(fl *fleet) {
		time.Sleep(5 * time.Second)
		fl.nodes[3].ban("x")
		if d := fl.wait(time.Second, "ban everywhere", fl.all(1)); d > 22*time.Millisecond {
			t.Errorf("a ban took %v, want one trip of 20 ms", d)
		}
	})
}

func TestALostPushIsMadeGood(t *testing.T) {
	sim := lan()
	simulate(t, 10, sim, func(fl *fleet) {
		time.Sleep(5 * time.Second)
		fl.net.Set(func(c *simnet.Config) { c.Loss = 0.3 })
		for i := range 20 {
			fl.nodes[i%10].ban(fmt.Sprint("x", i))
			fl.wait(10*time.Second, "ban everywhere", fl.all(i+1))
		}
		fl.net.Set(func(c *simnet.Config) { c.Loss = 0 })
	})
}

func TestABurstIsCompleteSoon(t *testing.T) {
	simulate(t, 10, lan(), func(fl *fleet) {
		time.Sleep(5 * time.Second)
		var recs []string
		for i := range 10000 {
			recs = append(recs, fmt.Sprintf("a record of the usual size, number %d", i))
		}
		fl.nodes[3].ban(recs...)
		d := fl.wait(5*time.Second, "all bans everywhere", fl.all(10000))
		t.Logf("10,000 bans at one of 10 members: everywhere after %v", d)
		if d > 2*time.Second {
			t.Errorf("took %v, want at most 2s", d)
		}
	})
}

func TestAPartitionHealsByItself(t *testing.T) {
	simulate(t, 8, lan(), func(fl *fleet) {
		var a, b []netip.Addr
		for i, nd := range fl.nodes {
			if i < 4 {
				a = append(a, nd.addr.Addr())
			} else {
				b = append(b, nd.addr.Addr())
			}
		}
		fl.net.Partition(a, b)
		time.Sleep(10 * time.Minute)
		if m := fl.nodes[0].member(fl.nodes[7].name); m.State != Failed {
			t.Errorf("after 10 minutes of partition the other side is %v, want failed", m.State)
		}
		fl.nodes[0].ban("a")
		fl.nodes[7].ban("b")
		time.Sleep(time.Second)
		fl.net.Heal()
		d := fl.wait(30*time.Second, "both bans everywhere", fl.all(2))
		t.Logf("healed after %v", d)
		fl.wait(30*time.Second, "all alive and in sync", func() bool {
			for _, nd := range fl.nodes {
				for _, m := range nd.mesh.Members() {
					if m.State != Alive || m.Agrees != Agrees {
						return false
					}
				}
			}
			return true
		})
	})
}

func TestLeaveIsRememberedAndJoinWorksAgain(t *testing.T) {
	simulate(t, 4, lan(), func(fl *fleet) {
		gone := fl.nodes[3]
		if err := gone.mesh.Leave(context.Background()); err != nil {
			t.Fatal(err)
		}
		fl.stop(gone)
		fl.wait(5*time.Second, "left everywhere", func() bool {
			return !slices.ContainsFunc(fl.nodes[:3], func(nd *node) bool { return nd.member(gone.name).State != Left })
		})
		// Nobody looks for it: a host at its address hears nothing.
		host, err := fl.net.Attach(gone.addr)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if n := len(host.StreamCh()); n != 0 {
			t.Errorf("%d streams were opened to a member that left, want none", n)
		}
		_ = host.Shutdown()
		if err := fl.start(gone, func(c *Config) { c.Join = nil }); err != nil {
			t.Fatal(err)
		}
		fl.wait(30*time.Second, "alive everywhere", func() bool {
			return !slices.ContainsFunc(fl.nodes, func(nd *node) bool { return nd.member(gone.name).State != Alive })
		})
	})
}

func TestACrashIsNotALeave(t *testing.T) {
	simulate(t, 4, lan(), func(fl *fleet) {
		gone := fl.nodes[3]
		gone.host.Crash()
		fl.stop(gone)
		fl.wait(time.Minute, "failed everywhere", func() bool {
			return !slices.ContainsFunc(fl.nodes[:3], func(nd *node) bool { return nd.member(gone.name).State != Failed })
		})
		fl.nodes[0].ban("x")
		if err := fl.start(gone, nil); err != nil {
			t.Fatal(err)
		}
		fl.wait(30*time.Second, "back with the ban", func() bool {
			n, _ := gone.set.size()
			return n == 1 && fl.nodes[1].member(gone.name).State == Alive
		})
		if evs := fl.nodes[1].evs.all(); !slices.Contains(evs, "failed "+gone.name) {
			t.Errorf("events at a third member: %v, want a failed one", evs)
		}
	})
}

func TestTheSecondOfANameRefusesToStart(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		twin := &node{name: fl.nodes[1].name, addr: hostAddr(20), set: newFakeSet(fl.nodes[1].name, 99)}
		err := fl.start(twin, nil)
		if !errors.Is(err, ErrNameTaken) || !strings.Contains(fmt.Sprint(err), fl.nodes[1].addr.String()) {
			t.Errorf("a second member of a live name started with %v, want ErrNameTaken that names %v", err, fl.nodes[1].addr)
		}
		if m := fl.nodes[0].member(twin.name); m.Addr != fl.nodes[1].addr.String() || m.State != Alive {
			t.Errorf("the first one is now %+v", m)
		}
	})
}

func TestAQuickRestartOfOneselfIsNoTwin(t *testing.T) {
	for _, addr := range []int{1, 20} {
		simulate(t, 3, lan(), func(fl *fleet) {
			nd := fl.nodes[1]
			nd.host.Crash()
			fl.stop(nd)
			nd.addr = hostAddr(addr)
			nd.set = newFakeSet(nd.name, 77)
			if err := fl.start(nd, nil); err != nil {
				t.Fatalf("a restart at host %d: %v", addr, err)
			}
			fl.wait(2*time.Minute, "alive everywhere", func() bool {
				return !slices.ContainsFunc(fl.nodes, func(o *node) bool {
					m := o.member(nd.name)
					return m.State != Alive || m.Addr != nd.addr.String()
				})
			})
			nd.ban("x")
			fl.wait(5*time.Second, "its ban everywhere", fl.all(1))
		})
	}
}

func TestSettledAfterTheFirstExchanges(t *testing.T) {
	simulate(t, 5, lan(), func(fl *fleet) {
		fl.nodes[0].ban("x")
		time.Sleep(10 * time.Second)
		late := &node{name: "late", addr: hostAddr(30), set: newFakeSet("late", 99)}
		fl.nodes = append(fl.nodes, late)
		if err := fl.start(late, nil); err != nil {
			t.Fatal(err)
		}
		d := fl.wait(10*time.Second, "settled", late.mesh.Settled)
		t.Logf("settled after %v", d)
		if n, _ := late.set.size(); n != 1 {
			t.Errorf("settled with %d records, want 1", n)
		}
	})
}

func TestAloneItWaitsForItsSeeds(t *testing.T) {
	simulate(t, 1, lan(), func(fl *fleet) {
		if !fl.nodes[0].mesh.Settled() {
			fl.t.Log("the first member joins itself, which is no hope")
		}
		lone := &node{name: "lone", addr: hostAddr(30), set: newFakeSet("lone", 99)}
		if err := fl.start(lone, func(c *Config) { c.Join = []string{"10.9.9.9:7946"} }); err != nil {
			t.Fatal(err)
		}
		time.Sleep(25 * time.Second)
		if lone.mesh.Settled() {
			t.Error("settled after 25 s with nobody reached, want 30 s")
		}
		fl.wait(10*time.Second, "settled", lone.mesh.Settled)
		fl.stop(lone)
		none := &node{name: "none", addr: hostAddr(31), set: newFakeSet("none", 99)}
		if err := fl.start(none, func(c *Config) { c.Join = nil }); err != nil {
			t.Fatal(err)
		}
		if !none.mesh.Settled() {
			t.Error("a member with nobody to look for is not settled at once")
		}
		fl.stop(none)
	})
}

func TestClockSkewIsMeasured(t *testing.T) {
	simulate(t, 4, lan(), func(fl *fleet) {
		nd := fl.nodes[3]
		fl.stop(nd)
		if err := fl.start(nd, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(90 * time.Second) } }); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Minute, "skew measured", func() bool {
			s := fl.nodes[0].member(nd.name).Skew
			return s > 89*time.Second && s < 91*time.Second
		})
		fl.wait(time.Minute, "the one with the wrong clock knows", func() bool {
			median, agree := nd.mesh.Offset()
			return !agree && median < -89*time.Second && median > -91*time.Second
		})
		fl.wait(time.Minute, "the others know that theirs are right", func() bool {
			median, agree := fl.nodes[0].mesh.Offset()
			return agree && median.Abs() <= time.Second
		})
	})
}

// Of two clocks that contradict each other nobody knows which is right. The third member's, which was here a while ago, decides.
func TestAMemberThatWentDecidesBetweenTwoClocks(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		right, gone, wrong := fl.nodes[0], fl.nodes[1], fl.nodes[2]
		fl.stop(wrong)
		if err := fl.start(wrong, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }); err != nil {
			t.Fatal(err)
		}
		knows := func() bool {
			here, agrees := right.mesh.Offset()
			there, agreesThere := wrong.mesh.Offset()
			return agrees && here.Abs() < time.Second && !agreesThere && (there+time.Hour).Abs() < time.Second
		}
		fl.wait(time.Minute, "both know whose clock is wrong", knows)
		fl.stop(gone)
		fl.wait(time.Minute, "two are left", func() bool { return right.member(gone.name).State != Alive && wrong.member(gone.name).State != Alive })
		if !knows() {
			here, _ := right.mesh.Offset()
			there, _ := wrong.mesh.Offset()
			t.Errorf("with the third member gone, the right clock is corrected by %v and the wrong one by %v", here, there)
		}
	})
}

func TestSendReachesOnlyTheNamed(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		if err := fl.nodes[0].mesh.Send("r002", []byte("hello")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		if got := fl.nodes[2].got.all(); !slices.Equal(got, []string{"r000: hello"}) {
			t.Errorf("the named got %q", got)
		}
		if got := fl.nodes[1].got.all(); len(got) != 0 {
			t.Errorf("another got %q", got)
		}
		if err := fl.nodes[0].mesh.Send("nobody", nil); err == nil {
			t.Error("a message to nobody was sent")
		}
		if err := fl.nodes[0].mesh.Send("r002", make([]byte, 1201)); err == nil {
			t.Error("a message of 1,201 bytes was sent")
		}
	})
}

func TestIdleMembersAreQuiet(t *testing.T) {
	need.Long(t)
	// Once around memberlist's push/pull, which takes 12 minutes at this size.
	n, span := 100, 12*time.Minute
	if Raced {
		n, span = 20, 4*time.Minute
	}
	simulate(t, n, lan(), func(fl *fleet) {
		time.Sleep(time.Minute)
		before := fl.net.Counts()
		time.Sleep(span)
		after := fl.net.Counts()
		rate := float64(after.Bytes-before.Bytes+after.StreamBytes-before.StreamBytes) / span.Seconds() / float64(n)
		t.Logf("%.0f B/s a member, %.2f packets/s", rate, float64(after.Packets-before.Packets)/span.Seconds()/float64(n))
		if rate > 300 {
			t.Errorf("an idle member sends %.0f B/s, want at most 300", rate)
		}
	})
}

// TestWhatIsRefusedIsNotOfferedWithoutEnd: a receiver may refuse a record for
// good, by a limit; the roots differ as long as it lives, and that must not keep
// both sides busy.
func TestWhatIsRefusedIsNotOfferedWithoutEnd(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		a, b := fl.nodes[0], fl.nodes[1]
		b.set.deny = func(rec []byte) bool { return string(rec) == "one too many" }
		a.ban("first", "one too many")
		fl.wait(time.Minute, "the first to arrive", func() bool { n, _ := b.set.size(); return n == 1 })
		before := a.mesh.Stats().Exchanges + b.mesh.Stats().Exchanges
		time.Sleep(5 * time.Minute)
		if got := a.mesh.Stats().Exchanges + b.mesh.Stats().Exchanges - before; got > 30 {
			t.Errorf("%d exchanges in 5 minutes over a record that is refused, want at most 30", got)
		}
		a.ban("third")
		fl.wait(10*time.Second, "a later one to arrive all the same", func() bool { n, _ := b.set.size(); return n == 2 })
	})
}

// TestEveryMemberLearnsOfEveryJoinerSoon: memberlist's own broadcast of a join
// may be lost, and its next push/pull is minutes away.
func TestEveryMemberLearnsOfEveryJoinerSoon(t *testing.T) {
	for seed := range uint64(8) {
		sim := simnet.Config{Seed: seed, Latency: 5 * time.Millisecond, Loss: 0.1}
		simulate(t, 3, sim, func(fl *fleet) {
			for i := 3; i < 12; i++ {
				nd := &node{name: fmt.Sprintf("r%03d", i), addr: hostAddr(i), set: newFakeSet(fmt.Sprintf("r%03d", i), uint64(i+1))}
				fl.nodes = append(fl.nodes, nd)
				if err := fl.start(nd, func(c *Config) { c.Profile = "local" }); err != nil {
					t.Fatal(err)
				}
			}
			took := fl.wait(2*time.Minute, "all to see all", func() bool {
				return !slices.ContainsFunc(fl.nodes, func(nd *node) bool { return nd.mesh.table.alive() != 12 })
			})
			t.Logf("seed %d: all see all after %v", seed, took)
			if took > 25*time.Second {
				t.Errorf("seed %d: it took %v until all saw all, want at most 25 s", seed, took)
			}
		})
	}
}
