package invite

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// member is an inviter with a door of its own.
type member struct {
	t     testing.TB
	host  *Host
	addr  string
	log   lockedBuffer
	mu    sync.Mutex
	clock time.Time
	saved []byte
	fails error // of what Save returns
	disk  func(context.Context)
	names map[string]bool
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}
func (l *lockedBuffer) String() string { l.mu.Lock(); defer l.mu.Unlock(); return l.b.String() }

func newMember(t testing.TB) *member {
	t.Helper()
	m := &member{t: t, clock: time.Now(), names: map[string]bool{"server1": true}}
	m.start(nil)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.addr = ln.Addr().String()
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			host := m.door()
			wg.Go(func() { host.Serve(ctx, c, "127.0.0.1") })
		}
	})
	t.Cleanup(func() { ln.Close(); cancel(); wg.Wait() })
	return m
}

func (m *member) start(saved []byte) {
	host, err := NewHost(Config{
		Saved: saved, Now: m.now, Logger: slog.New(slog.NewTextHandler(&m.log, nil)),
		Save: func(ctx context.Context, b []byte) error {
			if hang := m.hang(); hang != nil {
				hang(ctx)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.fails == nil {
				m.saved = b
			}
			return m.fails
		},
		Taken: func(name string) bool { return m.names[name] },
		Ours:  func(names []string) bool { return names[0] == "SHA256:ours" },
		Welcome: func(name string) (*Welcome, error) {
			return &Welcome{Inviter: "server1", Keyring: []string{"KEYOFTHEMESH"}, Join: []string{m.addr}}, nil
		},
	})
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.host = host
}

func (m *member) door() *Host { m.mu.Lock(); defer m.mu.Unlock(); return m.host }

func (m *member) now() time.Time { m.mu.Lock(); defer m.mu.Unlock(); return m.clock }

func (m *member) full(err error) { m.mu.Lock(); defer m.mu.Unlock(); m.fails = err }

func (m *member) hang() func(context.Context) { m.mu.Lock(); defer m.mu.Unlock(); return m.disk }

func (m *member) pass(d time.Duration) { m.mu.Lock(); defer m.mu.Unlock(); m.clock = m.clock.Add(d) }

func (m *member) invite(name string) *Token {
	m.t.Helper()
	token, err := m.host.Invite(context.Background(), name, "home", []string{m.addr}, 15*time.Minute)
	if err != nil {
		m.t.Fatal(err)
	}
	return token
}

func (m *member) logs(want string) {
	m.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(m.log.String(), want) {
		if time.Now().After(deadline) {
			m.t.Fatalf("the inviter does not log %q:\n%s", want, m.log.String())
		}
		time.Sleep(time.Millisecond)
	}
}

func machine(id string) Request { return Request{Name: "server2", Machine: id, Program: "test"} }

func refusedWith(t testing.TB, err error, code RefusalCode) {
	t.Helper()
	var refused *Refusal
	if !errors.As(err, &refused) || refused.Code != code {
		t.Errorf("refused with %v, want %s", err, code)
	}
}

// parsed is the token as the new machine has it.
func parsed(t testing.TB, token *Token) *Token {
	t.Helper()
	p, err := ParseToken(token.String())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestATokenLetsOneMachineIn(t *testing.T) {
	m := newMember(t)
	token := m.invite("")
	if bytes.Contains(m.saved, token.raw[:]) || strings.Contains(string(m.saved), token.String()) {
		t.Error("the member keeps the secret")
	}
	p := parsed(t, token)
	if p.ID() != token.ID() || p.Label != "home" || p.Addrs[0] != m.addr || !p.Until.Equal(token.Until) {
		t.Errorf("parsed as %+v, want %+v", p, token)
	}
	w, err := Ask(t.Context(), p, machine("a"))
	if err != nil || w.Name != "server2" || w.Keyring[0] != "KEYOFTHEMESH" || w.Inviter != "server1" {
		t.Fatalf("%+v, %v", w, err)
	}
	m.logs("let in by invitation")
	_, err = Ask(t.Context(), p, machine("b"))
	refusedWith(t, err, CodeUsed)
	m.logs("the token was used by server2")
	// The answer of the first may have been lost.
	if w, err := Ask(t.Context(), p, machine("a")); err != nil || w.Name != "server2" {
		t.Errorf("the machine that used it cannot ask again: %v", err)
	}
	// And all of it holds over a restart of the member.
	m.start(m.saved)
	_, err = Ask(t.Context(), p, machine("c"))
	refusedWith(t, err, CodeUsed)
}

func TestATokenEnds(t *testing.T) {
	m := newMember(t)
	token := parsed(t, m.invite(""))
	m.pass(15 * time.Minute)
	_, err := Ask(t.Context(), token, machine("a"))
	refusedWith(t, err, CodeExpired)
	m.logs("code=expired")
	m.pass(keepFor + time.Hour)
	m.invite("") // when the old ones are forgotten
	if _, err = Ask(t.Context(), token, machine("a")); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("a token that was forgotten: %v", err)
	}
	m.logs("unknown token")
}

func TestEachAlteredBitOfATokenIsFound(t *testing.T) {
	text := newMember(t).invite("server2").String()
	for i := len(tokenPrefix); i < len(text); i++ {
		for bit := range 8 {
			b := []byte(text)
			b[i] ^= 1 << bit
			if _, err := ParseToken(string(b)); !errors.Is(err, errToken) {
				t.Fatalf("character %d, bit %d: %v", i, bit, err)
			}
		}
	}
	for i := range text {
		if _, err := ParseToken(text[:i]); err == nil {
			t.Errorf("cut to %d characters it is taken", i)
		}
	}
	if _, err := ParseToken(strings.Replace(text, "banmesh1", "banmesh2", 1)); err == nil || !strings.Contains(err.Error(), "this version of banmesh knows banmesh1- only") {
		t.Errorf("of a later version: %v", err)
	}
}

func TestAddressesAreNoTokens(t *testing.T) {
	for s, want := range map[string]bool{
		"banmesh1-" + strings.Repeat("A", 70): true, "banmesh1-AbC": true, "banmesh1-ab_c": true, "banmesh2-" + strings.Repeat("a", 70): true,
		"192.0.2.1:7946": false, "banmesh1-east": false, "banmesh1-east:7946": false, "banmesh1-east.Example.com": false, "banmesh": false, "banmesh-A": false, "router2": false,
	} {
		if IsToken(s) != want {
			t.Errorf("%s is a token: %v, want %v", s, !want, want)
		}
	}
}

func TestATokenOfAnotherMeshIsUnknown(t *testing.T) {
	m, other := newMember(t), newMember(t)
	m.invite("")
	token := other.invite("")
	token.Addrs = []string{m.addr}
	if _, err := Ask(t.Context(), token, machine("a")); !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "does not know the token") {
		t.Errorf("%v", err)
	}
	m.logs("unknown token")
}

