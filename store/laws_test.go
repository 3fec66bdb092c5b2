package store

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// lawPrefixes are few, and one of them is hit most, so that what members do meets.
var lawPrefixes = []string{"192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.0/24", "2001:db8::1"}

// act lets one member do one random thing.
func act(t *rapid.T, n *node, names []string) {
	p := rapid.SampledFrom(lawPrefixes).Draw(t, "prefix")
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if !errors.Is(err, ErrLimited) { // it wrote nothing, as it says
			n.must(err)
		}
	}
	until := n.clock.millis() + Millis(rapid.IntRange(1, 300).Draw(t, "minutes"))*minute
	switch rapid.IntRange(0, 13).Draw(t, "act") {
	case 0, 1, 2, 3:
		q := BanRequest{Prefix: pfx(p), Jail: rapid.SampledFrom([]string{"sshd", "sshd", "sshd", "web"}).Draw(t, "jail"), Until: until}
		if rapid.Bool().Draw(t, "dated") {
			q.Start = n.clock.millis() - Millis(rapid.IntRange(0, 5).Draw(t, "ago"))*700
		}
		if rapid.IntRange(0, 9).Draw(t, "endless") == 0 {
			q.Until = Never
		}
		_, err := n.Ban(ctx, []BanRequest{q})
		must(err)
	case 4, 5, 6:
		_, err := n.Lift(ctx, LiftRequest{Prefixes: []netip.Prefix{pfx(p)}, Mine: rapid.Bool().Draw(t, "mine")})
		must(err)
	case 7:
		must(n.Allow(ctx, []AllowRequest{{Prefix: pfx(p), Until: until}}))
	case 8:
		_, err := n.DropAllow(ctx, []netip.Prefix{pfx(p)})
		must(err)
	case 9:
		must(n.PublishNeverBan(ctx, []netip.Prefix{pfx(p)}, until))
	case 10:
		must(n.Place(ctx, []netip.Prefix{pfx(p)}, until))
	case 11:
		must(n.Unplace(ctx, []netip.Prefix{pfx(p)}))
	case 12:
		if rapid.Bool().Draw(t, "freeze") {
			must(n.Freeze(ctx))
		} else {
			must(n.Thaw(ctx))
		}
	case 13:
		o := rapid.SampledFrom(names).Draw(t, "origin")
		if rapid.Bool().Draw(t, "block") {
			must(n.Block(ctx, o))
		} else {
			must(n.Unblock(ctx, o))
		}
	}
}

// equalSets fails unless all nodes hold the same records, say the same of each prefix, and have the same root.
func equalSets(t fataler, nodes ...*node) {
	t.Helper()
	m := nodes[0].minute()
	want := nodes[0].contents(m)
	view := fmt.Sprint(nodes[0].List(Query{}), nodes[0].Allows(), nodes[0].Placed(), nodes[0].NeverBans(), nodes[0].Blocked())
	frozen, _ := nodes[0].Frozen()
	for _, n := range nodes[1:] {
		got := n.contents(m)
		if !maps.Equal(got, want) {
			t.Fatalf("%s and %s hold different records:\n%s", nodes[0].cfg.Origin, n.cfg.Origin, difference(want, got))
		}
		if v := fmt.Sprint(n.List(Query{}), n.Allows(), n.Placed(), n.NeverBans(), n.Blocked()); v != view {
			t.Fatalf("same records, but %s says\n%s\nand %s\n%s", nodes[0].cfg.Origin, view, n.cfg.Origin, v)
		}
		if f, _ := n.Frozen(); f != frozen {
			t.Fatalf("same records, but %s is frozen %v and %s %v", nodes[0].cfg.Origin, frozen, n.cfg.Origin, f)
		}
		if n.Root(m) != nodes[0].Root(m) {
			t.Fatalf("same records, different roots")
		}
	}
	for _, n := range nodes {
		n.selfCheck(t)
	}
}

func difference(a, b map[Dot]string) (out string) {
	for d, r := range a {
		if b[d] != r {
			out += fmt.Sprintf("only first: %v %x\n", d, r)
		}
	}
	for d, r := range b {
		if a[d] != r {
			out += fmt.Sprintf("only second: %v %x\n", d, r)
		}
	}
	return out
}

