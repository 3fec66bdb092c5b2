package netconfclient

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"banmesh/netconfclient/prefixset"
)

func reply(id, inner string) []byte {
	return []byte(`<rpc-reply xmlns="` + nsNetconf + `" message-id="` + id + `">` + inner + `</rpc-reply>`)
}

func TestAllErrorsOfAReplyAreTyped(t *testing.T) {
	msg := reply("1", `
	  <rpc-error>
	    <error-type>protocol</error-type><error-tag>lock-denied</error-tag><error-severity>error</error-severity>
	    <error-app-tag>no-access</error-app-tag><error-path xmlns:t="urn:t">/t:config/t:a</error-path>
	    <error-message xml:lang="en">held
	       by another</error-message>
	    <error-info><session-id>454</session-id><bad-element>address</bad-element></error-info>
	  </rpc-error>
	  <rpc-error><error-type>application</error-type><error-tag>operation-failed</error-tag><error-severity>warning</error-severity>
	    <error-message>deprecated</error-message></rpc-error>
	  <rpc-error><error-tag>data-missing</error-tag></rpc-error>`)
	r, errs, err := parseReply(msg, "1")
	if err != nil {
		t.Fatal(err)
	}
	want := RPCErrors{
		{Type: "protocol", Tag: "lock-denied", Severity: "error", AppTag: "no-access", Path: "/t:config/t:a",
			Message: "held by another", SessionID: 454, Info: []string{"bad-element=address"}},
		{Tag: "data-missing"}, // without a severity it is an error: nothing says that it is none
	}
	if !reflect.DeepEqual(errs, want) {
		t.Errorf("errors %+v, want %+v", errs, want)
	}
	if len(r.Warnings) != 1 || r.Warnings[0].Message != "deprecated" {
		t.Errorf("warnings %+v", r.Warnings)
	}
	var one RPCError
	if !errors.As(errs, &one) || one.Tag != "lock-denied" {
		t.Errorf("errors.As found %+v", one)
	}
}

func TestRepliesThatAreNoneAreRefused(t *testing.T) {
	for name, msg := range map[string]string{
		"other id":        string(reply("2", "<ok/>")),
		"no id":           `<rpc-reply xmlns="` + nsNetconf + `"><ok/></rpc-reply>`,
		"no namespace":    `<rpc-reply message-id="1"><ok/></rpc-reply>`,
		"notification":    `<notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"/>`,
		"empty":           string(reply("1", "")),
		"nothing":         "",
		"text first":      "x" + string(reply("1", "<ok/>")),
		"not closed":      `<rpc-reply xmlns="` + nsNetconf + `" message-id="1"><ok/>`,
		"wrongly closed":  `<rpc-reply xmlns="` + nsNetconf + `" message-id="1"><ok></no></rpc-reply>`,
		"entity":          string(reply("1", "<ok>&bomb;</ok>")),
		"document type":   `<!DOCTYPE a [<!ENTITY a "b">]>` + string(reply("1", "<ok/>")),
		"deep":            string(reply("1", strings.Repeat("<a>", 1000)+strings.Repeat("</a>", 1000))),
		"other charset":   `<?xml version="1.0" encoding="utf-16"?>` + string(reply("1", "<ok/>")),
		"invalid UTF-8":   string(reply("1", "<ok>\xff</ok>")),
		"control letters": string(reply("1", "<ok>\x01</ok>")),
	} {
		if _, _, err := parseReply([]byte(msg), "1"); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, want a protocol error", name, err)
		}
	}
	if _, errs, err := parseReply(reply("1", "<ok/>"), "1"); err != nil || len(errs) > 0 {
		t.Errorf("ok: %v %v", errs, err)
	}
}

// A decoder keeps state for open elements and attributes: what 16 MiB of either could cost is many times as much.
func TestXMLBombsStaySmall(t *testing.T) {
	const size = 16 << 20
	bombs := map[string][]byte{
		"elements":   reply("1", "<data>"+strings.Repeat("<a>", size/3)),
		"attributes": reply("1", "<data><a "+strings.Repeat(`a="" `, size/5)+"/>"),
		"namespaces": reply("1", "<data>"+strings.Repeat(`<a xmlns:a="urn:a">`, size/19)),
	}
	for name, msg := range bombs {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := parseTenant(&Reply{Raw: msg, data: 1}, tenantKey{"t", "n"})
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, want a protocol error", name, err)
		}
		if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
			t.Errorf("%s: %d bytes allocated", name, used)
		}
	}
	// As many errors as fit are counted, not all kept.
	_, errs, err := parseReply(reply("1", strings.Repeat("<rpc-error><error-tag>in-use</error-tag></rpc-error>", 5000)), "1")
	if err != nil || len(errs) != maxErrors {
		t.Errorf("%d errors kept, %v, want %d", len(errs), err, maxErrors)
	}
	long := strings.Repeat("x", 1<<20)
	_, errs, err = parseReply(reply("1", "<rpc-error><error-message>"+long+"</error-message></rpc-error>"), "1")
	if err != nil || len(errs) != 1 || len(errs[0].Message) > 2*maxText {
		t.Errorf("a long message was kept: %v", err)
	}
}

