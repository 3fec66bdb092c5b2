package netconfclient

import (
	"bytes"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// declaration and charRef are compiled at their first use, see releaseNumber in mesh/conductor/rest.
var declaration = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\s*<\?xml\s[^>]*?(?:encoding\s*=\s*["']([A-Za-z0-9._-]+)["'][^>]*)?\?>`)
})

var charRef = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`&#(x[0-9A-Fa-f]+|[0-9]+);`) })

// tolerate repairs a message for the decoder where the XML is wrong only in form: a declaration that names
// US-ASCII or Latin-1, and characters that XML forbids in texts of other administrators. Each such character becomes a distinct
// one of a private range, so that different texts stay different. Our own tenant's addresses cannot contain them.
func tolerate(msg []byte) []byte {
	msg = bytes.TrimPrefix(msg, []byte("\xef\xbb\xbf"))
	if m := declaration().FindSubmatch(msg[:min(len(msg), 512)]); m != nil {
		switch strings.ToLower(string(m[1])) {
		case "", "utf-8", "utf8", "us-ascii", "ascii":
			msg = msg[len(m[0]):]
		case "iso-8859-1", "latin1", "latin-1":
			msg = fromLatin1(msg[len(m[0]):])
		}
	}
	if i := firstOdd(msg); i < len(msg) {
		msg = replaceOdd(msg, i)
	}
	if bytes.Contains(msg, []byte("&#")) {
		msg = charRef().ReplaceAllFunc(msg, func(ref []byte) []byte {
			digits, base := string(ref[2:len(ref)-1]), 10
			if digits[0] == 'x' {
				digits, base = digits[1:], 16
			}
			n, err := strconv.ParseUint(digits, base, 32)
			if err == nil && n < 0x20 && !allowed(rune(n)) {
				return []byte(string(rune(oddReference + n)))
			}
			return ref
		})
	}
	return msg
}

// The private characters that stand for a byte that is not UTF-8 or is a control character, and for a reference to one.
const (
	oddByte      = 0xf0000
	oddReference = 0xf0100
)

func allowed(r rune) bool { return r >= 0x20 || r == '\t' || r == '\n' || r == '\r' }

// firstOdd returns the index of the first byte that XML cannot hold, or the length if there is none.
func firstOdd(msg []byte) int {
	if utf8.Valid(msg) {
		i := bytes.IndexFunc(msg, func(r rune) bool { return !allowed(r) })
		if i < 0 {
			return len(msg)
		}
		return i
	}
	for i := 0; i < len(msg); {
		r, n := utf8.DecodeRune(msg[i:])
		if r == utf8.RuneError && n == 1 || !allowed(r) {
			return i
		}
		i += n
	}
	return len(msg)
}

// replaceOdd copies the message only from the first byte that needs it.
func replaceOdd(msg []byte, from int) []byte {
	out := append(make([]byte, 0, len(msg)+64), msg[:from]...)
	for i := from; i < len(msg); {
		r, n := utf8.DecodeRune(msg[i:])
		if r == utf8.RuneError && n == 1 || !allowed(r) {
			out = utf8.AppendRune(out, oddByte+rune(msg[i]))
		} else {
			out = append(out, msg[i:i+n]...)
		}
		i += n
	}
	return out
}

// fromLatin1 works because the first 256 code points of Unicode are Latin-1.
func fromLatin1(msg []byte) []byte {
	out := make([]byte, 0, len(msg)+len(msg)/8)
	for _, b := range msg {
		out = utf8.AppendRune(out, rune(b))
	}
	return out
}
