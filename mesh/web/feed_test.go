package web

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"banmesh/store"
)

// mixed is a set with what feeds must cope with: both families, a hole, a ban
// that is a piece of another, neighbours, and one without end.
func mixed() *fakeSet {
	return &fakeSet{bans: []store.EffectiveBan{
		ban("2001:db8::/48", t0.Add(time.Hour)),
		ban("198.51.100.7/32", t0.Add(2*time.Hour)),
		ban("192.0.2.0/30", t0.Add(time.Hour), "192.0.2.0/32", "192.0.2.2/31"),
		ban("192.0.2.2/31", t0.Add(3*time.Hour)),
		ban("198.51.100.6/32", t0.Add(time.Hour)),
		ban("2001:db8:1::1/128", time.Time{}),
		ban("10.0.0.9/32", t0.Add(time.Hour)),
	}}
}

func TestFeedPlain(t *testing.T) {
	tests := []struct{ query, want string }{
		{"", "10.0.0.9 192.0.2.0 192.0.2.2/31 198.51.100.6 198.51.100.7 2001:db8::/48 2001:db8:1::1"},
		{"?cidr=1", "10.0.0.9/32 192.0.2.0/32 192.0.2.2/31 198.51.100.6/32 198.51.100.7/32 2001:db8::/48 2001:db8:1::1/128"},
		{"?family=4", "10.0.0.9 192.0.2.0 192.0.2.2/31 198.51.100.6 198.51.100.7"},
		{"?family=6", "2001:db8::/48 2001:db8:1::1"},
		{"?family=4&aggregate=1", "10.0.0.9 192.0.2.0 192.0.2.2/31 198.51.100.6/31"},
		{"?family=4&aggregate=0&cidr=0", "10.0.0.9 192.0.2.0 192.0.2.2/31 198.51.100.6 198.51.100.7"},
	}
	h := newServer(t, Config{Set: mixed()}).handler(loopback)
	for _, tt := range tests {
		a := ask(t, h, "GET", "/feed/plain"+tt.query)
		want := strings.ReplaceAll(tt.want, " ", "\n") + "\n"
		if a.status != 200 || a.body != want {
			t.Errorf("%q: %d %q, want %q", tt.query, a.status, a.body, want)
		}
		if got := a.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
			t.Errorf("%q: Content-Type %q", tt.query, got)
		}
	}
}

func TestFeedJSON(t *testing.T) {
	type line struct {
		Prefix string     `json:"prefix"`
		Until  *time.Time `json:"until"`
	}
	tests := []struct {
		query string
		want  []string // prefix and hours from t0, * without end
	}{
		{"?family=4", []string{"10.0.0.9/32 1", "192.0.2.0/32 1", "192.0.2.2/31 3", "198.51.100.6/32 1", "198.51.100.7/32 2"}},
		{"?family=6", []string{"2001:db8::/48 1", "2001:db8:1::1/128 *"}},
		{"?family=4&aggregate=1", []string{"10.0.0.9/32 1", "192.0.2.0/32 1", "192.0.2.2/31 3", "198.51.100.6/31 1"}},
	}
	h := newServer(t, Config{Set: mixed()}).handler(loopback)
	for _, tt := range tests {
		a := ask(t, h, "GET", "/feed/json"+tt.query)
		var lines []line
		if err := json.Unmarshal([]byte(a.body), &lines); err != nil {
			t.Fatalf("%q: %v", tt.query, err)
		}
		var got []string
		for _, l := range lines {
			hours := "*"
			if l.Until != nil {
				hours = strconv.Itoa(int(l.Until.Sub(t0).Hours()))
			}
			got = append(got, l.Prefix+" "+hours)
		}
		if fmt.Sprint(got) != fmt.Sprint(tt.want) {
			t.Errorf("%q: %q, want %q", tt.query, got, tt.want)
		}
		if got := a.header.Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %q", got)
		}
	}
}

func TestFeedOfNothing(t *testing.T) {
	h := newServer(t, Config{}).handler(loopback)
	if a := ask(t, h, "GET", "/feed/plain"); a.status != 200 || a.body != "" || a.header.Get("Content-Length") != "0" {
		t.Errorf("plain: %+v, want an empty body of known length", a)
	}
	if a := ask(t, h, "GET", "/feed/json"); a.status != 200 || a.body != "[]\n" {
		t.Errorf("json: %+v, want an empty array", a)
	}
}

func TestFeedRefusesWhatItDoesNotUnderstand(t *testing.T) {
	set := mixed()
	h := newServer(t, Config{Set: set}).handler(loopback)
	for target, status := range map[string]int{
		"/feed/xml":                      404,
		"/feed/":                         404,
		"/feed/plain?familiy=4":          400,
		"/feed/plain?family=5":           400,
		"/feed/plain?family=4&family=6":  400,
		"/feed/plain?aggregate=yes":      400,
		"/feed/json?cidr=":               400,
		"/feed/plain?family=4&unknown=1": 400,
	} {
		if a := ask(t, h, "GET", target); a.status != status || strings.Contains(a.body, "10.0.0.9") {
			t.Errorf("%s: %d %q, want %d", target, a.status, a.body, status)
		}
	}
	if n := set.looked(); n != 0 {
		t.Errorf("the set was read %d times for that", n)
	}
}