// selfCheck recomputes from the records everything that is kept up to date beside them.
func (n *node) selfCheck(t fataler) {
	t.Helper()
	var probes []netip.Prefix
	for _, p := range lawPrefixes {
		probes = append(probes, pfx(p))
	}
	n.checkExemptions(t, probes...)
	n.mu.Lock()
	defer n.mu.Unlock()
	s := n.set
	s.checkBook(t)
	var total sum
	records, over, keys, size := 0, 0, 0, 0
	live := map[*origin]int{}
	for _, l := range s.byID {
		var content uint64
		dead, last := 0, uint64(0)
		for _, i := range l.recs {
			r := s.slab.at(i)
			if r.is(flagDead) {
				dead++
				continue
			}
			if r.seq <= last || !l.held.contains(r.seq) {
				t.Fatalf("log %v: number %d after %d, held %v", l.id, r.seq, last, l.held)
			}
			last = r.seq
			records++
			h := s.hash(i)
			total.add(h)
			content += h.hi
			if s.retained(i) < Never-leaveAfter && s.hz.buckets[leaveMinute(s.retained(i))].recs[r.pos] != i {
				t.Fatalf("record is not where it should be in its minute")
			}
			if r.kind == KindLift {
				if want := s.liftRetention(s.lifts[i], r.until, s.head(r.key())); s.lifts[i].retain != want {
					t.Fatalf("lift retained until %d, want %d", s.lifts[i].retain, want)
				}
			} else {
				want := false
				for c := s.head(r.key()); c != 0; c = s.slab.at(c).next {
					if s.slab.at(c).kind == KindLift && s.names(c, r) && s.counts(c, r) {
						want = true
					}
				}
				if want != r.is(flagLifted) {
					t.Fatalf("%v %v lifted %v, want %v", r.kind, r.key().prefix(), !want, want)
				}
			}
			if r.is(flagOver) {
				over++
			}
			if r.kind == KindBan && r.live() && !r.is(flagOver) {
				live[l.origin]++
			}
		}
		if dead != l.dead || content != l.total {
			t.Fatalf("log %v: %d dead, counted %d; content %x, kept %x", l.id, dead, l.dead, content, l.total)
		}
	}
	for _, head := range s.table.slots {
		if head != 0 {
			keys++
			if s.head(s.slab.at(head).key()) != head {
				t.Fatalf("prefix is not found")
			}
		}
	}
	for _, o := range s.origins {
		n, bare := 0, 0
		for _, l := range o.logs {
			for _, i := range l.recs {
				if r := s.slab.at(i); !r.is(flagDead) {
					n += units(len(s.encode(nil, i)))
					if r.key() == noPrefix {
						bare++
					}
				}
			}
		}
		if n != o.size || bare != o.bare {
			t.Fatalf("origin %s: %d units, counted %d; %d records without prefix, counted %d", o.name, o.size, n, o.bare, bare)
		}
		size += n
	}
	if size != s.size {
		t.Fatalf("%d units, counted %d", s.size, size)
	}
	if total != s.hz.total || records != s.records || over != s.over || keys != s.table.n {
		t.Fatalf("sums: %v %v, records %d %d, over %d %d, prefixes %d %d", total, s.hz.total, records, s.records, over, s.over, keys, s.table.n)
	}
	if s.limits != (Limits{}) {
		for o, want := range live {
			if o.live != want {
				t.Fatalf("origin %s: %d live, counted %d", o.name, want, o.live)
			}
			if limit := s.limits.LivePerOrigin; limit > 0 && want > limit {
				t.Fatalf("origin %s: %d live accepted of at most %d", o.name, want, limit)
			}
		}
	}
	past := sum{}
	for m, b := range s.hz.buckets {
		if m <= s.hz.at {
			past.add(b.sum)
		}
	}
	if past != s.hz.past {
		t.Fatalf("past of the horizon: %v, kept %v", past, s.hz.past)
	}
}

// TestMergeConverges is the law of the set: whatever members do, and however what they say is lost, repeated and
// reordered on its way, they hold the same once they have heard all.
func TestMergeConverges(t *testing.T) {
	limits := map[string]Limits{
		"unlimited": {},
		"limited":   {LivePerOrigin: 2, PerMinutePerOrigin: 2, LiftsPerMinute: 1, LiftsPerOrigin: 3, AllowsPerOrigin: 1, WidestV4: 25},
		"in space":  {SpaceV4: 25, SpaceV6: 63, AllowWidestV4: 24, AllowWidestV6: 48, origins: 3, logs: 1000, Stored: 100000},
	}
	for name, l := range limits {
		t.Run(name, rapid.MakeCheck(func(t *rapid.T) {
			c := newClock()
			names := []string{"a", "b", "c"}
			with := func(cfg *Config) { cfg.Limits = l }
			var nodes []*node
			for _, name := range names {
				nodes = append(nodes, newNode(t, name, c, nil, with))
			}
			defer func() {
				for _, n := range nodes {
					n.Close()
				}
			}()
			var sent [][]byte
			for range rapid.IntRange(1, 40).Draw(t, "steps") {
				i := rapid.IntRange(0, len(nodes)-1).Draw(t, "who")
				n := nodes[i]
				switch rapid.IntRange(0, 9).Draw(t, "step") {
				case 0, 1, 2, 3, 4:
					before := n.Head()
					act(t, n, names)
					if chunk, _ := n.Since(before.Seq, 1200); chunk != nil {
						sent = append(sent, chunk)
					}
				case 5, 6: // a message arrives: any that was ever sent, so repeated, late, or never
					if len(sent) > 0 {
						_, err := n.Merge(rapid.SampledFrom(sent).Draw(t, "chunk"))
						n.must(err)
					}
				case 7:
					n.pull(nodes[rapid.IntRange(0, len(nodes)-1).Draw(t, "from")])
				case 8:
					c.add(time.Duration(rapid.IntRange(0, 90).Draw(t, "wait")) * time.Minute)
					for _, n := range nodes {
						if rapid.Bool().Draw(t, "tick") {
							n.tick(rapid.Bool().Draw(t, "agree"))
						}
					}
				case 9: // restart, from its own disk or from a copy made earlier
					must := n.Close()
					n.must(must)
					nodes[i] = newNode(t, names[i], c, n.disk, with)
				}
			}
			for _, n := range nodes {
				n.tick(true)
			}
			converge(nodes...)
			equalSets(t, nodes...)
		}))
	}
}

