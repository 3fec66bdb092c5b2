package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
)

// stub is an agent of func fields; a call without one is a failure of the test that makes it.
type stub struct {
	server.Agent
	ban      func(context.Context, control.BanCall) (control.BanReply, error)
	unban    func(context.Context, control.UnbanCall) (control.UnbanReply, error)
	fail2ban func(context.Context, control.HookCall) (control.HookReply, error)
	list     func(context.Context, netip.Prefix) (iter.Seq[control.Ban], error)
	status   func(context.Context) (control.Status, error)
	members  func(context.Context) ([]control.Member, error)
	diff     func(context.Context) (control.Diff, error)
	why      func(context.Context, netip.Prefix) (control.Why, error)
	events   func(context.Context, func(control.Event) error) error
	leave    func(context.Context) error
}

func (s *stub) Ban(ctx context.Context, c control.BanCall) (control.BanReply, error) {
	return s.ban(ctx, c)
}
func (s *stub) Unban(ctx context.Context, c control.UnbanCall) (control.UnbanReply, error) {
	return s.unban(ctx, c)
}
func (s *stub) Fail2ban(ctx context.Context, c control.HookCall) (control.HookReply, error) {
	return s.fail2ban(ctx, c)
}
func (s *stub) List(ctx context.Context, q control.ListQuery) (iter.Seq[control.Ban], int, error) {
	bans, err := s.list(ctx, q.Prefix)
	return bans, 0, err
}
func (s *stub) Status(ctx context.Context) (control.Status, error)    { return s.status(ctx) }
func (s *stub) Members(ctx context.Context) ([]control.Member, error) { return s.members(ctx) }
func (s *stub) Diff(ctx context.Context) (control.Diff, error)        { return s.diff(ctx) }
func (s *stub) History(context.Context, control.HistoryQuery) (control.History, error) {
	return control.History{}, nil
}
func (s *stub) Stats(context.Context, control.StatsQuery) (control.Stats, error) {
	return control.Stats{}, nil
}
func (s *stub) Why(ctx context.Context, p netip.Prefix) (control.Why, error) { return s.why(ctx, p) }
func (s *stub) Events(ctx context.Context, y func(control.Event) error) error {
	return s.events(ctx, y)
}
func (s *stub) Leave(ctx context.Context) error { return s.leave(ctx) }

