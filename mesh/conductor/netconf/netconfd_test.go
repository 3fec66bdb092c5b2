package netconf_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/sim/netconfdtest"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/netconf"
	"banmesh/netconfclient"
)

// These tests run against Debian's netconfd; what came of it is read by python3-ncclient.

func configFor(s *netconfdtest.Server) netconf.Config {
	cfg := netconf.DefaultConfig()
	cfg.Addresses = []string{s.Addr}
	cfg.User, cfg.KeyFile, cfg.KnownHosts = s.User, s.KeyFile, s.KnownHosts
	cfg.Timeout = 40 * time.Second
	return cfg
}

func conductorFor(t *testing.T, cfg netconf.Config) *conductor.Conductor {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	c, err := netconf.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// prefixes are n different ones, every fifth of them IPv6.
func prefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		if i%5 == 4 {
			out[i] = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 12: byte(i >> 24), 13: byte(i >> 16), 14: byte(i >> 8), 15: byte(i)}), 128)
		} else {
			out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + i>>16), byte(i >> 8), byte(i)}), 32)
		}
	}
	return out
}

func sorted(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	slices.Sort(out)
	return out
}

// wantTenant compares with what ncclient reads.
func wantTenant(t *testing.T, s *netconfdtest.Server, cfg netconf.Config, want []netip.Prefix) {
	t.Helper()
	got := s.NcclientRead(t, cfg.Tenant, cfg.Neighborhood)
	slices.Sort(got.Addresses)
	if w := sorted(want); !slices.Equal(got.Addresses, w) {
		t.Errorf("ncclient reads %d addresses %.200v, want %d %.200v", len(got.Addresses), got.Addresses, len(w), w)
	}
}

// change makes one whole change.
func change(ctx context.Context, c *conductor.Conductor, p conductor.Permit, add, remove []netip.Prefix) error {
	e, err := c.Begin(ctx, p)
	if err != nil {
		return err
	}
	if err := e.Apply(ctx, add, remove); err != nil {
		return errors.Join(err, e.Close(ctx))
	}
	if err := e.Commit(ctx); err != nil {
		return errors.Join(err, e.Close(ctx))
	}
	return e.Close(ctx)
}

// admin is another client's session. netconfd now and then never answers a first operation, so one is tried first.
func admin(t *testing.T, s *netconfdtest.Server) *netconfclient.Session {
	t.Helper()
	var err error
	for range 5 {
		var n *netconfclient.Session
		n, err = netconfclient.Dial(t.Context(), netconfclient.DialConfig{Address: s.Addr, User: s.User, KeyFile: s.KeyFile, KnownHosts: s.KnownHosts})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		_, err = n.GetConfig(ctx, netconfclient.RunningStore, netconfclient.Filter{})
		cancel()
		if err == nil {
			t.Cleanup(func() { n.Close() })
			return n
		}
		n.Close()
	}
	t.Fatal(err)
	return nil
}

// service is another administrator's work: nothing of the tenant.
func service(name string) netconfclient.Element {
	const svc = "http://128technology.com/t128/config/service-config"
	return netconfclient.Element{Space: "http://128technology.com/t128", Name: "config", Kids: []netconfclient.Element{
		{Space: "http://128technology.com/t128/config/authority-config", Name: "authority", Kids: []netconfclient.Element{
			{Space: svc, Name: "service", Kids: []netconfclient.Element{{Name: "name", Text: name}}}}}}}
}

func tenantWith(cfg netconf.Config, addresses ...string) netconfclient.Element {
	member := netconfclient.Element{Name: "member", Kids: []netconfclient.Element{{Name: "neighborhood", Text: cfg.Neighborhood}}}
	for _, a := range addresses {
		member.Kids = append(member.Kids, netconfclient.Element{Name: "address", Text: a})
	}
	return netconfclient.Element{Space: "http://128technology.com/t128", Name: "config", Kids: []netconfclient.Element{
		{Space: "http://128technology.com/t128/config/authority-config", Name: "authority", Kids: []netconfclient.Element{
			{Name: "tenant", Kids: []netconfclient.Element{{Name: "name", Text: cfg.Tenant}, member}}}}}}
}

