package netconf_test

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/netconf"
	"banmesh/mesh/conductor/prefixset"
)

// el is an element of the stranger's configuration.
type el struct {
	Name xml.Name
	Text string
	Op   string
	Kids []*el
}

// The lists of the published model, with their keys. An element of no list and without children is a value, and addresses are
// values of which there can be several.
var listKeys = map[string]string{"tenant": "name", "member": "neighborhood", "router": "name", "service": "name", "access-policy": "source"}

func (e *el) child(local string) *el {
	for _, k := range e.Kids {
		if k.Name.Local == local {
			return k
		}
	}
	return &el{}
}

func (e *el) same(o *el) bool {
	key := listKeys[e.Name.Local]
	return e.Name == o.Name && (key == "" || e.child(key).Text == o.child(key).Text) && (e.Name.Local != "address" || e.Text == o.Text)
}

func (e *el) clone() *el {
	out := &el{Name: e.Name, Text: e.Text}
	for _, k := range e.Kids {
		out.Kids = append(out.Kids, k.clone())
	}
	return out
}

// readXML reads the next element of a document.
func readXML(d *xml.Decoder) *el {
	var open []*el
	for {
		tok, err := d.Token()
		if err != nil {
			return &el{}
		}
		switch tok := tok.(type) {
		case xml.StartElement:
			e := &el{Name: tok.Name}
			for _, a := range tok.Attr {
				if a.Name.Local == "operation" {
					e.Op = a.Value
				}
			}
			if len(open) > 0 {
				last := open[len(open)-1]
				last.Kids = append(last.Kids, e)
			}
			open = append(open, e)
		case xml.CharData:
			if len(open) > 0 {
				open[len(open)-1].Text += strings.TrimSpace(string(tok))
			}
		case xml.EndElement:
			if len(open) == 1 {
				return open[0]
			}
			open = open[:len(open)-1]
		}
	}
}

// apply merges an edit; false if something that is to be deleted is not there.
func (e *el) apply(edit *el) bool {
	for _, k := range edit.Kids {
		at := slices.IndexFunc(e.Kids, k.same)
		switch {
		case k.Op == "delete" && at < 0:
			return false
		case k.Op == "delete" || k.Op == "remove":
			if at >= 0 {
				e.Kids = slices.Delete(e.Kids, at, at+1)
			}
			continue
		case at < 0:
			at = len(e.Kids)
			e.Kids = append(e.Kids, &el{Name: k.Name})
		}
		e.Kids[at].Text = k.Text
		if !e.Kids[at].apply(k) {
			return false
		}
	}
	return true
}

// manner is what one server does in its own way.
type manner struct {
	caps       []string // of the hello; nil: all that are usual
	hello      func(string) string
	reply      func(string) string          // the whole message
	answer     func(op, body string) string // the content of rpc-reply
	write      func(*el) string             // configuration
	chunk      int                          // of replies; 0: the whole message
	blankEnd   bool                         // a line end follows each message
	closes     bool                         // the candidate is dropped with its session
	deaf       bool                         // close-session ends the connection without an answer
	keepalives bool                         // the server asks whether we are alive
	ignores    bool                         // the filter
	defaults   bool                         // a new tenant gets containers
	lacks      string                       // operations that are not known
	unclear    bool                         // in other words than those of the standard
	whole      func(store string) string    // the content of data where no filter is given
	ipv6       bool
	noTest     string // the answer to a test-option
	atCommit   bool   // the defaults come with the commit
}

// foreigner is a NETCONF server written from the standard and what the vendor publishes: it shares no code with the driver or
// the simulated conductor.
type foreigner struct {
	manner
	addr string

	mu                 sync.Mutex
	running, candidate *el
	holder             int
	sessions           int
}

const (
	base   = "urn:ietf:params:netconf:base:"
	capab  = "urn:ietf:params:netconf:capability:"
	nsBase = "urn:ietf:params:xml:ns:netconf:base:1.0"
	t128   = "http://128technology.com/t128"
)