func TestOneTokenAndManyMachinesAtOnce(t *testing.T) {
	m := newMember(t)
	token := parsed(t, m.invite(""))
	var wg sync.WaitGroup
	errs := make([]error, maxAtOnceHost)
	for i := range errs {
		wg.Go(func() { _, errs[i] = Ask(t.Context(), token, machine(fmt.Sprint(i))) })
	}
	wg.Wait()
	in := 0
	for _, err := range errs {
		if err == nil {
			in++
		} else {
			refusedWith(t, err, CodeUsed)
		}
	}
	if in != 1 {
		t.Errorf("%d machines were let in with one token", in)
	}
}

func TestWhatIsRefusedLeavesTheTokenGood(t *testing.T) {
	m := newMember(t)
	token := parsed(t, m.invite(""))
	r := machine("a")
	r.Keys = []string{"SHA256:of another mesh"}
	_, err := Ask(t.Context(), token, r)
	refusedWith(t, err, CodeOtherMesh)
	r = machine("a")
	r.Name = "server1"
	_, err = Ask(t.Context(), token, r)
	refusedWith(t, err, CodeNameTaken)
	_, err = Ask(t.Context(), token, Request{Name: "server2"})
	refusedWith(t, err, CodeMalformed)
	m.full(errors.New("no space left on device"))
	_, err = Ask(t.Context(), token, machine("a"))
	refusedWith(t, err, CodeFailed)
	m.full(nil)
	r = machine("a")
	r.Keys = []string{"SHA256:ours"}
	if _, err := Ask(t.Context(), token, r); err != nil {
		t.Error(err)
	}
}

