package netconfclient

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func newReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, 4096) }

func TestFramesAreReadHoweverTheyAreCut(t *testing.T) {
	messages := []string{"a", "<x>]]></x>", strings.Repeat("0123456789\n#", 10_000), "\n##\n", "]]>]]", "ä€😀"}
	for _, chunked := range []bool{false, true} {
		var wire bytes.Buffer
		for _, m := range messages {
			out, err := frame([]byte(m), chunked)
			if err != nil {
				t.Fatal(err)
			}
			wire.Write(out)
		}
		for name, r := range map[string]io.Reader{
			"whole":      bytes.NewReader(wire.Bytes()),
			"bytewise":   iotest.OneByteReader(bytes.NewReader(wire.Bytes())),
			"halves":     iotest.HalfReader(bytes.NewReader(wire.Bytes())),
			"eof at end": iotest.DataErrReader(bytes.NewReader(wire.Bytes())),
		} {
			f := frameReader{r: newReader(r), chunked: chunked}
			for i, want := range messages {
				got, err := f.read(1 << 20)
				if err != nil || string(got) != want {
					t.Fatalf("chunked %v, %s, message %d: %.40q %v", chunked, name, i, got, err)
				}
			}
			if _, err := f.read(1 << 20); !errors.Is(err, io.EOF) {
				t.Errorf("chunked %v, %s: after the last: %v, want EOF", chunked, name, err)
			}
		}
	}
}

func TestChunksMayBeOfOneByte(t *testing.T) {
	var wire strings.Builder
	const want = "<rpc-reply>10.0.0.1/32</rpc-reply>"
	for _, b := range []byte(want) {
		wire.WriteString("\n#1\n" + string(b))
	}
	wire.WriteString("\n##\n")
	f := frameReader{r: newReader(strings.NewReader(wire.String())), chunked: true}
	if got, err := f.read(1 << 10); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	for wire, want := range map[string]error{
		"#1\na\n##\n":               ErrProtocol,
		"\n#0\n\n##\n":              ErrProtocol,
		"\n#01\na\n##\n":            ErrProtocol,
		"\n#-1\na\n##\n":            ErrProtocol,
		"\n#\na\n##\n":              ErrProtocol,
		"\n#x\na":                   ErrProtocol,
		"\n#4294967296\na":          ErrProtocol,
		"\n#99999999999999999999\n": ErrProtocol,
		"\n##\n":                    ErrProtocol,
		"\n#1\nab\n##\n":            ErrProtocol,
		"\n#1\na\n#\n":              ErrProtocol,
		"\n#4294967295\na":          ErrProtocol, // larger than allowed
		"\n#2\na":                   io.ErrUnexpectedEOF,
		"\n#1\na":                   io.ErrUnexpectedEOF,
		"\n#1\na\n":                 io.ErrUnexpectedEOF,
		"\n":                        io.ErrUnexpectedEOF,
		"\n#1":                      io.ErrUnexpectedEOF,
		"":                          io.EOF,
	} {
		f := frameReader{r: newReader(strings.NewReader(wire)), chunked: true}
		if got, err := f.read(1000); !errors.Is(err, want) {
			t.Errorf("%q: %q, %v, want %v", wire, got, err, want)
		}
	}
}

func TestMessagesAreBounded(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		for size, want := range map[int]error{1000: nil, 1001: ErrProtocol, 100_000: ErrProtocol} {
			wire, err := frame(bytes.Repeat([]byte("a"), size), chunked)
			if err != nil {
				t.Fatal(err)
			}
			f := frameReader{r: newReader(bytes.NewReader(wire)), chunked: chunked}
			if _, err := f.read(1000); !errors.Is(err, want) {
				t.Errorf("chunked %v, %d bytes: %v, want %v", chunked, size, err, want)
			}
		}
	}
}

func TestAMessageCannotSmuggleItsEnd(t *testing.T) {
	if _, err := frame([]byte("<a>]]>]]></a>"), false); err == nil {
		t.Error("base:1.0 took a message with its end marker in it")
	}
	if _, err := frame(nil, true); err == nil {
		t.Error("an empty message was taken: its frame would be malformed")
	}
}

func FuzzFrames(f *testing.F) {
	for _, seed := range []string{"\n#1\na\n##\n", "\n#3\nabc\n#2\nde\n##\n", "a]]>]]>b]]>]]>", "\n#4294967295\n", "\n#0\n", "]]>]]>", "\n##\n"} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	f.Fuzz(func(t *testing.T, wire []byte, chunked bool) {
		const limit = 1 << 12
		fr := frameReader{r: newReader(bytes.NewReader(wire)), chunked: chunked}
		total := 0
		for {
			msg, err := fr.read(limit)
			if err != nil {
				return
			}
			if len(msg) > limit || total > len(wire) {
				t.Fatalf("%d bytes of a message, limit %d", len(msg), limit)
			}
			total += len(msg)
			if len(msg) == 0 {
				continue
			}
			again, err := frame(msg, chunked)
			if err != nil {
				t.Fatalf("a message that was read cannot be sent: %v", err)
			}
			back := frameReader{r: newReader(bytes.NewReader(again)), chunked: chunked}
			if got, err := back.read(limit); err != nil || !bytes.Equal(got, msg) {
				t.Fatalf("read again: %q, %v", got, err)
			}
		}
	})
}

// Servers that were written for base:1.0 end their hello with a line end, also when chunks follow.
func TestALineEndBehindTheHelloIsNoChunk(t *testing.T) {
	for _, blanks := range []string{"", "\n", "\r\n", " \n\n"} {
		f := frameReader{r: newReader(strings.NewReader(blanks + "\n#3\nabc\n##\n\n#1\nd\n##\n")), chunked: true, first: true}
		for _, want := range []string{"abc", "d"} {
			if got, err := f.read(100); err != nil || string(got) != want {
				t.Errorf("%q: %q, %v", blanks, got, err)
			}
		}
	}
	f := frameReader{r: newReader(strings.NewReader("\n#1\na\n##\n\n\n#1\nb\n##\n")), chunked: true, first: true}
	if _, err := f.read(100); err != nil {
		t.Fatal(err)
	}
	if got, err := f.read(100); !errors.Is(err, ErrProtocol) {
		t.Errorf("between later messages: %q, %v", got, err)
	}
}

// A message longer than what is read at a time comes out whole.
func TestALongMessageIsWhole(t *testing.T) {
	want := make([]byte, 700_001)
	for i := range want {
		want[i] = byte('a' + i%23)
	}
	wire, err := frame(want, true)
	if err != nil {
		t.Fatal(err)
	}
	f := frameReader{r: newReader(bytes.NewReader(wire)), chunked: true}
	if got, err := f.read(len(want)); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}
