//go:build linux

package enforce

import (
	"encoding/binary"
	"math"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// attribute encodes one as the kernel does.
func attribute(kind uint16, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.NLA_HDRLEN+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, (unix.NLA_ALIGNTO-len(b)%unix.NLA_ALIGNTO)%unix.NLA_ALIGNTO)...)
}

// markBytes is an element as the kernel lists it.
func markBytes(f family, m mark) []byte {
	key := attribute(unix.NFTA_DATA_VALUE, m.at.in(f).AsSlice())
	b := attribute(unix.NFTA_SET_ELEM_KEY|unix.NLA_F_NESTED, key)
	if m.end {
		b = append(b, attribute(unix.NFTA_SET_ELEM_FLAGS, []byte{0, 0, 0, unix.NFT_SET_ELEM_INTERVAL_END})...)
	}
	if m.left > 0 {
		left := binary.BigEndian.AppendUint64(nil, uint64(m.left.Milliseconds()))
		b = append(b, attribute(unix.NFTA_SET_ELEM_TIMEOUT, left)...)
		b = append(b, attribute(unix.NFTA_SET_ELEM_EXPIRATION, left)...)
	}
	return b
}

// TestRangesAreWhatTheMarksSay: in whatever order, with neighbours, with ends whose beginnings have expired, and with
// what expires while it is read.
func TestRangesAreWhatTheMarksSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.SampledFrom([]family{v4, v6}).Draw(t, "family")
		base := addr{0, 10 << 24}
		if f == v6 {
			base = addr{0x20010db8 << 32, math.MaxUint64 - 100}
		}
		const took = 2 * time.Second
		var want []Element
		var marks []mark
		for _, s := range drawList(t, base, "ranges") {
			begin, end := mark{at: s.from}, mark{at: s.to.next(), end: true}
			begin.left = time.Duration(rapid.IntRange(0, 4).Draw(t, "left")) * time.Second
			gone := rapid.IntRange(0, 3).Draw(t, "gone") == 0
			if !gone {
				marks = append(marks, begin)
			}
			marks = append(marks, end)
			e := Element{From: s.from.in(f), To: s.to.in(f)}
			switch {
			case gone || begin.left > 0 && begin.left <= took:
			case begin.left == 0:
				want = append(want, e)
			default:
				e.Left = begin.left - took
				want = append(want, e)
			}
		}
		var read []mark
		for _, m := range rapid.Permutation(marks).Draw(t, "order") {
			got, there := markOf(f, markBytes(f, m))
			if !there || got != m {
				t.Fatalf("%v is read as %v, %v", m, got, there)
			}
			read = append(read, got)
		}
		if got := ranges(f, read, took); !slices.Equal(got, want) {
			t.Fatalf("%v, want %v", got, want)
		}
	})
}

func TestTheLastAddressHasNoEnd(t *testing.T) {
	last := addr{0, math.MaxUint32}
	got := ranges(v4, []mark{{at: last}, {at: last}, {at: addr{0, 5}}, {at: addr{0, 7}, end: true}}, 0)
	want := []Element{{From: addr{0, 5}.in(v4), To: addr{0, 6}.in(v4)}, {From: last.in(v4), To: last.in(v4)}}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// FuzzElements: nothing that looks like the kernel's list breaks the reader of it.
func FuzzElements(f *testing.F) {
	f.Add(attribute(1, markBytes(v4, mark{at: addr{0, 10 << 24}, left: time.Second})), true)
	f.Add(append(attribute(1, markBytes(v6, mark{at: addr{1, 2}})), attribute(1, markBytes(v6, mark{at: addr{1, 3}, end: true}))...), false)
	f.Add([]byte{3, 0, 1, 0}, true)
	f.Fuzz(func(t *testing.T, list []byte, four bool) {
		fam := v6
		if four {
			fam = v4
		}
		var marks []mark
		for _, element := range attributes(list) {
			if m, there := markOf(fam, element); there {
				marks = append(marks, m)
			}
		}
		var held lists
		for _, e := range ranges(fam, marks, time.Second) {
			_, from := addrOf(e.From)
			_, to := addrOf(e.To)
			held[fam] = append(held[fam], span{from, to, 1})
		}
		for i, s := range held[fam] {
			if s.to.less(s.from) || i > 0 && !held[fam][i-1].to.less(s.from) {
				t.Fatalf("ranges are not in order: %v", held[fam])
			}
		}
	})
}

// TestSinglesAreWhatTheMarksSay: without what expires while it is read, and once what is told twice.
func TestSinglesAreWhatTheMarksSay(t *testing.T) {
	const took = 2 * time.Second
	at := func(i uint64) addr { return addr{0, 10<<24 + i} }
	got := singles(v4, []mark{{at: at(9)}, {at: at(1), left: took}, {at: at(3), left: took + 5*time.Second}, {at: at(9)}, {at: at(2), left: took - 1}}, took)
	want := []Element{
		{From: at(3).in(v4), To: at(3).in(v4), Left: 5 * time.Second},
		{From: at(9).in(v4), To: at(9).in(v4)},
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