func TestNetconfdWholeSequence(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 100, 1000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			s := netconfdtest.Start(t)
			cfg := configFor(s)
			c := conductorFor(t, cfg)
			ctx := t.Context()
			all := prefixes(n)

			start := time.Now()
			if err := change(ctx, c, conductor.Permit{}, all, nil); err != nil {
				t.Fatal(err)
			}
			t.Logf("%d added in %v; %s", n, time.Since(start), c.Features())
			wantTenant(t, s, cfg, all)
			if got := s.NcclientRead(t, cfg.Tenant, cfg.Neighborhood); got.Description == nil || *got.Description != cfg.Description {
				t.Errorf("description %v, want %q", got.Description, cfg.Description)
			}

			r, err := c.Read(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Exists || !slices.Equal(sorted(r.Addresses), sorted(all)) || r.Conductor != s.Addr {
				t.Errorf("read %v %d addresses at %s", r.Exists, len(r.Addresses), r.Conductor)
			}

			// Half go, one comes; what is absent already and what is there already change nothing.
			gone, kept := all[:(n+1)/2], all[(n+1)/2:]
			extra := netip.MustParsePrefix("203.0.113.0/24")
			add := append([]netip.Prefix{extra}, kept...)
			remove := append([]netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}, gone...)
			if err := change(ctx, c, conductor.Permit{}, add, remove); err != nil {
				t.Fatal(err)
			}
			wantTenant(t, s, cfg, add)

			if err := change(ctx, c, conductor.Permit{}, nil, add); err != nil {
				t.Fatal(err)
			}
			wantTenant(t, s, cfg, nil)
		})
	}
}

