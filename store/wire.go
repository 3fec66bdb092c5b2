package store

import (
	"encoding/binary"
	"math"
	"unicode/utf8"
)

// The wire and the file use msgpack. A million records have to be read within seconds, so the few forms that records use are
// written and read by hand: always the shortest form when writing, any form when reading, as the specification
// (github.com/msgpack/msgpack/blob/master/spec.md) requires.

// The encoders write MessagePack, each value in its shortest form. That is not only to save space:
// hashes are over encoded records, so one record must have one encoding at every member.
func appendArray(b []byte, n int) []byte {
	switch {
	case n < 16:
		return append(b, 0x90|byte(n))
	case n <= math.MaxUint16:
		return append(b, 0xdc, byte(n>>8), byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, 0xdd), uint32(n))
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return append(b, 0xcd, byte(v>>8), byte(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

// appendInt is for minutes, which a clock before 1970 makes negative; those below -32 take nine bytes.
func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return appendUint(b, uint64(v))
	case v >= -32:
		return append(b, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

func appendString(b []byte, s string) []byte {
	switch n := len(s); {
	case n < 32:
		b = append(b, 0xa0|byte(n))
	case n <= math.MaxUint8:
		b = append(b, 0xd9, byte(n))
	case n <= math.MaxUint16:
		b = append(b, 0xda, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xdb), uint32(n))
	}
	return append(b, s...)
}

func appendBin(b, v []byte) []byte {
	switch n := len(v); {
	case n <= math.MaxUint8:
		b = append(b, 0xc4, byte(n))
	case n <= math.MaxUint16:
		b = append(b, 0xc5, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint32(append(b, 0xc6), uint32(n))
	}
	return append(b, v...)
}

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

func appendNil(b []byte) []byte { return append(b, 0xc0) }

// reader reads msgpack. The first error sticks: everything read after it is zero, and reason says what was wrong.
type reader struct {
	b      []byte
	reason string
}

// fail keeps the first reason and empties the input, so that every later read fails too and callers
// may check once at the end.
func (r *reader) fail(reason string) {
	if r.reason == "" {
		r.reason = reason
	}
	r.b = nil
}

func (r *reader) ok() bool { return r.reason == "" }

func (r *reader) err() error {
	if r.reason != "" {
		return &WireError{r.reason}
	}
	return nil
}

// end refuses trailing bytes.
func (r *reader) end() {
	if r.ok() && len(r.b) > 0 {
		r.fail("trailing bytes")
	}
}

// take returns the next n bytes without copying them: they belong to the input.
func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.fail("truncated")
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

// next returns 0xc1 at the end of the input, the one byte that MessagePack never uses, so that no
// caller takes it for a value.
func (r *reader) next() byte {
	if len(r.b) == 0 {
		r.fail("truncated")
		return 0xc1
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

// sized reads a big-endian number of n bytes.
func (r *reader) sized(n int) uint64 {
	p := r.take(n)
	var v uint64
	for _, c := range p {
		v = v<<8 | uint64(c)
	}
	return v
}

// uint takes any width, shortest or not: only what this member writes is canonical.
func (r *reader) uint() uint64 {
	c := r.next()
	switch {
	case c < 0x80:
		return uint64(c)
	case c >= 0xcc && c <= 0xcf:
		return r.sized(1 << (c - 0xcc))
	case c >= 0xd0 && c <= 0xd3: // other encoders write small numbers as signed
		n := 1 << (c - 0xd0)
		v := int64(r.sized(n)) << (64 - 8*n) >> (64 - 8*n)
		if v >= 0 {
			return uint64(v)
		}
	}
	r.fail("not a number")
	return 0
}

// int reads negative numbers of both forms and leaves the rest to uint.
func (r *reader) int() int64 {
	if len(r.b) > 0 {
		switch c := r.b[0]; {
		case c >= 0xe0:
			r.b = r.b[1:]
			return int64(int8(c))
		case c >= 0xd0 && c <= 0xd3:
			r.b = r.b[1:]
			n := 1 << (c - 0xd0)
			return int64(r.sized(n)) << (64 - 8*n) >> (64 - 8*n)
		}
	}
	v := r.uint()
	if v > math.MaxInt64 {
		r.fail("number too large")
		return 0
	}
	return int64(v)
}

func (r *reader) bool() bool {
	switch r.next() {
	case 0xc2:
		return false
	case 0xc3:
		return true
	}
	r.fail("not a boolean")
	return false
}

// isNil consumes a nil if one is next.
func (r *reader) isNil() bool {
	if len(r.b) > 0 && r.b[0] == 0xc0 {
		r.b = r.b[1:]
		return true
	}
	return false
}

// array returns the number of elements that follow. Each element takes at least a byte, so a length beyond what is left is
// refused here, before anybody reserves memory for it.
func (r *reader) array(max int) int {
	var n int
	switch c := r.next(); {
	case c&0xf0 == 0x90:
		n = int(c & 0x0f)
	case c == 0xdc:
		n = int(r.sized(2))
	case c == 0xdd:
		n = int(r.sized(4))
	default:
		r.fail("not an array")
		return 0
	}
	if n > len(r.b) {
		r.fail("truncated")
		return 0
	}
	if n > max {
		r.fail("array too long")
		return 0
	}
	return n
}

// bytes returns the next string or binary. It still points into the buffer it was read from.
func (r *reader) bytes(max int) []byte {
	var n int
	switch c := r.next(); {
	case c&0xe0 == 0xa0:
		n = int(c & 0x1f)
	case c == 0xd9, c == 0xc4:
		n = int(r.sized(1))
	case c == 0xda, c == 0xc5:
		n = int(r.sized(2))
	case c == 0xdb, c == 0xc6:
		n = int(r.sized(4))
	default:
		r.fail("not a string")
		return nil
	}
	if n > max {
		r.fail("string too long")
		return nil
	}
	return r.take(n)
}

// text is bytes that must be UTF-8.
func (r *reader) text(max int) []byte {
	p := r.bytes(max)
	if !utf8.Valid(p) {
		r.fail("text is not UTF-8")
		return nil
	}
	return p
}

// skip passes over the next value of any type. It does not recurse: deep nesting costs an attacker bytes and this member no
// stack.
func (r *reader) skip() {
	for left := 1; left > 0 && r.ok(); left-- {
		c := r.next()
		switch {
		case c < 0x80, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3:
		case c&0xf0 == 0x80:
			left += 2 * int(c&0x0f)
		case c&0xf0 == 0x90:
			left += int(c & 0x0f)
		case c&0xe0 == 0xa0:
			r.take(int(c & 0x1f))
		case c >= 0xc4 && c <= 0xc6:
			r.take(int(r.sized(1 << (c - 0xc4))))
		case c >= 0xc7 && c <= 0xc9:
			r.take(int(r.sized(1<<(c-0xc7))) + 1)
		case c == 0xca:
			r.take(4)
		case c == 0xcb:
			r.take(8)
		case c >= 0xcc && c <= 0xcf:
			r.take(1 << (c - 0xcc))
		case c >= 0xd0 && c <= 0xd3:
			r.take(1 << (c - 0xd0))
		case c >= 0xd4 && c <= 0xd8:
			r.take(1<<(c-0xd4) + 1)
		case c >= 0xd9 && c <= 0xdb:
			r.take(int(r.sized(1 << (c - 0xd9))))
		case c == 0xdc:
			left += int(r.sized(2))
		case c == 0xdd:
			left += int(r.sized(4))
		case c == 0xde:
			left += 2 * int(r.sized(2))
		case c == 0xdf:
			left += 2 * int(r.sized(4))
		default:
			r.fail("not msgpack")
		}
		// Each value takes at least a byte, so this can only be cut off or made up.
		if left > len(r.b)+1 {
			r.fail("truncated")
		}
	}
}
