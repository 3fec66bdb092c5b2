package control

import (
	"io"
	"reflect"

	"banmesh/store/text"
)

// plain makes every text of a reply fit for a terminal. An agent cleans what others worded, but root reads the replies, and
// an agent that somebody has taken over must not steer root's terminal.
// By reflection over every reply, so that a new field cannot be forgotten. Lists of bans have their own reader.
func plain(reply any) { plainValue(reflect.ValueOf(reply).Elem()) }

// plainValue cleans every text within a reply, whatever fields later versions add.
func plainValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(text.Clean(v.String(), v.Len()))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			plainValue(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			plainValue(v.Field(i))
		}
	case reflect.Slice:
		for i := range v.Len() {
			plainValue(v.Index(i))
		}
	}
}

// plainReader replaces control characters in JSON that is passed on as it came. The agent writes none but line ends.
type plainReader struct {
	from io.Reader
	last byte
}

// Read replaces control characters in a stream that is passed on unparsed. They have one byte, or two of
// which the second is replaced, so the length stays and JSON stays valid.
func (r *plainReader) Read(b []byte) (int, error) {
	n, err := r.from.Read(b)
	for i, c := range b[:n] {
		c1 := r.last == 0xC2 && c >= 0x80 && c < 0xA0 // U+0080 to U+009F in UTF-8
		if c < ' ' && c != '\n' || c == 0x7F || c1 {
			b[i] = '?'
		}
		r.last = c
	}
	return n, err
}
