package conductorsim

import (
	"encoding/xml"
	"strconv"
	"strings"
)

// RPCError is one refusal (RFC 6241 §4.3). Severity is always error.
type RPCError struct {
	Type    string // transport, rpc, protocol or application
	Tag     string
	AppTag  string
	Path    string // XPath with the prefixes t128, authy, svc, nc; "" is none
	Message string

	BadElement, BadAttribute, BadNamespace string
	Session                                *uint64 // the holder of the lock; 0 is no NETCONF session
}

func (e *RPCError) Error() string {
	var b strings.Builder
	b.WriteString(e.Tag)
	if e.Path != "" {
		b.WriteString(" at " + e.Path)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	if e.Session != nil {
		b.WriteString(" (session " + strconv.FormatUint(*e.Session, 10) + ")")
	}
	return b.String()
}

// RPCErrors is what an operation was refused with: one or more.
type RPCErrors []*RPCError

func (es RPCErrors) Error() string {
	parts := make([]string, len(es))
	for i, e := range es {
		parts[i] = e.Error()
	}
	return strings.Join(parts, "; ")
}

// refuse is the refusal of one error; nil stays nil.
func refuse(e *RPCError) error {
	if e == nil {
		return nil
	}
	return RPCErrors{e}
}

// protocolError refuses what a client did wrong with the protocol, with the tag that says so.
func protocolError(tag, message string) *RPCError {
	return &RPCError{Type: "protocol", Tag: tag, Message: message}
}

// failed is the device's general refusal.
func failed(message string) *RPCError {
	return &RPCError{Type: "application", Tag: "operation-failed", Message: message}
}

// write puts the error into a reply.
func (e *RPCError) write(w *writer) {
	w.open(xml.Name{Space: nsBase, Local: "rpc-error"})
	w.base("error-type", e.Type)
	w.base("error-tag", e.Tag)
	w.base("error-severity", "error")
	if e.AppTag != "" {
		w.base("error-app-tag", e.AppTag)
	}
	if e.Path != "" {
		var declare []xml.Attr
		for _, space := range []string{nsBase, nsT128, nsAuthy, nsSvc} {
			prefix := prefixOf(space)
			if space == nsBase {
				prefix = "nc"
			}
			if strings.Contains(e.Path, prefix+":") {
				declare = append(declare, xml.Attr{Name: xml.Name{Local: "xmlns:" + prefix}, Value: space})
			}
		}
		w.leaf(xml.Name{Space: nsBase, Local: "error-path"}, e.Path, declare...)
	}
	if e.Message != "" {
		w.leaf(xml.Name{Space: nsBase, Local: "error-message"}, e.Message,
			xml.Attr{Name: xml.Name{Local: "xml:lang"}, Value: "en"})
	}
	if e.BadElement != "" || e.BadAttribute != "" || e.BadNamespace != "" || e.Session != nil {
		w.open(xml.Name{Space: nsBase, Local: "error-info"})
		for _, info := range []struct{ name, value string }{{"bad-attribute", e.BadAttribute},
			{"bad-element", e.BadElement}, {"bad-namespace", e.BadNamespace}} {
			if info.value != "" {
				w.base(info.name, info.value)
			}
		}
		if e.Session != nil {
			w.base("session-id", strconv.FormatUint(*e.Session, 10))
		}
		w.close()
	}
	w.close()
}

// xpath is one step of an error's path.
func xpath(parent string, name xml.Name, key, value string) string {
	step := name.Local
	if prefix := prefixOf(name.Space); prefix != "" {
		step = prefix + ":" + step
	}
	if key != "" {
		quote := "'"
		if strings.Contains(value, quote) {
			quote = `"`
		}
		k := key
		if prefix := prefixOf(name.Space); prefix != "" && key != "." {
			k = prefix + ":" + key
		}
		step += "[" + k + "=" + quote + value + quote + "]"
	}
	return parent + "/" + step
}
