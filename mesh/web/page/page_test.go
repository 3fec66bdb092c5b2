package page

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
)

func TestThePageShowsTheNumbersWithoutScript(t *testing.T) {
	f := newFake()
	failed := "the conductor refuses the lock"
	f.status.Warnings = []string{"no answer from router3: check it"}
	f.status.Commit = control.CommitStatus{
		Driver: "netconf", State: "waiting", Detail: "admin holds the candidate's lock", Committed: 12299, PendingAdd: 31, PendingRemove: 7,
		Foreign: 2, Held: 5, Commits: 44, LastCommit: control.At(time.Now().Add(-time.Minute)), LastError: &failed,
	}
	now := time.Now()
	f.bans = []control.Ban{{Prefix: "203.0.113.7/32", Records: []control.Record{
		{Origin: "router1", Jail: "sshd", Start: control.At(now.Add(-time.Minute)), Until: control.Never},
		{Origin: "router2", Jail: "postfix", Start: control.At(now.Add(-2 * time.Minute)), Until: control.UntilAt(now.Add(time.Hour))},
	}}}
	p := idlePage(t, f)
	if err := p.fill(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := text(t, p, "/")
	wants(t, "the page", got,
		"12,345", "12,300", "12,299", "1 warning", "no answer from router3: check it", "admin holds the candidate&#39;s lock", failed,
		"Held back", "Of others", "router2 leads.", "2 of 3 routers answer, 2 in sync", "203.0.113.7", "without end", "postfix, sshd",
		`<td class="right">2</td>`, "&#43;12 ms", "up for 1 h 1 min", "2 new bans in the last hour",
	)
	if strings.Contains(got, "203.0.113.7/32<") {
		t.Error("a single address is shown as a network")
	}
}

func TestEmptyListsSayWhatWillBeThere(t *testing.T) {
	f := newFake()
	f.status.Bans, f.status.Commit = control.BanCount{}, control.CommitStatus{Driver: "none", State: "off"}
	f.members = nil
	wants(t, "the page", text(t, idlePage(t, f), "/"),
		"No bans yet", "Nothing since", "No address is banned by more than one", "has not named any router")
	if strings.Contains(text(t, idlePage(t, f), "/"), "onductor") {
		t.Error("a page of servers speaks of a conductor")
	}
}

func TestAnAgentThatDoesNotAnswerIsSaidTo(t *testing.T) {
	f := newFake()
	f.err = errors.New("the store is closed")
	got := text(t, idlePage(t, f), "/")
	wants(t, "the page", got, "The agent gives no answer", "the store is closed", "No answer from the agent")
	if strings.Contains(got, ">0</dd>") || strings.Contains(got, "12,345") || strings.Contains(got, "No conductor") {
		t.Error("something is shown that nobody knows")
	}
}

func TestWhatWasKnownIsShownWhenTheAgentFallsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		p := idlePage(t, f)
		wants(t, "the page", text(t, p, "/"), "12,345")
		f.err = errors.New("the store is closed")
		time.Sleep(2 * lookPace)
		wants(t, "the page", text(t, p, "/"), "12,345", "What is shown is not current", "the store is closed")
	})
}

// inline finds what the page's own policy forbids.
var inline = regexp.MustCompile(`(?i)<style|\sstyle\s*=|<script[^>]*>[^<]|\son[a-z]+\s*=|javascript:|(?:src|href|action)="(?:https?:)?//`)

func TestThePageKeepsToItsOwnPolicy(t *testing.T) {
	p := idlePage(t, newFake())
	for _, path := range []string{
		"/", "/?why=203.0.113.7", "/why?ip=203.0.113.7", "/bans", "/address?of=203.0.113.7", "/router?name=router1", "/allows", "/stats", "/warnings",
	} {
		w := get(t, p, path)
		csp := w.Header().Get("Content-Security-Policy")
		wants(t, "the policy", csp, "default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "form-action 'self'")
		if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
			t.Errorf("the policy %q allows what it should not", csp)
		}
		if found := inline.FindString(w.Body.String()); found != "" {
			t.Errorf("GET %s holds %q", path, found)
		}
		if len(w.Header().Values("Set-Cookie")) > 0 {
			t.Errorf("GET %s sets a cookie", path)
		}
	}
}

