package ipranges_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"go4.org/netipx"

	"banmesh/internal/ipranges"
)

// TestASetAnswersAsNetipxDoes compares random sets and prefixes of both families, dense enough that every kind of overlap occurs.
func TestASetAnswersAsNetipxDoes(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	prefix := func() netip.Prefix {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(256))})
		if random.IntN(2) == 0 {
			a = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 15: byte(random.IntN(256))})
		}
		return netip.PrefixFrom(a, a.BitLen()-random.IntN(9)).Masked()
	}
	overlaps := 0
	for range 2000 {
		var b netipx.IPSetBuilder
		for range random.IntN(20) {
			b.AddPrefix(prefix())
		}
		whole, err := b.IPSet()
		if err != nil {
			t.Fatal(err)
		}
		set := ipranges.Of(whole)
		for range 20 {
			p := prefix()
			if got, want := set.OverlapsPrefix(p), whole.OverlapsPrefix(p); got != want {
				t.Fatalf("%v overlaps %v: %v, want %v", whole.Prefixes(), p, got, want)
			} else if got {
				overlaps++
			}
			if got, want := set.ContainsPrefix(p), whole.ContainsPrefix(p); got != want {
				t.Fatalf("%v contains %v: %v, want %v", whole.Prefixes(), p, got, want)
			}
			var left netipx.IPSetBuilder
			left.AddPrefix(p)
			left.RemoveSet(whole)
			outside, err := left.IPSet()
			if err != nil {
				t.Fatal(err)
			}
			if got, want := set.Outside(p), outside.Prefixes(); !slices.Equal(got, want) {
				t.Fatalf("%v outside %v: %v, want %v", p, whole.Prefixes(), got, want)
			}
		}
	}
	if overlaps < 1000 {
		t.Errorf("only %d prefixes overlapped their set: the test proves little", overlaps)
	}
}

func TestNothingIsInNoSetAndNoPrefixInAny(t *testing.T) {
	all := new(netipx.IPSetBuilder)
	all.AddPrefix(netip.MustParsePrefix("0.0.0.0/0"))
	whole, _ := all.IPSet()
	for _, c := range []struct {
		set ipranges.Set
		p   netip.Prefix
	}{{ipranges.Set{}, netip.MustParsePrefix("192.0.2.0/24")}, {ipranges.Of(nil), netip.MustParsePrefix("192.0.2.0/24")}, {ipranges.Of(whole), netip.Prefix{}}, {ipranges.Of(whole), netip.MustParsePrefix("::/0")}} {
		if c.set.OverlapsPrefix(c.p) || c.set.ContainsPrefix(c.p) {
			t.Errorf("%v is in %v", c.p, c.set)
		}
	}
}
