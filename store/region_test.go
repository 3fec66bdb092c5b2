package store

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// effectiveOf are the effective bans in one form that can be compared.
func effectiveOf(bans func(func(EffectiveBan) bool), want func(netip.Prefix) bool) []string {
	var out []string
	for e := range bans {
		if want(e.Prefix) {
			out = append(out, fmt.Sprint(e.Prefix, e.Pieces, e.Until, e.Origins, e.Records))
		}
	}
	slices.Sort(out)
	return out
}

// TestEffectiveInIsAPartOfEffective draws neighbours of a few lengths, which lie within each other, and asks for regions of
// all lengths: those whose prefixes are looked up, and those for which all prefixes are gone through.
func TestEffectiveInIsAPartOfEffective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "one", newClock(), newMemDisk())
		var all []netip.Prefix
		for _, f := range []struct {
			start   string
			lengths []int
		}{{"10.0.0.0", []int{15, 16, 20, 23, 24, 30, 31, 32}}, {"2001:db8::", []int{31, 32, 48, 62, 63, 64, 65, 70, 127, 128}}} {
			lengths := rapid.SliceOfNDistinct(rapid.SampledFrom(f.lengths), 1, 4, rapid.ID).Draw(t, "lengths")
			for range rapid.IntRange(0, 30).Draw(t, "bans") {
				bits := rapid.SampledFrom(lengths).Draw(t, "bits")
				a := netip.MustParseAddr(f.start).AsSlice()
				// Near the end of the prefix, and now and then further before: neighbours, across the bytes.
				at := bits - 1 - rapid.IntRange(0, 3).Draw(t, "flipped")
				a[at/8] ^= 0x80 >> (at % 8)
				at = bits - 1 - rapid.IntRange(0, min(12, bits-9)).Draw(t, "flipped before")
				a[at/8] ^= 0x80 >> (at % 8)
				addr, _ := netip.AddrFromSlice(a)
				p := netip.PrefixFrom(addr, bits).Masked()
				n.ban(p.String(), time.Hour, func(q *BanRequest) { q.Force = true })
				all = append(all, p)
			}
		}
		if len(all) == 0 {
			return
		}
		near := func(label string) netip.Prefix {
			p := rapid.SampledFrom(all).Draw(t, label)
			return netip.PrefixFrom(p.Addr(), max(8, p.Bits()-rapid.IntRange(-2, 14).Draw(t, label+" shorter"))%(p.Addr().BitLen()+1)).Masked()
		}
		if p := near("allow"); p.Bits() > 0 && rapid.Bool().Draw(t, "allow one") {
			n.must(n.Allow(t.Context(), []AllowRequest{{Prefix: p, Until: Never}}))
		}
		region := near("region")
		got := effectiveOf(n.EffectiveIn(region), func(netip.Prefix) bool { return true })
		want := effectiveOf(n.Effective(), region.Overlaps)
		if region.Bits() == 0 {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in %v:\n%q, want\n%q", region, got, want)
		}
		every := func(netip.Prefix) bool { return true }
		if got, want := effectiveOf(n.EffectiveParts(), every), effectiveOf(n.Effective(), every); !slices.Equal(got, want) {
			t.Fatalf("in parts:\n%q, want\n%q", got, want)
		}
	})
}

// TestABanComesBetweenTheParts: a walk over many does not hold one up until its end.
func TestABanComesBetweenTheParts(t *testing.T) {
	n := newNode(t, "one", newClock(), nil)
	const many = 32 * part
	var list []BanRequest
	for i := range many {
		list = append(list, n.request(fmt.Sprintf("20.0.%d.%d/32", i>>8, i&255), time.Hour))
	}
	if _, err := n.Ban(context.Background(), list); err != nil {
		t.Fatal(err)
	}
	come, seen := make(chan struct{}), 0
	for range n.EffectiveParts() {
		if seen++; seen == 1 {
			go func() { n.ban("198.51.100.1/32", time.Hour); close(come) }()
		}
		if seen%part != 1 {
			continue
		}
		for waits := false; !waits; { // until the ban is done, or wants the lock
			select {
			case <-come:
				waits = true
			default:
				if waits = !n.mu.TryRLock(); !waits {
					n.mu.RUnlock()
					runtime.Gosched()
				}
			}
		}
	}
	<-come
	if seen != many+1 {
		t.Errorf("%d seen, want %d and the ban that came meanwhile", seen, many)
	}
}

func TestEffectiveInOfNoPrefixIsNothing(t *testing.T) {
	n := newNode(t, "one", newClock(), newMemDisk())
	n.ban("192.0.2.1/32", time.Hour)
	for _, p := range []netip.Prefix{{}, pfx("0.0.0.0/0"), pfx("::/0")} {
		if got := effectiveOf(n.EffectiveIn(p), func(netip.Prefix) bool { return true }); len(got) > 0 {
			t.Errorf("in %v: %q", p, got)
		}
	}
	for e := range n.EffectiveIn(pfx("192.0.2.0/24")) { // ends where the callee says so
		if e.Prefix != pfx("192.0.2.1/32") {
			t.Errorf("%v", e)
		}
		break
	}
}

// BenchmarkEffectiveIn asks for a region among 100,000 bans of single addresses.
func BenchmarkEffectiveIn(b *testing.B) {
	n := newNode(b, "one", newClock(), newMemDisk())
	if _, err := n.Ban(b.Context(), manyBans(0, 100_000, n.now())); err != nil {
		b.Fatal(err)
	}
	for _, region := range []string{"11.0.7.7/32", "11.0.7.0/24", "11.0.0.0/16", "11.0.0.0/8"} {
		b.Run(region, func(b *testing.B) {
			for b.Loop() {
				for range n.EffectiveIn(pfx(region)) {
				}
			}
		})
	}
}
