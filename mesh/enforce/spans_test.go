package enforce

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"banmesh/store"
)

// The model: 256 addresses, until by address, 0 is none. The first is the very first of all, or the last the very last.
type model [256]store.Millis

func drawBase(t *rapid.T) addr {
	return rapid.SampledFrom([]addr{{}, {0, 10 << 24}, {1, ^uint64(0) - 99}, {^uint64(0), ^uint64(0) - 255}}).Draw(t, "base")
}

func (base addr) at(i int) addr {
	a := addr{base.hi, base.lo + uint64(i)}
	if a.lo < base.lo {
		a.hi++
	}
	return a
}

func modelOf(t *rapid.T, base addr, list []span, disjoint bool) (m model) {
	for n, s := range list {
		if s.to.less(s.from) {
			t.Fatalf("span %d ends before it begins: %v", n, s)
		}
		if disjoint && n > 0 && !list[n-1].to.less(s.from) {
			t.Fatalf("spans %v and %v are not in order", list[n-1], s)
		}
		for i := range m {
			if a := base.at(i); !a.less(s.from) && !s.to.less(a) {
				m[i] = max(m[i], s.until)
			}
		}
	}
	return m
}

// drawList draws a list that is sorted and disjoint, not cut as sparsely as it could be.
func drawList(t *rapid.T, base addr, label string) []span {
	var out []span
	for at := 0; at < 256; {
		at += rapid.IntRange(0, 20).Draw(t, label+" gap")
		to := at + rapid.IntRange(0, 20).Draw(t, label+" length")
		if to > 255 {
			break
		}
		out = append(out, span{base.at(at), base.at(to), store.Millis(rapid.IntRange(1, 4).Draw(t, label+" until"))})
		at = to + 1
	}
	return out
}

func drawPrefixes(t *rapid.T, base addr) []span {
	var out []span
	for range rapid.IntRange(0, 20).Draw(t, "prefixes") {
		bits := rapid.IntRange(0, 8).Draw(t, "bits")
		from := rapid.IntRange(0, 255).Draw(t, "address") >> bits << bits
		out = append(out, span{base.at(from), base.at(from + 1<<bits - 1), store.Millis(rapid.IntRange(1, 9).Draw(t, "until"))})
	}
	return out
}

func exact(a, b store.Millis) bool { return a == b }

func TestFlattenKeepsTheLongest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		nested := drawPrefixes(t, base)
		want := modelOf(t, base, nested, false)
		got := flatten(nested)
		if modelOf(t, base, got, true) != want {
			t.Fatalf("%v became %v", nested, got)
		}
		for i, s := range got {
			if i > 0 && got[i-1].until == s.until && got[i-1].to.next() == s.from && got[i-1].from != got[i-1].to && s.from != s.to {
				t.Fatalf("%v became %v, which could be fewer", nested, got)
			}
		}
	})
}

func TestSubtractAndMerge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		a, b := drawList(t, base, "a"), drawList(t, base, "b")
		want, holes := modelOf(t, base, a, true), modelOf(t, base, b, true)
		for i := range want {
			if holes[i] != 0 {
				want[i] = 0
			}
		}
		rest := subtract(a, b)
		if modelOf(t, base, rest, true) != want {
			t.Fatalf("%v less %v became %v", a, b, rest)
		}
		for i := range want {
			want[i] = max(want[i], holes[i])
		}
		if all := merge(rest, b); modelOf(t, base, all, true) != want {
			t.Fatalf("%v and %v became %v", rest, b, all)
		}
	})
}

func TestLesserIsBelowBoth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		a, b := drawList(t, base, "a"), drawList(t, base, "b")
		want, other := modelOf(t, base, a, true), modelOf(t, base, b, true)
		for i := range want {
			want[i] = min(want[i], other[i])
		}
		if got := lesser(a, b); modelOf(t, base, got, true) != want {
			t.Fatalf("of %v and %v: %v", a, b, got)
		}
	})
}

// TestDiffIsExactAndLeavesWhatIsRight: held less del and with add is what is wanted; nothing is deleted that is right.
func TestDiffIsExactAndLeavesWhatIsRight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		held, want := drawList(t, base, "held"), drawList(t, base, "want")
		if rapid.Bool().Draw(t, "alike") { // most of what is held is right in practice
			want = merge(inChunks(t, held).within(want), subtract(want, held))
		}
		is, should := modelOf(t, base, held, true), modelOf(t, base, want, true)
		del, add := diff(held, want, exact)
		modelOf(t, base, add, true)
		for _, d := range del {
			if !slices.Contains(held, d) {
				t.Fatalf("%v is deleted and not held in %v", d, held)
			}
			right := true
			for i := range is {
				if a := base.at(i); !a.less(d.from) && !d.to.less(a) {
					right = right && is[i] == should[i]
				}
			}
			if right {
				t.Fatalf("%v is deleted, and right: held %v, want %v", d, held, want)
			}
		}
		after := inChunks(t, held).edit(del, add, 0).flat()
		if modelOf(t, base, after, true) != should {
			t.Fatalf("held %v, want %v: del %v add %v gives %v", held, want, del, add, after)
		}
	})
}