const officeXML = `<top><config xmlns="` + t128 + `"><authority xmlns="` + t128 + `/config/authority-config"><name>A</name>` +
	`<router><name>edge</name></router><tenant><name>office</name><member><neighborhood>lan</neighborhood><address>10.0.0.0/8</address></member></tenant>` +
	`<service xmlns="` + t128 + `/config/service-config"><name>web</name><access-policy><source>blacklist-fail2ban</source><permission>deny</permission></access-policy></service>` +
	`</authority></config></top>`

// serveForeigner serves it, and returns how to reach it.
func serveForeigner(t *testing.T, m manner) (*foreigner, netconf.Config) {
	t.Helper()
	dir := t.TempDir()
	_, hostKey, _ := ed25519.GenerateKey(nil)
	_, userKey, _ := ed25519.GenerateKey(nil)
	block, err := ssh.MarshalPrivateKey(userKey, "")
	if err != nil {
		t.Fatal(err)
	}
	host, err := ssh.NewSignerFromKey(hostKey)
	if err != nil {
		t.Fatal(err)
	}
	on := "127.0.0.1:0"
	if m.ipv6 {
		on = "[::1]:0"
	}
	ln, err := net.Listen("tcp", on)
	if err != nil {
		t.Fatal(err)
	}
	f := &foreigner{manner: m, addr: ln.Addr().String()}
	f.running = readXML(xml.NewDecoder(strings.NewReader(officeXML)))
	f.candidate = f.running.clone()
	cfg := netconf.DefaultConfig()
	cfg.Addresses, cfg.DialTimeout, cfg.Timeout = []string{f.addr}, time.Minute, time.Minute // for a busy machine
	cfg.KeyFile, cfg.KnownHosts = filepath.Join(dir, "key"), filepath.Join(dir, "hosts")
	for name, text := range map[string][]byte{cfg.KeyFile: pem.EncodeToMemory(block), cfg.KnownHosts: []byte(knownhosts.Line([]string{f.addr}, host.PublicKey()) + "\n")} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	server.AddHostKey(host)
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { f.serve(conn, server) })
		}
	})
	t.Cleanup(func() { ln.Close(); serving.Wait() })
	return f, cfg
}

func (f *foreigner) serve(conn net.Conn, server *ssh.ServerConfig) {
	defer conn.Close()
	s, channels, requests, err := ssh.NewServerConn(conn, server)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	c, open := <-channels
	if !open {
		return
	}
	ch, reqs, err := c.Accept()
	if err != nil {
		return
	}
	if r := <-reqs; r == nil || r.Reply(true, nil) != nil {
		return
	}
	go ssh.DiscardRequests(reqs)
	if f.keepalives {
		for _, name := range []string{"keepalive@openssh.com", "hostkeys-00@openssh.com"} {
			go s.SendRequest(name, name[0] == 'k', nil)
		}
	}
	f.talk(ch)
}

// talk is one session.
func (f *foreigner) talk(ch ssh.Channel) {
	defer ch.Close()
	f.mu.Lock()
	f.sessions++
	id := f.sessions
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.holder == id {
			f.holder = 0
		}
		if f.closes {
			f.candidate = f.running.clone()
		}
	}()
	caps := f.caps
	if caps == nil {
		caps = []string{base + "1.0", base + "1.1", capab + "candidate:1.0", capab + "validate:1.1", capab + "rollback-on-error:1.0"}
	}
	hello := `<?xml version="1.0" encoding="UTF-8"?>` + "\n" + `<hello xmlns="` + nsBase + `"><capabilities><capability>` +
		strings.Join(caps, "</capability><capability>") + `</capability></capabilities><session-id>` + strconv.Itoa(id) + `</session-id></hello>`
	if f.hello != nil {
		hello = f.hello(hello)
	}
	end := "]]>]]>"
	if f.blankEnd {
		end += "\r\n"
	}
	io.WriteString(ch, hello+end)
	in := bufio.NewReader(ch)
	chunked := slices.ContainsFunc(caps, func(c string) bool { return strings.TrimSpace(c) == base+"1.1" })
	delimited := func() (string, bool) {
		var b []byte
		for !bytes.HasSuffix(b, []byte("]]>]]>")) {
			c, err := in.ReadByte()
			if err != nil {
				return "", false
			}
			b = append(b, c)
		}
		return string(b[:len(b)-6]), true
	}
	if _, ok := delimited(); !ok {
		return
	}
	for {
		var msg string
		ok := true
		if !chunked {
			msg, ok = delimited()
		}
		for chunked {
			var n int
			if _, err := fmt.Fscanf(in, "\n#%d\n", &n); err != nil { // the end is no number
				if _, err := in.ReadString('\n'); err != nil {
					return
				}
				break
			}
			part := make([]byte, n)
			if _, err := io.ReadFull(in, part); err != nil {
				return
			}
			msg += string(part)
		}
		if !ok {
			return
		}
		reply, last := f.handle(id, msg)
		if last && f.deaf {
			return
		}
		if chunked {
			size := f.chunk
			if size == 0 {
				size = len(reply)
			}
			var out strings.Builder
			for part := range slices.Chunk([]byte(reply), size) {
				fmt.Fprintf(&out, "\n#%d\n%s", len(part), part)
			}
			reply = out.String() + "\n##\n"
		} else {
			reply += end
		}
		io.WriteString(ch, reply)
		if last {
			return
		}
	}
}

