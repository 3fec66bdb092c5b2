package netconf

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"

	"banmesh/mesh/conductor"
	"banmesh/netconfclient"
)

// An item is one token of configuration. It leaves out what has no meaning there: prefixes, attributes and white space.
type item struct {
	kind itemKind
	name xml.Name // of an element
	text string   // of a text
}

type itemKind byte

const (
	itemStart itemKind = iota + 1
	itemEnd
	itemText
	itemLeaf // an element of a tenant that holds text or nothing
)

// An itemReader turns the data of a reply into items. It sets our tenant aside, together with the two containers around it:
// some servers show those when empty, others do not.
type itemReader struct {
	d      *xml.Decoder
	key    conductor.Key
	ours   state
	queue  []item
	head   int      // of the queue
	path   []string // of the open elements, for messages; includes the names of list entries once they have been read
	around int      // how many of the two containers are open
	done   bool
	text   []byte
}

// newItemReader reads a reply as a stream: the two configurations that are compared may be many megabytes
// each, and a tree of either would take several times that.
func newItemReader(r *netconfclient.Reply, key conductor.Key) (*itemReader, error) {
	d, err := r.Data()
	if err != nil {
		return nil, err
	}
	return &itemReader{d: d, key: key, done: d == nil}, nil
}

// next returns the next item outside our tenant; false at the end.
func (r *itemReader) next() (item, bool, error) {
	for {
		if r.head < len(r.queue) {
			r.head++
			return r.queue[r.head-1], true, nil
		}
		if r.done {
			return item{}, false, nil
		}
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return item{}, false, fmt.Errorf("%w: configuration: %w", conductor.ErrProtocol, err)
		}
	}
}

// fill decodes one token.
func (r *itemReader) fill() error {
	tok, err := r.d.Token()
	if err != nil {
		return err
	}
	r.queue, r.head = r.queue[:0], 0
	switch tok := tok.(type) {
	case xml.CharData:
		// A text may come in pieces: encoding/xml ends a token at a comment or a CDATA section.
		r.text = append(r.text, tok...)
	case xml.StartElement:
		r.flush()
		depth := len(r.path)
		// Only in their places: an element of that name elsewhere is something else.
		if depth == r.around && (depth == 0 && tok.Name == nameConfig || depth == 1 && tok.Name == nameAuthority) {
			r.path = append(r.path, tok.Name.Local)
			r.around++
			return nil
		}
		if depth == 2 && r.around == 2 && tok.Name == nameTenant {
			items, err := captureItems(r.d, tok.Name)
			if err != nil {
				return err
			}
			// Another tenant is compared like everything else.
			if nameOf(items) != r.key.Tenant {
				r.queue = append(r.queue, items...)
				return nil
			}
			r.ours.interpret(items, r.key)
			return nil
		}
		r.path = append(r.path, tok.Name.Local)
		r.queue = append(r.queue, item{kind: itemStart, name: tok.Name})
	case xml.EndElement:
		r.flush()
		if len(r.path) == 0 {
			r.done = true
			r.ours.finish()
			return nil
		}
		r.path = r.path[:len(r.path)-1]
		if r.around > len(r.path) {
			r.around--
			return nil
		}
		r.queue = append(r.queue, item{kind: itemEnd, name: tok.Name})
	}
	return nil
}

// flush ends a text and, if it was the name of a list's entry, adds it to the path: an operator is told
// router[r1] and not just router.
func (r *itemReader) flush() {
	text := string(bytes.TrimSpace(r.text))
	r.text = r.text[:0]
	if text == "" {
		return
	}
	r.queue = append(r.queue, item{kind: itemText, text: text})
	if n := len(r.path); n > 1 && r.path[n-1] == "name" && !strings.Contains(r.path[n-2], "[") {
		r.path[n-2] += "[" + conductor.OneLine(text) + "]"
	}
}

// where names the place in the configuration. Apart from names of list entries it shows no values: they can be secret.
func (r *itemReader) where() string { return "/" + strings.Join(r.path, "/") }

// captureItems reads an element to its end; its start has been read.
func captureItems(d *xml.Decoder, name xml.Name) ([]item, error) {
	items := append(make([]item, 0, 64), item{kind: itemStart, name: name})
	var buf []byte
	flush := func() string {
		text := string(bytes.TrimSpace(buf))
		buf = buf[:0]
		return text
	}
	for depth := 1; depth > 0; {
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.CharData:
			buf = append(buf, tok...)
		case xml.StartElement:
			if text := flush(); text != "" {
				items = append(items, item{kind: itemText, text: text})
			}
			depth++
			items = append(items, item{kind: itemStart, name: tok.Name})
		case xml.EndElement:
			depth--
			text, last := flush(), &items[len(items)-1]
			if last.kind == itemStart && depth > 0 {
				last.kind, last.text = itemLeaf, text
				continue
			}
			if text != "" {
				items = append(items, item{kind: itemText, text: text})
			}
			items = append(items, item{kind: itemEnd, name: tok.Name})
		}
	}
	return items, nil
}

// children yields the items of each child of an element, from start to end.
func children(items []item) iter.Seq[[]item] {
	return func(yield func([]item) bool) {
		depth, from := 0, 0
		for i, it := range items {
			switch it.kind {
			case itemStart:
				if depth++; depth == 2 {
					from = i
				}
			case itemEnd:
				if depth--; depth == 1 && !yield(items[from:i+1]) {
					return
				}
			case itemLeaf:
				if depth == 1 && !yield(items[i:i+1]) {
					return
				}
			}
		}
	}
}

// nameOf returns the name leaf of a tenant.
func nameOf(items []item) string {
	for child := range children(items) {
		if child[0].name == nameName {
			return child[0].text
		}
	}
	return ""
}
