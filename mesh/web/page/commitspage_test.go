package page

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// prefixes are n addresses.
func prefixes(n int) control.Prefixes {
	ps := make(control.Prefixes, n)
	for i := range ps {
		ps[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 32)
	}
	return ps
}

func TestACommitHasAPageWithWhatWasInIt(t *testing.T) {
	f := newFake()
	p := newPage(t, f)
	at := control.At(time.Now())
	f.events <- control.Event{
		Time: at, Event: "commit", Name: "router1", Add: 1500, Remove: 1, Added: prefixes(control.MaxNamed),
		Removed: control.Prefixes{netip.MustParsePrefix("2001:db8::/48")},
	}
	f.events <- control.Event{Time: at, Event: "thaw"} // the page takes it after the commit
	link := fmt.Sprintf(`/commit?at=%d&by=router1`, at)
	wants(t, "the list of commits", text(t, p, "/commits"), `href="`+strings.ReplaceAll(link, "&", "&amp;")+`"`, "1,500 added, 1 removed", `href="/router?name=router1"`, `href="/diff"`)
	wants(t, "the overview", text(t, p, "/"), `href="`+strings.ReplaceAll(link, "&", "&amp;")+`"`)
	got := text(t, p, link)
	wants(t, "the commit", got, "Added (1,500)", `href="/address?of=203.0.0.7"`, "203.0.3.231", "And 500 more", "Removed (1)", "2001:db8::/48")

	for _, path := range []string{"/commit?at=5&by=router1", "/commit", "/commit?at=x", fmt.Sprintf("/commit?at=%d&by=router2", at)} {
		if w := get(t, p, path); w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "No such commit") {
			t.Errorf("GET %s: %d", path, w.Code)
		}
	}
}

// Of a commit that another router made, only its time and the sum are known; the event of it says no more.
func TestACommitOfAnotherRouterNamesThatRouter(t *testing.T) {
	f := newFake()
	p := newPage(t, f)
	text(t, p, "/") // the status before
	at := control.At(time.Now())
	f.set(func(f *fake) { f.status.Commit.LastCommit, f.status.Commit.Committed = at, 12304 })
	f.events <- control.Event{Time: at, Event: "commit", Name: "router2", Detail: "12304 addresses at the conductor"}
	var got string
	for late := time.Now().Add(10 * time.Second); !strings.Contains(got, "5 addresses more"); {
		if got = text(t, p, "/commits"); time.Now().After(late) {
			t.Fatalf("the commit is not listed:\n%s", got)
		}
	}
	if strings.Contains(got, "0 added") {
		t.Error("it says that nothing was added, which is not known")
	}
	wants(t, "the commit", text(t, p, fmt.Sprintf("/commit?at=%d&by=router2", at)), "Only the page of router2 can say which addresses")
	if news := text(t, p, "/"); strings.Contains(news, "0 added, 0 removed") {
		t.Error("the news say that nothing was added, which is not known")
	}
}

func TestTheNextCommitIsAskedForOnce(t *testing.T) {
	f := newFake()
	f.diff = control.Diff{Add: prefixes(2), Foreign: control.Prefixes{netip.MustParsePrefix("198.51.100.0/24")}}
	p := idlePage(t, f)
	now := time.Now()
	p.now = func() time.Time { return now }
	for range 3 {
		wants(t, "the difference", text(t, p, "/diff"), "To add (2)", "203.0.0.1", "not put there by banmesh (1)", "198.51.100.0/24")
	}
	if f.diffed != 1 {
		t.Errorf("the conductor was asked %d times, want once", f.diffed)
	}
	now = now.Add(diffPace)
	f.diff = control.Diff{}
	wants(t, "an empty difference", text(t, p, "/diff"), "Nothing: the tenant holds what it should")
}

// slow is an agent whose conductor does not answer in time.
type slow struct {
	fake
	now time.Time
}

func (s *slow) Diff(context.Context) (control.Diff, error) {
	s.diffed++
	s.now = s.now.Add(diffWithin)
	return control.Diff{}, context.DeadlineExceeded
}

// Otherwise each of them would wait for all before it.
func TestViewersWhoWaitForOneAnswerShareIt(t *testing.T) {
	var n nextCommit
	s := slow{now: time.Now()}
	for range 3 {
		if _, at, err := n.ask(t.Context(), &s, func() time.Time { return s.now }); err == nil || !at.Equal(s.now) {
			t.Errorf("answered at %v: %v; want an error at %v", at, err, s.now)
		}
	}
	if s.diffed != 1 {
		t.Errorf("the conductor was asked %d times, want once", s.diffed)
	}
}

func TestWithoutAConductorThereAreNoCommits(t *testing.T) {
	f := newFake()
	f.status.Commit = control.CommitStatus{Driver: "none", State: "off"}
	p := idlePage(t, f)
	f.why = control.Why{Known: true, Banned: true, Effective: true}
	for _, path := range []string{"/", "/router?name=router2", "/address?of=203.0.113.7"} {
		for _, word := range []string{`href="/commits"`, "<dt>Leader", "<dt>Role", "onductor"} {
			if strings.Contains(text(t, p, path), word) {
				t.Errorf("%s holds %q", path, word)
			}
		}
	}
	for _, path := range []string{"/commits", "/diff"} {
		wants(t, path, text(t, p, path), "No conductor is configured")
	}
	if f.diffed != 0 {
		t.Error("the agent was asked for a difference")
	}
}