func rpcError(tag, more string) string {
	return `<rpc-error><error-type>application</error-type><error-tag>` + tag + `</error-tag><error-severity>error</error-severity>` + more + `</rpc-error>`
}

// handle answers one operation.
func (f *foreigner) handle(id int, msg string) (reply string, last bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := xml.NewDecoder(strings.NewReader(msg))
	rpc := readXML(d)
	messageID := ""
	if _, after, ok := strings.Cut(msg, `message-id="`); ok {
		messageID, _, _ = strings.Cut(after, `"`)
	}
	if len(rpc.Kids) == 0 {
		return "", true
	}
	op := rpc.Kids[0]
	body := f.do(id, op)
	if f.answer != nil {
		body = f.answer(op.Name.Local, body)
	}
	reply = `<rpc-reply xmlns="` + nsBase + `" message-id="` + messageID + `">` + body + `</rpc-reply>`
	if f.reply != nil {
		reply = f.reply(reply)
	}
	return reply, op.Name.Local == "close-session"
}

func (f *foreigner) do(id int, op *el) string {
	const ok = "<ok/>"
	name := op.Name.Local
	if slices.Contains(strings.Fields(f.lacks), name) {
		if f.unclear {
			return rpcError("unknown-element", "<error-info><bad-element>"+name+"</bad-element></error-info>")
		}
		return rpcError("operation-not-supported", "")
	}
	store := func(what string) **el {
		if op.child(what).child("running").Name.Local != "" {
			return &f.running
		}
		return &f.candidate
	}
	if f.holder != 0 && f.holder != id && slices.Contains([]string{"lock", "edit-config", "commit", "discard-changes"}, name) {
		return rpcError("lock-denied", fmt.Sprintf("<error-info><session-id>%d</session-id></error-info>", f.holder))
	}
	switch name {
	case "lock":
		f.holder = id
	case "unlock":
		f.holder = 0
	case "get-config":
		filter := op.child("filter")
		if f.whole != nil && filter.Name.Local == "" {
			return "<data>" + f.whole(op.child("source").Kids[0].Name.Local) + "</data>"
		}
		src := *store("source")
		if !f.ignores && filter.Name.Local != "" {
			src = src.selected(filter)
		}
		write := f.write
		if write == nil {
			write = plainXML
		}
		var b strings.Builder
		for _, k := range src.Kids {
			b.WriteString(write(k))
		}
		return "<data>" + b.String() + "</data>"
	case "edit-config":
		next := (*store("target")).clone()
		if !next.apply(op.child("config")) {
			return rpcError("data-missing", "")
		}
		if o := op.child("test-option"); f.noTest != "" && o.Text != "" {
			return f.noTest
		}
		if f.defaults {
			next.giveDefaults(*store("target"))
		}
		*store("target") = next
	case "commit":
		if op.child("validation-type").Name.Local != "" && !slices.ContainsFunc(f.caps, func(c string) bool { return strings.Contains(c, "128technology") }) {
			return rpcError("unknown-element", "<error-info><bad-element>validation-type</bad-element></error-info>")
		}
		if f.atCommit {
			f.candidate.giveDefaults(f.running)
		}
		f.running = f.candidate.clone()
	case "discard-changes":
		f.candidate = f.running.clone()
	case "validate", "close-session", "kill-session", "copy-config":
	default:
		return rpcError("operation-not-supported", "")
	}
	return ok
}