// hostile are texts as another router's records may hold them.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</title><script>alert(1)</script>`,
	`javascript:alert(1)`, `{{.Name}}`, "a\u2028b\u202ec", `--></svg><script>alert(1)</script>`, strings.Repeat("x", 300),
}

func TestWhatOtherRoutersSayIsShownAndNeverRun(t *testing.T) {
	for _, bad := range hostile {
		f := newFake()
		f.status.Name, f.status.Version, f.status.FrozenBy = bad, bad, bad
		f.status.Leader, f.status.Warnings, f.status.Commit.Detail, f.status.Commit.LastError = &bad, []string{bad}, bad, &bad
		f.members = []control.Member{{Name: bad, Addr: bad, State: "alive", Version: bad, Leader: true}, {Name: bad, State: bad}}
		f.bans = []control.Ban{{Prefix: "203.0.113.7/32", Records: []control.Record{{Origin: bad, Jail: bad, Start: 1}, {Origin: "b", Jail: bad, Start: 1}}}}
		f.why = control.Why{
			Known: true, Banned: true, ReasonNotEffective: bad,
			Bans:      []control.WhyBan{{Prefix: "203.0.113.7/32", Record: control.Record{Origin: bad, Jail: bad, Reason: bad}, State: bad, LiftedBy: []string{bad}}},
			Lifts:     []control.WhyLift{{Prefix: bad, Origin: bad}},
			Allows:    []control.Allow{{Prefix: bad, Origin: bad, Comment: bad}},
			NeverBans: []control.WhyNeverBan{{Prefix: bad, Origin: bad}},
		}
		p := idlePage(t, f)
		if err := p.fill(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"ban", "lift", "commit", "error", bad} {
			p.timeline.apply(control.Event{Time: control.At(time.Now()), Event: kind, Prefix: bad, Origin: bad, Jail: bad, By: bad, Name: bad, Error: bad, Detail: bad}, time.Now())
		}
		p.buildFrame(t.Context())
		state, _ := p.frames.all()
		f.allows, f.never = f.why.Allows, f.why.NeverBans
		f.bans[0].ReasonNotEffective = bad
		f.past.Events = []control.Past{{Event: bad, Prefix: bad, Origin: bad, By: bad, Jail: bad, Reason: bad}}
		named := []control.NamedShare{{Name: bad}}
		f.stats = control.Stats{Jails: named, Routers: named, Networks: []control.NetShare{{Prefix: bad, Place: control.Place{ASName: bad}}}, Repeaters: []control.Repeater{{Prefix: bad}}, Unplaced: bad}
		all := text(t, p, "/?why=203.0.113.7") + text(t, p, "/allows") + text(t, p, "/warnings") + text(t, p, "/stats")
		name := url.QueryEscape(bad)
		for _, path := range []string{"/bans?router=" + name + "&jail=" + name + "&q=" + name, "/bans?router=" + name, "/address?of=" + name, "/address?of=203.0.113.7", "/router?name=" + name} {
			all += text(t, p, path)
		}
		for _, part := range state.Parts {
			all += part
		}
		for _, tag := range tags.FindAllString(all, -1) {
			if !harmless.MatchString(tag) {
				t.Errorf("with %q the page holds the tag %s", bad, tag)
			}
		}
	}
}

// tags are what a browser takes for a tag; harmless are those that the templates
// have: an element of theirs, with quoted attributes of theirs.
var (
	tags     = regexp.MustCompile(`<[/a-zA-Z!][^>]*>?`)
	harmless = regexp.MustCompile(`^<(?:!doctype html|/?(?:html|head|meta|title|link|script|body|a|header|div|h[1-3]|span|p|noscript|form|label|input|button|main|section|dl|dt|dd|svg|circle|text|g|path|rect|polygon|polyline|table|caption|thead|tbody|tr|th|td|time|ol|ul|li|strong|small|code|details|summary|footer|nav|select|option|datalist)(?: (?:data-ago|data-left|data-moment|selected|(?:lang|charset|name|content|rel|type|href|src|class|id|role|aria-[a-z]+|data-(?:self|at|part|key|node|figure)|method|action|for|value|placeholder|list|autocomplete|autocapitalize|spellcheck|maxlength|tabindex|viewBox|preserveAspectRatio|cx|cy|r|x|y|dx|dy|d|width|height|points|text-anchor|scope|datetime|title)="[^"<>]*"))*)/?>$`)
)

