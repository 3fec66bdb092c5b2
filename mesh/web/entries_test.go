package web

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go4.org/netipx"

	"banmesh/store"
)

// As few prefixes as possible, in order, that cover the same: what netipx makes
// of the same bans. Each ends with the first ban in it.
func TestAggregatedIsMinimal(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		set := &fakeSet{}
		var b netipx.IPSetBuilder
		for range 1 + rnd.IntN(120) {
			a := netip.AddrFrom4([4]byte{10, 0, 0, byte(rnd.IntN(64))})
			bits := 26 + rnd.IntN(7)
			if rnd.IntN(3) == 0 {
				a = netip.AddrFrom16([16]byte{0x20, 1, 15: byte(rnd.IntN(64))})
				bits += 96
			}
			if rnd.IntN(50) == 0 {
				bits = 0 // a whole family
			}
			p := netip.PrefixFrom(a, bits).Masked()
			b.AddPrefix(p)
			set.bans = append(set.bans, ban(p.String(), t0.Add(time.Duration(rnd.IntN(1000))*time.Second)))
		}
		want, err := b.IPSet()
		if err != nil {
			t.Fatal(err)
		}
		all := read(set, 0, "")
		got := aggregated(slices.Clone(all))
		prefixes := make([]netip.Prefix, len(got))
		for i, e := range got {
			prefixes[i] = e.prefix()
			first := store.Never
			for _, each := range all {
				if prefixes[i].Overlaps(each.prefix()) {
					first = min(first, each.until)
				}
			}
			if e.until != first {
				t.Fatalf("seed %d: %v ends at %d, the first ban in it at %d", seed, prefixes[i], e.until, first)
			}
		}
		if !slices.Equal(prefixes, want.Prefixes()) {
			t.Fatalf("seed %d: %v\nwant %v", seed, prefixes, want.Prefixes())
		}
	}
}

func TestReadKeepsTheLaterEndOfTwo(t *testing.T) {
	set := &fakeSet{bans: []store.EffectiveBan{
		ban("192.0.2.0/30", t0.Add(time.Hour), "192.0.2.0/31"), ban("192.0.2.0/31", time.Time{}),
		ban("2001:db8::1/128", t0), ban("192.0.2.0/31", t0.Add(2*time.Hour)),
	}}
	if got, want := read(set, 4, ""), []entry{newEntry(netip.MustParsePrefix("192.0.2.0/31"), store.Never)}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
