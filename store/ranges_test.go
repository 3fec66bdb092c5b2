package store

import (
	"testing"

	"pgregory.net/rapid"
)

// A union is that of adding each, whichever way it is made.
func TestUnionOfRanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) (r rangeSet) {
			for range rapid.IntRange(0, 20).Draw(t, name) {
				first := rapid.Uint64Range(1, 100).Draw(t, "first")
				r = r.add(seqRange{first, first + rapid.Uint64Range(0, 5).Draw(t, "more")})
			}
			return r
		}
		a, b := draw("a"), draw("b")
		want := append(rangeSet(nil), a...)
		for _, x := range b {
			want = want.add(x)
		}
		if got := append(rangeSet(nil), a...).union(b); !got.equal(want) {
			t.Fatalf("%v and %v: %v, want %v", a, b, got, want)
		}
	})
}