// The streams of guests are the gossip's: a disk that hangs must not keep them.
func TestADiskThatHangsHoldsUpNobodyElse(t *testing.T) {
	m := newMember(t)
	token, other := parsed(t, m.invite("")), parsed(t, newMember(t).invite(""))
	hung, saving := make(chan struct{}), make(chan context.Context, 1)
	defer close(hung)
	m.mu.Lock()
	m.disk = func(ctx context.Context) { saving <- ctx; <-hung }
	m.mu.Unlock()
	ctx, shutdown := context.WithCancel(t.Context())
	defer shutdown()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan struct{})
	go func() {
		defer close(served)
		if c, err := ln.Accept(); err == nil {
			m.host.Serve(ctx, c, "192.0.2.1")
		}
	}()
	token.Addrs = []string{ln.Addr().String()}
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		if _, err := Ask(t.Context(), token, machine("a")); err == nil {
			t.Error("let in before it was on the disk")
		}
	})
	if _, ok := (<-saving).Deadline(); !ok {
		t.Error("the disk is waited for without an end")
	}
	told := make(chan error, 1)
	other.Addrs = []string{m.addr}
	wg.Go(func() { _, err := Ask(t.Context(), other, machine("b")); told <- err })
	select {
	case err := <-told:
		if err == nil || !strings.Contains(err.Error(), "does not know the token") {
			t.Errorf("another one hears %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("another one is not answered")
	}
	shutdown()
	select {
	case <-served:
	case <-time.After(5 * time.Second):
		t.Error("a shutdown waits for the disk")
	}
	m.host.guard.mu.Lock()
	defer m.host.guard.mu.Unlock()
	if m.host.guard.inside["192.0.2.1"] != 1 {
		t.Error("what still waits for the disk is not counted any more")
	}
}

func TestATokenWithANameGivesTheMachineThatName(t *testing.T) {
	m := newMember(t)
	if _, err := m.host.Invite(t.Context(), "server1", "", []string{m.addr}, time.Minute); err == nil {
		t.Error("a name that a member has is given away")
	}
	w, err := Ask(t.Context(), parsed(t, m.invite("mail")), machine("a"))
	if err != nil || w.Name != "mail" {
		t.Errorf("%+v, %v", w, err)
	}
}

// TestTheIDWithoutTheSecretGetsNothing speaks the protocol with a token's id, which anybody on the way may read, and another secret.
func TestTheIDWithoutTheSecretGetsNothing(t *testing.T) {
	m := newMember(t)
	token, guess := m.invite(""), m.invite("")
	guess.keys.id = token.keys.id
	guess.keys.host = token.keys.host // so that it is the member alone that refuses
	if w, err := Ask(t.Context(), guess, machine("a")); err == nil {
		t.Fatalf("let in: %+v", w)
	}
	m.logs("the token's id without its secret")
	if _, err := Ask(t.Context(), token, machine("a")); err != nil {
		t.Error(err)
	}
}

// A false member that has learned the id sees no request, not even the name.
func TestAFalseInviterIsToldNothing(t *testing.T) {
	m := newMember(t)
	token, other := m.invite(""), m.invite("")
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	got := make(chan []byte, 1)
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		cfg, _ := sealed(other.keys.host, token.keys.client.Public().(ed25519.PublicKey))
		b, _ := io.ReadAll(tls.Server(c, cfg))
		got <- b
	}()
	token.Addrs = []string{ln.Addr().String()}
	if _, err := Ask(t.Context(), token, machine("a")); !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "told nothing") {
		t.Errorf("%v", err)
	}
	if b := <-got; len(b) > 0 {
		t.Errorf("it was told %q", b)
	}
}

