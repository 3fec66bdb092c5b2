package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"
	"pgregory.net/rapid"
)

// wholeExemptions is what must not be blocked, worked out from every record: the plain way that everything kept beside the
// records is compared with. Called with mu held.
func (s *set) wholeExemptions(now Millis) *netipx.IPSet {
	var b netipx.IPSetBuilder
	for _, p := range append(builtin(), s.control.own...) {
		b.AddPrefix(p)
	}
	for _, i := range s.neverBans(now) {
		for _, p := range leaseHolds(s.never[i]) {
			b.AddPrefix(p)
		}
	}
	for _, l := range s.byID {
		for _, i := range l.recs {
			if r := s.slab.at(i); !r.is(flagDead) && r.kind == KindAllow && s.ignored(r) == "" && !r.is(flagLifted) && r.until > now {
				b.AddPrefix(r.key().prefix())
			}
		}
	}
	set, err := b.IPSet()
	if err != nil {
		panic(err)
	}
	return set
}

// checkExemptions compares what the store says of prefixes with the whole set.
func (n *node) checkExemptions(t fataler, probes ...netip.Prefix) {
	t.Helper()
	cached := n.Exemptions()
	n.mu.RLock()
	defer n.mu.RUnlock()
	now := n.Store.now()
	whole, e := n.set.wholeExemptions(now), n.exemptionsLocked(now)
	if !cached.Equal(whole) {
		t.Fatalf("%s: the whole set is %v, want %v", n.cfg.Origin, cached.Prefixes(), whole.Prefixes())
	}
	for _, p := range probes {
		var out, in netipx.IPSetBuilder
		out.AddPrefix(p)
		out.RemoveSet(whole)
		in.AddPrefix(p)
		in.Intersect(whole)
		pieces, cut := prefixesOf(&out), prefixesOf(&in)
		if got := e.pieces(p); !slices.Equal(got, pieces) {
			t.Fatalf("%s: pieces of %v: %v, want %v of %v", n.cfg.Origin, p, got, pieces, whole.Prefixes())
		}
		if got := e.cutOut(p); !slices.Equal(got, cut) {
			t.Fatalf("%s: cut out of %v: %v, want %v of %v", n.cfg.Origin, p, got, cut, whole.Prefixes())
		}
		if got, want := e.covers(p), whole.ContainsPrefix(p); got != want {
			t.Fatalf("%s: covers %v: %v, want %v of %v", n.cfg.Origin, p, got, want, whole.Prefixes())
		}
		if got, want := e.overlap(p) != overlapsNot, whole.OverlapsPrefix(p); got != want {
			t.Fatalf("%s: overlaps %v: %v, want %v of %v", n.cfg.Origin, p, got, want, whole.Prefixes())
		}
	}
}

// checkBook recomputes what the book of allows counts. Called with mu held.
func (s *set) checkBook(t fataler) {
	t.Helper()
	want := newAllowBook()
	for _, l := range s.byID {
		for _, i := range l.recs {
			if r := s.slab.at(i); !r.is(flagDead) && r.kind == KindAllow {
				want.add(r.key(), i)
			}
		}
	}
	var got, all []uint32
	s.allows.all(func(i uint32) { got = append(got, i) })
	want.all(func(i uint32) { all = append(all, i) })
	if !slices.Equal(got, all) || want.lens != s.allows.lens || want.first != s.allows.first {
		t.Fatalf("the book has the allows %v, want %v, or counts them wrongly", got, all)
	}
}

// TestExemptionsOfAPrefix: what is asked of one prefix is what the whole set says of it, whatever comes, goes, ends, is
// lifted, blocked or over a limit, and wherever the clock steps.
func TestExemptionsOfAPrefix(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := newClock()
		names := []string{"a", "b", "c"}
		with := func(cfg *Config) {}
		if rapid.Bool().Draw(t, "limited") {
			with = func(cfg *Config) {
				cfg.Limits = Limits{AllowsPerOrigin: 4, AllowWidestV4: 23, AllowWidestV6: 60, LiftsPerOrigin: 3}
			}
		}
		var nodes []*node
		for _, name := range names {
			n := newNode(t, name, c, nil, with)
			defer n.Close()
			nodes = append(nodes, n)
		}
		// A few addresses, in prefixes that meet, join and contain each other, two of them in private or reserved space.
		drawn := func(label string) netip.Prefix {
			a := rapid.SampledFrom([]string{"8.8.8.0", "8.8.8.128", "8.8.8.255", "8.8.9.1", "10.1.2.3", "127.255.255.255", "2001:db8::", "2001:db8::1", "2001:db8:0:1::"}).Draw(t, label)
			addr := netip.MustParseAddr(a)
			bits := rapid.SampledFrom([]int{0, 0, 0, 1, 1, 2, 7, 8, 9, 16, 24}).Draw(t, label+" shorter by")
			if addr.Is6() {
				bits = min(3*bits, 110)
			}
			return netip.PrefixFrom(addr, addr.BitLen()-bits).Masked()
		}
		ctx := context.Background()
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			n := rapid.SampledFrom(nodes).Draw(t, "who")
			until := c.millis() + Millis(rapid.IntRange(1, 300).Draw(t, "minutes"))*minute
			switch rapid.IntRange(0, 11).Draw(t, "step") {
			case 0, 1, 2, 3:
				n.must(n.Allow(ctx, []AllowRequest{{Prefix: drawn("allow"), Until: until}}))
			case 4:
				if _, err := n.DropAllow(ctx, []netip.Prefix{drawn("drop")}); err != nil && err != ErrLimited {
					n.must(err)
				}
			case 5:
				if p := drawn("never"); !tooWideToExempt(p) {
					n.must(n.PublishNeverBan(ctx, []netip.Prefix{p}, until))
				}
			case 6:
				n.Protect([]netip.Prefix{drawn("own")})
			case 7:
				n.must(n.Block(ctx, rapid.SampledFrom(names).Draw(t, "blocked")))
			case 8:
				n.must(n.Unblock(ctx, rapid.SampledFrom(names).Draw(t, "unblocked")))
			case 9:
				n.pull(rapid.SampledFrom(nodes).Draw(t, "from"))
			case 10:
				c.add(time.Duration(rapid.IntRange(-3000, 5400).Draw(t, "wait")) * time.Second)
			case 11:
				n.Tick(true)
			}
			var probes []netip.Prefix
			for i := range 4 {
				probes = append(probes, drawn(fmt.Sprint("probe ", i)))
			}
			for _, n := range nodes {
				n.checkExemptions(t, probes...)
				n.selfCheck(t)
			}
		}
	})
}