func TestEditDropsWhatEnded(t *testing.T) {
	l := listOf([]span{{addr{0, 1}, addr{0, 5}, 10}, {addr{0, 7}, addr{0, 9}, 50}})
	got := l.edit(nil, []span{{addr{0, 2}, addr{0, 3}, 60}}, 10).flat()
	if want := []span{{addr{0, 2}, addr{0, 3}, 60}, {addr{0, 7}, addr{0, 9}, 50}}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestWithinTakesEachSpanOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		list, regions := drawList(t, base, "list"), drawList(t, base, "regions")
		var want []span
		for _, s := range list {
			if slices.ContainsFunc(regions, s.overlaps) {
				want = append(want, s)
			}
		}
		if got := inChunks(t, list).within(regions); !slices.Equal(got, want) {
			t.Fatalf("of %v in %v: %v, want %v", list, regions, got, want)
		}
	})
}

func TestSpanOfAPrefix(t *testing.T) {
	for _, c := range []struct{ prefix, from, to string }{
		{"192.0.2.7/32", "192.0.2.7", "192.0.2.7"},
		{"192.0.2.0/24", "192.0.2.0", "192.0.2.255"},
		{"128.0.0.0/1", "128.0.0.0", "255.255.255.255"},
		{"2001:db8::1/128", "2001:db8::1", "2001:db8::1"},
		{"2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"},
		{"2001:db8::/63", "2001:db8::", "2001:db8:0:1:ffff:ffff:ffff:ffff"},
		{"2001:db8::/32", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"},
		{"8000::/1", "8000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	} {
		f, s := spanOf(netip.MustParsePrefix(c.prefix), 5)
		if from, to := s.from.in(f).String(), s.to.in(f).String(); from != c.from || to != c.to || s.until != 5 {
			t.Errorf("%s is %s to %s until %d, want %s to %s", c.prefix, from, to, s.until, c.from, c.to)
		}
	}
}

// inChunks makes a list of chunks of some size.
func inChunks(t *rapid.T, spans []span) list {
	l := list{n: len(spans)}
	for c := range slices.Chunk(spans, rapid.IntRange(1, 5).Draw(t, "chunk")) {
		l.chunks = append(l.chunks, c)
	}
	return l
}

// TestALongListStaysInOrder: through many changes, while what others hold of it stays as it was.
func TestALongListStaysInOrder(t *testing.T) {
	var l list
	var model []span
	for i := range 3000 {
		var del, add []span
		if i%3 == 2 {
			at := (i * 7919) % len(model)
			del, model = []span{model[at]}, slices.Delete(slices.Clone(model), at, at+1)
		} else {
			s := span{addr{0, uint64(i * 7919 % 100_003)}, addr{0, uint64(i * 7919 % 100_003)}, 50}
			add, model = []span{s}, append(slices.Clone(model), s)
			slices.SortFunc(model, func(a, b span) int { return a.from.compare(b.from) })
		}
		before, was := l, l.flat()
		l = l.edit(del, add, 0)
		if !slices.Equal(before.flat(), was) {
			t.Fatalf("change %d has changed what was held before", i)
		}
		if !slices.Equal(l.flat(), model) || l.n != len(model) {
			t.Fatalf("change %d: %d spans, want %d", i, l.n, len(model))
		}
	}
	for _, c := range l.chunks {
		if len(c) == 0 || len(c) > 2*chunkSize {
			t.Errorf("a chunk of %d", len(c))
		}
	}
	if l = l.edit(l.flat(), nil, 0); l.n != 0 || len(l.chunks) != 0 {
		t.Errorf("%d spans in %d chunks after all are deleted", l.n, len(l.chunks))
	}
}

// TestUnionIsDisjoint: and holds the same addresses.
func TestUnionIsDisjoint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base := drawBase(t)
		a, b := drawList(t, base, "a"), drawList(t, base, "b")
		got := union(slices.Concat(a, b))
		for i, s := range got {
			if i > 0 && !got[i-1].to.less(s.from) {
				t.Fatalf("%v overlap", got)
			}
		}
		for i := range modelOf(t, base, a, true) {
			at := []span{{base.at(i), base.at(i), 0}}
			if touches(at, got) != (touches(at, a) || touches(at, b)) {
				t.Fatalf("%v and %v became %v", a, b, got)
			}
		}
	})
}

// listOf makes a list of spans that are sorted and disjoint, and keeps them.
func listOf(spans []span) list {
	l := list{n: len(spans)}
	for c := range slices.Chunk(spans, chunkSize) {
		l.chunks = append(l.chunks, c)
	}
	return l
}
