package store

import (
	"encoding/binary"
	"math"
	"net/netip"
	"testing"
)

// An IPv6 address is no IPv4 one, however much of it looks like a mapped one.
func TestFamiliesAreNotConfused(t *testing.T) {
	for _, s := range []string{
		"192.0.2.1/32", "192.0.0.0/2", "128.0.0.0/1", "2001:db8::ffff:c000:201/128", "::1:ffff:c000:201/128", "::c000:201/128", "::fffe:c000:201/128",
		"::1/128", "::ffff:0:0:0/96", "8000::/1", "::/1", "::fffe:0:0/95",
	} {
		p := netip.MustParsePrefix(s)
		k := mustKey(p)
		if got := k.prefix(); got != p {
			t.Errorf("%s comes back as %s", p, got)
		}
		if k.is4() != p.Addr().Is4() {
			t.Errorf("%s is taken for IPv4: %v", p, k.is4())
		}
		b := appendPrefix(nil, k)
		r := &reader{b: b}
		if got := r.prefix(false); got != k || !r.ok() || len(r.b) != 0 {
			t.Errorf("%s is read as %s, %q, %d bytes left", p, got.prefix(), r.reason, len(r.b))
		}
	}
}

func TestAPrefixThatNobodyMayBanIsNotRead(t *testing.T) {
	v4 := func(bits byte, a ...byte) []byte { return append(append([]byte{0xc4, 5}, a...), bits) }
	v6 := func(bits byte, hi, lo uint64) []byte {
		return append(binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64([]byte{0xc4, 17}, hi), lo), bits)
	}
	for name, b := range map[string][]byte{
		"nothing":         {0xc4, 0},
		"all of IPv4":     v4(0, 0, 0, 0, 0),
		"all of IPv6":     v6(0, 0, 0),
		"too long a mask": v4(33, 192, 0, 2, 1),
		"of IPv6":         v6(129, 1<<61, 1),
		"host bits":       v4(24, 192, 0, 2, 1),
		"of IPv6 too":     v6(64, 1<<61, 1),
		"a mapped one":    v6(128, 0, 0xffff<<32|1),
		"four bytes":      {0xc4, 4, 192, 0, 2, 1},
	} {
		r := &reader{b: b}
		if k := r.prefix(false); r.ok() {
			t.Errorf("%s is read as %s", name, k.prefix())
		}
	}
	r := &reader{b: []byte{0xc4, 0}}
	if k := r.prefix(true); !r.ok() || k != noPrefix {
		t.Errorf("no prefix, where there may be none: %v, %q", k, r.reason)
	}
}

// signed writes a number in the signed form of n bytes.
func signed(v int64, n int) []byte {
	tag := map[int]byte{1: 0xd0, 2: 0xd1, 4: 0xd2, 8: 0xd3}[n]
	b := binary.BigEndian.AppendUint64(nil, uint64(v))
	return append([]byte{tag}, b[8-n:]...)
}

// unsigned writes a number in the unsigned form of n bytes.
func unsigned(v uint64, n int) []byte {
	tag := map[int]byte{1: 0xcc, 2: 0xcd, 4: 0xce, 8: 0xcf}[n]
	return append([]byte{tag}, binary.BigEndian.AppendUint64(nil, v)[8-n:]...)
}

// Other encoders write numbers in other forms, which mean the same.
func TestNumbersOfEveryForm(t *testing.T) {
	for _, n := range []int{1, 2, 4, 8} {
		least, most := int64(-1)<<(8*n-1), int64(1)<<(8*n-1)-1
		for _, v := range []int64{least, least + 1, -33, -32, -1, 0, 1, 127, most - 1, most} {
			if v < least || v > most {
				continue
			}
			r := &reader{b: append(signed(v, n), 7)}
			if got := r.int(); got != v || !r.ok() || len(r.b) != 1 {
				t.Errorf("%d in %d bytes is read as %d, %q, %d bytes left", v, n, got, r.reason, len(r.b))
			}
			r = &reader{b: append(signed(v, n), 7)}
			if got := r.uint(); v >= 0 && (got != uint64(v) || !r.ok() || len(r.b) != 1) || v < 0 && r.ok() {
				t.Errorf("%d in %d bytes is read as %d unsigned, %q", v, n, got, r.reason)
			}
		}
		top := uint64(math.MaxUint64) >> (64 - 8*n)
		for _, v := range []uint64{0, 1, top - 1, top} {
			r := &reader{b: append(unsigned(v, n), 7)}
			if got := r.uint(); got != v || !r.ok() || len(r.b) != 1 {
				t.Errorf("%d in %d bytes is read as %d, %q, %d bytes left", v, n, got, r.reason, len(r.b))
			}
		}
	}
	for v := range 128 {
		r := &reader{b: []byte{byte(v), 7}}
		if got := r.int(); got != int64(v) || len(r.b) != 1 {
			t.Errorf("%d is read as %d", v, got)
		}
	}
	for v := -32; v < 0; v++ {
		r := &reader{b: []byte{byte(v), 7}}
		if got := r.int(); got != int64(v) || len(r.b) != 1 {
			t.Errorf("%d is read as %d", v, got)
		}
	}
	for _, b := range [][]byte{{0xc0}, {0xcb}, {0xca, 0, 0, 0, 0}, {0xd4, 1, 1}, {0xa1, 'x'}, {0xe0}, {}} {
		r := &reader{b: b}
		if got := r.uint(); r.ok() {
			t.Errorf("% x is read as %d", b, got)
		}
	}
}