// relay passes a stream on, writes down what the new machine says, and may change what the member says.
func relay(t testing.TB, to string, change func([]byte)) (addr string, said *lockedBuffer) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said = &lockedBuffer{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				d, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer d.Close()
				wg.Go(func() { io.Copy(d, io.TeeReader(c, said)); d.(*net.TCPConn).CloseWrite() })
				b := make([]byte, 32<<10)
				for {
					n, err := d.Read(b)
					if change != nil {
						change(b[:n])
					}
					if _, werr := c.Write(b[:n]); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String(), said
}

func TestWhoeverRelaysSeesAndChangesNothing(t *testing.T) {
	m := newMember(t)
	token := m.invite("")
	addr, said := relay(t, m.addr, nil)
	token.Addrs = []string{addr}
	if _, err := Ask(t.Context(), token, machine("claim-of-a")); err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"claim-of-a", "server2", "KEYOFTHEMESH"} {
		if strings.Contains(said.String(), secret) {
			t.Errorf("the relay has read %q", secret)
		}
	}
	// What it recorded is played back to the member, which has seen the token used and lets nobody in.
	c, err := net.Dial("tcp", m.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(said.String())); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if b, _ := io.ReadAll(c); strings.Contains(string(b), "KEYOFTHEMESH") {
		t.Error("a recording was answered with the key")
	}
	m.logs("the stream is not one of banmesh join")

	// Each byte that it changes ends the stream.
	token = m.invite("")
	seen := 0
	addr, _ = relay(t, m.addr, func(b []byte) {
		if seen++; seen == 2 && len(b) > 0 {
			b[len(b)/2] ^= 1
		}
	})
	token.Addrs = []string{addr}
	if w, err := Ask(t.Context(), token, machine("a")); err == nil {
		t.Errorf("a changed answer was taken: %+v", w)
	}
}

func TestTheAddressThatAnsweredIsJoinedFirst(t *testing.T) {
	m := newMember(t)
	forwarded, _ := relay(t, m.addr, nil)
	token := parsed(t, m.invite(""))
	for addr, want := range map[string][]string{forwarded: {forwarded, m.addr}, m.addr: {m.addr}} {
		token.Addrs = []string{addr}
		if w, err := Ask(t.Context(), token, machine("a")); err != nil || !slices.Equal(w.Join, want) {
			t.Errorf("asked at %s: join %v, %v, want %v", addr, w, err, want)
		}
	}
}

func TestGuessingIsBoundedAndLogged(t *testing.T) {
	m := newMember(t)
	good := parsed(t, m.invite(""))
	for range maxFailedHost + 5 {
		guess, err := newToken([]string{m.addr}, "", "", m.now().Add(time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Ask(t.Context(), guess, machine("a")); err == nil {
			t.Fatal("a guess was right")
		}
	}
	m.logs("too many failed attempts of this host")
	if n := strings.Count(m.log.String(), "unknown token"); n > maxFailedHost {
		t.Errorf("%d guesses were looked at, want %d at most", n, maxFailedHost)
	}
	m.pass(failWindow)
	if _, err := Ask(t.Context(), good, machine("a")); err != nil {
		t.Errorf("after a while: %v", err)
	}
}

func TestAFloodFillsNeitherTheLogNorTheDoor(t *testing.T) {
	now := time.Now()
	g := newGuard(func() time.Time { return now })
	for i := range maxFailed {
		host := fmt.Sprint(i)
		if reason := g.enter(host); reason != "" {
			t.Fatal(reason)
		}
		g.leave(host, true)
	}
	if g.enter("another") == "" {
		t.Error("failed attempts of all hosts together have no bound")
	}
	now = now.Add(failWindow)
	for i := range maxAtOnce {
		if reason := g.enter(fmt.Sprint(i)); reason != "" {
			t.Fatal(reason)
		}
	}
	if g.enter("another") == "" {
		t.Error("streams at once have no bound")
	}
	s := sparse{now: func() time.Time { return now }}
	lines := 0
	for range 1000 {
		if _, ok := s.allow(); ok {
			lines++
		}
	}
	now = now.Add(time.Minute)
	if held, ok := s.allow(); lines != maxLines || !ok || held != 1000-maxLines {
		t.Errorf("%d lines, then %d held back", lines, held)
	}
}

// A stream that stops in the middle uses nothing up, and makes nobody wait.
func TestAHalfFinishedJoinUsesNothingUp(t *testing.T) {
	m := newMember(t)
	token := parsed(t, m.invite(""))
	for _, bytes := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00"} {
		c, err := net.Dial("tcp", m.addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(bytes))
		c.Close()
	}
	cfg, err := sealed(token.keys.client, token.keys.host.Public().(ed25519.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	cfg.ServerName = serverName(token.keys.id)
	c, err := tls.Dial("tcp", m.addr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(machine("half"))
	c.Write(b[:len(b)/2])
	c.NetConn().Close()
	m.logs("the request did not come whole")
	if _, err := Ask(t.Context(), token, machine("a")); err != nil {
		t.Error(err)
	}
}

func TestNobodyIsAnsweredWhereNobodyIsInvited(t *testing.T) {
	m, other := newMember(t), newMember(t)
	token := other.invite("")
	token.Addrs = []string{m.addr}
	if _, err := Ask(t.Context(), token, machine("a")); !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), "hangs up") {
		t.Errorf("%v", err)
	}
}

func TestInvitationsAreBounded(t *testing.T) {
	m := newMember(t)
	for range maxOpen {
		m.invite("")
	}
	if _, err := m.host.Invite(t.Context(), "", "", []string{m.addr}, time.Minute); err == nil {
		t.Error("there is no bound")
	}
	for _, life := range []time.Duration{0, -time.Minute, longest + 1} {
		if _, err := m.host.Invite(t.Context(), "", "", []string{m.addr}, life); err == nil {
			t.Errorf("a token for %v", life)
		}
	}
}

func FuzzToken(f *testing.F) {
	token, err := newToken([]string{"192.0.2.1:7946", "[2001:db8::1]:7946"}, "home", "mail", time.Unix(1800000000, 0))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(token.String())
	f.Add(token.String()[:40] + "\r\n" + token.String()[40:])
	f.Add(tokenPrefix)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParseToken(s)
		if err == nil && p.String() != strings.NewReplacer("\r", "", "\n", "").Replace(strings.TrimSpace(s)) {
			t.Errorf("%q came back as %q", s, p.String())
		}
	})
}

