package store

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"
)

// What Counts says is what List and Effective show, whatever has happened: bans
// of several members of one prefix, lifts, allows, expiry, records forgotten and
// their places used again, a block.
func TestCountsAreThoseOfTheList(t *testing.T) {
	for seed := range uint64(6) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		c := newClock()
		limits := func(cfg *Config) { cfg.Limits.LivePerOrigin = 60 }
		a, b, x := newNode(t, "a", c, nil, limits), newNode(t, "b", c, nil, limits), newNode(t, "x", c, nil, limits)
		nodes := []*node{a, b, x}
		prefix := func() string {
			switch rnd.IntN(4) {
			case 0:
				return fmt.Sprintf("10.%d.0.0/24", rnd.IntN(30)) // many inside an allow
			case 1:
				return fmt.Sprintf("2001:db8:%x::/48", rnd.IntN(40))
			case 2:
				return fmt.Sprintf("127.0.0.%d", rnd.IntN(10)) // reserved
			}
			return fmt.Sprintf("203.0.113.%d", rnd.IntN(80))
		}
		counted := Counts{}
		for step := range 400 {
			n := nodes[rnd.IntN(len(nodes))]
			switch op := rnd.IntN(20); {
			case op < 10:
				jail := fmt.Sprint("jail", rnd.IntN(3))
				n.ban(prefix(), time.Duration(1+rnd.IntN(90))*time.Minute, func(q *BanRequest) { q.Jail = jail })
			case op < 13:
				n.lift(prefix())
			case op == 13:
				p := netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/%d", rnd.IntN(30), 20+rnd.IntN(8)))
				n.must(n.Allow(context.Background(), []AllowRequest{{Prefix: p, Until: c.millis() + Millis(time.Hour/time.Millisecond)}}))
			case op == 14:
				n.must(n.PublishNeverBan(context.Background(), []netip.Prefix{pfx(fmt.Sprintf("203.0.113.%d", rnd.IntN(80)))}, c.millis()+Millis(time.Hour/time.Millisecond)))
			case op == 15 && step%5 == 0:
				n.must(n.Block(context.Background(), "x"))
			case op == 15:
				n.must(n.Unblock(context.Background(), "x"))
			case op == 16:
				c.add(time.Duration(rnd.IntN(10)) * time.Minute)
				for _, n := range nodes {
					n.Tick(true)
				}
			case op == 17 && step%6 == 0:
				c.add(48 * time.Hour) // what is over is forgotten
				for _, n := range nodes {
					n.Tick(true)
				}
			default:
				n.pull(nodes[rnd.IntN(len(nodes))])
			}
			got, want := n.Counts(), Counts{}
			for _, e := range n.List(Query{}) {
				want.Live++
				if e.Effective {
					want.Effective++
				}
				for _, r := range e.Records {
					if r.Origin == n.cfg.Origin {
						want.Own++
						break
					}
				}
			}
			jails := make(map[string]int)
			for _, e := range n.List(Query{}) {
				var seen []string
				for _, r := range e.Records {
					if !slices.Contains(seen, r.Jail) {
						seen = append(seen, r.Jail)
						jails[r.Jail]++
					}
				}
			}
			if counted := n.JailCounts(); !maps.Equal(counted, jails) {
				t.Fatalf("seed %d, step %d: by jail %v, listed are %v", seed, step, counted, jails)
			}
			if got.Live != want.Live || got.Effective != want.Effective || got.Own != want.Own {
				t.Fatalf("seed %d, step %d: %d live, %d effective, %d own; listed are %d, %d, %d",
					seed, step, got.Live, got.Effective, got.Own, want.Live, want.Effective, want.Own)
			}
			effective := 0
			for range n.Effective() {
				effective++
			}
			if got.Effective != effective {
				t.Fatalf("seed %d, step %d: %d effective, Effective yields %d", seed, step, got.Effective, effective)
			}
			counted.Live, counted.Effective, counted.Own = max(counted.Live, got.Live), max(counted.Effective, got.Effective), max(counted.Own, got.Own)
		}
		if counted.Live < 20 || counted.Effective < 10 || counted.Own < 10 || counted.Live == counted.Effective {
			t.Errorf("seed %d tried too little: at most %+v", seed, counted)
		}
	}
}

// The quick test never spares what overlaps.
func TestNearExemptionIsNeverWrong(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		prefix := func() netip.Prefix {
			if rnd.IntN(2) == 0 {
				var a [16]byte
				a[0], a[1], a[2] = byte(rnd.IntN(256)), byte(rnd.IntN(256)), byte(rnd.IntN(256))
				return netip.PrefixFrom(netip.AddrFrom16(a), 1+rnd.IntN(24)).Masked()
			}
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(rnd.IntN(256)), byte(rnd.IntN(256)), 0, 0}), 1+rnd.IntN(16)).Masked()
		}
		var b netipx.IPSetBuilder
		for range 1 + rnd.IntN(5) {
			b.AddPrefix(prefix())
		}
		exemptions, err := b.IPSet()
		if err != nil {
			t.Fatal(err)
		}
		near, spared := nearExemption(exemptions), 0
		for range 500 {
			p := prefix()
			if !near(p) {
				spared++
				if exemptions.OverlapsPrefix(p) {
					t.Fatalf("seed %d: %v overlaps %v and is called far from it", seed, p, exemptions.Prefixes())
				}
			}
		}
		if spared == 0 && len(exemptions.Prefixes()) < 3 && exemptions.Prefixes()[0].Bits() > 4 {
			t.Errorf("seed %d: it spares nothing of %v", seed, exemptions.Prefixes())
		}
	}
}