// A field that a later version adds is passed over, of whatever type it is.
func TestAValueOfAnyTypeIsPassedOver(t *testing.T) {
	for name, b := range map[string][]byte{
		"0": {0}, "127": {0x7f}, "-1": {0xff}, "-32": {0xe0}, "nil": {0xc0}, "false": {0xc2}, "true": {0xc3},
		"map":     {0x82, 1, 2, 3, 0xa1, 'x'},
		"array":   {0x93, 1, 0x91, 2, 3},
		"text":    {0xa3, 'a', 'b', 'c'},
		"bin8":    {0xc4, 2, 0xc1, 0xc1},
		"bin16":   {0xc5, 0, 2, 0xc1, 0xc1},
		"bin32":   {0xc6, 0, 0, 0, 2, 0xc1, 0xc1},
		"ext8":    {0xc7, 2, 9, 0xc1, 0xc1},
		"ext16":   {0xc8, 0, 2, 9, 0xc1, 0xc1},
		"ext32":   {0xc9, 0, 0, 0, 2, 9, 0xc1, 0xc1},
		"float32": {0xca, 0xc1, 0xc1, 0xc1, 0xc1},
		"float64": {0xcb, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1, 0xc1},
		"uint8":   unsigned(0xc1, 1), "uint16": unsigned(0xc1c1, 2), "uint32": unsigned(0xc1c1c1c1, 4), "uint64": unsigned(0xc1c1c1c1c1c1c1c1, 8),
		"int8": signed(-63, 1), "int16": signed(-63, 2), "int32": signed(-63, 4), "int64": signed(-63, 8),
		"ext of 1": {0xd4, 9, 0xc1}, "ext of 2": {0xd5, 9, 0xc1, 0xc1}, "ext of 4": {0xd6, 9, 0xc1, 0xc1, 0xc1, 0xc1},
		"ext of 8":  append([]byte{0xd7, 9}, make([]byte, 8)...),
		"ext of 16": append([]byte{0xd8, 9}, make([]byte, 16)...),
		"text8":     {0xd9, 2, 'a', 'b'},
		"text16":    {0xda, 0, 2, 'a', 'b'},
		"text32":    {0xdb, 0, 0, 0, 2, 'a', 'b'},
		"array16":   {0xdc, 0, 2, 1, 2},
		"array32":   {0xdd, 0, 0, 0, 2, 1, 2},
		"map16":     {0xde, 0, 1, 1, 2},
		"map32":     {0xdf, 0, 0, 0, 1, 1, 2},
	} {
		r := &reader{b: append(append([]byte{}, b...), 7)}
		r.skip()
		if !r.ok() || len(r.b) != 1 {
			t.Errorf("%s: %q, %d bytes left, want the one after it", name, r.reason, len(r.b))
		}
		for n := range b {
			r := &reader{b: b[:n]}
			if r.skip(); r.ok() {
				t.Errorf("%s: passed over although it is cut to %d bytes", name, n)
			}
		}
	}
	r := &reader{b: []byte{0xc1}}
	if r.skip(); r.ok() {
		t.Error("what is no type is passed over")
	}
}

func TestAChunkOfTheGreatestSizeIsRead(t *testing.T) {
	if _, err := parseChunk(make([]byte, maxChunk+1)); err == nil || err.Error() != (&WireError{"chunk too long"}).Error() {
		t.Errorf("one byte more than the greatest: %v", err)
	}
	if _, err := parseChunk(make([]byte, maxChunk)); err == nil || err.Error() == (&WireError{"chunk too long"}).Error() {
		t.Errorf("the greatest: %v, want what is wrong inside", err)
	}
}