func TestFeedIsNotSentAgainUnchanged(t *testing.T) {
	set, c := mixed(), newClock()
	s := newServer(t, Config{Set: set, Now: c.now})
	h := s.handler(loopback)
	first := ask(t, h, "GET", "/feed/plain")
	etag, date := first.header.Get("ETag"), first.header.Get("Last-Modified")
	if !strings.HasPrefix(etag, `"`) || date == "" {
		t.Fatalf("no strong ETag and Last-Modified: %v", first.header)
	}
	for _, header := range [][]string{
		{"If-None-Match", etag},
		{"If-None-Match", `"other", W/` + etag},
		{"If-None-Match", `"other"`, "If-None-Match", etag},
		{"If-None-Match", "*"},
		{"If-Modified-Since", date},
		{"If-None-Match", etag, "If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"},
	} {
		a := ask(t, h, "GET", "/feed/plain", header...)
		if a.status != http.StatusNotModified || a.body != "" || a.header.Get("ETag") != etag {
			t.Errorf("%q: %d, ETag %q, want 304 and %q", header, a.status, a.header.Get("ETag"), etag)
		}
	}
	for _, header := range [][]string{
		{"If-None-Match", `"other"`},
		{"If-None-Match", `"other"`, "If-Modified-Since", date}, // the tag decides
		{"If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT"},
		{"If-Modified-Since", "yesterday"},
	} {
		if a := ask(t, h, "GET", "/feed/plain", header...); a.status != 200 || a.body != first.body {
			t.Errorf("%q: %d, want the feed", header, a.status)
		}
	}
	if n := set.looked(); n != 1 {
		t.Errorf("the set was read %d times, want once", n)
	}

	c.pass(restFor)
	set.hold("10.0.0.1/32")
	s.Changed(someBans)
	a := ask(t, h, "GET", "/feed/plain", "If-None-Match", etag, "If-Modified-Since", date)
	if a.status != 200 || a.body != "10.0.0.1\n" || a.header.Get("ETag") == etag || a.header.Get("Last-Modified") == date {
		t.Errorf("after a change: %+v, want the new feed with another ETag and date", a)
	}
}

func TestFeedTagsAreOfTheContent(t *testing.T) {
	one, other := newServer(t, Config{Set: mixed()}).handler(loopback), newServer(t, Config{Set: mixed()}).handler(loopback)
	tags := make(map[string]string)
	for _, target := range []string{"/feed/plain", "/feed/plain?family=4", "/feed/plain?aggregate=1", "/feed/plain?cidr=1", "/feed/json"} {
		a, b := ask(t, one, "GET", target), ask(t, other, "GET", target)
		tag := a.header.Get("ETag")
		if tag != b.header.Get("ETag") {
			t.Errorf("%s: two servers of one set disagree: %s and %s", target, tag, b.header.Get("ETag"))
		}
		if tags[tag] != "" {
			t.Errorf("%s has the ETag of %s", target, tags[tag])
		}
		tags[tag] = target
	}
}

func TestFeedHead(t *testing.T) {
	h := newServer(t, Config{Set: mixed()}).handler(loopback)
	for _, target := range []string{"/feed/plain", "/feed/json?family=6", "/feed/srx"} {
		get, head := ask(t, h, "GET", target), ask(t, h, "HEAD", target)
		if head.status != 200 || head.body != "" {
			t.Errorf("%s: HEAD: %d with %d bytes", target, head.status, len(head.body))
		}
		for _, name := range []string{"ETag", "Last-Modified", "Content-Length", "Content-Type", "Vary", "Cache-Control"} {
			if g, h := get.header.Get(name), head.header.Get(name); g != h {
				t.Errorf("%s: %s is %q for GET, %q for HEAD", target, name, g, h)
			}
		}
		if got := get.header.Get("Content-Length"); got != strconv.Itoa(len(get.body)) {
			t.Errorf("%s: Content-Length %s of %d bytes", target, got, len(get.body))
		}
	}
}

func TestFeedGzip(t *testing.T) {
	h := newServer(t, Config{Set: mixed()}).handler(loopback)
	whole := ask(t, h, "GET", "/feed/json")
	for accept, want := range map[string]bool{
		"gzip": true, "deflate, gzip;q=0.5": true, "*": true, "GZIP": true, "x-gzip": true,
		"": false, "identity": false, "gzip;q=0": false, "gzip; q=0.000": false, "*, gzip;q=0": false, "br": false,
	} {
		a := ask(t, h, "GET", "/feed/json", "Accept-Encoding", accept)
		if got := a.header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("Accept-Encoding %q: gzip %v, want %v", accept, got, want)
			continue
		}
		body := a.body
		if want {
			body = gunzip(t, a.body)
		}
		if body != whole.body {
			t.Errorf("Accept-Encoding %q: another content", accept)
		}
		if same := a.header.Get("ETag") == whole.header.Get("ETag"); same == want {
			t.Errorf("Accept-Encoding %q: ETag %s beside %s: other bytes, other tag", accept, a.header.Get("ETag"), whole.header.Get("ETag"))
		}
		if a.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("Accept-Encoding %q: Vary %q", accept, a.header.Get("Vary"))
		}
	}
	a := ask(t, h, "GET", "/feed/json", "Accept-Encoding", "gzip")
	if a := ask(t, h, "GET", "/feed/json", "Accept-Encoding", "gzip", "If-None-Match", a.header.Get("ETag")); a.status != 304 {
		t.Errorf("the compressed feed's own tag: %d, want 304", a.status)
	}
}

func gunzip(t *testing.T, s string) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader([]byte(s)))
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
