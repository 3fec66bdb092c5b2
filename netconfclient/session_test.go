package netconfclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

func dialFake(t testing.TB, f *fakeServer) *Session {
	t.Helper()
	s, err := Dial(t.Context(), f.dial)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestOperationsOnTheWire(t *testing.T) {
	var rpcs []string
	f := startFake(t, answering(func(n int, rpc string) string {
		rpcs = append(rpcs, rpc)
		return fakeOK
	}))
	s, ctx := dialFake(t, f), t.Context()
	if s.ID() != 7 || !s.Offers(capCandidate) || s.Offers(capBase11) || s.Address() != f.addr {
		t.Errorf("session %d with %q", s.ID(), s.Capabilities())
	}
	for i, c := range []struct {
		do   func() error
		want string
	}{
		{func() error { return s.Lock(ctx, CandidateStore) }, `<lock><target><candidate></candidate></target></lock>`},
		{func() error { return s.Unlock(ctx, RunningStore) }, `<unlock><target><running></running></target></unlock>`},
		{func() error { return s.Validate(ctx, CandidateStore) }, `<validate><source><candidate></candidate></source></validate>`},
		{func() error { return s.Commit(ctx, ValidationNone) }, `<commit></commit>`},
		{func() error { return s.Commit(ctx, ValidationLocal) },
			`<commit><validation-type xmlns="urn:128technology:netconf:validate-type:1.0">local</validation-type></commit>`},
		{func() error { return s.DiscardChanges(ctx) }, `<discard-changes></discard-changes>`},
		{func() error { return s.KillSession(ctx, 4) }, `<kill-session><session-id>4</session-id></kill-session>`},
		{func() error {
			change := tenantEdit{key: tenantKey{"t", "n"}, description: "d", removeOp: "remove", add: []string{"10.0.0.1/32"}, remove: []string{"10.0.0.2"}}
			return s.EditConfig(ctx, CandidateStore, EditOptions{Default: "merge", Test: "test-then-set", Error: "rollback-on-error"}, change.config())
		}, `<edit-config><target><candidate></candidate></target><default-operation>merge</default-operation><test-option>test-then-set</test-option>` +
			`<error-option>rollback-on-error</error-option><config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">` +
			`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
			`<tenant><name>t</name><description>d</description><member><neighborhood>n</neighborhood>` +
			`<address nc:operation="remove">10.0.0.2</address><address>10.0.0.1/32</address></member></tenant></authority></config></config></edit-config>`},
		{func() error { return s.CloseSession(ctx) }, `<close-session></close-session>`},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(rpcs[i], ">"+c.want+"</rpc>") {
			t.Errorf("sent %s\nwant %s", rpcs[i], c.want)
		}
	}
	if err := s.Lock(ctx, CandidateStore); !errors.Is(err, ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// One server never answers what it reads together with a late hello.
func TestOurHelloComesFirst(t *testing.T) {
	f := startFake(t, func(ch io.ReadWriteCloser) {
		frames := frameReader{r: newReader(ch)}
		hello, err := frames.read(1 << 20) // and says nothing before it has ours
		if err != nil || !strings.Contains(string(hello), capBase11) {
			return
		}
		io.WriteString(ch, fakeHello)
		io.Copy(io.Discard, ch)
	})
	dialFake(t, f)
}

func TestDialTellsWhatIsWrong(t *testing.T) {
	hang := func(ch io.ReadWriteCloser) { io.Copy(io.Discard, ch) }
	for name, c := range map[string]struct {
		serve  func(io.ReadWriteCloser)
		spoil  func(t *testing.T, f *fakeServer)
		want   error
		says   string
		expire bool
	}{
		"no hello":      {serve: hang, want: ErrUnreachable, says: "deadline exceeded", expire: true},
		"hello garbage": {serve: func(ch io.ReadWriteCloser) { io.WriteString(ch, "hi]]>]]>"); hang(ch) }, want: ErrProtocol},
		"hello endless": {serve: func(ch io.ReadWriteCloser) {
			for b := make([]byte, 4096); ; {
				if _, err := ch.Write(b); err != nil {
					return
				}
			}
		}, want: ErrProtocol, says: "larger"},
		"hello cut":    {serve: func(ch io.ReadWriteCloser) { io.WriteString(ch, fakeHello[:100]) }, want: ErrUnreachable},
		"no subsystem": {serve: hang, spoil: func(t *testing.T, f *fakeServer) { f.refused = true }, want: ErrUnreachable, says: "no subsystem netconf"},
		"no SSH": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			f.onConn = func(c net.Conn) bool { io.Copy(io.Discard, c); return false }
		}, want: ErrUnreachable, says: "deadline", expire: true},
		"closed at once": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			f.onConn = func(c net.Conn) bool { return false }
		}, want: ErrUnreachable},
		"nobody there": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			f.dial.Address = l.Addr().String()
			l.Close()
		}, want: ErrUnreachable, says: "connect to 127.0.0.1:"},
		"login": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			f.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("no") }
		}, want: ErrLogin, says: "user admin with key"},
		"key for all to read": {serve: hang, spoil: func(t *testing.T, f *fakeServer) { os.Chmod(f.dial.KeyFile, 0o640) }, want: ErrKeyFile, says: "chmod 600"},
		"key absent":          {serve: hang, spoil: func(t *testing.T, f *fakeServer) { f.dial.KeyFile += "x" }, want: ErrKeyFile, says: "no such file"},
		"key garbage": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			os.WriteFile(f.dial.KeyFile, []byte("garbage"), 0o600)
		}, want: ErrKeyFile, says: "no private key"},
		"key a directory": {serve: hang, spoil: func(t *testing.T, f *fakeServer) { f.dial.KeyFile = filepath.Dir(f.dial.KeyFile) }, want: ErrKeyFile},
		"host unknown": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			os.WriteFile(f.dial.KnownHosts, nil, 0o600)
		}, want: ErrHostKey, says: "banmesh conductor trust"},
		"host file absent": {serve: hang, spoil: func(t *testing.T, f *fakeServer) { f.dial.KnownHosts += "x" }, want: ErrHostKey, says: "banmesh conductor trust"},
		"host file garbage": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			os.WriteFile(f.dial.KnownHosts, []byte("a b c d\n"), 0o600)
		}, want: ErrHostKey},
		"host revoked": {serve: hang, spoil: func(t *testing.T, f *fakeServer) {
			line, err := os.ReadFile(f.dial.KnownHosts)
			if err != nil {
				t.Fatal(err)
			}
			os.WriteFile(f.dial.KnownHosts, append([]byte("@revoked "), line...), 0o600)
		}, want: ErrHostKey, says: "revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := startFake(t, c.serve, func(f *fakeServer) {
				if c.spoil != nil {
					c.spoil(t, f)
				}
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			if c.expire {
				ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
			}
			defer cancel()
			_, err := Dial(ctx, f.dial)
			if !errors.Is(err, c.want) || !strings.Contains(fmt.Sprint(err), c.says) {
				t.Errorf("got %v, want %v saying %q", err, c.want, c.says)
			}
			for _, other := range []error{ErrKeyFile, ErrHostKey, ErrLogin, ErrUnreachable, ErrProtocol} {
				if other != c.want && errors.Is(err, other) {
					t.Errorf("%v is also %v", err, other)
				}
			}
		})
	}
}

func TestTheDeadlineClosesTheConnection(t *testing.T) {
	gone := make(chan struct{})
	f := startFake(t, func(ch io.ReadWriteCloser) {
		defer close(gone)
		answering(func(int, string) string { return "" })(ch)
	})
	s := dialFake(t, f)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := s.Lock(ctx, CandidateStore)
	if !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want unreachable by deadline", err)
	}
	select {
	case <-gone:
	case <-time.After(10 * time.Second):
		t.Fatal("the server still has the connection")
	}
	// Nothing is sent on a session that may still get a late reply.
	err = s.Commit(t.Context(), ValidationNone)
	if !errors.Is(err, ErrUnreachable) || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("commit on the dead session: %v, want unreachable, the outcome known", err)
	}
}

func TestACommitThatWasNotSentHasAKnownOutcome(t *testing.T) {
	var commits atomic.Int32
	f := startFake(t, answering(func(_ int, rpc string) string {
		if strings.Contains(rpc, "<commit") {
			commits.Add(1)
		}
		return fakeOK
	}))
	s := dialFake(t, f)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Commit(ctx, ValidationNone); err == nil || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
	if err := s.Lock(t.Context(), CandidateStore); err != nil {
		t.Errorf("the session is gone: %v", err)
	}
	if n := commits.Load(); n != 0 {
		t.Errorf("%d commits were sent", n)
	}
}

func TestBrokenRepliesEndTheSession(t *testing.T) {
	for name, answer := range map[string]string{
		"other message-id": strings.ReplaceAll(fakeOK, "ID", "other"),
		"no message-id":    strings.ReplaceAll(fakeOK, ` message-id="ID"`, ""),
		"garbage":          "garbage",
		"empty":            strings.ReplaceAll(fakeOK, "<ok/>", ""),
		"bomb":             `<!DOCTYPE a [<!ENTITY a "aaaa">]>` + fakeOK,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dialFake(t, startFake(t, answering(func(int, string) string { return answer })))
			if err := s.Lock(t.Context(), CandidateStore); !errors.Is(err, ErrProtocol) {
				t.Errorf("got %v, want a protocol error", err)
			}
			if err := s.Unlock(t.Context(), CandidateStore); !errors.Is(err, ErrProtocol) {
				t.Errorf("afterwards: %v, want the same", err)
			}
		})
	}
}

// fakeConductor is a Conductor for a fake server.
func fakeConductor(t testing.TB, f *fakeServer, timeout time.Duration) *Conductor {
	t.Helper()
	cfg := DefaultConfig()
	cfg.Addresses, cfg.KeyFile, cfg.KnownHosts = []string{f.addr}, f.dial.KeyFile, f.dial.KnownHosts
	cfg.Timeout, cfg.DialTimeout = timeout, 20*time.Second
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestAnUnansweredFirstOperationGetsAnotherSession(t *testing.T) {
	var sessions atomic.Int32
	f := startFake(t, func(ch io.ReadWriteCloser) {
		if sessions.Add(1) < 3 {
			answering(func(int, string) string { return "" })(ch)
			return
		}
		answering(func(int, string) string { return fakeData("") })(ch)
	})
	if _, err := fakeConductor(t, f, 4*time.Second).Read(t.Context()); err != nil {
		t.Error(err)
	}
	if n := sessions.Load(); n != 3 {
		t.Errorf("%d sessions, want the third to do it", n)
	}
}

func TestARefusedLoginIsNotRepeated(t *testing.T) {
	var logins atomic.Int32
	f := startFake(t, nil, func(f *fakeServer) {
		f.config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
			logins.Add(1)
			return nil, errors.New("no")
		}
	})
	c := fakeConductor(t, f, 20*time.Second)
	c.cfg.Addresses = append(c.cfg.Addresses, f.addr, f.addr)
	if _, err := c.Read(t.Context()); !errors.Is(err, ErrLogin) {
		t.Errorf("got %v, want a refused login", err)
	}
	if n := logins.Load(); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
}

func TestDataMissingOnRemoveIsNoFailure(t *testing.T) {
	var edits []string
	held := []string{"10.0.0.1/32", "10.0.0.2/32"}
	tenant := func(addresses []string) string {
		return fakeData(`<config xmlns="` + nsConfig + `"><authority xmlns="` + nsAuthority + `"><tenant><name>blacklist-fail2ban</name><member>` +
			`<neighborhood>internet</neighborhood><address>` + strings.Join(addresses, "</address><address>") + `</address></member></tenant></authority></config>`)
	}
	f := startFake(t, answering(func(_ int, rpc string) string {
		switch {
		case strings.Contains(rpc, "<edit-config>"):
			edits = append(edits, rpc)
			if len(edits) == 1 {
				held = held[1:] // somebody else was quicker
				return fakeError("<error-tag>data-missing</error-tag><error-severity>error</error-severity>")
			}
			held = []string{"10.0.0.9/32"}
			return fakeOK
		case strings.Contains(rpc, "<get-config>"):
			return tenant(held)
		}
		return fakeOK
	}))
	e, err := fakeConductor(t, f, 20*time.Second).Begin(t.Context(), Permit{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(t.Context())
	add := []netip.Prefix{netip.MustParsePrefix("10.0.0.9/32")}
	if err := e.Apply(t.Context(), add, e.Running().Addresses); err != nil {
		t.Fatal(err)
	}
	if len(edits) != 2 || strings.Contains(edits[1], "10.0.0.1/32") || !strings.Contains(edits[1], "10.0.0.2/32") {
		t.Errorf("edits %q, want the second without what is missing", edits)
	}
}

func TestFetchHostKeyGivesALineThatIsTrusted(t *testing.T) {
	f := startFake(t, answering(func(int, string) string { return fakeOK }))
	key, err := FetchHostKey(t.Context(), f.addr)
	if err != nil {
		t.Fatal(err)
	}
	if key.Fingerprint != ssh.FingerprintSHA256(f.host.PublicKey()) || key.Type != "ssh-ed25519" {
		t.Errorf("got %+v", key)
	}
	f.dial.KnownHosts = filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(f.dial.KnownHosts, []byte(key.Line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dialFake(t, f)
	for _, addr := range []string{"", "x", "127.0.0.1:0", "127.0.0.1:99999"} {
		if _, err := FetchHostKey(t.Context(), addr); err == nil {
			t.Errorf("%q gave a key", addr)
		}
	}
	f.mu.Lock()
	f.onConn = func(c net.Conn) bool { io.Copy(io.Discard, c); return false }
	f.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := FetchHostKey(ctx, f.addr); !errors.Is(err, ErrUnreachable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent server: %v", err)
	}
}

// A server with several keys has to be asked for the one that is known.
func TestTheKnownKeyIsAskedFor(t *testing.T) {
	// The library prefers ecdsa to ed25519, which is the known one.
	dialFake(t, startFake(t, answering(func(int, string) string { return fakeOK }), func(f *fakeServer) {
		f.config.AddHostKey(newECDSA(t))
	}))
}

func TestFailedAttemptsLeaveNothingBehind(t *testing.T) {
	var n atomic.Int32
	f := startFake(t, func(ch io.ReadWriteCloser) {
		switch n.Load() % 5 {
		case 1: // no hello
			ch.Close()
		case 2:
			io.WriteString(ch, "garbage]]>]]>")
		case 3: // closed at the first operation
			io.WriteString(ch, fakeHello)
			buf := make([]byte, 4096)
			ch.Read(buf)
			ch.Read(buf)
		default:
			answering(func(int, string) string {
				return fakeError("<error-tag>lock-denied</error-tag><error-info><session-id>3</session-id></error-info>")
			})(ch)
		}
	}, func(f *fakeServer) {
		f.onConn = func(c net.Conn) bool { return n.Add(1)%5 != 0 } // closed at once
	})
	c := fakeConductor(t, f, 20*time.Second)
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			for i := range 100 {
				if _, err := c.Begin(t.Context(), Permit{}); err == nil {
					t.Errorf("attempt %d went through", i)
				}
			}
		})
	}
	wg.Wait()
	if len(c.sessions) != 0 {
		t.Errorf("%d sessions are kept", len(c.sessions))
	}
	deadline := time.Now().Add(20 * time.Second)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	if after := runtime.NumGoroutine(); after > before {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after: %s", before, after, buf[:runtime.Stack(buf, true)])
	}
}

func TestADeafServerIsGivenUp(t *testing.T) {
	for _, deaf := range []bool{true, false} {
		f := startFake(t, answering(func(int, string) string { return "" }), func(f *fakeServer) {
			f.deaf = deaf
			f.dial.keepaliveEvery, f.dial.keepaliveWait = 20*time.Millisecond, 200*time.Millisecond
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		if !deaf {
			ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		}
		defer cancel()
		err := dialFake(t, f).Lock(ctx, CandidateStore)
		if deaf && !strings.Contains(fmt.Sprint(err), "keepalive") {
			t.Errorf("deaf: %v, want no answer to keepalive", err)
		}
		if !deaf && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slow but alive: %v, want its whole time", err)
		}
	}
}