func TestNetconfdKeepsADescriptionThatIsThere(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	other := cfg
	other.Description = "written by hand"
	if err := change(t.Context(), conductorFor(t, other), conductor.Permit{}, prefixes(1), nil); err != nil {
		t.Fatal(err)
	}
	if err := change(t.Context(), conductorFor(t, cfg), conductor.Permit{}, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	if got := s.NcclientRead(t, cfg.Tenant, cfg.Neighborhood); got.Description == nil || *got.Description != other.Description || len(got.Addresses) != 2 {
		t.Errorf("tenant %+v, want description %q and 2 addresses", got, other.Description)
	}
}

func TestNetconfdLockHeldByAnother(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	c := conductorFor(t, configFor(s))
	ctx := t.Context()
	holder := admin(t, s)
	if err := holder.Lock(ctx, netconfclient.CandidateStore); err != nil {
		t.Fatal(err)
	}
	_, err := c.Begin(ctx, conductor.Permit{Kill: []conductor.SessionAt{{Node: holder.Address(), ID: holder.ID() + 1000}, {Node: "192.0.2.1:830", ID: holder.ID()}}})
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || busy.Holder != holder.ID() || !errors.Is(err, conductor.ErrBusy) {
		t.Fatalf("Begin: %v, want busy with holder %d", err, holder.ID())
	}
	// Another one is not killed; it may be where the caller says so.
	if err := holder.Unlock(ctx, netconfclient.CandidateStore); err != nil {
		t.Fatalf("the holder was disturbed: %v", err)
	}
	if err := holder.Lock(ctx, netconfclient.CandidateStore); err != nil {
		t.Fatal(err)
	}
	if err := change(ctx, c, conductor.Permit{Kill: []conductor.SessionAt{{Node: holder.Address(), ID: holder.ID()}}}, prefixes(3), nil); err != nil {
		t.Fatalf("with leave to kill: %v", err)
	}
	wantTenant(t, s, configFor(s), prefixes(3))
}

func TestNetconfdWaitsForAnotherAdminsEdits(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	c := conductorFor(t, cfg)
	ctx := t.Context()
	other := admin(t, s)
	if err := other.EditConfig(ctx, netconfclient.CandidateStore, netconfclient.EditOptions{}, service("half-finished")); err != nil {
		t.Fatal(err)
	}
	never := conductor.Permit{Ours: func(added, removed []netip.Prefix) bool {
		t.Error("asked whether another's service is ours")
		return true
	}}
	err := change(ctx, c, never, prefixes(1), nil)
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || !busy.Dirty {
		t.Fatalf("got %v, want busy with uncommitted changes", err)
	}
	t.Log(err)
	if err := other.Commit(ctx); err != nil {
		t.Fatalf("the other administrator's edit was lost: %v", err)
	}
	r, err := other.GetConfig(ctx, netconfclient.RunningStore, netconfclient.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(r.Raw), "half-finished") {
		t.Errorf("running lacks the other's service: %s", r.Raw)
	}
	if err := change(ctx, c, conductor.Permit{}, prefixes(1), nil); err != nil {
		t.Fatalf("after the other committed: %v", err)
	}
	wantTenant(t, s, cfg, prefixes(1))
}

func TestNetconfdUndoesExactlyOurLeftovers(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	c := conductorFor(t, cfg)
	ctx := t.Context()
	if err := change(ctx, c, conductor.Permit{}, prefixes(3), nil); err != nil {
		t.Fatal(err)
	}
	// A leader without a lock that died before its commit would leave this.
	left := admin(t, s)
	if err := left.EditConfig(ctx, netconfclient.CandidateStore, netconfclient.EditOptions{}, tenantWith(cfg, "192.0.2.77/32")); err != nil {
		t.Fatal(err)
	}
	left.Close()

	no := conductor.Permit{Ours: func(added, removed []netip.Prefix) bool { return false }}
	if err := change(ctx, c, no, prefixes(4), nil); !errors.Is(err, conductor.ErrBusy) {
		t.Fatalf("not ours: got %v, want busy", err)
	}
	var asked []string
	yes := conductor.Permit{Ours: func(added, removed []netip.Prefix) bool {
		asked = append(asked, fmt.Sprint(added, removed))
		return true
	}}
	if err := change(ctx, c, yes, prefixes(4), nil); err != nil {
		t.Fatal(err)
	}
	if want := []string{"[192.0.2.77/32] []"}; !slices.Equal(asked, want) {
		t.Errorf("asked about %v, want %v", asked, want)
	}
	wantTenant(t, s, cfg, prefixes(4))
}

func TestNetconfdUndoesATenantThatWeCreated(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	c := conductorFor(t, cfg)
	ctx := t.Context()
	left := admin(t, s)
	if err := left.EditConfig(ctx, netconfclient.CandidateStore, netconfclient.EditOptions{}, tenantWith(cfg, "192.0.2.77/32")); err != nil {
		t.Fatal(err)
	}
	left.Close()
	e, err := c.Begin(ctx, conductor.Permit{Ours: func(added, removed []netip.Prefix) bool { return true }})
	if err != nil {
		t.Fatal(err)
	}
	if e.Running().Exists {
		t.Error("running has the tenant already")
	}
	if err := e.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if got := s.NcclientReadFrom(t, "candidate", cfg.Tenant, cfg.Neighborhood); got.Exists {
		t.Errorf("the candidate still has %+v", got)
	}
}

// holder starts a process that holds the lock and has edited the candidate, and ends it with the test.
func holder(t *testing.T, s *netconfdtest.Server) *exec.Cmd {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestHoldsTheLockForAnotherTest$", "-test.v")
	child.Env = append(os.Environ(), "BANMESH_TEST_HOLD="+strings.Join([]string{s.Addr, s.User, s.KeyFile, s.KnownHosts}, " "))
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = child.Process.Kill() // it may have ended
		_ = child.Wait()
	})
	buf, seen := make([]byte, 4096), ""
	for !strings.Contains(seen, "locked and edited") {
		n, err := out.Read(buf)
		seen += string(buf[:n])
		if err != nil {
			t.Fatalf("child: %v: %s", err, seen)
		}
	}
	return child
}

// itsEdit tells that a difference is the edit of the holder's.
func itsEdit(added, removed []netip.Prefix) bool {
	return slices.Equal(added, []netip.Prefix{netip.MustParsePrefix("192.0.2.66/32")}) && len(removed) == 0
}

