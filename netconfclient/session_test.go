package netconfclient

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
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
	if s.ID() != 7 || !s.Offers(CapCandidate) || s.Offers(CapBase11) || s.Address() != f.addr {
		t.Errorf("session %d with %q", s.ID(), s.Capabilities())
	}
	for i, c := range []struct {
		do   func() error
		want string
	}{
		{func() error { return s.Lock(ctx, CandidateStore) }, `<lock><target><candidate></candidate></target></lock>`},
		{func() error { return s.Unlock(ctx, RunningStore) }, `<unlock><target><running></running></target></unlock>`},
		{func() error { return s.Validate(ctx, CandidateStore) }, `<validate><source><candidate></candidate></source></validate>`},
		{func() error { return s.Commit(ctx) }, `<commit></commit>`},
		{func() error {
			return s.Commit(ctx, Leaf("validation-type", "local").In("urn:128technology:netconf:validate-type:1.0"))
		}, `<commit><validation-type xmlns="urn:128technology:netconf:validate-type:1.0">local</validation-type></commit>`},
		{func() error { return s.DiscardChanges(ctx) }, `<discard-changes></discard-changes>`},
		{func() error { return s.KillSession(ctx, 4) }, `<kill-session><session-id>4</session-id></kill-session>`},
		{func() error {
			change := El("tenant", Leaf("name", "t"), Leaf("address", "10.0.0.2").Operation("remove"), Leaf("address", "10.0.0.1/32")).In("urn:t")
			return s.EditConfig(ctx, CandidateStore, EditOptions{Default: "merge", Test: "test-then-set", Error: "rollback-on-error"}, change)
		}, `<edit-config><target><candidate></candidate></target><default-operation>merge</default-operation><test-option>test-then-set</test-option>` +
			`<error-option>rollback-on-error</error-option><config xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0">` +
			`<tenant xmlns="urn:t"><name>t</name><address nc:operation="remove">10.0.0.2</address><address>10.0.0.1/32</address></tenant></config></edit-config>`},
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
		if err != nil || !strings.Contains(string(hello), CapBase11) {
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
	err = s.Commit(t.Context())
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
	if err := s.Commit(ctx); err == nil || errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("got %v", err)
	}
	if err := s.Lock(t.Context(), CandidateStore); err != nil {
		t.Errorf("the session is gone: %v", err)
	}
	if n := commits.Load(); n != 0 {
		t.Errorf("%d commits were sent", n)
	}
}

