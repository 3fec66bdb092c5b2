package conductorsim

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// errMalformed marks XML that NETCONF does not accept.
var errMalformed = errors.New("malformed XML")

// Element is one parsed XML element. Its text is trimmed.
type Element struct {
	Name     xml.Name
	Attrs    []xml.Attr // as given, declarations of namespaces among them
	Children []*Element
	Text     string
}

// attr returns an attribute's value.
func (e *Element) attr(space, local string) (string, bool) {
	for _, a := range e.Attrs {
		if a.Name.Space == space && a.Name.Local == local {
			return a.Value, true
		}
	}
	return "", false
}

// child returns the first child of that name in the protocol's namespace, or nil.
func (e *Element) child(local string) *Element {
	if e == nil {
		return nil
	}
	for _, c := range e.Children {
		if c.Name.Local == local && c.Name.Space == nsBase {
			return c
		}
	}
	return nil
}

// isDeclaration reports whether an attribute declares a namespace.
func isDeclaration(a xml.Attr) bool {
	return a.Name.Space == "xmlns" || a.Name.Space == "" && a.Name.Local == "xmlns"
}

// parseXML parses one document of at most depth levels. It refuses document types, undeclared prefixes and anything after the
// root with errMalformed.
func parseXML(doc []byte, depth int) (*Element, error) {
	dec := xml.NewDecoder(bytes.NewReader(doc))
	var root *Element
	var open []*Element
	var text []*strings.Builder // of each open element, made when there is any
	for {
		token, err := dec.Token()
		if err == io.EOF {
			if root == nil || len(open) > 0 {
				return nil, fmt.Errorf("%w: no whole element", errMalformed)
			}
			return root, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %v", errMalformed, err)
		}
		switch t := token.(type) {
		case xml.StartElement:
			if root != nil && len(open) == 0 {
				return nil, fmt.Errorf("%w: a second root element %s", errMalformed, t.Name.Local)
			}
			if len(open) == depth {
				return nil, fmt.Errorf("%w: elements nested deeper than %d", errMalformed, depth)
			}
			e := &Element{Name: t.Name}
			if len(t.Attr) > 0 {
				e.Attrs = slices.Clone(t.Attr)
			}
			if root == nil {
				root = e
			} else {
				p := open[len(open)-1]
				p.Children = append(p.Children, e)
			}
			open, text = append(open, e), append(text, nil)
			if err := declared(open); err != nil {
				return nil, err
			}
		case xml.EndElement:
			last := len(open) - 1
			if b := text[last]; b != nil {
				open[last].Text = strings.TrimSpace(b.String())
			}
			open, text = open[:last], text[:last]
		case xml.CharData:
			if len(open) == 0 {
				if len(bytes.TrimSpace(t)) > 0 {
					return nil, fmt.Errorf("%w: text outside the root element", errMalformed)
				}
				continue
			}
			last := len(open) - 1
			if text[last] == nil {
				if len(bytes.TrimSpace(t)) == 0 {
					continue
				}
				text[last] = new(strings.Builder)
			}
			text[last].Write(t)
		case xml.Directive:
			return nil, fmt.Errorf("%w: document type or other directive", errMalformed)
		}
	}
}

// declared refuses the last open element if its name or an attribute uses an undeclared prefix: the decoder then leaves the
// prefix in place of the namespace.
func declared(open []*Element) error {
	e := open[len(open)-1]
	check := func(space string) error {
		if space == "" || space == "xmlns" || space == "xml" || space == "http://www.w3.org/XML/1998/namespace" {
			return nil
		}
		for _, o := range slices.Backward(open) {
			for _, a := range o.Attrs {
				if isDeclaration(a) && a.Value == space {
					return nil
				}
			}
		}
		return fmt.Errorf("%w: prefix %q is not declared", errMalformed, space)
	}
	if err := check(e.Name.Space); err != nil {
		return err
	}
	for _, a := range e.Attrs {
		if err := check(a.Name.Space); err != nil {
			return err
		}
	}
	return nil
}

// writer writes XML and names a namespace only where it changes. It writes to memory what was parsed or is constant, so
// errors are mistakes in the code; xml.Encoder reports them at the end.
type writer struct {
	buf    bytes.Buffer
	enc    *xml.Encoder
	spaces []string // of the open elements
	names  []xml.Name
	err    error
}

func newWriter() *writer {
	w := &writer{}
	w.enc = xml.NewEncoder(&w.buf)
	return w
}

func (w *writer) token(t xml.Token) {
	if err := w.enc.EncodeToken(t); err != nil && w.err == nil {
		w.err = err
	}
}

// open starts an element; attrs are written as they are.
func (w *writer) open(name xml.Name, attrs ...xml.Attr) {
	outer := ""
	if n := len(w.spaces); n > 0 {
		outer = w.spaces[n-1]
	}
	if name.Space != outer {
		attrs = append([]xml.Attr{{Name: xml.Name{Local: "xmlns"}, Value: name.Space}}, attrs...)
	}
	plain := xml.Name{Local: name.Local}
	w.spaces, w.names = append(w.spaces, name.Space), append(w.names, plain)
	w.token(xml.StartElement{Name: plain, Attr: attrs})
}

func (w *writer) close() {
	last := len(w.names) - 1
	w.token(xml.EndElement{Name: w.names[last]})
	w.spaces, w.names = w.spaces[:last], w.names[:last]
}

func (w *writer) text(s string) {
	if s != "" {
		w.token(xml.CharData(s))
	}
}

// leaf writes an element that holds text.
func (w *writer) leaf(name xml.Name, value string, attrs ...xml.Attr) {
	w.open(name, attrs...)
	w.text(value)
	w.close()
}

// base writes a leaf of the protocol's namespace.
func (w *writer) base(local, value string) { w.leaf(xml.Name{Space: nsBase, Local: local}, value) }

// node writes a configuration's node with all that is in it.
func (w *writer) node(n *Node) {
	if n.Kind == Leaf || n.Kind == LeafList {
		w.leaf(n.Name, n.Value)
		return
	}
	w.open(n.Name)
	w.nodes(n)
	w.close()
}

// nodes writes the children of n.
func (w *writer) nodes(n *Node) {
	for _, c := range n.Children {
		w.node(c)
	}
}

// bytes ends the document and returns it.
func (w *writer) bytes() ([]byte, error) {
	if err := w.enc.Flush(); err != nil && w.err == nil {
		w.err = err
	}
	if w.err != nil {
		return nil, fmt.Errorf("write XML: %w", w.err)
	}
	return w.buf.Bytes(), nil
}

// MarshalConfig returns a configuration as a document with the device's config element as root, which is empty for an empty
// configuration.
func MarshalConfig(root *Node) ([]byte, error) {
	w := newWriter()
	if len(root.Children) == 0 {
		w.leaf(xml.Name{Space: nsT128, Local: "config"}, "")
	}
	w.nodes(root)
	return w.bytes()
}
