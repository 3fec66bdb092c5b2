// Package excerpt makes text that somebody else worded (a server, a program, another member) short enough and plain enough for
// a message of ours.
package excerpt

import (
	"strings"
	"unicode"

	"banmesh/store/text"
)

// Line puts a text on one line of at most most bytes and an ellipsis. What a terminal would obey, or would show in another
// order, is left out or replaced here already: a line may reach a log that escapes nothing.
func Line(s string, most int) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r)
	}), " ")
	ellipsis := ""
	if len(s) > most {
		ellipsis = "…"
	}
	return text.Clean(s, most) + ellipsis
}

// Cut shortens a text to n bytes, between two runes: half a rune would make a whole message invalid UTF-8, which its receiver
// refuses.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