// A leader that is stopped in the middle of an edit keeps its connection, and so its lock, for as long as it is stopped.
func TestNetconfdLockOfAFrozenLeaderIsBroken(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	leader := holder(t, s)
	if err := leader.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	c := conductorFor(t, cfg)
	_, err := c.Begin(t.Context(), conductor.Permit{Ours: itsEdit})
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || busy.Holder == 0 {
		t.Fatalf("without leave: %v, want busy by a session", err)
	}
	frozen := []conductor.SessionAt{{Node: s.Addr, ID: busy.Holder}}
	if err := change(t.Context(), c, conductor.Permit{Kill: frozen, Ours: itsEdit}, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, s, cfg, prefixes(2))
	if err := leader.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// Awake again it has no session any more, and keeps nobody from the lock.
	if err := change(t.Context(), c, conductor.Permit{}, nil, prefixes(1)); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, s, cfg, prefixes(2)[1:])
}

func TestNetconfdLockOfAKilledClientIsFree(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	child := holder(t, s)
	c := conductorFor(t, cfg)
	if _, err := c.Begin(t.Context(), conductor.Permit{}); !errors.Is(err, conductor.ErrBusy) {
		t.Fatalf("while it lives: %v, want busy", err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := change(t.Context(), c, conductor.Permit{Ours: itsEdit}, prefixes(2), nil)
		if err == nil {
			break
		}
		if !errors.Is(err, conductor.ErrBusy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	wantTenant(t, s, cfg, prefixes(2))
}

// TestHoldsTheLockForAnotherTest is a process of its own, to be killed with its edit uncommitted.
func TestHoldsTheLockForAnotherTest(t *testing.T) {
	hold := strings.Fields(os.Getenv("BANMESH_TEST_HOLD"))
	if len(hold) != 4 {
		return // not started by the other test: there is nothing to hold
	}
	cfg := netconf.DefaultConfig()
	cfg.Addresses, cfg.User, cfg.KeyFile, cfg.KnownHosts = hold[:1], hold[1], hold[2], hold[3]
	c, err := netconf.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	e, err := c.Begin(t.Context(), conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(t.Context(), []netip.Prefix{netip.MustParsePrefix("192.0.2.66/32")}, nil); err != nil {
		t.Fatal(err)
	}
	fmt.Println("locked and edited")
	<-t.Context().Done()
}

func TestNetconfdFrozenInMidCommitIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	cfg.Timeout = 5 * time.Second
	c := conductorFor(t, cfg)
	ctx := t.Context()
	e, err := c.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	s.Freeze(t)
	err = e.Commit(ctx)
	if !errors.Is(err, conductor.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("commit: %v, want an unknown outcome by deadline", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	cfg.DialTimeout = time.Second
	if _, err := conductorFor(t, cfg).Read(ctx); !errors.Is(err, conductor.ErrUnreachable) {
		t.Errorf("read of a frozen server: %v, want unreachable", err)
	}
	s.Thaw(t)
	// Whichever way it went, the next change finds out and ends right.
	if err := change(ctx, c, conductor.Permit{Ours: func(a, r []netip.Prefix) bool { return true }}, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	wantTenant(t, s, cfg, prefixes(2))
}

func TestNetconfdFrozenBeforeTheCommitIsUnreachable(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	cfg.Timeout = 5 * time.Second
	c := conductorFor(t, cfg)
	ctx := t.Context()
	e, err := c.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	s.Freeze(t)
	err = e.Apply(ctx, prefixes(2), nil)
	if !errors.Is(err, conductor.ErrUnreachable) || errors.Is(err, conductor.ErrUnknown) {
		t.Errorf("apply: %v, want unreachable", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	s.Thaw(t)
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := change(ctx, c, conductor.Permit{Ours: func(a, r []netip.Prefix) bool { return true }}, prefixes(1), nil)
		if err == nil {
			break
		}
		if !errors.Is(err, conductor.ErrBusy) || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	wantTenant(t, s, cfg, prefixes(1))
}

func TestNetconfdHostKeyChanged(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	c := conductorFor(t, cfg)
	if _, err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ChangeHostKey(t, "ed25519")
	_, err := c.Read(t.Context())
	var bad *netconfclient.HostKeyError
	if !errors.As(err, &bad) || !errors.Is(err, conductor.ErrHostKey) {
		t.Fatalf("read: %v, want a host key error", err)
	}
	key, err := netconfclient.FetchHostKey(t.Context(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{key.Fingerprint, cfg.KnownHosts, "banmesh conductor trust " + s.Addr} {
		if !strings.Contains(bad.Error(), want) {
			t.Errorf("%q does not say %q", bad, want)
		}
	}
	if err := os.WriteFile(cfg.KnownHosts, []byte(key.Line+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(t.Context()); err != nil {
		t.Errorf("after the new key was trusted: %v", err)
	}
}

// What a user meets with a real sshd: a key of another type is a changed key, host certificates count, a line of known_hosts
// that nobody here can parse is skipped, and ssh-rsa is for those who ask for it.
func TestNetconfdHostKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	read := func(want error, says string) {
		t.Helper()
		_, err := conductorFor(t, cfg).Read(t.Context())
		if !errors.Is(err, want) || want != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("read: %v, want %v saying %q", err, want, says)
		}
	}
	hosts := func(lines ...string) {
		t.Helper()
		if err := os.WriteFile(cfg.KnownHosts, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	current := func() string {
		t.Helper()
		key, err := netconfclient.FetchHostKey(t.Context(), s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		return key.Line
	}
	s.ChangeHostKey(t, "ecdsa")
	read(conductor.ErrHostKey, "has changed")
	hosts("other.example ssh-mldsa65 AAAA", "10.0.0.1 1024 35 1234567", "\x00garbage", current())
	read(nil, "")

	hosts("@cert-authority [127.0.0.1]:* " + s.CertifyHostKey(t, "127.0.0.1"))
	read(nil, "")
	s.CertifyHostKey(t, "192.0.2.1") // by another authority, too
	read(conductor.ErrHostKey, "not known")

	s.ChangeHostKey(t, "rsa", "HostKeyAlgorithms ssh-rsa")
	read(conductor.ErrUnreachable, "host_key_algorithms")
	cfg.HostKeyAlgorithms = []string{"ssh-rsa"}
	read(conductor.ErrHostKey, "not known")
	public, err := os.ReadFile(s.Dir + "/hostkey.pub")
	if err != nil {
		t.Fatal(err)
	}
	hosts("* " + string(public))
	read(nil, "")
}

func TestNetconfdRefusesAnUnknownKey(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	if err := os.WriteFile(s.Dir+"/authorized_keys", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := conductorFor(t, cfg).Read(t.Context())
	if !errors.Is(err, conductor.ErrLogin) {
		t.Errorf("read: %v, want a refused login", err)
	}
}

// netconfd answers ok to validate and to commit, and drops what was added.
func TestNetconfdExplicitValidateIsFoundOut(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	cfg.ValidateMode = conductor.ValidateExplicit
	cfg.Timeout = 5 * time.Second
	c := conductorFor(t, cfg)
	err := change(t.Context(), c, conductor.Permit{}, prefixes(3), nil)
	if !errors.Is(err, conductor.ErrUnknown) || !strings.Contains(err.Error(), "3 missing") {
		t.Fatalf("got %v, want 3 missing in running", err)
	}
	wantTenant(t, s, cfg, nil)

	cfg = configFor(s)
	c = conductorFor(t, cfg)
	if err := change(t.Context(), c, conductor.Permit{}, prefixes(3), nil); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(c.Features(), "validate test-then-set") {
		t.Errorf("features %q", c.Features())
	}
	wantTenant(t, s, cfg, prefixes(3))
}

func TestNetconfdRemovesForeignSpellings(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	c := conductorFor(t, cfg)
	ctx := t.Context()
	other := admin(t, s)
	texts := []string{"198.51.100.77/24", "198.51.100.0/24", "198.51.100.9/24", "2001:DB8:0::/48", "203.0.113.5/32", "203.0.113.5/32"}
	if err := other.EditConfig(ctx, netconfclient.CandidateStore, netconfclient.EditOptions{}, tenantWith(cfg, texts...)); err != nil {
		t.Fatal(err)
	}
	if err := other.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	t.Log(s.NcclientRead(t, cfg.Tenant, cfg.Neighborhood).Addresses)
	r, err := c.Read(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"198.51.100.0/24", "2001:db8::/48", "203.0.113.5/32"}
	if got := sorted(r.Addresses); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
	keep := netip.MustParsePrefix("2001:db8::/48")
	if err := change(ctx, c, conductor.Permit{}, nil, []netip.Prefix{r.Addresses[0], r.Addresses[1]}); err != nil {
		t.Fatal(err)
	}
	if got := s.NcclientRead(t, cfg.Tenant, cfg.Neighborhood).Addresses; !slices.Equal(got, []string{"2001:DB8:0::/48"}) {
		t.Errorf("left: %v, want only %v as it was spelled", got, keep)
	}
}

func TestNetconfdAnAbandonedChangeLeavesNothing(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	c := conductorFor(t, cfg)
	ctx := t.Context()
	if err := change(ctx, c, conductor.Permit{}, prefixes(3), nil); err != nil {
		t.Fatal(err)
	}
	e, err := c.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes(9), prefixes(0)); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.Close(ended); err != nil {
		t.Errorf("close: %v", err)
	}
	if got := s.NcclientReadFrom(t, "candidate", cfg.Tenant, cfg.Neighborhood); len(got.Addresses) != 3 {
		t.Errorf("the candidate has %d addresses, want 3", len(got.Addresses))
	}
	wantTenant(t, s, cfg, prefixes(3))
	if err := change(ctx, c, conductor.Permit{}, prefixes(4), nil); err != nil {
		t.Errorf("the lock was kept: %v", err)
	}
}

func TestNetconfdWideOpenStopsEverything(t *testing.T) {
	t.Parallel()
	s := netconfdtest.Start(t)
	cfg := configFor(s)
	c := conductorFor(t, cfg)
	ctx := t.Context()
	if err := change(ctx, c, conductor.Permit{}, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}, nil); !errors.Is(err, conductor.ErrWideOpen) {
		t.Errorf("to be added: %v, want wide open", err)
	}
	other := admin(t, s)
	if err := other.EditConfig(ctx, netconfclient.CandidateStore, netconfclient.EditOptions{}, tenantWith(cfg, "0::/0")); err != nil {
		t.Fatal(err)
	}
	if err := other.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(ctx); !errors.Is(err, conductor.ErrWideOpen) {
		t.Errorf("read: %v, want wide open", err)
	}
	if err := change(ctx, c, conductor.Permit{}, prefixes(1), nil); !errors.Is(err, conductor.ErrWideOpen) {
		t.Errorf("in running: %v, want wide open", err)
	}
	if got := s.NcclientReadFrom(t, "candidate", cfg.Tenant, cfg.Neighborhood); len(got.Addresses) != 1 {
		t.Errorf("the candidate has %v, want the one that was there", got.Addresses)
	}
}

// Servers of other kinds than the usual one, as a real server can be made to be.
func TestNetconfdOfOtherKinds(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]netconfdtest.Options{
		"writable running":    {WritableRunning: true},
		"defaults: explicit":  {Netconfd: []string{"--default-style=explicit"}},
		"defaults: trim":      {Netconfd: []string{"--default-style=trim"}},
		"defaults: all":       {Netconfd: []string{"--default-style=report-all"}},
		"IPv6":                {IPv6: true},
		"user by certificate": {UserCA: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := netconfdtest.StartWith(t, o)
			cfg := configFor(s)
			c := conductorFor(t, cfg)
			if err := change(t.Context(), c, conductor.Permit{}, prefixes(5), nil); err != nil {
				t.Fatal(err)
			}
			if err := change(t.Context(), c, conductor.Permit{}, nil, prefixes(2)); err != nil {
				t.Fatal(err)
			}
			got, err := c.Read(t.Context())
			if err != nil || !slices.Equal(got.Addresses, prefixes(5)[2:]) {
				t.Errorf("running has %v (%v), want %v", got.Addresses, err, prefixes(5)[2:])
			}
			t.Log(c.Features())
		})
	}
}
