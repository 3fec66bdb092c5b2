package blocklist

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
)

// scanner reads JSON several times as fast as encoding/json: lists have a hundred thousand objects of which only a little is
// needed. At anything it does not handle, such as an escape in a needed string, ok becomes false and it reads nothing more.
// Then encoding/json reads the list, and words the errors.
type scanner struct {
	rest []byte
	ok   bool
}

// maxDepth bounds the nesting in a skipped value.
// The scanner recurses, and a list of brackets would otherwise exhaust the stack.
const maxDepth = 64

// scanned is a pointer type that can be read from an element of a list.
type scanned[T any] interface {
	*T
	scan(*scanner)
}

// scanAll reads an array with nothing after it. ok is false if encoding/json has to read it.
func scanAll[T any, P scanned[T]](data []byte) (all []T, ok bool) {
	s := scanner{data, true}
	all = scanArray[T, P](&s)
	return all, s.end()
}

func scanArray[T any, P scanned[T]](s *scanner) []T {
	all := []T{} // not nil, as encoding/json returns for an empty array
	s.array(func() {
		var one T
		P(&one).scan(s)
		all = append(all, one)
	})
	return all
}

// end reports whether everything was read.
// The length is asked as well, since a zero byte looks like the end to peek.
func (s *scanner) end() bool { return s.ok && s.peek() == 0 && len(s.rest) == 0 }

// peek returns the next byte that is not white space, or 0 at the end.
func (s *scanner) peek() byte {
	for i, c := range s.rest {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			s.rest = s.rest[i:]
			return c
		}
	}
	s.rest = nil
	return 0
}

func (s *scanner) optional(c byte) bool {
	if !s.ok || s.peek() != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

func (s *scanner) skip(c byte) { s.ok = s.optional(c) }

// array and objectAt stop at the first thing that they do not expect.
func (s *scanner) array(element func()) {
	s.skip('[')
	if s.optional(']') {
		return
	}
	for more := true; more && s.ok; more = s.optional(',') {
		element()
	}
	s.skip(']')
}

// object calls read with the index of each name that the object has; read must read its value.
func (s *scanner) object(names []string, read func(i int)) { s.objectAt(maxDepth, names, read) }

// objectAt gives up on a name in another case: encoding/json would take it, so the slow way must. depth
// bounds what unknown values may nest.
func (s *scanner) objectAt(depth int, names []string, read func(i int)) {
	s.skip('{')
	if s.optional('}') {
		return
	}
	for more := true; more && s.ok; more = s.optional(',') {
		name := s.plain()
		s.skip(':')
		switch i := slices.IndexFunc(names, func(n string) bool { return string(name) == n }); {
		case i >= 0:
			read(i)
		case slices.ContainsFunc(names, func(n string) bool { return len(n) == len(name) && bytes.EqualFold([]byte(n), name) }):
			s.ok = false // encoding/json ignores case in names
		default:
			s.value(depth - 1)
		}
	}
	s.skip('}')
}

// text parses a string of plain ASCII without escapes.
func (s *scanner) text() string { return string(s.plain()) }

// plain reads a string of printable ASCII without escapes, which is all that these lists hold; anything else
// is for the slow way.
func (s *scanner) plain() []byte {
	s.skip('"')
	if !s.ok {
		return nil
	}
	for i, c := range s.rest {
		switch {
		case c == '"':
			out := s.rest[:i]
			s.rest = s.rest[i+1:]
			return out
		case c < ' ' || c > '~' || c == '\\':
			s.ok = false
			return nil
		}
	}
	s.ok = false
	return nil
}

// word returns a number, true, false or null: everything up to the next delimiter. It does not check which.
func (s *scanner) word() []byte {
	s.peek()
	for i, c := range s.rest {
		if c == ',' || c == ']' || c == '}' || c <= ' ' {
			out := s.rest[:i]
			s.rest = s.rest[i:]
			return out
		}
	}
	s.ok = false
	return nil
}

func (s *scanner) boolean() bool {
	w := string(s.word())
	s.ok = s.ok && (w == "true" || w == "false")
	return w == "true"
}

func (s *scanner) number() *int {
	w := string(s.word())
	n, err := strconv.Atoi(w)
	s.ok = s.ok && err == nil && strconv.Itoa(n) == w // JSON does not allow numbers like 007
	return &n
}

// value skips a value of any kind.
func (s *scanner) value(depth int) {
	if depth == 0 {
		s.ok = false
		return
	}
	switch s.peek() {
	case '{':
		s.objectAt(depth, nil, nil)
	case '[':
		s.array(func() { s.value(depth - 1) })
	case '"':
		s.leaveText()
	default:
		w := s.word()
		s.ok = s.ok && json.Valid(w)
	}
}

// leaveText skips a string, including escapes.
func (s *scanner) leaveText() {
	escaped := false
	for end := 1; end < len(s.rest); end++ {
		switch c := s.rest[end]; {
		case c < ' ':
			s.ok = false
			return
		case c == '\\':
			escaped = true
			end++
		case c == '"':
			// Only escapes can be wrong in a string that has got this far. Bytes that are not UTF-8 pass, as they do
			// with encoding/json.
			s.ok = s.ok && (!escaped || json.Valid(s.rest[:end+1]))
			s.rest = s.rest[end+1:]
			return
		}
	}
	s.ok = false
}
