package page

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// fake is an agent that says what it is told to.
type fake struct {
	mu      sync.Mutex
	status  control.Status
	members []control.Member
	bans    []control.Ban
	why     control.Why
	allows  []control.Allow
	never   []control.WhyNeverBan
	past    control.History
	stats   control.Stats
	diff    control.Diff
	diffed  int // how often Diff was asked for
	err     error
	asked   int // how often Status was
	listed  int // how often all bans were
	queries []control.ListQuery
	events  chan control.Event
	entered chan struct{} // closed by the first call of Events
	once    sync.Once
}

func newFake() *fake {
	leader := "router2"
	return &fake{
		events: make(chan control.Event), entered: make(chan struct{}),
		status: control.Status{
			Name: "router1", Version: "1.2.3", Leader: &leader, InSync: true, UptimeS: 3700,
			Members: control.MemberCount{Alive: 3}, Bans: control.BanCount{Live: 12345, Effective: 12300, Own: 17},
			Commit: control.CommitStatus{Driver: "netconf", State: "idle", Committed: 12299},
		},
		members: []control.Member{
			{Name: "router1", Addr: "192.0.2.1:7946", State: "alive", Self: true, InSync: true},
			{Name: "router2", Addr: "192.0.2.2:7946", State: "alive", Leader: true, InSync: true, SkewMS: 12},
			{Name: "router3", Addr: "192.0.2.3:7946", State: "failed", SkewMS: -2500},
		},
	}
}

func (f *fake) set(change func(*fake)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// counts are how often the status, and all bans, were asked for.
func (f *fake) counts() (asked, listed int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked, f.listed
}

func (f *fake) Status(context.Context) (control.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	return f.status, f.err
}

func (f *fake) Members(context.Context) ([]control.Member, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.members), f.err
}

// List knows all of them, and of a query the part of the order.
func (f *fake) List(_ context.Context, q control.ListQuery) (iter.Seq[control.Ban], int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	bans := slices.Clone(f.bans)
	if q == (control.ListQuery{}) {
		f.listed++
	} else {
		f.queries = append(f.queries, q)
	}
	total := len(bans)
	bans = bans[min(q.Offset, total):]
	if q.Limit > 0 {
		bans = bans[:min(q.Limit, len(bans))]
	}
	return slices.Values(bans), total, f.err
}

func (f *fake) Why(_ context.Context, p netip.Prefix) (control.Why, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := f.why
	w.IP = control.Bare(p.String())
	return w, f.err
}

func (f *fake) Events(ctx context.Context, yield func(control.Event) error) error {
	f.once.Do(func() { close(f.entered) })
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-f.events:
			if err := yield(e); err != nil {
				return err
			}
		}
	}
}

// newPage is a page of a fake agent; it runs until the test ends.
func newPage(t testing.TB, f *fake) *Page {
	t.Helper()
	p := idlePage(t, f)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := p.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	<-f.entered
	return p
}

// idlePage does not run.
func idlePage(t testing.TB, f *fake) *Page {
	t.Helper()
	p, err := New(Config{Agent: f, Logger: slog.New(slog.DiscardHandler), Most: 200_000})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func get(t testing.TB, p http.Handler, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	return w
}

func text(t testing.TB, p http.Handler, path string) string {
	t.Helper()
	w := get(t, p, path)
	if w.Code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", path, w.Code, w.Body)
	}
	return w.Body.String()
}

func wants(t testing.TB, what, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%s does not hold %q", what, w)
		}
	}
}

// banAt is the event of a ban that began at a time.
func banAt(prefix, origin, jail string, at time.Time) control.Event {
	return control.Event{
		Time: control.At(at), Event: "ban", Prefix: prefix, Origin: origin, Jail: jail,
		Start: control.At(at), Until: control.UntilAt(at.Add(time.Hour)),
	}
}

func liftOf(e control.Event) control.Event {
	e.Event, e.By = "lift", "router9"
	return e
}

// viewer reads a stream of server-sent events.
type viewer struct {
	t     testing.TB
	lines *bufio.Scanner
}

func watch(t testing.TB, url string) *viewer {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/live", nil)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { reply.Body.Close() })
	if reply.StatusCode != http.StatusOK || reply.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("GET /live: %s, %s", reply.Status, reply.Header.Get("Content-Type"))
	}
	v := &viewer{t, bufio.NewScanner(reply.Body)}
	v.lines.Buffer(nil, 1<<20)
	return v
}

// next is the next message of the stream.
func (v *viewer) next() (event string, f frame) {
	v.t.Helper()
	event, f, err := readMessage(v.lines)
	if err != nil {
		v.t.Fatal(err)
	}
	return event, f
}

func readMessage(lines *bufio.Scanner) (event string, f frame, err error) {
	for lines.Scan() {
		line := lines.Text()
		if data, ok := strings.CutPrefix(line, "data: "); ok {
			err = json.Unmarshal([]byte(data), &f)
		} else if name, ok := strings.CutPrefix(line, "event: "); ok {
			event = name
		} else if line == "" {
			return event, f, err
		}
	}
	return event, f, fmt.Errorf("the stream has ended: %v", lines.Err())
}

func (f *fake) Allows(context.Context) ([]control.Allow, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.allows), f.err
}

func (f *fake) Diff(context.Context) (control.Diff, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.diffed++
	return f.diff, f.err
}

func (f *fake) NeverBans(context.Context) ([]control.WhyNeverBan, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.never), f.err
}

func (f *fake) History(context.Context, control.HistoryQuery) (control.History, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.past, f.err
}

func (f *fake) Stats(context.Context, control.StatsQuery) (control.Stats, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats, f.err
}
