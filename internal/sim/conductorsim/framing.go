package conductorsim

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// endOfMessage ends a message in the framing of base:1.0 and each hello (RFC 6242 §4.3).
const endOfMessage = "]]>]]>"

// errFraming marks broken framing, which ends the session (RFC 6242 §4.2).
var errFraming = errors.New("broken framing")

// framer reads and writes messages, first with end-of-message marks, and in chunks (RFC 6242 §4.2) once chunked is set.
type framer struct {
	r       *bufio.Reader
	w       io.Writer
	max     int // bytes of one message
	chunked bool
}

func newFramer(rw io.ReadWriter, max int) *framer {
	return &framer{r: bufio.NewReaderSize(rw, 64<<10), w: rw, max: max}
}

// read returns the next message, or io.EOF if the peer has closed between two.
func (f *framer) read() ([]byte, error) {
	if f.chunked {
		return f.readChunks()
	}
	return f.readMarked()
}

// pending reports whether more has already arrived.
func (f *framer) pending() bool { return len(bytes.TrimSpace(f.peek())) > 0 }

func (f *framer) peek() []byte {
	b, _ := f.r.Peek(f.r.Buffered())
	return b
}

func (f *framer) readMarked() ([]byte, error) {
	var msg []byte
	for {
		part, err := f.r.ReadSlice('>')
		msg = append(msg, part...)
		if bytes.HasSuffix(msg, []byte(endOfMessage)) {
			return msg[:len(msg)-len(endOfMessage)], nil
		}
		if len(msg) > f.max {
			return nil, fmt.Errorf("%w: message longer than %d bytes", errFraming, f.max)
		}
		switch {
		case err == nil || errors.Is(err, bufio.ErrBufferFull):
		case err == io.EOF && len(bytes.TrimSpace(msg)) > 0:
			return nil, io.ErrUnexpectedEOF
		default:
			return nil, err
		}
	}
}

func (f *framer) readChunks() ([]byte, error) {
	var msg []byte
	for first := true; ; first = false {
		size, end, err := f.chunkHeader(first)
		if err != nil || end {
			return msg, err
		}
		if size > f.max-len(msg) {
			return nil, fmt.Errorf("%w: message longer than %d bytes", errFraming, f.max)
		}
		// Do not allocate by the header: one that announces much and delivers little must not cost memory.
		var part bytes.Buffer
		if _, err := io.CopyN(&part, f.r, int64(size)); err != nil {
			return nil, unexpected(err)
		}
		msg = append(msg, part.Bytes()...)
	}
}

// chunkHeader reads "\n#SIZE\n", or the end mark "\n##\n".
func (f *framer) chunkHeader(first bool) (size int, end bool, err error) {
	for i, want := range []byte("\n#") {
		b, err := f.r.ReadByte()
		if err != nil {
			if first && i == 0 {
				return 0, false, err
			}
			return 0, false, unexpected(err)
		}
		if b != want {
			return 0, false, fmt.Errorf("%w: %q where a chunk starts", errFraming, b)
		}
	}
	var digits []byte
	for {
		b, err := f.r.ReadByte()
		if err != nil {
			return 0, false, unexpected(err)
		}
		switch {
		case b == '\n' && len(digits) > 0:
			n, err := strconv.ParseUint(string(digits), 10, 32)
			if err != nil || n > uint64(f.max) {
				return 0, false, fmt.Errorf("%w: chunk of %s bytes", errFraming, digits)
			}
			return int(n), false, nil
		case b == '#' && len(digits) == 0 && !first:
			if b, err = f.r.ReadByte(); err != nil || b != '\n' {
				return 0, false, fmt.Errorf("%w: end of chunks", errFraming)
			}
			return 0, true, nil
		case b >= '0' && b <= '9' && len(digits) < 10 && (b != '0' || len(digits) > 0):
			digits = append(digits, b)
		default:
			return 0, false, fmt.Errorf("%w: %q in a chunk's size", errFraming, b)
		}
	}
}

func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// write sends one message in pieces of at most size bytes, as chunks or as single writes; 0 means no limit.
func (f *framer) write(msg []byte, size int) error {
	if size <= 0 || size > len(msg) {
		size = max(len(msg), 1)
	}
	var out bytes.Buffer
	for len(msg) > 0 {
		piece := msg[:min(size, len(msg))]
		msg = msg[len(piece):]
		if f.chunked {
			fmt.Fprintf(&out, "\n#%d\n", len(piece))
		}
		out.Write(piece)
		// Send each chunk separately, unless chunks are so small that only their framing matters.
		if out.Len() >= 32<<10 || !f.chunked && size < 1024 {
			if err := f.flush(&out); err != nil {
				return err
			}
		}
	}
	if f.chunked {
		out.WriteString("\n##\n")
	} else {
		out.WriteString(endOfMessage)
	}
	return f.flush(&out)
}

func (f *framer) flush(b *bytes.Buffer) error {
	_, err := f.w.Write(b.Bytes())
	b.Reset()
	return err
}
