// Package text is the one grammar of names and texts: the store, the wire and every command use it. It imports only the
// standard library, so that even fail2ban's hook can load it.
package text

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is the longest name, in bytes.
const MaxName = 255

// CheckName checks the name of a router, an origin or a jail. It accepts what fail2ban accepts: 1 to 255 bytes of displayable
// UTF-8, without control or format characters and with no other space than U+0020, so that a name can neither steer a terminal
// nor look like another one.
func CheckName(s string) error {
	switch {
	case s == "":
		return errors.New("empty")
	case len(s) > MaxName:
		return fmt.Errorf("longer than %d bytes", MaxName)
	case plainASCII(s): // nearly always, and every record is checked
		return nil
	case !utf8.ValidString(s):
		return errors.New("not UTF-8")
	}
	for _, r := range s {
		if hidden(r) {
			return fmt.Errorf("holds %U, a control or format character or an unusual space", r)
		}
	}
	return nil
}

func plainASCII(s string) bool {
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// hidden reports whether a character must not stand in a name: control (Cc), format (Cf, which includes bidirectional marks),
// private use, and separators other than the space. Unassigned characters are accepted, because a member with a newer Unicode
// version may know them.
func hidden(r rune) bool {
	return unicode.Is(unicode.C, r) || r != ' ' && unicode.Is(unicode.Z, r)
}

// Clean shortens a text to at most keep bytes, at the start of a rune, and replaces characters that cannot be displayed.
func Clean(s string, keep int) string {
	if len(s) > keep {
		n := keep
		for n > 0 && !utf8.RuneStart(s[n]) {
			n--
		}
		s = s[:n]
	}
	if plainASCII(s) {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == utf8.RuneError, !unicode.IsSpace(r) && hidden(r):
			return '?'
		case hidden(r):
			return ' '
		}
		return r
	}, s)
}