// serve answers with agent until the test ends or stop is called, and returns the socket.
func serve(t testing.TB, agent server.Agent, logTo io.Writer) (socket string, stop func()) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	ln, err := server.Listen(socket, "")
	if err != nil {
		t.Fatal(err)
	}
	server, err := server.New(server.Config{Agent: agent, Logger: slog.New(slog.NewTextHandler(logTo, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(stop)
	return socket, stop
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func one(prefix string) control.BanCall {
	return control.BanCall{Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Jail: "sshd", Start: 1767225600123, Until: control.Never, Failures: 5, Reason: "ü\"\\", Restored: true, Force: true}
}

func TestACallArrivesAsItWasMade(t *testing.T) {
	want := one("2001:db8::/32")
	agent := &stub{ban: func(_ context.Context, c control.BanCall) (control.BanReply, error) {
		if fmt.Sprint(c) != fmt.Sprint(want) {
			return control.BanReply{}, fmt.Errorf("got %+v, want %+v", c, want)
		}
		return control.BanReply{New: 1, Lifted: c.Prefixes}, nil
	}}
	socket, _ := serve(t, agent, io.Discard)
	r, err := control.NewClient(socket).Ban(bounded(t), want)
	if err != nil || r.New != 1 || len(r.Lifted) != 1 {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestErrorsKeepTheirCode(t *testing.T) {
	var answer atomic.Pointer[error]
	socket, _ := serve(t, &stub{ban: func(context.Context, control.BanCall) (control.BanReply, error) {
		return control.BanReply{}, *answer.Load()
	}}, io.Discard)
	for _, c := range []struct {
		err  error
		code control.Code
		text string
	}{
		{control.Errorf(control.CodeInvalid, "too wide"), control.CodeInvalid, "too wide"},
		{fmt.Errorf("ban: %w", control.Errorf(control.CodeUnavailable, "starting")), control.CodeUnavailable, "ban: starting"},
		{control.Errorf(control.CodeConflict, "frozen"), control.CodeConflict, "frozen"},
		{errors.New("disk full"), control.CodeInternal, "disk full"},
		{control.Errorf("odd", "odd"), control.CodeInternal, "odd"},
	} {
		answer.Store(&c.err)
		_, err := control.NewClient(socket).Ban(bounded(t), one("203.0.113.7/32"))
		var got *control.Error
		if !errors.As(err, &got) || got.Code != c.code || got.Message != c.text {
			t.Errorf("%v: got %v (%#v), want code %s, text %q", c.err, err, got, c.code, c.text)
		}
	}
}

// raw sends bytes and returns what comes back.
func raw(t *testing.T, socket, text string) string {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, text)
	b, _ := io.ReadAll(conn)
	return string(b)
}

func post(path, body string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
}

func TestBadCallsAreRefusedAndReachNobody(t *testing.T) {
	socket, _ := serve(t, &stub{}, io.Discard) // a call that came through would panic the handler and end without a status
	big := strings.Repeat(" ", 17<<20)
	for _, c := range []struct{ what, request, want string }{
		{"not JSON", post("/v1/ban", "{"), " 400 "},
		{"nothing", post("/v1/ban", ""), " 400 "},
		{"another type", post("/v1/ban", `[]`), " 400 "},
		{"no prefixes", post("/v1/ban", `{"until":null}`), " 400 "},
		{"no end", post("/v1/ban", `{"prefixes":["203.0.113.7"]}`), "until is missing"},
		{"two values", post("/v1/ban", `{"prefixes":["203.0.113.7"],"until":null}{}`), " 400 "},
		{"the whole internet", post("/v1/ban", `{"prefixes":["::/0"],"until":null}`), "length 0 is never accepted"},
		{"a jail's name", post("/v1/ban", `{"prefixes":["203.0.113.7"],"until":null,"jail":"a\tb"}`), "U+0009"},
		{"failures below zero", post("/v1/ban", `{"prefixes":["203.0.113.7"],"until":null,"failures":-1}`), " 400 "},
		{"control characters", post("/v1/ban", `{"prefixes":["203.0.113.7"],"until":null,"reason":"\u001b[31m"}`), "control characters"},
		{"a long reason", post("/v1/ban", `{"prefixes":["203.0.113.7"],"until":null,"reason":"`+strings.Repeat("a", 257)+`"}`), "at most 256 bytes"},
		{"unban of nothing", post("/v1/unban", `{}`), " 400 "},
		{"unban of all and one", post("/v1/unban", `{"all":true,"prefixes":["203.0.113.7"]}`), " 400 "},
		{"allow of half the internet", post("/v1/allow", `{"prefixes":["0.0.0.0/1"],"until":null}`), "must be confirmed"},
		{"revoke unconfirmed", post("/v1/revoke", `{"origin":"r"}`), "must be confirmed"},
		{"an unknown hook", post("/v1/fail2ban", `{"event":"frob","jail":"sshd"}`), "want one of"},
		{"a hook without address", post("/v1/fail2ban", `{"event":"ban","jail":"sshd","until":null}`), "takes one address"},
		{"a body that says it is large", "POST /v1/ban HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 99999999\r\n\r\n", " 413 "},
		{"a body that is large", "POST /v1/ban HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(big), big), " 413 "},
		{"a small call that is large", post("/v1/join", `{"addrs":["`+strings.Repeat("a", 200<<10)+`"]}`), " 413 "},
		{"an unknown path", post("/v1/frob", "{}"), " 404 "},
		{"another method", "DELETE /v1/ban HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", " 404 "},
		{"a prefix that is none", "GET /v1/bans?prefix=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", " 400 "},
		{"an address that is none", "GET /v1/why?ip=203.0.113.7/24 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", " 400 "},
	} {
		if got := raw(t, socket, c.request); !strings.HasPrefix(got, "HTTP/1.1 4") || !strings.Contains(got, c.want) {
			t.Errorf("%s: got %.300q, want %q", c.what, got, c.want)
		}
	}
}

func TestEmptyListsAreNotNull(t *testing.T) {
	agent := &stub{
		members: func(context.Context) ([]control.Member, error) { return nil, nil },
		status:  func(context.Context) (control.Status, error) { return control.Status{}, nil },
		diff:    func(context.Context) (control.Diff, error) { return control.Diff{}, nil },
		why:     func(context.Context, netip.Prefix) (control.Why, error) { return control.Why{}, nil },
		list: func(context.Context, netip.Prefix) (iter.Seq[control.Ban], error) {
			return slices.Values([]control.Ban{}), nil
		},
	}
	socket, _ := serve(t, agent, io.Discard)
	for path, want := range map[string]string{
		"/v1/members": "[]\n", "/v1/bans": "[]\n", "/v1/diff": `{"add":[],"remove":[],"foreign":[],"capped":[]}`,
		"/v1/status": `"warnings":[]`, "/v1/why?ip=203.0.113.7": `"bans":[],"lifts":[],"allows":[],"never_bans":[]`,
	} {
		if got := raw(t, socket, "GET "+path+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.Contains(got, want) || strings.Contains(got, `s":null`) {
			t.Errorf("%s: got %q, want %q in it", path, got, want)
		}
	}
}

func TestAStatusHasTheFieldsOfTheContract(t *testing.T) {
	leader := "router2"
	agent := &stub{status: func(context.Context) (control.Status, error) { return control.Status{Leader: &leader}, nil }}
	socket, _ := serve(t, agent, io.Discard)
	got := raw(t, socket, "GET /v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	for _, field := range []string{
		`"name":`, `"version":`, `"uptime_s":`, `"members":{"alive":0,"failed":0`, `"leader":"router2"`, `"term":`, `"in_sync":`, `"root":`,
		`"bans":{"live":0,"effective":0,"own":0`, `"allows":0`, `"commit":{"driver":"","state":""`, `"committed":`, `"pending_add":`, `"pending_remove":`,
		`"foreign":`, `"commits":`, `"last_commit":null`, `"last_error":null`, `"warnings":[]`,
	} {
		if !strings.Contains(got, field) {
			t.Errorf("%s is missing in %s", field, got)
		}
	}
}

func TestChangesAreLoggedWithTheirCaller(t *testing.T) {
	var log lockedBuffer
	agent := &stub{
		ban:     func(context.Context, control.BanCall) (control.BanReply, error) { return control.BanReply{}, nil },
		members: func(context.Context) ([]control.Member, error) { return nil, nil },
	}
	socket, stop := serve(t, agent, &log)
	if _, err := control.NewClient(socket).Members(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := control.NewClient(socket).Ban(bounded(t), one("203.0.113.7/32")); err != nil {
		t.Fatal(err)
	}
	stop()
	got := log.String()
	want := fmt.Sprintf("path=/v1/ban caller.uid=%d caller.gid=%d caller.pid=%d", os.Geteuid(), os.Getegid(), os.Getpid())
	if !strings.Contains(got, want) || strings.Contains(got, "members") {
		t.Errorf("got %q, want %q and nothing of the read", got, want)
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func TestNobodyThereIsNoAgent(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead})
	if err != nil {
		t.Fatal(err)
	}
	ln.SetUnlinkOnClose(false)
	ln.Close()
	file := filepath.Join(dir, "file")
	os.WriteFile(file, nil, 0o600)
	for _, socket := range []string{filepath.Join(dir, "absent"), dead, file, filepath.Join(dir, strings.Repeat("x", 200)), ""} {
		if _, err := control.NewClient(socket).Ban(bounded(t), one("203.0.113.7/32")); !errors.Is(err, control.ErrNoAgent) {
			t.Errorf("%q: got %v, want ErrNoAgent", socket, err)
		}
	}
}

func TestAnAgentThatDoesNotAnswerIsNoAgent(t *testing.T) {
	hang := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	socket, _ := serve(t, &stub{
		fail2ban: func(ctx context.Context, _ control.HookCall) (control.HookReply, error) {
			return control.HookReply{}, hang(ctx)
		},
	}, io.Discard)
	// One that does not even accept, with its backlog full.
	deaf := filepath.Join(t.TempDir(), "deaf")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: deaf})
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	hook := control.HookCall{Event: control.HookStart, Jail: "sshd"}
	for _, s := range []string{socket, deaf} {
		began := time.Now()
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err := control.NewClient(s).Fail2ban(ctx, hook); !errors.Is(err, control.ErrNoAgent) {
			t.Errorf("got %v, want ErrNoAgent", err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("gave up only after %v", took)
		}
	}
}

func TestEventsStreamUntilTheAgentStops(t *testing.T) {
	want := []control.Event{{Time: 1767225600000, Event: "ban", Prefix: "203.0.113.7/32", Until: control.Never}, {Time: 1767225600001, Event: "join", Name: "r2"}}
	socket, stop := serve(t, &stub{events: func(ctx context.Context, yield func(control.Event) error) error {
		for _, e := range want {
			if err := yield(e); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return nil
	}}, io.Discard)
	var got []control.Event
	err := control.NewClient(socket).Events(bounded(t), func(e control.Event) error {
		if got = append(got, e); len(got) == len(want) {
			go stop()
		}
		return nil
	})
	if !errors.Is(err, io.EOF) || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v and the end", got, err, want)
	}
}

func TestAStopLetsCallsUnderWayFinish(t *testing.T) {
	entered, finish := make(chan struct{}), make(chan struct{})
	socket, stop := serve(t, &stub{ban: func(context.Context, control.BanCall) (control.BanReply, error) {
		close(entered)
		<-finish
		return control.BanReply{New: 1}, nil
	}}, io.Discard)
	result := make(chan error, 1)
	go func() {
		_, err := control.NewClient(socket).Ban(bounded(t), one("203.0.113.7/32"))
		result <- err
	}()
	<-entered
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	close(finish)
	if err := <-result; err != nil {
		t.Errorf("the call under way: %v", err)
	}
	<-stopped
	if _, err := os.Lstat(socket); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestListOfAHundredThousand(t *testing.T) {
	const n = 100_000
	socket, _ := serve(t, &stub{list: func(context.Context, netip.Prefix) (iter.Seq[control.Ban], error) { return manyBans(n), nil }}, io.Discard)
	got := 0
	if err := control.NewClient(socket).List(bounded(t), control.ListQuery{}, func(b control.Ban) error { got++; return nil }); err != nil {
		t.Fatal(err)
	}
	if got != n {
		t.Errorf("got %d bans, want %d", got, n)
	}
}

func manyBans(n int) iter.Seq[control.Ban] {
	return func(yield func(control.Ban) bool) {
		for i := range n {
			b := control.Ban{Prefix: netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}).String() + "/32", Effective: true, Until: control.Never,
				Records: []control.Record{{Origin: "router1", Jail: "sshd", Start: 1767225600000, Until: control.Never, Failures: 5, Reason: "made up"}}}
			if !yield(b) {
				return
			}
		}
	}
}

func manyPrefixes(n int) control.Prefixes {
	ps := make(control.Prefixes, n)
	for i := range ps {
		ps[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)}), 32)
	}
	return ps
}

func BenchmarkBulkBan(b *testing.B) {
	socket, _ := serve(b, &stub{ban: func(_ context.Context, c control.BanCall) (control.BanReply, error) {
		return control.BanReply{New: len(c.Prefixes)}, nil
	}}, io.Discard)
	const n = 100_000
	call := control.BanCall{Prefixes: manyPrefixes(n), Until: control.Never}
	for b.Loop() {
		if r, err := control.NewClient(socket).Ban(context.Background(), call); err != nil || r.New != n {
			b.Fatal(r, err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "bans/s")
}

func BenchmarkList(b *testing.B) {
	const n = 100_000
	socket, _ := serve(b, &stub{list: func(context.Context, netip.Prefix) (iter.Seq[control.Ban], error) { return manyBans(n), nil }}, io.Discard)
	for b.Loop() {
		if err := control.NewClient(socket).ListJSON(context.Background(), control.ListQuery{}, io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "bans/s")
}

func BenchmarkOneBan(b *testing.B) {
	socket, _ := serve(b, &stub{ban: func(context.Context, control.BanCall) (control.BanReply, error) { return control.BanReply{New: 1}, nil }}, io.Discard)
	for b.Loop() {
		if _, err := control.NewClient(socket).Ban(context.Background(), one("203.0.113.7/32")); err != nil {
			b.Fatal(err)
		}
	}
}
