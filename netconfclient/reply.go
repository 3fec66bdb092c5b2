package netconfclient

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"banmesh/internal/excerpt"
)

const (
	maxDepth = 100 // of nested elements; the device's model has about fifteen levels
	// An honest one with all its namespaces has a few hundred bytes.
	maxTag    = 64 << 10 // bytes of one tag with its attributes
	maxErrors = 1000     // rpc-errors kept of one reply
	maxText   = 4 << 10  // bytes kept of one text of an rpc-error
)

// newDecoder decodes XML that may be hostile: the decoder keeps state for each open element and each attribute, so both are
// bounded. encoding/xml itself rejects entities other than XML's five.
func newDecoder(msg []byte) *xml.Decoder {
	return xml.NewTokenDecoder(&bounded{raw: xml.NewDecoder(bytes.NewReader(msg)), msg: msg})
}

// bounded is a decoder's view of a message whose nesting and tags are limited. encoding/xml has no bounds of
// its own.
type bounded struct {
	raw   *xml.Decoder
	msg   []byte
	depth int
	tags  bool // the lengths of the tags were checked
}

// Token refuses document types, which RFC 6241 section 3 forbids, and with them entities that expand.
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

// checkTags refuses a tag longer than any honest one. Declarations, comments and CDATA hold no attributes.
func checkTags(msg []byte) error {
	_, _, err := skim(msg, false)
	return err
}

// skim scans the tags of a message without decoding it, which would cost a large configuration as much again. With inside
// set, msg begins after a start tag; skim then stops at the end of that element and returns its length. rpcError says that
// the element may hold an rpc-error, in whatever namespace.
func skim(msg []byte, inside bool) (n int, rpcError bool, err error) {
	depth := 0
	for at := 0; ; {
		i := bytes.IndexByte(msg[at:], '<')
		if i < 0 {
			if inside {
				return 0, false, io.ErrUnexpectedEOF
			}
			return len(msg), rpcError, nil
		}
		at += i
		end, open, shut := "", false, false
		switch rest := msg[at:]; {
		case bytes.HasPrefix(rest, []byte("<!--")):
			end = "-->"
		case bytes.HasPrefix(rest, []byte("<![CDATA[")):
			end = "]]>"
		case bytes.HasPrefix(rest, []byte("<?")):
			end = "?>"
		case bytes.HasPrefix(rest, []byte("</")):
			end, shut = ">", true
		default:
			end, open = ">", true
		}
		length := tagLen(msg[at:], end)
		if length < 0 {
			if inside {
				return 0, false, io.ErrUnexpectedEOF
			}
			length = len(msg) - at
		}
		if (open || shut) && length > maxTag {
			return 0, false, fmt.Errorf("a tag is longer than %d bytes", maxTag)
		}
		tag := msg[at : at+length]
		at += length
		if !inside {
			continue
		}
		switch {
		case shut:
			if depth--; depth < 0 {
				return at, rpcError, nil
			}
		case open && !bytes.HasSuffix(tag, []byte("/>")):
			if depth++; depth > maxDepth {
				return 0, false, fmt.Errorf("elements are nested deeper than %d", maxDepth)
			}
		}
		rpcError = rpcError || open && bytes.Contains(tag, []byte("rpc-error"))
	}
}

// tagLen returns the length of a tag up to its end, ignoring ends inside quotes; -1 if it has none.
func tagLen(b []byte, end string) int {
	if end != ">" {
		if i := bytes.Index(b, []byte(end)); i >= 0 {
			return i + len(end)
		}
		return -1
	}
	i := bytes.IndexByte(b, '>')
	if i < 0 {
		return -1
	}
	if bytes.IndexByte(b[:i], '"') < 0 && bytes.IndexByte(b[:i], '\'') < 0 {
		return i + 1
	}
	var quote byte
	for i, c := range b {
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '"' || c == '\'':
			quote = c
		case c == '>':
			return i + 1
		}
	}
	return -1
}

// A Reply is an rpc-reply without errors.
type Reply struct {
	warnings []rpcError
	Raw      []byte // the whole message
	data     int    // where the content of <data> begins in Raw; 0 without <data>
	suspect  bool   // <data> may hold an rpc-error
}

// Content returns the text of the reply from the content of <data> on.
func (r *Reply) Content() []byte { return r.Raw[r.data:] }

// Data decodes the content of <data>: the decoder has just read its start element. It is nil if the reply has none.
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
		if s, ok := tok.(xml.StartElement); ok && s.Name == nameData {
			return d, nil
		}
	}
}

// parseReply checks that the message is the whole reply to the operation with that message-id, and collects its errors. A
// server may fail in the middle of its answer: an rpc-error beside or inside <data> fails the operation like any other (RFC
// 6241 §4.3), and the partial data is not a configuration. The content of <data> can be large, so it is only scanned here;
// Data decodes it.
func parseReply(msg []byte, id string) (*Reply, RPCErrors, error) {
	reply := &Reply{Raw: msg}
	errs, err := reply.parse(id)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: reply: %w", ErrProtocol, err)
	}
	return reply, errs, nil
}

