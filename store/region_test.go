package store

import (
	"fmt"
	"net/netip"
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

// TestEffectiveInIsAPartOfEffective draws prefixes of a few lengths close together, so that they lie within each other, and
// asks for regions of all lengths: those that are looked up and those for which all prefixes are gone through.
func TestEffectiveInIsAPartOfEffective(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := newNode(t, "one", newClock(), newMemDisk())
		draw := func(label string, shortest4, shortest6 int) netip.Prefix {
			a := rapid.SliceOfN(rapid.IntRange(0, 3), 4, 4).Draw(t, label)
			if rapid.Bool().Draw(t, label+" IPv6") {
				var b [16]byte
				b[0], b[1], b[3], b[8], b[15] = 0x20, 1, byte(a[0]), byte(a[1]), byte(a[2])
				return netip.PrefixFrom(netip.AddrFrom16(b), rapid.SampledFrom([]int{shortest6, 31, 48, 63, 64, 65, 127, 128}).Draw(t, label+" bits")).Masked()
			}
			b := [4]byte{10, byte(a[0]), byte(a[1]), byte(a[2] * 64)}
			return netip.PrefixFrom(netip.AddrFrom4(b), rapid.SampledFrom([]int{shortest4, 16, 20, 24, 31, 32}).Draw(t, label+" bits")).Masked()
		}
		for range rapid.IntRange(0, 60).Draw(t, "bans") {
			n.ban(draw("ban", 15, 20).String(), time.Hour, func(q *BanRequest) { q.Force = true })
		}
		if rapid.Bool().Draw(t, "allow") {
			n.must(n.Allow(t.Context(), []AllowRequest{{Prefix: draw("allow", 9, 17), Until: Never}}))
		}
		region := draw("region", 7, 3)
		got := effectiveOf(n.EffectiveIn(region), func(netip.Prefix) bool { return true })
		if want := effectiveOf(n.Effective(), region.Overlaps); !slices.Equal(got, want) {
			t.Fatalf("in %v:\n%q, want\n%q", region, got, want)
		}
	})
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
