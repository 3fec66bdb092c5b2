package netconfclient

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strconv"
)

// endOfMessage ends a message of base:1.0, and every hello (RFC 6242 §4.3).
const endOfMessage = "]]>]]>"

// maxChunk bounds the chunks that we send: RFC 6242 allows 4 GiB, but servers have smaller buffers.
const maxChunk = 32 << 10

var (
	errMessageSize = fmt.Errorf("%w: message is larger than allowed", ErrProtocol)
	errFraming     = fmt.Errorf("%w: malformed chunk", ErrProtocol)
)

// A frameReader reads messages from a stream in either framing of RFC 6242.
type frameReader struct {
	r       *bufio.Reader
	chunked bool
	first   bool // the next chunk is the first: a hello may end with a line end of its own
}

// read returns the next message, at most limit bytes. It never allocates a size that the peer announces before the bytes are
// there. io.EOF means that the stream ended between messages.
func (f *frameReader) read(limit int) ([]byte, error) {
	if f.chunked {
		return f.readChunked(limit)
	}
	return f.readDelimited(limit)
}

// readDelimited reads the framing of base 1.0, RFC 6242 section 4.3: a message ends with ]]>]]>. A text
// cannot contain that by accident, because > after ]] must be escaped in XML.
func (f *frameReader) readDelimited(limit int) ([]byte, error) {
	var msg []byte
	for {
		part, err := f.r.ReadSlice('>')
		msg = append(msg, part...)
		if n := len(msg) - len(endOfMessage); n >= 0 && string(msg[n:]) == endOfMessage {
			// Checked after the end was found as well, since the last part may have brought more than one byte.
			if n > limit {
				return nil, errMessageSize
			}
			return msg[:n], nil
		}
		if len(msg) > limit+len(endOfMessage) {
			return nil, errMessageSize
		}
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && len(bytes.TrimSpace(msg)) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

// readChunked reads the framing of base 1.1, RFC 6242 section 4.2. The limit is checked before a chunk is
// read, whose size the server chooses.
func (f *frameReader) readChunked(limit int) ([]byte, error) {
	var msg pieces
	for first := true; ; first = false {
		size, err := f.chunkSize()
		if err != nil {
			if errors.Is(err, io.EOF) && !first {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		// The end of the chunks, before any: RFC 6242 wants at least one.
		if size == 0 {
			if first {
				return nil, errFraming
			}
			return msg.join(), nil
		}
		// Before anything of that size is allocated, as the server may announce 4 GiB.
		if size > int64(limit-msg.size) {
			return nil, errMessageSize
		}
		if err := msg.readFrom(f.r, int(size)); err != nil {
			return nil, unexpected(err)
		}
	}
}

// pieces collects a message. A buffer that grows would take twice the size of a large configuration, and leave as much garbage.
type pieces struct {
	full [][]byte
	last []byte
	size int
}

const (
	firstPiece = 4 << 10
	mostPiece  = 256 << 10

	largeMessage = 4 << 20
)

// readFrom reads n bytes.
func (p *pieces) readFrom(r io.Reader, n int) error {
	for n > 0 {
		if len(p.last) == cap(p.last) {
			// The pieces double up to mostPiece, so a short answer takes little memory and a large one has few
			// pieces.
			if p.last != nil {
				p.full = append(p.full, p.last)
			}
			p.last = make([]byte, 0, min(max(2*cap(p.last), firstPiece), mostPiece))
		}
		free := p.last[len(p.last):min(len(p.last)+n, cap(p.last))]
		if _, err := io.ReadFull(r, free); err != nil {
			return err
		}
		p.last = p.last[:len(p.last)+len(free)]
		p.size += len(free)
		n -= len(free)
	}
	return nil
}

// join copies once, at the end: a slice that grows with each chunk would hold the message twice or more for
// all that time.
func (p *pieces) join() []byte {
	if len(p.full) == 0 {
		return p.last
	}
	msg := slices.Concat(append(p.full, p.last)...)
	if *p = (pieces{}); len(msg) > largeMessage {
		runtime.GC() // free the pieces now, so that the next message finds their memory
	}
	return msg
}

// chunkSize reads a chunk's header, or the end of the chunks as 0.
func (f *frameReader) chunkSize() (int64, error) {
	b, err := f.r.ReadByte()
	if err != nil {
		return 0, err
	}
	// Some servers end their hello with a line end after the end mark; it is not the beginning of a chunk.
	for f.first && (b == '\n' || b == '\r' || b == ' ' || b == '\t') {
		next, err := f.r.Peek(1)
		if err != nil {
			return 0, err
		}
		if b == '\n' && next[0] == '#' {
			break
		}
		b = next[0]
		f.r.Discard(1)
	}
	f.first = false
	if b != '\n' {
		return 0, errFraming
	}
	if err := f.expect('#'); err != nil {
		return 0, err
	}
	// Leading zeros are malformed too (RFC 6242 §4.2: the size begins with 1 to 9).
	var digits [10]byte // the largest size is 4294967295
	n := 0
	for {
		b, err := f.r.ReadByte()
		if err != nil {
			return 0, unexpected(err)
		}
		switch {
		case b == '#' && n == 0:
			return 0, f.expect('\n')
		case b == '\n' && n > 0:
			size, err := strconv.ParseUint(string(digits[:n]), 10, 32)
			if err != nil {
				return 0, errFraming
			}
			return int64(size), nil
		case b >= '0' && b <= '9' && n < len(digits) && (b != '0' || n > 0):
			digits[n] = b
			n++
		default:
			return 0, errFraming
		}
	}
}

// expect is for the bytes that framing prescribes between chunks.
func (f *frameReader) expect(want byte) error {
	b, err := f.r.ReadByte()
	if err != nil {
		return unexpected(err)
	}
	if b != want {
		return errFraming
	}
	return nil
}

// unexpected marks an end of the stream that comes within a message. At its beginning it is just the end of
// the session.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// frame wraps a message for the wire.
func frame(msg []byte, chunked bool) ([]byte, error) {
	if len(msg) == 0 {
		return nil, errors.New("a message cannot be empty")
	}
	if !chunked {
		if bytes.Contains(msg, []byte(endOfMessage)) {
			return nil, errors.New("a message of base:1.0 cannot contain its own end marker")
		}
		return append(bytes.Clone(msg), endOfMessage...), nil
	}
	out := make([]byte, 0, len(msg)+len(msg)/maxChunk*12+32)
	for len(msg) > 0 {
		n := min(len(msg), maxChunk)
		out = append(out, "\n#"...)
		out = strconv.AppendInt(out, int64(n), 10)
		out = append(out, '\n')
		out = append(out, msg[:n]...)
		msg = msg[n:]
	}
	return append(out, "\n##\n"...), nil
}
