package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"

	"banmesh/mesh/conductor"
)

// The functions below take JSON that checkJSON has accepted, so they can skip values without checking them. A whole
// configuration can have tens of megabytes, takes ten times that when decoded, and is mostly just compared.

// jsonObject returns b if it is an object. Anything else, including null, is an error, and so is an error that came with a
// status of success.
func jsonObject(b []byte) ([]byte, error) {
	b = bytes.TrimSpace(b)
	if len(b) == 0 || b[0] != '{' {
		return nil, fmt.Errorf("%w: the answer is not of the expected kind: no object", conductor.ErrProtocol)
	}
	return b, nil
}

// fields yields the members of an object without decoding their values.
func fields(b []byte) iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for b = blank(b[1:]); len(b) > 0 && b[0] != '}'; {
			n := valueLen(b)
			var name string
			if json.Unmarshal(b[:n], &name) != nil {
				return
			}
			b = blank(blank(b[n:])[1:]) // the colon
			n = valueLen(b)
			if !yield(name, b[:n]) {
				return
			}
			b = afterValue(b[n:])
		}
	}
}

// entries yields the values of an array without decoding them.
func entries(b []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for entry, rest := nextEntry(blank(b[1:])); entry != nil; entry, rest = nextEntry(rest) {
			if !yield(entry) {
				return
			}
		}
	}
}

// nextEntry splits the first value off the rest of an array; nil at its end.
func nextEntry(b []byte) (entry, rest []byte) {
	if len(b) == 0 || b[0] == ']' {
		return nil, nil
	}
	n := valueLen(b)
	return b[:n], afterValue(b[n:])
}

func blank(b []byte) []byte { return bytes.TrimLeft(b, " \t\r\n") }

// afterValue skips the comma after a value, if there is one.
func afterValue(b []byte) []byte {
	if b = blank(b); len(b) > 0 && b[0] == ',' {
		b = blank(b[1:])
	}
	return b
}

// valueLen returns the length of the value at the start of b.
func valueLen(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				// Whatever is escaped, it does not end the string.
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
			// The end of the object or array around it.
			if depth < 0 {
				return i
			}
		case ',', ':', ' ', '\t', '\r', '\n':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}

func isArray(b []byte) bool  { return len(b) > 0 && b[0] == '[' }
func isObject(b []byte) bool { return len(b) > 0 && b[0] == '{' }
