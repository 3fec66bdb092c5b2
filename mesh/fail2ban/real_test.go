package fail2ban

import (
	"context"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/fail2bantest"
	"banmesh/store"
)

// These tests run Debian's fail2ban with the shipped action. The action's program
// is this test binary: with callsVar set it writes how it was called.
const callsVar = "BANMESH_TEST_CALLS"

func TestMain(m *testing.M) {
	if path := os.Getenv(callsVar); path != "" && len(os.Args) > 1 && os.Args[1] == "fail2ban" {
		if err := recordCall(path, os.Args[2:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// recordedCall is a line of the file of calls.
type recordedCall struct {
	Args   []string  `json:"args"`
	Called time.Time `json:"called"`
}

func recordCall(path string, args []string) error {
	line, err := json.Marshal(recordedCall{args, time.Now()})
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(append(line, '\n')); err != nil {
		return err
	}
	return f.Close()
}

// rig is a real fail2ban whose calls are handled by Hooks over a fakeSet.
type rig struct {
	*fail2bantest.Server
	t     *testing.T
	calls string
	read  int
	last  Call
	set   *fakeSet
	hooks *Hooks
}

// testBinary is this test, which fail2ban runs as the action's program.
func testBinary(t *testing.T) string {
	t.Helper()
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

func startReal(t *testing.T, o fail2bantest.Options) *rig {
	t.Helper()
	r := &rig{t: t, calls: filepath.Join(t.TempDir(), "calls"), set: &fakeSet{}}
	o.Bin = testBinary(t)
	// Without the second the race detector holds each call up by a second.
	o.Env = append(o.Env, callsVar+"="+r.calls, "GORACE=atexit_sleep_ms=0")
	r.Server = fail2bantest.Start(t, o)
	r.hooks = NewHooks(HooksConfig{Set: r.set, Client: r.realClient()})
	return r
}

func (r *rig) realClient() *Client { return NewClient(ClientConfig{Command: r.ClientCommand()}) }

// next waits for the next call, handles it, and returns it.
func (r *rig) next() Call {
	r.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		if c, ok := r.poll(); ok {
			return c
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("no further call of the action after %d", r.read)
		}
	}
}

// poll handles and returns the next call where it comes within some milliseconds.
func (r *rig) poll() (c Call, ok bool) {
	r.t.Helper()
	raw, err := os.ReadFile(r.calls)
	if err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	if lines := strings.SplitAfter(string(raw), "\n"); r.read < len(lines)-1 {
		c := parseCall(r.t, lines[r.read])
		r.read++
		handle(r.t, r.hooks, c)
		return c, true
	}
	time.Sleep(10 * time.Millisecond)
	return Call{}, false
}

// want waits for calls of exactly these events and returns the last one. A flush
// is called for each address family that has bans; that counts as one.
func (r *rig) want(events ...Event) Call {
	r.t.Helper()
	for _, event := range events {
		c := r.next()
		for r.last.Event == EventFlush && c.Event == EventFlush && event != EventFlush {
			c = r.next()
		}
		r.last = c
		if c.Event != event || c.Jail != "sshd" {
			r.t.Fatalf("fail2ban called %+v, want %s of sshd", c, event)
		}
	}
	return r.last
}

func (r *rig) client(args ...string) string {
	r.t.Helper()
	out, err := r.Client(args...)
	if err != nil {
		r.t.Fatal(err)
	}
	return out
}

// parseCall reads the arguments as examples/fail2ban passes them.
func parseCall(t *testing.T, line string) Call {
	t.Helper()
	var recorded recordedCall
	if err := json.Unmarshal([]byte(line), &recorded); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	c := Call{Event: Event(recorded.Args[0]), Called: recorded.Called}
	for _, arg := range recorded.Args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		var err error
		switch name {
		case "--jail":
			c.Jail = value
		case "--ip":
			c.Prefix, err = parsePrefix(value)
		case "--time": // with a fraction, but not always
			var seconds float64
			seconds, err = strconv.ParseFloat(value, 64)
			c.Start = time.UnixMilli(int64(seconds * 1000))
		case "--bantime":
			var seconds int
			seconds, err = strconv.Atoi(value)
			c.BanTime = time.Duration(seconds) * time.Second
		case "--failures":
			var n uint64
			n, err = strconv.ParseUint(value, 10, 32)
			c.Failures = uint32(n)
		case "--restored":
			c.Restored, err = strconv.ParseBool(value)
		default:
			t.Fatalf("unknown argument %q in %q", arg, line)
		}
		if err != nil {
			t.Fatalf("%q in %q: %v", arg, line, err)
		}
	}
	return c
}

var attacker = netip.MustParseAddr("203.0.113.7")

func TestRealFail2banBansAndARestartRepeatsTheSameBan(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{})
	r.want(EventStart)
	r.Attack(attacker)
	ban := r.want(EventBan)
	if ban.Prefix.Addr() != attacker || ban.BanTime != 10*time.Minute || ban.Failures != 2 || ban.Restored || time.Since(ban.Start) > time.Minute {
		t.Errorf("ban: got %+v", ban)
	}

	r.Restart()
	replay := r.want(EventFlush, EventStop, EventStart, EventBan)
	if !replay.Restored || replay.Prefix != ban.Prefix || replay.BanTime != ban.BanTime || replay.Start.Sub(ban.Start).Abs() > time.Second {
		t.Errorf("repeated ban: got %+v, want that of %+v", replay, ban)
	}
	if got := r.set.bans; len(got) != 2 || got[0].Restored || !got[1].Restored {
		t.Errorf("bans: got %+v", got)
	}
	if got := r.set.lifted(); len(got) != 0 {
		t.Errorf("the restart lifted %+v", got)
	}

	r.client("set", "sshd", "unbanip", attacker.String())
	unban := r.want(EventUnban)
	if unban.Start.Sub(ban.Start).Abs() > time.Second || unban.BanTime != ban.BanTime {
		t.Errorf("unban: got %+v, want the times of %+v", unban, ban)
	}
	if got := r.set.lifted(); len(got) != 1 || got[0].Prefixes[0] != ban.Prefix {
		t.Errorf("the unban by hand lifted %+v", got)
	}
}

func TestRealExpiryIsNoUnban(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{Bantime: "4"})
	r.Attack(attacker)
	r.want(EventStart, EventBan)
	r.want(EventUnban)
	if got := r.set.lifted(); len(got) != 0 {
		t.Errorf("the expiry lifted %+v", got)
	}
}

func TestRealIncrementOfTheBantimeProlongs(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{Bantime: "4", Default: "bantime.increment = true"})
	r.Attack(attacker)
	r.want(EventStart, EventBan, EventUnban)
	r.Attack(attacker)
	ban := r.want(EventBan)
	prolong := r.want(EventProlong)
	if !prolong.Start.Equal(ban.Start) || prolong.BanTime <= 4*time.Second {
		t.Errorf("prolonged: got %+v, want a longer ban from %v on", prolong, ban.Start)
	}
	last := r.set.bans[len(r.set.bans)-1]
	if last.Start != store.At(ban.Start) || last.Until != store.At(prolong.Start.Add(prolong.BanTime)) {
		t.Errorf("the set was told %+v", last)
	}
}

