package web

import (
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"banmesh/store"
)

// fakeSet is a set of effective bans that a test changes, and counts the looks
// at it.
type fakeSet struct {
	mu    sync.Mutex
	bans  []store.EffectiveBan
	looks int
}

func (f *fakeSet) Effective() iter.Seq[store.EffectiveBan] {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looks++
	return slices.Values(slices.Clone(f.bans))
}

// EffectiveIn is no look at the whole set.
func (f *fakeSet) EffectiveIn(p netip.Prefix) iter.Seq[store.EffectiveBan] {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Values(slices.DeleteFunc(slices.Clone(f.bans), func(b store.EffectiveBan) bool { return !b.Prefix.Overlaps(p) }))
}

// hold replaces the bans: each is one of these prefixes, until an hour after t0.
func (f *fakeSet) hold(prefixes ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bans = nil
	for _, p := range prefixes {
		f.bans = append(f.bans, ban(p, t0.Add(time.Hour)))
	}
}

func (f *fakeSet) looked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.looks
}

var t0 = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func ban(prefix string, until time.Time, pieces ...string) store.EffectiveBan {
	b := store.EffectiveBan{Prefix: netip.MustParsePrefix(prefix), Until: store.At(until)}
	if until.IsZero() {
		b.Until = store.Never
	}
	if len(pieces) == 0 {
		pieces = []string{prefix}
	}
	for _, p := range pieces {
		b.Pieces = append(b.Pieces, netip.MustParsePrefix(p))
	}
	return b
}

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: t0} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// someBans is a change of the set that a feed shows.
var someBans = store.Change{Events: []store.Event{{Kind: store.EventBan}}}

var loopback = netip.MustParseAddr("127.0.0.1")

func newServer(t *testing.T, c Config) *Server {
	t.Helper()
	if c.Set == nil {
		c.Set = &fakeSet{}
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// answer is what came of a request.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends a request as one from this machine; header holds names and values in
// turn.
func ask(t *testing.T, h http.Handler, method, target string, header ...string) answer {
	t.Helper()
	r := httptest.NewRequest(method, "http://localhost"+target, nil)
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Add(header[i], header[i+1])
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	res := w.Result()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, string(body)}
}

// writeToken writes a token file.
func writeToken(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(goodToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}