// TestMergeIsOrderFree merges the same chunks in different orders, some twice.
func TestMergeIsOrderFree(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		names := []string{"a", "b"}
		a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
		defer a.Close()
		defer b.Close()
		var chunks [][]byte
		for range rapid.IntRange(1, 25).Draw(t, "steps") {
			n := rapid.SampledFrom([]*node{a, b}).Draw(t, "who")
			before := n.Head()
			act(t, n, names)
			if chunk, _ := n.Since(before.Seq, 1200); chunk != nil {
				chunks = append(chunks, chunk)
			}
			if rapid.IntRange(0, 3).Draw(t, "sync") == 0 {
				a.pull(b)
				b.pull(a)
			}
		}
		x, y := newNode(t, "x", c, nil), newNode(t, "y", c, nil)
		defer x.Close()
		defer y.Close()
		for _, chunk := range chunks {
			_, err := x.Merge(chunk)
			x.must(err)
		}
		order := append(slices.Clone(chunks), chunks...)
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, chunk := range order {
			_, err := y.Merge(chunk)
			y.must(err)
		}
		equalSets(t, x, y)
	})
}

// TestObservedRemoveAgainstAModel compares bans and lifts with the plainest model of the rule: an offence is gone where
// its lift was seen, and one that the lift's writer had not seen survives.
func TestObservedRemoveAgainstAModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		names := []string{"a", "b", "c"}
		type offence struct {
			origin string
			n      int
		}
		type view struct{ seen, lifted map[offence]bool }
		var nodes []*node
		var views []view
		for _, name := range names {
			n := newNode(t, name, c, nil)
			defer n.Close()
			nodes = append(nodes, n)
			views = append(views, view{map[offence]bool{}, map[offence]bool{}})
		}
		latest := map[string]int{} // a ban replaces its origin's older one
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			i := rapid.IntRange(0, 2).Draw(t, "who")
			switch rapid.IntRange(0, 2).Draw(t, "step") {
			case 0:
				c.add(2 * time.Second)
				nodes[i].ban("192.0.2.1", 100*time.Hour)
				latest[names[i]]++
				o := offence{names[i], latest[names[i]]}
				for old := 1; old < o.n; old++ {
					delete(views[i].seen, offence{o.origin, old})
				}
				views[i].seen[o] = true
			case 1:
				nodes[i].lift("192.0.2.1")
				for o := range views[i].seen {
					views[i].lifted[o] = true
				}
			case 2:
				j := rapid.IntRange(0, 2).Draw(t, "from")
				nodes[i].pull(nodes[j])
				for o := range views[j].seen {
					views[i].seen[o] = true
				}
				for o := range views[j].lifted {
					views[i].lifted[o] = true
				}
				for o := range views[i].seen {
					for later := o.n + 1; later <= latest[o.origin]; later++ {
						if views[i].seen[offence{o.origin, later}] {
							delete(views[i].seen, o)
						}
					}
				}
			}
			want := false
			for o := range views[i].seen {
				want = want || !views[i].lifted[o]
			}
			if got := nodes[i].live("192.0.2.1"); got != want {
				t.Fatalf("%s: live %v, the model says %v", names[i], got, want)
			}
		}
	})
}

// TestForgettingNeverLooksLikeADifference lets only some of the members forget.
func TestForgettingNeverLooksLikeADifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		names := []string{"a", "b"}
		a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
		defer a.Close()
		defer b.Close()
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			act(t, rapid.SampledFrom([]*node{a, b}).Draw(t, "who"), names)
			if rapid.Bool().Draw(t, "sync") {
				converge(a, b)
			}
		}
		converge(a, b)
		for range 12 {
			c.add(time.Duration(rapid.IntRange(1, 60).Draw(t, "wait")) * time.Minute)
			heads := [2]Head{a.Head(), b.Head()}
			a.tick(true)
			b.tick(false)
			if heads != [2]Head{a.Head(), b.Head()} {
				converge(a, b)
			}
			equalSets(t, a, b)
			if n := b.pull(a) + a.pull(b); n != 0 {
				t.Fatalf("%d records were sent although the roots agree", n)
			}
		}
	})
}
