package store

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"
)

// clock is a clock that tests move by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.UnixMilli(1_800_000_000_000)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func (c *clock) set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

func (c *clock) millis() Millis { return At(c.Now()) }

// memDisk is a disk in memory that fails when it is told to. What it holds outlives the store that closes it.
type memDisk struct {
	*Volume
	fault struct {
		sync.Mutex
		err  error
		gate chan struct{} // when set, each commit waits for a value
	}
}

func newMemDisk() *memDisk { return &memDisk{Volume: NewVolume()} }

func (d *memDisk) clone() *memDisk { return &memDisk{Volume: d.Clone()} }

func (d *memDisk) setFail(err error) {
	d.fault.Lock()
	defer d.fault.Unlock()
	d.fault.err = err
}

func (d *memDisk) setGate(gate chan struct{}) {
	d.fault.Lock()
	defer d.fault.Unlock()
	d.fault.gate = gate
}

func (d *memDisk) commit(b *batch) error {
	d.fault.Lock()
	gate := d.fault.gate
	d.fault.Unlock()
	if gate != nil {
		<-gate
	}
	d.fault.Lock()
	err := d.fault.err
	d.fault.Unlock()
	if err != nil {
		return err
	}
	return d.Volume.commit(b)
}

// fataler is what *testing.T and *rapid.T share.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// node is one member's store in a test.
type node struct {
	*Store
	t     fataler
	clock *clock
	disk  *memDisk
}

func open(t fataler, cfg Config) *Store {
	t.Helper()
	if cfg.Path == "" {
		cfg.Path = "memory"
	}
	s, err := Open(cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	if t, ok := t.(*testing.T); ok {
		t.Cleanup(func() { s.Close() }) // before its directory is removed
	}
	return s
}

// newNode opens a store of that name on a disk in memory.
func newNode(t fataler, name string, c *clock, d *memDisk, with ...func(*Config)) *node {
	t.Helper()
	if d == nil {
		d = newMemDisk()
	}
	cfg := Config{Origin: name, Now: c.Now, openDisk: func(string) (disk, error) { return d, nil }}
	for _, f := range with {
		f(&cfg)
	}
	return &node{Store: open(t, cfg), t: t, clock: c, disk: d}
}

// openReal opens a store on a real file.
func openReal(t *testing.T, path, name string, now func() time.Time) *Store {
	t.Helper()
	return open(t, Config{Path: path, Origin: name, Now: now})
}

func storePath(t *testing.T) string { return filepath.Join(t.TempDir(), "store.db") }

func pfx(s string) netip.Prefix {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p
	}
	a := netip.MustParseAddr(s)
	return netip.PrefixFrom(a, a.BitLen())
}

func (n *node) request(prefix string, d time.Duration) BanRequest {
	return BanRequest{Prefix: pfx(prefix), Jail: "sshd", Until: n.clock.millis() + Millis(d.Milliseconds())}
}

// ban bans for a duration and returns the outcome.
func (n *node) ban(prefix string, d time.Duration, with ...func(*BanRequest)) BanOutcome {
	n.t.Helper()
	return n.banned(prefix, d, with...).Outcome
}

// banned bans for a duration and returns the whole answer.
func (n *node) banned(prefix string, d time.Duration, with ...func(*BanRequest)) Banned {
	n.t.Helper()
	q := n.request(prefix, d)
	for _, f := range with {
		f(&q)
	}
	out, err := n.Ban(context.Background(), []BanRequest{q})
	if err != nil {
		n.t.Fatalf("ban %s: %v", prefix, err)
	}
	return out[0]
}

func (n *node) lift(prefix string, with ...func(*LiftRequest)) Lifted {
	n.t.Helper()
	q := LiftRequest{Prefixes: []netip.Prefix{pfx(prefix)}}
	for _, f := range with {
		f(&q)
	}
	out, err := n.Lift(context.Background(), q)
	if err != nil || len(out) != 1 {
		n.t.Fatalf("lift %s: %v %v", prefix, out, err)
	}
	return out[0]
}

func (n *node) must(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatalf("%v", err)
	}
}

// live reports whether the prefix has a live ban, effective whether it should be blocked in part at least.
func (n *node) live(prefix string) bool {
	for _, e := range n.List(Query{}) {
		if e.Prefix == pfx(prefix) {
			return true
		}
	}
	return false
}

func (n *node) effective(prefix string) bool {
	for _, e := range n.List(Query{}) {
		if e.Prefix == pfx(prefix) {
			return e.Effective
		}
	}
	return false
}

func (n *node) minute() int64 { return Minute(n.clock.Now()) }

// pull brings what from has and n lacks, and returns how many records were new.
func (n *node) pull(from *node) int {
	n.t.Helper()
	total := 0
	for chunk, err := range from.Deltas(n.Digest(n.minute()), 64<<10) {
		n.must(err)
		m, err := n.Merge(chunk)
		n.must(err)
		total += m.New
	}
	return total
}

// tick is Tick and what the store writes on its own because of it, which Tick does not wait for.
func (n *node) tick(agree bool) {
	n.t.Helper()
	n.Tick(agree)
	n.must(n.SaveMeta(context.Background(), "tick", nil))
}

// converge lets all pull from all until nobody learns anything, and fails if their roots then differ.
func converge(nodes ...*node) {
	nodes[0].t.Helper()
	for round := 0; ; round++ {
		for _, a := range nodes {
			for _, b := range nodes {
				if a != b {
					a.pull(b)
				}
			}
		}
		if sameRoots(nodes...) {
			return
		}
		if round > 8 {
			nodes[0].t.Fatalf("roots differ after %d rounds", round)
		}
	}
}

func sameRoots(nodes ...*node) bool {
	m := nodes[0].minute()
	for _, n := range nodes[1:] {
		if n.Root(m) != nodes[0].Root(m) {
			return false
		}
	}
	return true
}

// contents returns every record held that counts at the minute, by dot, in its canonical form.
func (n *node) contents(minute int64) map[Dot]string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	out := make(map[Dot]string)
	for _, l := range n.set.byID {
		for _, i := range l.recs {
			if r := n.set.slab.at(i); !r.is(flagDead) && leaveMinute(n.set.retained(i)) > minute {
				out[Dot{l.id, r.seq}] = string(n.set.encode(nil, i))
			}
		}
	}
	return out
}

// reopen closes the store and opens it again on the same disk: a new epoch of the same member.
func (n *node) reopen() *node {
	n.t.Helper()
	return n.reopenWith()
}

// reopenWith is reopen with another configuration.
func (n *node) reopenWith(with ...func(*Config)) *node {
	n.t.Helper()
	n.must(n.Close())
	return newNode(n.t, n.cfg.Origin, n.clock, n.disk, with...)
}

func restored(q *BanRequest) { q.Restored = true }

func startAt(m Millis) func(*BanRequest) { return func(q *BanRequest) { q.Start = m } }

var errTest = errors.New("no space left on device")

// cpu is the CPU time of this process so far: it does not grow while others have the processor.
func cpu(t fataler) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatalf("%v", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