// However a reply is dressed, and whatever the server tells besides, it is that of the operation.
func TestUnusualRepliesAreTaken(t *testing.T) {
	const event = `<?xml version="1.0"?><n:notification xmlns:n="urn:ietf:params:xml:ns:netconf:notification:1.0"><n:eventTime>2026-01-01T00:00:00Z</n:eventTime>` +
		`<netconf-config-change xmlns="urn:ietf:params:xml:ns:yang:ietf-netconf-notifications"/></n:notification>` + endOfMessage
	const warning = `<rpc-error><error-type>application</error-type><error-tag>operation-failed</error-tag><error-severity>warning</error-severity></rpc-error>`
	for name, answer := range map[string]string{
		"prefixed":              `<nc:rpc-reply xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="ID"><nc:ok/></nc:rpc-reply>`,
		"prefixed inside":       `<rpc-reply message-id="ID" xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" xmlns:a="urn:ietf:params:xml:ns:netconf:base:1.0"><a:ok></a:ok></rpc-reply>`,
		"single quotes":         `<rpc-reply other='x' message-id='ID' xmlns='urn:ietf:params:xml:ns:netconf:base:1.0' ><ok /></rpc-reply >`,
		"white space":           "\r\n\t<?xml version='1.0' encoding='utf-8' standalone='yes'?>\n" + strings.ReplaceAll(fakeOK, "<ok/>", "\n  <ok>\n</ok>\n") + "\n",
		"comments":              "<!-- a -->" + strings.ReplaceAll(fakeOK, "<ok/>", "<!-- b --><ok/><?p i?>") + "<!-- c -->",
		"a warning before":      strings.ReplaceAll(fakeOK, "<ok/>", warning+"<ok/>"),
		"a warning behind":      strings.ReplaceAll(fakeOK, "<ok/>", "<ok/>"+warning),
		"attributes of ok":      strings.ReplaceAll(fakeOK, "<ok/>", `<ok xmlns:v="urn:v" v:took="a>b"></ok>`),
		"a spaced warning":      strings.ReplaceAll(fakeOK, "<ok/>", strings.ReplaceAll(warning, "warning", "\n warning \n")+"<ok/>"),
		"a sibling":             strings.ReplaceAll(fakeOK, "<ok/>", `<t:took xmlns:t="urn:t"><ok/></t:took><ok/>`),
		"a notification before": event + fakeOK,
		"notifications":         strings.Repeat(event, 20) + fakeOK,
		"one behind":            fakeOK + endOfMessage + strings.TrimSuffix(event, endOfMessage),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := dialFake(t, startFake(t, answering(func(int, string) string { return answer })))
			for range 3 {
				if err := s.Commit(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// A server with many thousand modules has a hello of megabytes.
func TestALongHelloIsTaken(t *testing.T) {
	many := strings.Repeat("<capability>urn:example:yang:a-module-with-a-long-name?module=a-module-with-a-long-name&amp;revision=2026-01-01</capability>", 20_000)
	hello := strings.ReplaceAll(fakeHello, "</capabilities>", many+"</capabilities>")
	srv := startFake(t, func(rw io.ReadWriteCloser) {
		io.WriteString(rw, hello)
		io.Copy(io.Discard, rw)
	})
	if got := len(dialFake(t, srv).Capabilities()); got < 20_000 {
		t.Errorf("%d capabilities", got)
	}
}

// Notifications without end are no reply.
func TestNotificationsDoNotKeepAnOperationWaiting(t *testing.T) {
	s := dialFake(t, startFake(t, func(ch io.ReadWriteCloser) {
		io.WriteString(ch, fakeHello)
		for {
			if _, err := io.WriteString(ch, `<notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0"/>`+endOfMessage); err != nil {
				return
			}
		}
	}))
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := s.Commit(ctx); !errors.Is(err, ErrUnknownOutcome) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want an unknown outcome by deadline", err)
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

// A server that answers no keepalive is given up while the session is idle. While it works on an operation that is no sign
// of anything: one that commits may be silent for minutes, and the operation has a deadline of its own.
func TestADeafServerIsGivenUpWhileIdleOnly(t *testing.T) {
	release := make(chan struct{})
	deaf := func(f *fakeServer) {
		f.deaf = true
		f.dial.keepaliveEvery, f.dial.keepaliveWait = 20*time.Millisecond, 100*time.Millisecond
	}
	s := dialFake(t, startFake(t, answering(func(n int, _ string) string {
		if n == 0 {
			<-release
		}
		return fakeOK
	}), deaf))
	time.AfterFunc(time.Second, func() { close(release) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := s.Commit(ctx); err != nil {
		t.Errorf("a commit of a second: %v", err)
	}
	deadline := time.After(20 * time.Second)
	for {
		if err := s.Lock(ctx, CandidateStore); err != nil {
			if !strings.Contains(err.Error(), "keepalive") {
				t.Errorf("idle: %v, want no answer to keepalive", err)
			}
			return
		}
		select {
		case <-deadline:
			t.Fatal("a deaf server is never given up")
		case <-time.After(300 * time.Millisecond):
		}
	}
}

// A file of known hosts is read as OpenSSH reads it.
func TestKnownHostsAsOpenSSHReadsThem(t *testing.T) {
	other := newECDSA(t)
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certify := func(f *fakeServer, until time.Time) {
		cert := &ssh.Certificate{Key: f.host.PublicKey(), CertType: ssh.HostCert, ValidAfter: 1, ValidBefore: uint64(until.Unix()), ValidPrincipals: []string{"127.0.0.1"}}
		if err := cert.SignCert(rand.Reader, authority); err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewCertSigner(cert, f.host)
		if err != nil {
			t.Fatal(err)
		}
		f.config.AddHostKey(signer)
	}
	line := func(key ssh.PublicKey) string { return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) }
	for name, c := range map[string]struct {
		file  func(f *fakeServer) string
		serve func(f *fakeServer)
		want  error
		says  string
	}{
		"lines that cannot be parsed": {file: func(f *fakeServer) string {
			return "h ssh-mldsa65 AAAA\nh 1024 35 1234567\ngarbage\n\x00\n" + knownhosts.Line([]string{f.addr}, f.host.PublicKey())
		}},
		"any port": {file: func(f *fakeServer) string { return "[127.0.0.1]:* " + line(f.host.PublicKey()) }},
		"any host": {file: func(f *fakeServer) string { return "* " + line(f.host.PublicKey()) }},
		"excluded": {file: func(f *fakeServer) string { return "*,![127.0.0.1]:* " + line(f.host.PublicKey()) }, want: ErrHostKey, says: "not known"},
		"hashed": {file: func(f *fakeServer) string {
			return knownhosts.HashHostname(knownhosts.Normalize(f.addr)) + " " + line(f.host.PublicKey())
		}},
		"authority": {file: func(f *fakeServer) string { return "@cert-authority [127.0.0.1]:* " + line(authority.PublicKey()) }, serve: func(f *fakeServer) { certify(f, time.Now().Add(time.Hour)) }},
		"certificate that ended": {file: func(f *fakeServer) string { return "@cert-authority * " + line(authority.PublicKey()) },
			serve: func(f *fakeServer) { certify(f, time.Now().Add(-time.Hour)) }, want: ErrHostKey, says: "expired"},
		"another type": {file: func(f *fakeServer) string { return "* " + line(other.PublicKey()) }, want: ErrHostKey, says: "has changed"},
	} {
		t.Run(name, func(t *testing.T) {
			f := startFake(t, answering(func(int, string) string { return fakeOK }), func(f *fakeServer) {
				if c.serve != nil {
					c.serve(f)
				}
				if err := os.WriteFile(f.dial.KnownHosts, []byte(c.file(f)+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
			})
			s, err := Dial(t.Context(), f.dial)
			if !errors.Is(err, c.want) || c.want != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v saying %q", err, c.want, c.says)
			}
			if err == nil {
				s.Close()
			}
		})
	}
}

func TestAServerOfSHA1OnlyIsNamedAndCanBeAllowed(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	sha1Only, err := ssh.NewSignerWithAlgorithms(signer.(ssh.AlgorithmSigner), []string{ssh.KeyAlgoRSA})
	if err != nil {
		t.Fatal(err)
	}
	f := startFake(t, answering(func(int, string) string { return fakeOK }), func(f *fakeServer) {
		f.config = &ssh.ServerConfig{PublicKeyCallback: f.config.PublicKeyCallback}
		f.config.AddHostKey(sha1Only)
		if err := os.WriteFile(f.dial.KnownHosts, []byte("* "+string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if _, err := Dial(t.Context(), f.dial); !errors.Is(err, ErrUnreachable) || !strings.Contains(err.Error(), "host_key_algorithms") {
		t.Errorf("got %v", err)
	}
	f.dial.HostKeyAlgorithms = []string{ssh.KeyAlgoRSA}
	dialFake(t, f)
}