// What is taken back lets nobody in, also after a restart; a name means all that were invited under it.
func TestAnInvitationIsTakenBack(t *testing.T) {
	m := newMember(t)
	mail, mailAgain, any, used := m.invite("mail2"), m.invite("mail2"), m.invite(""), m.invite("")
	if _, err := Ask(t.Context(), used, Request{Name: "server9", Machine: "m9"}); err != nil {
		t.Fatal(err)
	}
	open := func() (names []string) {
		for _, i := range m.door().Open() {
			names = append(names, i.ID)
		}
		return names
	}
	if got, want := open(), []string{mail.ID(), mailAgain.ID(), any.ID()}; !slices.Equal(got, want) {
		t.Errorf("open are %q, want %q", got, want)
	}
	for _, which := range []string{"mail3", used.ID(), "server9"} {
		if ended, err := m.host.Cancel(t.Context(), which); err == nil {
			t.Errorf("%q takes back %+v", which, ended)
		}
	}
	if ended, err := m.host.Cancel(t.Context(), "mail2"); err != nil || len(ended) != 2 {
		t.Errorf("by its name: %+v, %v", ended, err)
	}
	m.start(m.saved)
	if got, want := open(), []string{any.ID()}; !slices.Equal(got, want) {
		t.Errorf("after a restart %q are open, want %q", got, want)
	}
	for _, token := range []*Token{mail, mailAgain} {
		var r *Refusal
		if _, err := Ask(t.Context(), token, Request{Name: "mail2", Machine: "m1"}); !errors.As(err, &r) || r.Code != CodeExpired {
			t.Errorf("a token that was taken back: %v", err)
		}
	}
	m.pass(-time.Hour)
	for _, token := range []*Token{mail, mailAgain} {
		if _, err := Ask(t.Context(), token, Request{Name: "mail2", Machine: "m1"}); err == nil {
			t.Error("a clock that is set back makes a token good again that was taken back")
		}
	}
	if n := len(open()); n != 1 {
		t.Errorf("%d are open after the clock was set back, want 1", n)
	}
	m.pass(time.Hour)
	m.full(errors.New("disk full"))
	if _, err := m.host.Cancel(t.Context(), any.ID()); err == nil {
		t.Error("taken back without the disk")
	}
	m.full(nil)
	if _, err := Ask(t.Context(), any, Request{Name: "server2", Machine: "m1"}); err != nil {
		t.Errorf("one that could not be taken back: %v", err)
	}
}