// giveDefaults adds containers of defaults to the tenants that were not there before.
func (e *el) giveDefaults(before *el) {
	for _, k := range e.Kids {
		was := &el{}
		if at := slices.IndexFunc(before.Kids, k.same); at >= 0 {
			was = before.Kids[at]
		}
		if k.Name.Local == "tenant" && was.Name.Local == "" {
			ns := k.Name.Space
			k.Kids = append(k.Kids, &el{Name: xml.Name{Space: ns, Local: "qos"}, Kids: []*el{{Name: xml.Name{Space: ns, Local: "class"}, Text: "best-effort"}}})
		}
		k.giveDefaults(was)
	}
}

// selected applies a subtree filter.
func (e *el) selected(filter *el) *el {
	out := &el{Name: e.Name, Text: e.Text}
	for _, k := range e.Kids {
		for _, want := range filter.Kids {
			if want.Name != k.Name || !slices.ContainsFunc(want.Kids, func(m *el) bool { return m.Text != "" && k.child(m.Name.Local).Text != m.Text }) == false {
				continue
			}
			if selects := slices.ContainsFunc(want.Kids, func(m *el) bool { return m.Text == "" }); selects {
				out.Kids = append(out.Kids, k.selected(want))
			} else {
				out.Kids = append(out.Kids, k.clone())
			}
		}
	}
	return out
}

func plainXML(e *el) string { return writeXML(e, "", plainTag, escaped) }

func escaped(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s))
	return b.String()
}

// writeXML writes an element: tag gives its name and attributes, text its text.
func writeXML(e *el, parent string, tag func(*el, string) (string, string), text func(string) string) string {
	name, attrs := tag(e, parent)
	var b strings.Builder
	b.WriteString("<" + name + attrs + ">")
	if e.Text != "" {
		b.WriteString(text(e.Text))
	}
	for _, k := range e.Kids {
		b.WriteString(writeXML(k, e.Name.Space, tag, text))
	}
	b.WriteString("</" + name + ">")
	return b.String()
}

// everyPrefix gives each element a prefix of its own, declared where it is used.
func everyPrefix(e *el) string {
	n := 0
	return writeXML(e, "", func(e *el, _ string) (string, string) {
		n++
		p := fmt.Sprintf("p%d", n%3)
		return p + ":" + e.Name.Local, fmt.Sprintf(` xmlns:%s="%s" xmlns:unused="urn:unused"`, p, e.Name.Space)
	}, escaped)
}

func plainTag(e *el, parent string) (string, string) {
	if e.Name.Space == parent {
		return e.Name.Local, ""
	}
	return e.Name.Local, ` xmlns="` + e.Name.Space + `"`
}

func withText(text func(string) string) func(*el) string {
	return func(e *el) string { return writeXML(e, "", plainTag, text) }
}

// prefixed writes a reply with the prefix nc for the protocol's own elements.
func prefixed(reply string) string {
	reply = strings.Replace(reply, `<rpc-reply xmlns=`, `<nc:rpc-reply xmlns:nc=`, 1)
	for _, name := range []string{"rpc-reply", "data", "ok/", "rpc-error", "error-type", "error-tag", "error-severity", "error-info", "error-message", "bad-element"} {
		reply = strings.ReplaceAll(reply, "<"+name+">", "<nc:"+name+">")
		reply = strings.ReplaceAll(reply, "</"+name+">", "</nc:"+name+">")
	}
	return reply
}

