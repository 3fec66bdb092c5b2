package netconfclient

import (
	"bytes"
	"encoding/xml"
)

const nsNetconf = "urn:ietf:params:xml:ns:netconf:base:1.0"

// nsNotification is the namespace of events that a server sends unasked (RFC 5277).
const nsNotification = "urn:ietf:params:xml:ns:netconf:notification:1.0"

// An Element is XML to be written: an operation, a filter or a piece of configuration.
// Values and not pointers: a piece of configuration is built once and used in several operations.
type Element struct {
	Space string // namespace; "" inherits the parent's
	Name  string
	attrs []xml.Attr
	Text  string
	Kids  []Element
}

// El returns an element with child elements.
func El(name string, kids ...Element) Element { return Element{Name: name, Kids: kids} }

// Leaf returns an element with text.
func Leaf(name, text string) Element { return Element{Name: name, Text: text} }

// In puts the element into a namespace.
func (n Element) In(space string) Element {
	n.Space = space
	return n
}

// The methods below copy, so that one element can be the base of several.

// With adds elements.
func (n Element) With(kids ...Element) Element {
	n.Kids = append(n.Kids[:len(n.Kids):len(n.Kids)], kids...)
	return n
}

// attr returns a copy. The full slice expression keeps two copies from sharing what is appended.
func (n Element) attr(name, val string) Element {
	n.attrs = append(n.attrs[:len(n.attrs):len(n.attrs)], xml.Attr{Name: xml.Name{Local: name}, Value: val})
	return n
}

// Operation marks an element of a configuration for EditConfig: merge, replace, create, delete or remove. EditConfig declares
// the prefix nc once; encoding/xml would declare it on every element.
func (n Element) Operation(op string) Element { return n.attr("nc:operation", op) }

// encode leaves all escaping to the encoder.
func (n Element) encode(e *xml.Encoder) error {
	start := xml.StartElement{Name: xml.Name{Space: n.Space, Local: n.Name}, Attr: n.attrs}
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	if n.Text != "" {
		if err := e.EncodeToken(xml.CharData(n.Text)); err != nil {
			return err
		}
	}
	for _, k := range n.Kids {
		if err := k.encode(e); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}

// bytes encodes the element.
func (n Element) bytes() ([]byte, error) {
	var b bytes.Buffer
	e := xml.NewEncoder(&b)
	if err := n.encode(e); err != nil {
		return nil, err
	}
	if err := e.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