// awaitLifts waits until the set was asked for that many lifts.
func (r *rig) awaitLifts(n int) []store.LiftRequest {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		if lifts := r.set.lifted(); len(lifts) >= n {
			return lifts
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("got %d lifts, want %d", len(r.set.lifted()), n)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRealUnbanAllLiftsAndAStopDoesNot(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.hooks.Run(ctx)
	}()
	defer func() { cancel(); <-ended }()

	r.want(EventStart)
	r.client("set", "sshd", "banip", "203.0.113.7", "2001:db8::7")
	r.want(EventBan, EventBan)
	r.client("reload", "--restart", "sshd")
	r.want(EventFlush, EventStop, EventStart, EventBan, EventBan)

	r.client("unban", "--all")
	flush := r.want(EventFlush)
	lifts := r.awaitLifts(1)
	if got := lifts[0]; len(lifts) != 1 || !got.All || got.Jail != "sshd" || !got.Mine || got.StartedBefore < store.At(flush.Called)-5000 {
		t.Errorf("lifted %+v", lifts)
	}

	// A second one, of one family only, is told as well.
	r.client("set", "sshd", "banip", "203.0.113.8")
	r.want(EventBan)
	r.client("unban", "--all")
	r.want(EventFlush)
	r.awaitLifts(2)

	// The agent knows of the flush and not of the stop: fail2ban does not answer.
	r.client("set", "sshd", "banip", "203.0.113.9")
	r.want(EventBan)
	r.Stop()
	r.want(EventFlush)
	time.Sleep(flushFirst + flushConfirm + 2*time.Second)
	if got := r.set.lifted(); len(got) != 2 {
		t.Errorf("the stop lifted %+v", got[2:])
	}
	r.want(EventStop)
}

// startNotifier runs a Notifier for the rig until the test ends.
func (r *rig) startNotifier() *Notifier {
	notifier := NewNotifier(NotifierConfig{Set: r.set, Client: r.realClient(), Hooks: r.hooks})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		notifier.Run(ctx)
	}()
	r.t.Cleanup(func() { cancel(); <-ended })
	return notifier
}

