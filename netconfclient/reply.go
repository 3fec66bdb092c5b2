package netconfclient

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	maxDepth  = 100      // of nested elements; the device's model has about fifteen
	maxTag    = 64 << 10 // bytes of one tag with its attributes
	maxErrors = 1000     // rpc-errors kept of one reply
	maxText   = 4 << 10  // bytes kept of one text of an rpc-error
)

// newDecoder decodes XML that may be hostile: the decoder keeps state for each open element and each attribute, so
// both are bounded. Entities other than XML's own five are an error of encoding/xml in itself.
func newDecoder(msg []byte) *xml.Decoder {
	return xml.NewTokenDecoder(&bounded{raw: xml.NewDecoder(bytes.NewReader(msg)), msg: msg})
}

type bounded struct {
	raw   *xml.Decoder
	msg   []byte
	depth int
	tags  bool // the lengths of the tags were checked
}

func (b *bounded) Token() (xml.Token, error) {
	if !b.tags {
		if err := checkTags(b.msg); err != nil {
			return nil, err
		}
		b.tags = true
	}
	tok, err := b.raw.RawToken()
	switch tok.(type) {
	case xml.StartElement:
		if b.depth++; b.depth > maxDepth {
			return nil, fmt.Errorf("elements are nested deeper than %d", maxDepth)
		}
	case xml.EndElement:
		b.depth--
	case xml.Directive:
		return nil, errors.New("a document type has no place in NETCONF")
	}
	return tok, err
}

// checkTags refuses a tag that is longer than any honest one. Declarations, comments and CDATA hold no attributes.
func checkTags(msg []byte) error {
	for {
		i := bytes.IndexByte(msg, '<')
		if i < 0 {
			return nil
		}
		msg = msg[i:]
		end := bytes.IndexByte(msg, '>')
		if end < 0 {
			end = len(msg) - 1
		}
		if end > maxTag && !bytes.HasPrefix(msg, []byte("<!")) {
			return fmt.Errorf("a tag is longer than %d bytes", maxTag)
		}
		msg = msg[end+1:]
	}
}

// A Reply is an rpc-reply without errors.
type Reply struct {
	Warnings []RPCError
	Raw      []byte // the whole message
	data     int    // where the content of <data> begins in Raw; 0 where there is none
}

// Data decodes the content of <data>: the decoder has just read its start element. Nil where the reply has none.
func (r *Reply) Data() (*xml.Decoder, error) {
	d := newDecoder(r.Raw)
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if s, ok := tok.(xml.StartElement); ok && s.Name == (xml.Name{Space: nsNetconf, Local: "data"}) {
			return d, nil
		}
	}
}

// parseReply checks that the message is the reply to the operation with that message-id, and collects its errors.
// The content of <data> is left unparsed: it can be large, and Data reads it.
func parseReply(msg []byte, id string) (*Reply, RPCErrors, error) {
	bad := func(err error) (*Reply, RPCErrors, error) {
		return nil, nil, fmt.Errorf("%w: reply: %w", ErrProtocol, err)
	}
	b := &bounded{raw: xml.NewDecoder(bytes.NewReader(msg)), msg: msg}
	d := xml.NewTokenDecoder(b)
	root, err := rootElement(d)
	if err != nil {
		return bad(err)
	}
	if root.Name != (xml.Name{Space: nsNetconf, Local: "rpc-reply"}) {
		return bad(fmt.Errorf("<%s> in namespace %q is none", clip(root.Name.Local), clip(root.Name.Space)))
	}
	if got := attr(root, "message-id"); got != id {
		return bad(fmt.Errorf("message-id is %q, want %q", clip(got), id))
	}
	reply := &Reply{Raw: msg}
	var errs RPCErrors
	content := false
	for {
		tok, err := d.Token()
		if err != nil {
			return bad(err)
		}
		switch tok := tok.(type) {
		case xml.EndElement:
			if !content && len(errs) == 0 && len(reply.Warnings) == 0 {
				return bad(errors.New("it is empty"))
			}
			return reply, errs, nil
		case xml.StartElement:
			switch {
			case tok.Name == xml.Name{Space: nsNetconf, Local: "data"} && len(errs) == 0:
				reply.data = int(b.raw.InputOffset())
				return reply, nil, nil
			case tok.Name == xml.Name{Space: nsNetconf, Local: "rpc-error"} && len(errs)+len(reply.Warnings) < maxErrors:
				e, err := parseRPCError(d, tok)
				if err != nil {
					return bad(err)
				}
				if e.Severity == "warning" {
					reply.Warnings = append(reply.Warnings, e)
				} else {
					errs = append(errs, e)
				}
			default:
				content = true
				if err := d.Skip(); err != nil {
					return bad(err)
				}
			}
		}
	}
}

// parseRPCError decodes one rpc-error, whose start element has been read.
func parseRPCError(d *xml.Decoder, start xml.StartElement) (RPCError, error) {
	var raw struct {
		Type     string `xml:"error-type"`
		Tag      string `xml:"error-tag"`
		Severity string `xml:"error-severity"`
		AppTag   string `xml:"error-app-tag"`
		Path     string `xml:"error-path"`
		Message  string `xml:"error-message"`
		Info     struct {
			Any []struct {
				XMLName xml.Name
				Text    string `xml:",chardata"`
			} `xml:",any"`
		} `xml:"error-info"`
	}
	if err := d.DecodeElement(&raw, &start); err != nil {
		return RPCError{}, err
	}
	e := RPCError{
		Type: oneLine(raw.Type), Tag: oneLine(raw.Tag), Severity: oneLine(raw.Severity), AppTag: oneLine(raw.AppTag),
		Path: oneLine(raw.Path), Message: oneLine(raw.Message),
	}
	for _, i := range raw.Info.Any {
		text := oneLine(i.Text)
		if i.XMLName.Local == "session-id" {
			if id, err := strconv.ParseUint(text, 10, 32); err == nil {
				e.SessionID = id
				continue
			}
		}
		if text != "" && len(e.Info) < 16 {
			e.Info = append(e.Info, clip(i.XMLName.Local)+"="+text)
		}
	}
	return e, nil
}

func rootElement(d *xml.Decoder) (xml.StartElement, error) {
	for {
		tok, err := d.Token()
		if err != nil {
			return xml.StartElement{}, err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			return tok, nil
		case xml.CharData:
			if len(bytes.TrimSpace(tok)) > 0 {
				return xml.StartElement{}, errors.New("text before the first element")
			}
		}
	}
}

func attr(s xml.StartElement, name string) string {
	for _, a := range s.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// oneLine makes a server's text fit to be shown on one line.
func oneLine(s string) string {
	return clip(strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 }), " "))
}

func clip(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(s[:maxText], "") + "…"
}
