package netconfclient

import (
	"bytes"
	"encoding/xml"
	"errors"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
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
	if len(r.warnings) != 1 || r.warnings[0].Message != "deprecated" {
		t.Errorf("warnings %+v", r.warnings)
	}
	var one rpcError
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

// An error beside or inside of the data fails the whole operation, and a reply is read to its end: half a configuration looks
// like one from which somebody has removed the rest.
func TestWhatIsNotAWholeReplyIsNone(t *testing.T) {
	const failed = `<rpc-error><error-tag>operation-failed</error-tag><error-severity>error</error-severity></rpc-error>`
	warns := strings.Replace(failed, ">error<", ">warning<", 1)
	whole := string(reply("1", "<data><a>x</a></data>"))
	for name, c := range map[string]struct {
		msg      string
		errs     int
		warnings int
		bad      bool
	}{
		"whole":               {msg: whole},
		"empty data":          {msg: string(reply("1", "<data/>"))},
		"blanks behind":       {msg: whole + "\n <!-- c -->"},
		"error behind":        {msg: string(reply("1", "<data><a>x</a></data>"+failed)), errs: 1},
		"error before":        {msg: string(reply("1", failed+"<data><a>x</a></data>")), errs: 1},
		"error inside":        {msg: string(reply("1", "<data><a>x</a>"+failed+"</data>")), errs: 1},
		"error deep inside":   {msg: string(reply("1", "<data><a><b>x</b>"+failed+"</a></data>")), errs: 1},
		"error behind none":   {msg: string(reply("1", "<data/>"+failed)), errs: 1},
		"two errors":          {msg: string(reply("1", failed+"<data>"+failed+"</data>")), errs: 2},
		"warning behind":      {msg: string(reply("1", "<data/>"+warns)), warnings: 1},
		"warning inside":      {msg: string(reply("1", "<data>"+warns+"</data>")), warnings: 1},
		"another's rpc-error": {msg: string(reply("1", `<data><rpc-error xmlns="urn:x"><error-severity>error</error-severity></rpc-error></data>`))},
		"text of that name":   {msg: string(reply("1", `<data><a>rpc-error</a><!-- <rpc-error> --><![CDATA[<rpc-error>]]></data>`))},
		"data twice":          {msg: string(reply("1", "<data/><data/>")), bad: true},
		"another reply":       {msg: whole + whole, bad: true},
		"text behind":         {msg: whole + "x", bad: true},
		"no end of the reply": {msg: strings.TrimSuffix(whole, "</rpc-reply>"), bad: true},
		"no end of the data":  {msg: strings.Replace(whole, "</data>", "", 1), bad: true},
		"cut in the data":     {msg: whole[:strings.Index(whole, "x</a>")], bad: true},
		"cut in a tag":        {msg: whole[:strings.Index(whole, "</a>")+2], bad: true},
		"one end too many":    {msg: strings.Replace(whole, "</data>", "</a></data>", 1), bad: true},
	} {
		r, errs, err := parseReply([]byte(c.msg), "1")
		switch {
		case c.bad != (err != nil) || c.bad && !errors.Is(err, ErrProtocol):
			t.Errorf("%s: %v", name, err)
		case err == nil && (len(errs) != c.errs || len(r.warnings) != c.warnings):
			t.Errorf("%s: %v with warnings %v", name, errs, r.warnings)
		}
	}
	for n := range len(whole) {
		if _, _, err := parseReply([]byte(whole[:n]), "1"); !errors.Is(err, ErrProtocol) {
			t.Errorf("cut after %d bytes: %v", n, err)
		}
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
		_, _, err := parseReply(msg, "1")
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
	if err != nil || got.SessionID != 4294967295 || !slices.Equal(got.Capabilities, []string{CapBase11, "x?a=b"}) {
		t.Errorf("got %+v, %v", got, err)
	}
	if _, err := parseHello([]byte(hello("<capability>"+CapBase11+"?module=x</capability>", "<session-id>\n 7 </session-id><x/>"))); err != nil {
		t.Errorf("parameters of the base: %v", err)
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
		for _, e := range append(errs, r.warnings...) {
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
		e := El("rpc-reply", El("rpc-error", Leaf("error-tag", tag), Leaf("error-app-tag", app), Leaf("error-path", path),
			Leaf("error-message", message), El("error-info", Leaf("session-id", session)))).In(nsNetconf).attr("message-id", "1")
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

// What is written can be read: names, texts and operations survive, whatever is in them.
func TestElementsAreEscaped(t *testing.T) {
	e := El("a", Leaf("b", `<x>&"'`).Operation("remove")).attr("xmlns:nc", nsNetconf).In("urn:a&b")
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

// What is wrong with the dress of a message, or with a text of somebody else's in it, is no reason not to read the rest.
func TestForeignCharactersAreTolerated(t *testing.T) {
	text := func(inner string) string {
		r, errs, err := parseReply(tolerate([]byte(inner)), "1")
		if err != nil || errs != nil {
			t.Fatalf("%q: %v, %v", inner, errs, err)
		}
		d, err := r.Data()
		if err != nil {
			t.Fatal(err)
		}
		var got struct {
			Text string `xml:",chardata"`
		}
		for {
			tok, err := d.Token()
			if err != nil {
				t.Fatalf("%q: %v", inner, err)
			}
			if s, ok := tok.(xml.StartElement); ok {
				if err := d.DecodeElement(&got, &s); err != nil {
					t.Fatalf("%q: %v", inner, err)
				}
				return got.Text
			}
		}
	}
	body := func(s string) string { return string(reply("1", "<data><a>"+s+"</a></data>")) }
	for _, declared := range []string{"UTF-8", "utf8", "US-ASCII", "ISO-8859-1"} {
		for _, version := range []string{"1.0", "1.1"} {
			if got := text(`<?xml version="` + version + `" encoding="` + declared + `"?>` + body("x")); got != "x" {
				t.Errorf("%s, %s: %q", declared, version, got)
			}
		}
	}
	if got := text(`<?xml version="1.0" encoding="ISO-8859-1"?>` + body("caf\xe9")); got != "café" {
		t.Errorf("Latin-1 is read as %q", got)
	}
	seen := make(map[string]string)
	for _, odd := range []string{"\xff", "\xfe", "\x01", "\x02", "&#1;", "&#2;", "&#x1f;", "é", "&#233;1"} {
		got := text(body(odd))
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %q are both read as %q", odd, other, got)
		}
		seen[got] = odd
	}
	if got := text(body("<![CDATA[" + strings.Repeat("<", 1<<17) + "]]>")); len(got) != 1<<17 {
		t.Errorf("CDATA of angle brackets is read as %d bytes", len(got))
	}
}