func (r *rig) awaitQueue() {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for len(r.set.Notices()) > 0 {
		if time.Now().After(deadline) {
			r.t.Fatalf("not told: %+v", r.set.Notices())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func TestRealFail2banIsToldOfLiftsAndAllows(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{})
	r.want(EventStart)
	notifier := r.startNotifier()

	r.client("set", "sshd", "banip", "203.0.113.7", "203.0.113.8", "198.51.100.0/30")
	first := r.want(EventBan)
	r.want(EventBan, EventBan)
	r.set.mu.Lock()
	for i, c := range r.set.bans {
		start := c.Start
		if i == 1 {
			start -= 10_000 // lifted was an earlier offence of 203.0.113.8
		}
		r.set.notices = append(r.set.notices, store.Notice{ID: uint64(i + 1), Kind: store.NoticeUnban, Prefix: c.Prefix, Jail: "sshd", Start: start, Until: c.Until})
	}
	r.set.mu.Unlock()
	notifier.Poke()
	r.awaitQueue()
	if got := r.client("get", "sshd", "banip"); got != "203.0.113.8" {
		t.Errorf("fail2ban holds %q, want the newer offence only", got)
	}
	if echo := r.want(EventUnban); echo.Prefix != first.Prefix && echo.Prefix != netip.MustParsePrefix("198.51.100.0/30") {
		t.Errorf("unbanned %v", echo.Prefix)
	}
	r.want(EventUnban)
	if got := r.set.lifted(); len(got) != 0 {
		t.Errorf("the echoes lifted %+v", got)
	}

	r.set.allow("203.0.113.0/28", time.Now().Add(time.Hour))
	notifier.Poke()
	r.awaitQueue()
	r.want(EventUnban)
	if got := r.client("get", "sshd", "banip"); got != "" {
		t.Errorf("fail2ban holds %q although it is allowed", got)
	}
	if got := r.set.lifted(); len(got) != 0 {
		t.Errorf("the allow lifted %+v", got)
	}
	r.Attack(attacker)
	r.Attack(netip.MustParseAddr("192.0.2.7"))
	if ban := r.want(EventBan); ban.Prefix.Addr() == attacker {
		t.Error("fail2ban bans what is allowed")
	}

	// A restart of fail2ban forgets ignore lists.
	r.Restart()
	r.want(EventFlush, EventStop, EventStart, EventBan)
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(r.client("get", "sshd", "ignoreip"), "203.0.113.0/28") {
		if time.Now().After(deadline) {
			t.Fatal("the allow was not told again")
		}
	}
}

func TestRealBansAreTakenIn(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{ExtraJail: "[recidive]\nenabled = true\nfilter =\nbantime = -1\naction = %(banmesh)s\n\n[feed]\nenabled = true\nfilter =\naction =\n"})
	r.client("set", "sshd", "banip", "203.0.113.7", "2001:db8::7")
	r.client("set", "recidive", "banip", "203.0.113.7")
	r.client("set", "feed", "banip", "192.0.2.1")
	got, err := Import(t.Context(), r.realClient(), "feed")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 {
		t.Fatalf("got %+v, want 3 bans", got)
	}
	for _, b := range got {
		if !b.Restored || time.Since(b.Start.Time()) > time.Minute {
			t.Errorf("got %+v", b)
		}
		if forever := b.Until == store.Never; forever != (b.Jail == "recidive") {
			t.Errorf("got %+v", b)
		}
	}
}

func TestRealJailThatIsFedIsKnown(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{ExtraJail: "[fed]\nenabled = true\nfilter =\naction = feed\n\n[other]\nenabled = true\nfilter =\naction =\n",
		Files: map[string]string{"action.d/feed.conf": "[Definition]\nactionban = true\nactionunban = : || banmesh fail2ban unban --jail=\"<name>\" --ip=\"<ip>\"\nactionflush = true\n"}})
	got, err := MeshJails(t.Context(), r.realClient())
	if err != nil || !slices.Equal(got, []string{"fed"}) {
		t.Errorf("mesh jails %q, %v; want fed", got, err)
	}
}