// parse checks the envelope, then what stands beside <data>, then what is inside it.
func (r *Reply) parse(id string) (RPCErrors, error) {
	around, err := r.findData()
	if err != nil {
		return nil, err
	}
	d := newDecoder(around)
	if err := checkEnvelope(d, id); err != nil {
		return nil, err
	}
	var errs RPCErrors
	take := func(tok xml.StartElement, d *xml.Decoder) error {
		// A refused edit of many addresses has an error for each, and so many are enough.
		if len(errs)+len(r.warnings) >= maxErrors {
			return d.Skip()
		}
		e, err := parseRPCError(d, tok)
		if err != nil {
			return err
		}
		if e.Severity == "warning" {
			r.warnings = append(r.warnings, e)
		} else {
			errs = append(errs, e)
		}
		return nil
	}
	others, err := errorsBeside(d, take)
	if err != nil {
		return nil, err
	}
	if r.suspect {
		if err := r.errorsInside(take); err != nil {
			return nil, err
		}
	}
	// Not even <ok/>: RFC 6241 §4.2 knows no such reply, so nothing is known about what the server did.
	if r.data == 0 && !others && len(errs) == 0 && len(r.warnings) == 0 {
		return nil, errors.New("it is empty")
	}
	return errs, nil
}

// checkEnvelope reads the root element: it must be the rpc-reply to that message-id.
func checkEnvelope(d *xml.Decoder, id string) error {
	root, err := rootElement(d)
	if err != nil {
		return err
	}
	if root.Name != (xml.Name{Space: nsNetconf, Local: "rpc-reply"}) {
		return fmt.Errorf("<%s> in namespace %q is none", oneLine(root.Name.Local), oneLine(root.Name.Space))
	}
	if got := attr(root, "message-id"); got != id {
		return fmt.Errorf("message-id is %q, want %q", oneLine(got), id)
	}
	return nil
}

// errorsBeside reads the elements of the reply to the end of the message, and passes each rpc-error to take. others says
// that there was anything else, such as <ok/>. <data> has been cut out, so one that is met here is a second one.
func errorsBeside(d *xml.Decoder, take func(xml.StartElement, *xml.Decoder) error) (others bool, err error) {
	for {
		tok, err := d.Token()
		if err != nil {
			return false, err
		}
		switch tok := tok.(type) {
		case xml.EndElement:
			return others, onlyBlanks(d)
		case xml.StartElement:
			switch tok.Name {
			case nameRPCError:
				err = take(tok, d)
			case nameData:
				err = errors.New("it has data twice")
			default:
				others = true
				err = d.Skip()
			}
			if err != nil {
				return false, err
			}
		}
	}
}

var (
	nameData     = xml.Name{Space: nsNetconf, Local: "data"}
	nameRPCError = xml.Name{Space: nsNetconf, Local: "rpc-error"}
)

// findData finds the content of <data>, and returns the message without that element.
func (r *Reply) findData() (around []byte, err error) {
	b := &bounded{raw: xml.NewDecoder(bytes.NewReader(r.Raw)), msg: r.Raw}
	d := xml.NewTokenDecoder(b)
	if _, err := rootElement(d); err != nil {
		return nil, err
	}
	for {
		from := int(b.raw.InputOffset())
		tok, err := d.Token()
		if err != nil {
			return nil, err
		}
		switch tok := tok.(type) {
		case xml.EndElement:
			return r.Raw, nil // the end of the reply
		case xml.StartElement:
			if tok.Name != nameData {
				if err := d.Skip(); err != nil {
					return nil, err
				}
				continue
			}
			r.data = int(b.raw.InputOffset())
			to := r.data
			if !bytes.HasSuffix(r.Raw[:r.data], []byte("/>")) {
				n, suspect, err := skim(r.Raw[r.data:], true)
				if err != nil {
					return nil, err
				}
				to, r.suspect = r.data+n, suspect
			}
			return slices.Concat(r.Raw[:from], r.Raw[to:]), nil
		}
	}
}

// errorsInside passes each rpc-error inside <data> to take.
func (r *Reply) errorsInside(take func(xml.StartElement, *xml.Decoder) error) error {
	d, err := r.Data()
	if err != nil {
		return err
	}
	for depth := 0; depth >= 0; {
		tok, err := d.Token()
		if err != nil {
			return err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			if tok.Name != nameRPCError {
				depth++
			} else if err := take(tok, d); err != nil {
				return err
			}
		case xml.EndElement:
			depth--
		}
	}
	return nil
}

// onlyBlanks checks that nothing follows the root element.
func onlyBlanks(d *xml.Decoder) error {
	for {
		tok, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			return fmt.Errorf("<%s> follows it", oneLine(tok.Name.Local))
		case xml.CharData:
			if len(bytes.TrimSpace(tok)) > 0 {
				return errors.New("text follows it")
			}
		}
	}
}

// parseRPCError decodes one rpc-error; its start element has been read.
func parseRPCError(d *xml.Decoder, start xml.StartElement) (rpcError, error) {
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
		return rpcError{}, err
	}
	e := rpcError{
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
			e.Info = append(e.Info, oneLine(i.XMLName.Local)+"="+text)
		}
	}
	return e, nil
}

// rootElement steps over comments and blanks before the first element.
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

// attr finds an attribute without a namespace, as NETCONF's own are.
func attr(s xml.StartElement, name string) string {
	for _, a := range s.Attr {
		if a.Name.Space == "" && a.Name.Local == name {
			return a.Value
		}
	}
	return ""
}

// oneLine makes a server's text fit on one line.
func oneLine(s string) string {
	return excerpt.Line(s, maxText)
}