func TestTheSearchRepeatsNoQuestionAsMarkup(t *testing.T) {
	p := idlePage(t, newFake())
	for _, bad := range hostile {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		q := r.URL.Query()
		q.Set("why", bad)
		r.URL.RawQuery = q.Encode()
		w := httptest.NewRecorder()
		p.ServeHTTP(w, r)
		if got := w.Body.String(); w.Code != http.StatusOK || strings.Contains(got, "<script>") || strings.Contains(got, "<img") || !strings.Contains(got, "That is not an IP address") {
			t.Errorf("the answer to %q: %d", bad, w.Code)
		}
	}
}

func TestAssetsAreKeptForEverUnderTheHashOfTheirContent(t *testing.T) {
	p := idlePage(t, newFake())
	page := text(t, p, "/")
	paths := regexp.MustCompile(`/assets/[0-9a-f]{16}/[a-z.]+`).FindAllString(page, -1)
	if len(paths) != 3 {
		t.Fatalf("the page names the assets %q, want 3", paths)
	}
	for _, path := range paths {
		w := get(t, p, path)
		if w.Code != http.StatusOK || !strings.Contains(w.Header().Get("Cache-Control"), "immutable") || w.Body.Len() == 0 {
			t.Errorf("GET %s: %d, Cache-Control %q, %d bytes", path, w.Code, w.Header().Get("Cache-Control"), w.Body.Len())
		}
		if found := regexp.MustCompile(`url\(|@import|https?://`).FindString(strings.ReplaceAll(w.Body.String(), "http://www.w3.org/2000/svg", "")); found != "" {
			t.Errorf("%s loads something: %q", path, found)
		}
	}
	if w := get(t, p, "/"); w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("the page may be kept: %q", w.Header().Get("Cache-Control"))
	}
}

func TestNothingElseIsServed(t *testing.T) {
	p := idlePage(t, newFake())
	for _, path := range []string{"/x", "/assets/", "/assets/page.css", "/assets/0000000000000000/page.css", "/templates/home.html", "/index.html"} {
		if w := get(t, p, path); w.Code != http.StatusNotFound {
			t.Errorf("GET %s: %d, want 404", path, w.Code)
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(method, "/", strings.NewReader("why=1")))
		if w.Code != http.StatusMethodNotAllowed {
			t.Errorf("%s /: %d, want 405", method, w.Code)
		}
	}
}

func TestAPageNeedsAnAgent(t *testing.T) {
	if _, err := New(Config{Logger: slog.New(slog.NewTextHandler(io.Discard, nil))}); err == nil {
		t.Error("a page without an agent was made")
	}
}

// Of the newest bans one that blocks nothing says so, and why.
func TestANewestBanWithoutEffectSaysSo(t *testing.T) {
	f := newFake()
	f.set(func(f *fake) {
		f.status.Bans = control.BanCount{Live: 1}
		f.bans = []control.Ban{{Prefix: "203.0.113.9/32", Records: []control.Record{{Origin: "router1", Jail: "sshd", Start: control.At(time.Now()), Until: control.Never}}}}
		f.why = control.Why{Banned: true, ReasonNotEffective: "allowed: 203.0.113.0/24"}
	})
	const want = "no effect: allowed: 203.0.113.0/24"
	p := newPage(t, f)
	filled := func() bool { return strings.Contains(text(t, p, "/"), "203.0.113.9") }
	for end := time.Now().Add(time.Minute); !filled() && time.Now().Before(end); { // it reads the bans beside its start
		time.Sleep(time.Millisecond)
	}
	wants(t, "the page", text(t, p, "/"), "203.0.113.9", want)
	f.set(func(f *fake) { f.status.Bans.Effective, f.why.Effective = 1, true })
	if got := text(t, newPage(t, f), "/"); strings.Contains(got, "no effect") {
		t.Errorf("an effective one is shown as without effect: %s", got)
	}
}