func (f *foreigner) addresses() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for _, tn := range f.running.child("config").child("authority").Kids {
		if tn.Name.Local == "tenant" && tn.child("name").Text == "blacklist-fail2ban" {
			for _, m := range tn.Kids {
				for _, a := range m.Kids {
					if a.Name.Local == "address" {
						out = append(out, a.Text)
					}
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

const warning = `<rpc-error><error-type>application</error-type><error-tag>operation-failed</error-tag><error-severity>warning</error-severity><error-message>a router is offline</error-message></rpc-error>`

// Each manner alone.
func TestAForeignServer(t *testing.T) {
	usual := []string{base + "1.0", base + "1.1", capab + "candidate:1.0", capab + "validate:1.1", capab + "rollback-on-error:1.0"}
	reversed := slices.Clone(usual)
	slices.Reverse(reversed)
	add := func(more ...string) []string { return append(slices.Clone(usual), more...) }
	for name, m := range map[string]manner{
		"plain":                 {},
		"the vendor's leaf":     {caps: add("urn:128technology:netconf:validate-type:1.0?module=validate-type")},
		"base:1.0":              {caps: usual[:1:1]},
		"base:1.0, candidate":   {caps: []string{base + "1.0", capab + "candidate:1.0"}},
		"line ends":             {caps: []string{base + "1.0", capab + "candidate:1.0"}, blankEnd: true},
		"line ends, chunks":     {blankEnd: true},
		"capabilities reversed": {caps: reversed},
		"with blanks around":    {caps: []string{"\n  " + base + "1.1\n ", "\t" + capab + "candidate:1.0 "}},
		"one byte a chunk":      {chunk: 1},
		"nc: everywhere":        {reply: prefixed},
		"a prefix for each":     {write: everyPrefix},
		"both":                  {write: everyPrefix, reply: prefixed},
		"CDATA":                 {write: withText(func(s string) string { return "<![CDATA[" + s + "]]>" })},
		"CDATA in pieces": {write: withText(func(s string) string {
			return s[:1] + "<![CDATA[" + s[1:] + "]]><![CDATA[]]>"
		})},
		"comments in texts":   {write: withText(func(s string) string { return s[:1] + "<!-- > ]]> -->" + s[1:] + "<?pi ?>" })},
		"blanks around texts": {write: withText(func(s string) string { return "\n\t  " + s + " \r\n" })},
		"texts as references": {write: withText(func(s string) string {
			var b strings.Builder
			for _, r := range s {
				fmt.Fprintf(&b, "&#x%x;", r)
			}
			return b.String()
		})},
		"a declaration": {reply: func(s string) string { return `<?xml version="1.0" encoding="utf-8" standalone="yes"?>` + "\n" + s }},
		"instructions": {reply: func(s string) string {
			return `<?xml version="1.0"?><?xml-stylesheet href="a"?><!-- hello -->` + s + "<!-- bye --><?end ?>\n"
		}},
		"comments beside the data":  {answer: func(_, b string) string { return "<!-- a --><?b c?>\n" + b + "<!-- <rpc-error> -->" }},
		"empty data closed at once": {answer: func(_, b string) string { return strings.Replace(b, "<data></data>", "<data/>", 1) }},
		"attributes everywhere": {reply: func(s string) string {
			return strings.NewReplacer("<rpc-reply ", `<rpc-reply xmlns:x="urn:x" x:took="3>2" `, "<data>", `<data x:etag='"1"'>`, "<tenant>", `<tenant x:last-modified="now">`, "<address>", `<address x:origin="intended">`).Replace(s)
		}},
		"single quotes":        {reply: func(s string) string { return strings.ReplaceAll(s, `"`, `'`) }},
		"ok with an end":       {answer: func(_, b string) string { return strings.Replace(b, "<ok/>", "<ok></ok>\n", 1) }},
		"a warning and ok":     {answer: func(op, b string) string { return warned(op, warning, b) }},
		"ok and a warning":     {answer: func(op, b string) string { return warned(op, "", b) + warnedAfter(op) }},
		"a warning alone":      {answer: func(op, b string) string { return strings.Replace(b, "<ok/>", warning, 1) }},
		"resets at the end":    {closes: true},
		"closes without words": {deaf: true},
		"asks whether we live": {keepalives: true},
		"ignores the filter":   {ignores: true},
		"defaults":             {defaults: true},
		"IPv6":                 {ipv6: true},
		"with-defaults": {caps: add("urn:ietf:params:netconf:capability:with-defaults:1.0?basic-mode=report-all-tagged"), lacks: "lock unlock", defaults: true, reply: func(s string) string {
			return strings.ReplaceAll(s, "<class>", `<class xmlns:wd="urn:ietf:params:xml:ns:netconf:default:1.0" wd:default="true">`)
		}},
		"no lock":             {lacks: "lock unlock"},
		"no lock, defaults":   {lacks: "lock unlock", defaults: true},
		"no lock, no discard": {lacks: "lock unlock discard-changes", unclear: true},
		"no validate":         {lacks: "validate", unclear: true},
		"values at commit":    {lacks: "lock unlock", atCommit: true},
		"no test-option":      {noTest: rpcError("invalid-value", "<error-message>test-option: not here</error-message>")},
		"two errors for it":   {noTest: rpcError("operation-failed", "") + rpcError("unknown-element", "<error-info><bad-element>test-option</bad-element></error-info>")},
		"another spelling each time": {write: func() func(*el) string {
			n := 0
			return func(e *el) string {
				n++
				return []func(*el) string{plainXML, everyPrefix, withText(func(s string) string { return "\n<![CDATA[" + s + "]]>" })}[n%3](e)
			}
		}()},
		"hello in a prefix": {hello: func(s string) string {
			return strings.NewReplacer("<hello xmlns", "<n:hello xmlns:n", "<cap", "<n:cap", "</cap", "</n:cap", "<session", "<n:session", "</session", "</n:session", "</hello", "</n:hello").Replace(s)
		}},
		"hello with more": {hello: func(s string) string {
			return strings.Replace(s, "<session-id>", `<x:banner xmlns:x="urn:x">&lt;hello&gt;</x:banner><!-- id --><session-id>`, 1)
		}},
		"id before capabilities": {hello: func(s string) string {
			from := strings.Index(s, "<session-id>")
			to := strings.Index(s, "</session-id>") + len("</session-id>")
			return strings.Replace(s[:from]+s[to:], "<capabilities>", s[from:to]+"<capabilities>", 1)
		}},
		"two of each container": {write: func(e *el) string {
			var b strings.Builder
			for _, k := range e.child("authority").Kids {
				one := &el{Name: e.Name, Kids: []*el{{Name: e.child("authority").Name, Kids: []*el{k}}}}
				b.WriteString(plainXML(one))
			}
			return b.String()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, cfg := serveForeigner(t, m)
			c, err := netconf.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			do := func(step string, add, remove []string, want ...string) {
				t.Helper()
				if err := change(t.Context(), c, conductor.Permit{}, texts(t, add), texts(t, remove)); err != nil {
					t.Fatalf("%s: %v", step, err)
				}
				if got := f.addresses(); !slices.Equal(got, want) {
					t.Errorf("%s: running has %v, want %v", step, got, want)
				}
			}
			if got, err := c.Read(t.Context()); err != nil || got.Exists || len(got.Addresses) > 0 {
				t.Errorf("read before it is there: %+v, %v", got, err)
			}
			do("create", []string{"192.0.2.1/32"}, nil, "192.0.2.1/32")
			do("add", []string{"192.0.2.2/32", "2001:db8::/48"}, nil, "192.0.2.1/32", "192.0.2.2/32", "2001:db8::/48")
			do("both", []string{"192.0.2.3/32"}, []string{"192.0.2.2/32"}, "192.0.2.1/32", "192.0.2.3/32", "2001:db8::/48")
			if got, err := c.Read(t.Context()); err != nil || len(got.Addresses) != 3 {
				t.Errorf("read: %+v, %v", got, err)
			}
			if names, err := c.Denied(t.Context()); err != nil || !slices.Equal(names, []string{"web"}) {
				t.Errorf("denied: %v, %v", names, err)
			}
			do("last", nil, []string{"192.0.2.1/32", "192.0.2.3/32", "2001:db8::/48"})
			f.mu.Lock()
			defer f.mu.Unlock()
			if a, b := plainXML(f.running), plainXML(f.candidate); a != b || !strings.Contains(a, "10.0.0.0/8") {
				t.Errorf("the candidate is %s, running %s", b, a)
			}
		})
	}
}

func warned(op, before, body string) string {
	if op == "get-config" {
		return body
	}
	return before + body
}

func warnedAfter(op string) string {
	return warned(op, "", map[bool]string{true: warning}[op != "get-config"])
}

func texts(t *testing.T, list []string) (out []netip.Prefix) {
	t.Helper()
	for _, s := range list {
		p, _, ok := prefixset.Parse(s)
		if !ok {
			t.Fatal(s)
		}
		out = append(out, p)
	}
	return out
}