func TestHello(t *testing.T) {
	hello := func(caps, id string) string {
		return `<hello xmlns="` + nsNetconf + `"><capabilities>` + caps + `</capabilities>` + id + `</hello>`
	}
	const base = "<capability> urn:ietf:params:netconf:base:1.1 \n</capability>"
	got, err := parseHello([]byte("\n" + hello(base+"<capability>x?a=b</capability>", "<session-id>4294967295</session-id>")))
	if err != nil || got.SessionID != 4294967295 || !slices.Equal(got.Capabilities, []string{capBase11, "x?a=b"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, msg := range map[string]string{
		"no session-id":       hello(base, ""),
		"session-id 0":        hello(base, "<session-id>0</session-id>"),
		"negative session-id": hello(base, "<session-id>-1</session-id>"),
		"large session-id":    hello(base, "<session-id>4294967296</session-id>"),
		"session-id no word":  hello(base, "<session-id>one</session-id>"),
		"no base":             hello("<capability>urn:x</capability>", "<session-id>1</session-id>"),
		"no capabilities":     hello("", "<session-id>1</session-id>"),
		"no namespace":        strings.ReplaceAll(hello(base, "<session-id>1</session-id>"), ` xmlns="`+nsNetconf+`"`, ""),
		"not XML":             "Welcome!",
		"empty":               "",
		"deep":                hello(base, strings.Repeat("<a>", 100_000)),
	} {
		if _, err := parseHello([]byte(msg)); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v, want a protocol error", name, err)
		}
	}
}

func TestForeignTextIsReadTolerantly(t *testing.T) {
	content := `<x:config xmlns:x="` + nsConfig + `"><a:authority xmlns:a="` + nsAuthority + `">
	  <a:tenant><a:name>other</a:name><a:member><a:neighborhood>n</a:neighborhood><a:address>192.0.2.9/32</a:address></a:member></a:tenant>
	  <a:tenant><a:member><a:address> 10.1.2.3/8 </a:address><a:address>10.0.0.0/8</a:address><a:address>10.1.2.3/8</a:address>
	     <a:address>192.0.2.1</a:address><a:address>2001:DB8::1/128</a:address><a:address>no prefix</a:address><a:address/>
	     <a:neighborhood>n</a:neighborhood></a:member>
	     <a:member><a:neighborhood>m</a:neighborhood><a:address>192.0.2.77/32</a:address></a:member>
	     <a:name>t</a:name><!-- c --><a:description>d</a:description></a:tenant></a:authority></x:config>`
	got, err := parseTenant(&Reply{Raw: reply("1", "<data>"+content+"</data>")}, tenantKey{"t", "n"})
	if err != nil {
		t.Fatal(err)
	}
	var want []netip.Prefix
	for _, p := range []string{"10.0.0.0/8", "192.0.2.1/32", "2001:db8::1/128"} {
		want = append(want, netip.MustParsePrefix(p))
	}
	if !slices.Equal(got.addresses, want) || !got.exists || !got.member || got.description != "d" {
		t.Errorf("got %+v", got)
	}
	for i, texts := range [][]string{{"10.1.2.3/8", "10.0.0.0/8"}, {"192.0.2.1"}, {"2001:DB8::1/128"}} {
		if got := got.texts(want[i]); !slices.Equal(got, texts) {
			t.Errorf("%v is spelled %q, want %q", want[i], got, texts)
		}
	}
	if !slices.Equal(got.unread, []string{"", "no prefix"}) {
		t.Errorf("unread %q", got.unread)
	}
}

func TestWideOpenInEverySpelling(t *testing.T) {
	for _, text := range []string{"0.0.0.0/0", "::/0", "10.1.2.3/0", "2001:db8::/0", "0::0/0", "::ffff:0.0.0.0/96", "::ffff:1.2.3.4/96"} {
		p, _, ok := prefixset.Parse(text)
		if !ok || !prefixset.WideOpen(p) {
			t.Errorf("%s: read %v as %v, want wide open", text, ok, p)
		}
	}
	for _, text := range []string{"0.0.0.0", "0.0.0.0/1", "::", "::/1", "::ffff:1.2.3.4", "::ffff:1.2.3.4/97"} {
		if p, _, ok := prefixset.Parse(text); !ok || prefixset.WideOpen(p) {
			t.Errorf("%s: read %v as %v, want not wide open", text, ok, p)
		}
	}
}

func TestOnlyTheOrderOfOurAddressesIsFree(t *testing.T) {
	wrap := func(authority string) *Reply {
		return &Reply{Raw: reply("1", `<data><config xmlns="`+nsConfig+`"><authority xmlns="`+nsAuthority+`">`+authority+`</authority></config></data>`)}
	}
	tenant := func(name, inner string) string { return "<tenant><name>" + name + "</name>" + inner + "</tenant>" }
	ours := func(addresses ...string) string {
		return tenant("t", "<member><neighborhood>n</neighborhood><address>"+strings.Join(addresses, "</address><address>")+"</address></member>")
	}
	base := ours("10.0.0.1/32", "10.0.0.2/32") + tenant("x", "")
	for name, c := range map[string]struct {
		candidate       string
		clean, onlyOurs bool
	}{
		"same":               {base, true, true},
		"other order":        {ours("10.0.0.2/32", "10.0.0.1/32") + tenant("x", ""), true, true},
		"other spelling":     {ours("10.0.0.1", "10.0.0.2/32") + tenant("x", ""), true, true},
		"tenants swapped":    {tenant("x", "") + ours("10.0.0.1/32", "10.0.0.2/32"), true, true},
		"white space":        {strings.ReplaceAll(base, "><", ">\n <"), true, true},
		"one added":          {ours("10.0.0.1/32", "10.0.0.2/32", "10.0.0.3/32") + tenant("x", ""), false, true},
		"one removed":        {ours("10.0.0.1/32") + tenant("x", ""), false, true},
		"garbage added":      {ours("10.0.0.1/32", "10.0.0.2/32", "x") + tenant("x", ""), false, false},
		"other tenant added": {base + tenant("y", ""), false, false},
		"other tenant gone":  {ours("10.0.0.1/32", "10.0.0.2/32"), false, false},
		"our tenant gone":    {tenant("x", ""), false, false},
		"described":          {tenant("t", "<description>by hand</description>") + base, false, false},
		"other member":       {tenant("t", "<member><neighborhood>m</neighborhood></member>") + base, false, false},
		"beside the tenants": {base + "<router><name>r</name></router>", false, false},
	} {
		a, err := newItemReader(wrap(base), tenantKey{"t", "n"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := newItemReader(wrap(c.candidate), tenantKey{"t", "n"})
		if err != nil {
			t.Fatal(err)
		}
		v, err := compareItems(a, b, "ours")
		if err != nil {
			t.Fatal(err)
		}
		if v.clean() != c.clean || v.onlyOurs() != c.onlyOurs {
			t.Errorf("%s: clean %v, only ours %v, want %v, %v (%s)", name, v.clean(), v.onlyOurs(), c.clean, c.onlyOurs, v.detail())
		}
	}
}

func FuzzReply(f *testing.F) {
	for _, inner := range []string{"<ok/>", "<data/>", "<data><config/></data>", "<rpc-error><error-tag>x</error-tag><error-info><session-id>1</session-id></error-info></rpc-error>"} {
		f.Add(reply("1", inner))
	}
	f.Add([]byte("<a"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		r, errs, err := parseReply(msg, "1")
		if err != nil {
			if !errors.Is(err, ErrProtocol) {
				t.Fatalf("%v is no protocol error", err)
			}
			return
		}
		if len(errs) == 0 && r.data > len(msg) {
			t.Fatalf("data at %d of %d", r.data, len(msg))
		}
		for _, e := range append(errs, r.Warnings...) {
			if strings.ContainsAny(e.Error(), "\n\r\x1b") {
				t.Fatalf("%q is not one line", e.Error())
			}
		}
	})
}

func FuzzRPCError(f *testing.F) {
	f.Add("lock-denied", "no-access", "/a:b", "message", "12")
	f.Add("", "", "", "a\nb", "x")
	f.Fuzz(func(t *testing.T, tag, app, path, message, session string) {
		e := el("rpc-reply", el("rpc-error", leaf("error-tag", tag), leaf("error-app-tag", app), leaf("error-path", path),
			leaf("error-message", message), el("error-info", leaf("session-id", session)))).in(nsNetconf).attr("message-id", "1")
		msg, err := e.bytes()
		if err != nil {
			return
		}
		_, errs, err := parseReply(msg, "1")
		if err != nil || len(errs) != 1 {
			t.Fatalf("%s: %v, %v", msg, errs, err)
		}
		// encoding/xml writes U+FFFD for what XML cannot hold.
		if want := oneLine(string([]rune(tag))); !strings.ContainsFunc(tag, func(r rune) bool { return r < ' ' || r == 0xfffe || r == 0xffff }) && errs[0].Tag != want {
			t.Fatalf("tag %q, want %q", errs[0].Tag, want)
		}
	})
}

func FuzzHello(f *testing.F) {
	f.Add([]byte(strings.TrimSuffix(fakeHello, endOfMessage)))
	f.Add([]byte("<hello/>"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		h, err := parseHello(msg)
		if err == nil && (h.SessionID <= 0 || len(h.Capabilities) == 0) {
			t.Fatalf("took %+v", h)
		}
	})
}

func FuzzConfiguration(f *testing.F) {
	f.Add([]byte(`<config xmlns="` + nsConfig + `"><authority xmlns="` + nsAuthority + `"><tenant><name>t</name><member><neighborhood>n</neighborhood><address>10.0.0.1/32</address></member></tenant></authority></config>`))
	f.Add([]byte(`<config/>`))
	f.Fuzz(func(t *testing.T, content []byte) {
		msg := reply("1", "<data>"+string(content)+"</data>")
		r, errs, err := parseReply(msg, "1")
		if err != nil || errs != nil {
			return
		}
		got, err := parseTenant(r, tenantKey{"t", "n"})
		if err != nil {
			return
		}
		if !slices.IsSortedFunc(got.addresses, prefixset.Compare) {
			t.Fatal("not sorted")
		}
		for _, p := range got.addresses {
			if p != p.Masked() || len(got.texts(p)) == 0 {
				t.Fatalf("%v is spelled %q", p, got.texts(p))
			}
			for _, text := range got.texts(p) {
				if q, _, ok := prefixset.Parse(text); !ok || q != p {
					t.Fatalf("%q is not %v", text, p)
				}
			}
		}
		// What is equal to itself is clean, whatever it is.
		a, err := newItemReader(r, tenantKey{"t", "n"})
		if err != nil {
			t.Fatal(err)
		}
		b, err := newItemReader(r, tenantKey{"t", "n"})
		if err != nil {
			t.Fatal(err)
		}
		if v, err := compareItems(a, b, "d"); err != nil || !v.clean() {
			t.Fatalf("%v, %+v", err, v)
		}
	})
}

// What is written can be read: names, texts and operations survive, whatever is in them.
func TestElementsAreEscaped(t *testing.T) {
	e := el("a", leaf("b", `<x>&"'`).Operation("remove")).attr("xmlns:nc", nsNetconf).in("urn:a&b")
	raw, err := e.bytes()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		XMLName xml.Name
		B       struct {
			Text string `xml:",chardata"`
			Op   string `xml:"urn:ietf:params:xml:ns:netconf:base:1.0 operation,attr"`
		} `xml:"b"`
	}
	if err := xml.NewDecoder(bytes.NewReader(raw)).Decode(&got); err != nil {
		t.Fatalf("%v: %s", err, raw)
	}
	if got.XMLName.Space != "urn:a&b" || got.B.Text != `<x>&"'` || got.B.Op != "remove" {
		t.Errorf("%s was read as %+v", raw, got)
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := DefaultConfig()
	good.Addresses, good.KeyFile, good.KnownHosts = []string{"192.0.2.1:830", "[2001:db8::1]:830", "conductor:830"}, "k", "h"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"addresses":    func(c *Config) { c.Addresses = nil },
		`"192.0.2.1"`:  func(c *Config) { c.Addresses = []string{"192.0.2.1"} },
		"1 to 65535":   func(c *Config) { c.Addresses = []string{"192.0.2.1:65536"} },
		"no usable":    func(c *Config) { c.Addresses = []string{"a b:1"} },
		"user":         func(c *Config) { c.User = "" },
		"key file":     func(c *Config) { c.KeyFile = "" },
		"known hosts":  func(c *Config) { c.KnownHosts = "" },
		`tenant "a.b"`: func(c *Config) { c.Tenant = "a.b" },
		"neighborhood": func(c *Config) { c.Neighborhood = "-" },
		"description":  func(c *Config) { c.Description = "a\nb" },
		"validation":   func(c *Config) { c.Validation = "remote" },
		"validate":     func(c *Config) { c.ValidateMode = "maybe" },
		"timeout":      func(c *Config) { c.Timeout = -1 },
		"dial timeout": func(c *Config) { c.DialTimeout = 0 },
		"max reply":    func(c *Config) { c.MaxReply = 1 },
	} {
		c := good
		spoil(&c)
		if err := c.Validate(); err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q is not said in %v", want, err)
		}
	}
}