// found returns the findings' texts of a severity.
func found(findings []Finding, severity Severity) []string {
	var texts []string
	for _, f := range findings {
		if f.Severity == severity {
			texts = append(texts, f.What)
		}
	}
	return texts
}

func TestRealCheckIsContentWithTheShippedAction(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{Default: "bantime.increment = true"})
	findings, err := Check(t.Context(), r.realClient(), "")
	if err != nil || len(findings) != 0 {
		t.Errorf("got %v, %+v", err, findings)
	}
}

func TestRealCheckFindsTheTraps(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad.conf")
	if err := os.WriteFile(bad, []byte(`[Definition]
actionban = /nonexistent/banmesh fail2ban ban --jail="<name>" --ip=<ip> --reason="<matches>"
actionunban = <bin> fail2ban unban --jail="<name>" --ip="<ip>"
norestored = 1
[Init]
timeout = 60
`), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startReal(t, fail2bantest.Options{
		Action:  bad,
		Default: "bantime.increment = true",
		ExtraJail: `[first]
enabled = true
filter =
action = %(banmesh)s
         other[actname=other]
[same]
enabled = true
filter =
action = same
[late]
enabled = true
filter =
action = other[actname=other]
`,
		Files: map[string]string{
			"action.d/other.conf": "[Definition]\nactionban = true\nactionunban = true\n",
			"action.d/same.conf": `[Definition]
actionban = true fail2ban ban --jail="<name>" --ip="<ip>"
actionunban = true
actionflush = true fail2ban flush --jail="<name>"
`,
		},
	})
	r.client("set", "sshd", "banip", "169.254.127.126")
	r.Configure("jail.d/late.conf", "[late]\naction = other[actname=other]\n  %(banmesh)s\n")
	r.client("reload")

	findings, err := Check(t.Context(), r.realClient(), "")
	if err != nil {
		t.Fatal(err)
	}
	for severity, wants := range map[Severity][]string{
		Serious: {
			"jail sshd, action banmesh: no actionflush",
			"jail sshd, action banmesh: no actionprolong",
			"jail sshd, action banmesh: actionban passes log lines on",
			"jail sshd, action banmesh: actionban has a tag outside of double quotes",
			"jail sshd, action banmesh: norestored is set",
			`exec: "/nonexistent/banmesh"`,
			"jail sshd bans 169.254.127.126",
			"jail late runs without banmesh although its configuration has it",
		},
		Warning: {
			"jail sshd, action banmesh: timeout is 60 s",
			"jail first runs banmesh before other",
			"jail same, action same: actionflush is the same for IPv4 and IPv6",
		},
	} {
		texts := found(findings, severity)
		for _, want := range wants {
			if !slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(text, want) }) {
				t.Errorf("no %s finding %q in %q", severity, want, texts)
			}
		}
	}
	for _, f := range findings {
		if f.Why == "" || f.Fix == "" {
			t.Errorf("%q says not why, or not how to fix it", f.What)
		}
	}
}

func TestCheckTellsWhatKeepsItFromAsking(t *testing.T) {
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"not installed": {ErrNoClient, "not installed"},
		"not running":   {ErrNotRunning, "does not run"},
		"not root":      {ErrDenied, "no permission"},
	} {
		t.Run(name, func(t *testing.T) {
			server := newFakeServer()
			server.down = test.err
			findings, err := Check(t.Context(), server.client(), "")
			if err != nil || len(findings) != 1 || findings[0].Severity != Serious || !strings.Contains(findings[0].What, test.want) {
				t.Errorf("got %v, %+v", err, findings)
			}
		})
	}
}
