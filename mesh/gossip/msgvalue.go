package gossip

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

var errValue = errors.New("not a value that memberlist sends")

// readValue reads one raw value of msgpack (github.com/msgpack/msgpack/blob/master/spec.md), of at most limit bytes. The codec
// believes the announced length: five bytes can make it allocate four gigabytes, and long texts grow by a few bytes at a time.
// What is read here has arrived and is short. Extension types, which memberlist does not use, are refused.
func readValue(r *bufio.Reader, limit int) ([]byte, error) {
	var b []byte
	take := func(n uint64) ([]byte, error) {
		if n > uint64(limit-len(b)) {
			return nil, fmt.Errorf("more than %d bytes: %w", limit, errValue)
		}
		at := len(b)
		b = append(b, make([]byte, n)...)
		_, err := io.ReadFull(r, b[at:])
		if errors.Is(err, io.EOF) && at > 0 {
			err = io.ErrUnexpectedEOF
		}
		return b[at:], err
	}
	// length reads a number of 1, 2 or 4 bytes.
	length := func(size uint64) (n uint64, err error) {
		p, err := take(size)
		if err != nil {
			return 0, err
		}
		var whole [4]byte
		copy(whole[4-size:], p)
		return uint64(binary.BigEndian.Uint32(whole[:])), nil
	}
	// Each value takes at least a byte, so limit bounds their number as well.
	for left := uint64(1); left > 0; left-- {
		head, err := take(1)
		if err != nil {
			return nil, err
		}
		var skip, inside uint64
		switch c := head[0]; {
		case c <= 0x7f, c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3: // small numbers, nil, false, true
		case c <= 0x8f:
			inside = 2 * uint64(c&0x0f)
		case c <= 0x9f:
			inside = uint64(c & 0x0f)
		case c <= 0xbf:
			skip = uint64(c & 0x1f)
		case c >= 0xc4 && c <= 0xc6: // bin 8, 16, 32
			skip, err = length(1 << (c - 0xc4))
		case c == 0xca || c == 0xcb: // float 32, 64
			skip = 4 << (c - 0xca)
		case c >= 0xcc && c <= 0xcf: // uint 8 to 64
			skip = 1 << (c - 0xcc)
		case c >= 0xd0 && c <= 0xd3: // int 8 to 64
			skip = 1 << (c - 0xd0)
		case c >= 0xd9 && c <= 0xdb: // str 8, 16, 32
			skip, err = length(1 << (c - 0xd9))
		case c == 0xdc || c == 0xdd: // array 16, 32
			inside, err = length(2 << (c - 0xdc))
		case c == 0xde || c == 0xdf: // map 16, 32
			inside, err = length(2 << (c - 0xde))
			inside *= 2
		default:
			return nil, fmt.Errorf("type %#x: %w", c, errValue)
		}
		if err == nil && skip > 0 {
			_, err = take(skip)
		}
		if err != nil {
			return nil, err
		}
		left += inside
	}
	return b, nil
}
