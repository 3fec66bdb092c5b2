package netconf_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/netconf"
	"banmesh/netconfclient"
)

// These tests run against the simulated conductor, for what a real server cannot be made to do.

type sim struct {
	*conductorsim.Sim
	cfg netconf.Config
}

func startSim(t *testing.T, configure func(*conductorsim.Config)) *sim {
	t.Helper()
	sc := conductorsim.DefaultConfig()
	sc.Dir = t.TempDir()
	if configure != nil {
		configure(&sc)
	}
	s, err := conductorsim.New(sc)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	cfg := netconf.DefaultConfig()
	cfg.KeyFile, cfg.KnownHosts = filepath.Join(sc.Dir, "client_key"), filepath.Join(sc.Dir, "known_hosts")
	cfg.Timeout = 30 * time.Second
	for node := 1; node <= sc.Nodes; node++ {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go s.ServeNode(node, l)
		cfg.Addresses = append(cfg.Addresses, l.Addr().String())
		// Serving writes the known_hosts line first.
		waitUntil(t, func() bool {
			_, err := netconfclient.FetchHostKey(t.Context(), l.Addr().String())
			return err == nil
		})
	}
	return &sim{Sim: s, cfg: cfg}
}

func waitUntil(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("condition not reached in 20 s")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func (s *sim) inject(t *testing.T, f conductorsim.Fault) {
	t.Helper()
	if err := s.Inject(f); err != nil {
		t.Fatal(err)
	}
}

func text(t *testing.T, n *conductorsim.Node) string {
	t.Helper()
	raw, err := conductorsim.MarshalConfig(n)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// wantAddresses looks at the simulator's own tree.
func wantAddresses(t *testing.T, s *sim, n *conductorsim.Node, want []netip.Prefix) {
	t.Helper()
	xml := text(t, n)
	for _, p := range want {
		if !strings.Contains(xml, ">"+p.String()+"<") {
			t.Errorf("%v is not in %s", p, xml)
		}
	}
	if got := strings.Count(xml, "address>") / 2; got != len(want) {
		t.Errorf("%d addresses, want %d, in %s", got, len(want), xml)
	}
}

func (s *sim) candidate() *conductorsim.Node { return s.Candidate("admin", 1) }

func TestSimEveryKindOfServer(t *testing.T) {
	t.Parallel()
	kinds := map[string]struct {
		configure func(*conductorsim.Config)
		features  string
	}{
		"all":                    {func(c *conductorsim.Config) {}, "lock, validate test-then-set"},
		"base 1.0":               {func(c *conductorsim.Config) { c.Features.Base11 = false }, "base:1.0"},
		"canonical":              {func(c *conductorsim.Config) { c.Storage = conductorsim.Canonical }, "candidate"},
		"other dialect":          {func(c *conductorsim.Config) { c.Dialect = conductorsim.DialectFailed }, "candidate"},
		"5.5":                    {func(c *conductorsim.Config) { c.Style = conductorsim.Style55 }, "candidate"},
		"5.6":                    {func(c *conductorsim.Config) { c.Style = conductorsim.Style56 }, "candidate"},
		"no lock":                {func(c *conductorsim.Config) { c.Features.Lock = false }, "no lock"},
		"no validate":            {func(c *conductorsim.Config) { c.Features.Validate = false }, "validated by the commit"},
		"no validation-type":     {func(c *conductorsim.Config) { c.Features.ValidationType = false }, "candidate"},
		"its own values":         {func(c *conductorsim.Config) { c.Assigns = true }, "candidate"},
		"its own, no lock":       {func(c *conductorsim.Config) { c.Assigns, c.Features.Lock = true, false }, "no lock"},
		"no discard":             {func(c *conductorsim.Config) { c.Features.Discard = false }, "candidate"},
		"no rollback":            {func(c *conductorsim.Config) { c.Features.RollbackOnError = false }, "candidate"},
		"no lock, no discard":    {func(c *conductorsim.Config) { c.Features.Lock, c.Features.Discard = false, false }, "no lock"},
		"writable running only":  {func(c *conductorsim.Config) { c.Features.Candidate, c.Features.WritableRunning = false, true }, "no candidate"},
		"writable running, bare": {func(c *conductorsim.Config) { c.Features = conductorsim.Features{Base10: true, WritableRunning: true} }, "no candidate"},
		"candidate and writable": {func(c *conductorsim.Config) { c.Features.WritableRunning = true }, "candidate"},
		"unlock discards":        {func(c *conductorsim.Config) { c.DiscardOnUnlock = true }, "lock"},
		"one byte at a time":     {nil, "lock"},
		"first RPC not answered": {nil, "lock"},
	}
	for name, k := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSim(t, k.configure)
			switch name {
			case "one byte at a time":
				s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultChunkSize, N: 1})
			case "first RPC not answered":
				s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFirstUnanswered})
			}
			cfg, ctx := s.cfg, t.Context()
			c := conductorFor(t, cfg)
			all := prefixes(50)
			if err := change(ctx, c, conductor.Permit{}, all, nil); err != nil {
				t.Fatal(err)
			}
			wantAddresses(t, s, s.Running(), all)
			if !strings.Contains(c.Features(), k.features) {
				t.Errorf("features %q, want %q in it", c.Features(), k.features)
			}
			t.Log(c.Features())
			if err := change(ctx, c, conductor.Permit{}, nil, all[:20]); err != nil {
				t.Fatal(err)
			}
			wantAddresses(t, s, s.Running(), all[20:])

			// What is applied and not committed is gone after Close.
			e, err := c.Begin(ctx, conductor.Permit{})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.Apply(ctx, all[:5], all[20:]); err != nil {
				t.Fatal(err)
			}
			if err := e.Close(ctx); err != nil {
				t.Error(err)
			}
			wantAddresses(t, s, s.Running(), all[20:])
			if r, c := text(t, s.Running()), text(t, s.candidate()); r != c && sameLines(r) != sameLines(c) {
				t.Errorf("the candidate differs from running:\n%s\n%s", r, c)
			}
		})
	}
}

// sameLines makes the order of elements irrelevant.
func sameLines(xml string) string {
	parts := strings.Split(xml, "<")
	slices.Sort(parts)
	return strings.Join(parts, "<")
}

func TestSimLockHeldIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, d := range []conductorsim.Dialect{conductorsim.DialectResource, conductorsim.DialectFailed} {
		t.Run(string(d), func(t *testing.T) {
			s := startSim(t, func(c *conductorsim.Config) { c.Dialect = d })
			s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultLockHeld})
			c := conductorFor(t, s.cfg)
			_, err := c.Begin(t.Context(), conductor.Permit{Ours: func(a, r []netip.Prefix) bool { return true }})
			var busy *conductor.BusyError
			if !errors.As(err, &busy) || busy.Holder != 4711 {
				t.Fatalf("got %v, want busy with holder 4711", err)
			}
		})
	}
}

func TestSimDirtyCandidateIsWaitedForAndUntouched(t *testing.T) {
	t.Parallel()
	for _, d := range []conductorsim.Dialect{conductorsim.DialectResource, conductorsim.DialectFailed} {
		for _, lock := range []bool{true, false} {
			t.Run(fmt.Sprint(d, lock), func(t *testing.T) {
				s := startSim(t, func(c *conductorsim.Config) { c.Dialect, c.Features.Lock = d, lock })
				if err := s.Dirty(true); err != nil {
					t.Fatal(err)
				}
				before := text(t, s.candidate())
				c := conductorFor(t, s.cfg)
				_, err := c.Begin(t.Context(), conductor.Permit{Ours: func(a, r []netip.Prefix) bool { return true }})
				var busy *conductor.BusyError
				if !errors.As(err, &busy) || !busy.Dirty {
					t.Fatalf("got %v, want busy and dirty", err)
				}
				if after := text(t, s.candidate()); after != before {
					t.Errorf("the candidate was touched: %s", after)
				}
				a := s.Admin("operator")
				defer a.Close()
				if err := a.Discard(); err != nil {
					t.Fatal(err)
				}
				if err := change(t.Context(), c, conductor.Permit{}, prefixes(1), nil); err != nil {
					t.Errorf("after the other discarded: %v", err)
				}
			})
		}
	}
}

// In the window between our look and our commit somebody else may begin to edit: that is not committed.
func TestSimWithoutLockOthersEditsAreSeenBeforeTheCommit(t *testing.T) {
	t.Parallel()
	s := startSim(t, func(c *conductorsim.Config) { c.Features.Lock = false })
	c, ctx := conductorFor(t, s.cfg), t.Context()
	if err := change(ctx, c, conductor.Permit{}, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	e, err := c.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes(4)[2:], prefixes(1)); err != nil {
		t.Fatal(err)
	}
	if err := s.Dirty(true); err != nil {
		t.Fatal(err)
	}
	err = e.Commit(ctx)
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || !busy.Dirty {
		t.Errorf("got %v, want busy and dirty", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Error(err)
	}
	wantAddresses(t, s, s.Running(), prefixes(2))
	wantAddresses(t, s, s.candidate(), prefixes(2))
	if got := text(t, s.candidate()); !strings.Contains(got, "half-finished") {
		t.Errorf("the other's work is gone: %s", got)
	}
}

func TestSimLeftoversWithoutLock(t *testing.T) {
	t.Parallel()
	for _, created := range []bool{false, true} {
		t.Run(fmt.Sprint(created), func(t *testing.T) {
			s := startSim(t, nil)
			c, ctx := conductorFor(t, s.cfg), t.Context()
			var base []netip.Prefix
			if !created {
				base = prefixes(3)
				if err := change(ctx, c, conductor.Permit{}, base, nil); err != nil {
					t.Fatal(err)
				}
			}
			// The leader dies after its edit: its connection is cut, its lock is freed, its edit stays.
			s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultDrop, At: "after", Op: "edit-config", Times: 1})
			err := change(ctx, c, conductor.Permit{}, prefixes(5)[3:], base[:min(1, len(base))])
			if !errors.Is(err, conductor.ErrUnreachable) || errors.Is(err, conductor.ErrUnknown) {
				t.Fatalf("got %v, want unreachable", err)
			}
			var asked int
			p := conductor.Permit{Ours: func(added, removed []netip.Prefix) bool {
				asked++
				return slices.Equal(sorted(added), sorted(prefixes(5)[3:])) && slices.Equal(removed, base[:min(1, len(base))])
			}}
			e, err := conductorFor(t, s.cfg).Begin(ctx, p) // another process, which does not remember
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close(ctx)
			if asked != 1 {
				t.Errorf("asked %d times", asked)
			}
			if r, c := text(t, s.Running()), text(t, s.candidate()); sameLines(r) != sameLines(c) {
				t.Errorf("the candidate differs from running:\n%s\n%s", r, c)
			}
		})
	}
}

func TestSimRefusals(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		fault conductorsim.Fault
		mode  conductor.ValidateMode
		want  error
		says  string
	}{
		"test-then-set": {conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 3}, conductor.ValidateTestThenSet, conductor.ErrRejected, "; "},
		"validate":      {conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 3}, conductor.ValidateExplicit, conductor.ErrRejected, "; "},
		"by the commit": {conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 3}, conductor.ValidateNone, conductor.ErrRejected, "; "},
		"commit":        {conductorsim.Fault{Kind: conductorsim.FaultCommitFails}, conductor.ValidateAuto, conductor.ErrRejected, "operation-failed"},
		"in progress":   {conductorsim.Fault{Kind: conductorsim.FaultValidateBusy}, conductor.ValidateExplicit, conductor.ErrBusy, "already in progress"},
		"in progress 2": {conductorsim.Fault{Kind: conductorsim.FaultValidateBusy}, conductor.ValidateNone, conductor.ErrBusy, "already in progress"},
	} {
		for _, lock := range []bool{true, false} {
			t.Run(fmt.Sprint(name, lock), func(t *testing.T) {
				t.Parallel()
				s := startSim(t, func(c *conductorsim.Config) { c.Features.Lock = lock })
				cfg := s.cfg
				cfg.ValidateMode = f.mode
				c, ctx := conductorFor(t, cfg), t.Context()
				if err := change(ctx, c, conductor.Permit{}, prefixes(3), nil); err != nil {
					t.Fatal(err)
				}
				s.inject(t, f.fault)
				err := change(ctx, c, conductor.Permit{}, prefixes(6), prefixes(0))
				if !errors.Is(err, f.want) || !strings.Contains(fmt.Sprint(err), f.says) {
					t.Errorf("got %v, want %v saying %q", err, f.want, f.says)
				}
				s.Clear()
				wantAddresses(t, s, s.Running(), prefixes(3))
				wantAddresses(t, s, s.candidate(), prefixes(3))
				if err := change(ctx, c, conductor.Permit{}, prefixes(6), nil); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

func TestSimLiesAreFoundOut(t *testing.T) {
	t.Parallel()
	for _, lie := range []conductorsim.FaultKind{conductorsim.FaultLieDropAdded, conductorsim.FaultLieDropOne, conductorsim.FaultLieWideOpen} {
		for _, at := range []string{"edit", "commit"} {
			for _, lock := range []bool{true, false} {
				t.Run(fmt.Sprint(lie, at, lock), func(t *testing.T) {
					t.Parallel()
					s := startSim(t, func(c *conductorsim.Config) { c.Features.Lock = lock })
					cfg := s.cfg
					cfg.Timeout = 5 * time.Second // for which a commit that was answered with success is waited for
					c, ctx := conductorFor(t, cfg), t.Context()
					if err := change(ctx, c, conductor.Permit{}, prefixes(3), nil); err != nil {
						t.Fatal(err)
					}
					s.inject(t, conductorsim.Fault{Kind: lie, At: at})
					err := change(ctx, c, conductor.Permit{}, prefixes(6), nil)
					want := conductor.ErrMismatch
					if lie == conductorsim.FaultLieWideOpen {
						want = conductor.ErrWideOpen
					}
					if at == "commit" && want == conductor.ErrMismatch {
						want = conductor.ErrUnknown
					}
					if !errors.Is(err, want) {
						t.Errorf("got %v, want %v", err, want)
					}
					s.Clear()
					if at == "edit" {
						wantAddresses(t, s, s.Running(), prefixes(3))
					}
					if r, c := text(t, s.Running()), text(t, s.candidate()); sameLines(r) != sameLines(c) && (lock || at == "edit" || lie != conductorsim.FaultLieWideOpen) {
						t.Errorf("the candidate differs from running:\n%s\n%s", r, c)
					}
				})
			}
		}
	}
}

// A commit that was answered with success is in force, however late running shows it.
func TestSimACommitThatShowsLateIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, lock := range []bool{true, false} {
		s := startSim(t, func(c *conductorsim.Config) { c.Features.Lock = lock })
		c := conductorFor(t, s.cfg)
		if err := change(t.Context(), c, conductor.Permit{}, prefixes(3), nil); err != nil {
			t.Fatal(err)
		}
		s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(500 * time.Millisecond)})
		if err := change(t.Context(), c, conductor.Permit{}, prefixes(6), nil); err != nil {
			t.Errorf("late, lock %v: %v", lock, err)
		}
		wantAddresses(t, s, s.Running(), prefixes(6))
		wantAddresses(t, s, s.candidate(), prefixes(6))
	}
}

func TestSimLostInTheCommitIsAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	for at, there := range map[string]bool{"before": false, "in": true, "after": true} {
		t.Run(at, func(t *testing.T) {
			t.Parallel()
			s := startSim(t, nil)
			c, ctx := conductorFor(t, s.cfg), t.Context()
			s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultDrop, At: at, Times: 1})
			if err := change(ctx, c, conductor.Permit{}, prefixes(2), nil); !errors.Is(err, conductor.ErrUnknown) {
				t.Fatalf("got %v, want an unknown outcome", err)
			}
			waitUntil(t, func() bool {
				r, err := c.Read(ctx)
				if err != nil {
					t.Fatal(err)
				}
				return (len(r.Addresses) == 2) == there
			})
		})
	}
}

func TestSimSlowAndSilentCommits(t *testing.T) {
	t.Parallel()
	s := startSim(t, nil)
	cfg := s.cfg
	cfg.Timeout = 2 * time.Second
	c, ctx := conductorFor(t, cfg), t.Context()
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultSlowCommit, For: conductorsim.Duration(200 * time.Millisecond)})
	if err := change(ctx, c, conductor.Permit{}, prefixes(1), nil); err != nil {
		t.Fatalf("slow: %v", err)
	}
	s.Clear()
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: "commit"})
	err := change(ctx, c, conductor.Permit{}, prefixes(2), nil)
	if !errors.Is(err, conductor.ErrUnknown) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silent: %v, want an unknown outcome by deadline", err)
	}
	s.Clear()
	cfg.Validation = conductor.ValidationDistributed
	cfg.ValidateMode = conductor.ValidateNone
	c = conductorFor(t, cfg)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultRouterOffline})
	var last error
	waitUntil(t, func() bool {
		last = change(ctx, c, conductor.Permit{Ours: func(a, r []netip.Prefix) bool { return true }}, prefixes(3), nil)
		return !errors.Is(last, conductor.ErrBusy)
	})
	if !errors.Is(last, conductor.ErrUnknown) {
		t.Errorf("router offline: %v, want an unknown outcome", last)
	}
}

func TestSimBrokenProtocol(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		fault conductorsim.Fault
		want  error
	}{
		"message-id":        {conductorsim.Fault{Kind: conductorsim.FaultWrongMessageID}, conductor.ErrProtocol},
		"message-id commit": {conductorsim.Fault{Kind: conductorsim.FaultWrongMessageID, Op: "commit"}, conductor.ErrUnknown},
		"huge":              {conductorsim.Fault{Kind: conductorsim.FaultHugeReply, Op: "get-config"}, conductor.ErrProtocol},
		"login":             {conductorsim.Fault{Kind: conductorsim.FaultLoginRefused}, conductor.ErrLogin},
		"unreachable":       {conductorsim.Fault{Kind: conductorsim.FaultUnreachable}, conductor.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSim(t, nil)
			cfg := s.cfg
			cfg.MaxReply = 1 << 20
			s.inject(t, f.fault)
			err := change(t.Context(), conductorFor(t, cfg), conductor.Permit{}, prefixes(1), nil)
			if !errors.Is(err, f.want) {
				t.Errorf("got %v, want %v", err, f.want)
			}
		})
	}
}

func TestSimSecondNodeServesWhenTheFirstIsDead(t *testing.T) {
	t.Parallel()
	for _, first := range []conductorsim.FaultKind{conductorsim.FaultUnreachable, conductorsim.FaultFreeze} {
		t.Run(string(first), func(t *testing.T) {
			t.Parallel()
			s := startSim(t, func(c *conductorsim.Config) { c.Nodes, c.Style = 2, conductorsim.Style55 })
			cfg := s.cfg
			cfg.DialTimeout, cfg.Timeout = 2*time.Second, 4*time.Second
			s.inject(t, conductorsim.Fault{Kind: first, Node: 1})
			c := conductorFor(t, cfg)
			e, err := c.Begin(t.Context(), conductor.Permit{})
			if err != nil {
				t.Fatal(err)
			}
			if got := e.Running().Conductor; got != cfg.Addresses[1] {
				t.Errorf("at %s, want the second node", got)
			}
			if err := e.Apply(t.Context(), prefixes(1), nil); err != nil {
				t.Fatal(err)
			}
			if err := e.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := e.Close(t.Context()); err != nil {
				t.Error(err)
			}
			// The one that works is asked first from now on.
			start := time.Now()
			if _, err := c.Read(t.Context()); err != nil {
				t.Error(err)
			}
			if d := time.Since(start); d > cfg.DialTimeout {
				t.Errorf("the dead node cost %v again", d)
			}
		})
	}
}

func TestSimCloseEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := startSim(t, nil)
	c := conductorFor(t, s.cfg)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: "edit-config"})
	e, err := c.Begin(t.Context(), conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	go func() { done <- e.Apply(t.Context(), prefixes(1), nil) }()
	c.Close()
	if err := <-done; err == nil {
		t.Error("apply went through")
	}
	if _, err := c.Read(t.Context()); !errors.Is(err, conductor.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
}

func TestSimFrozenFormerLeaderIsKilled(t *testing.T) {
	t.Parallel()
	s := startSim(t, nil)
	ctx := t.Context()
	former := conductorFor(t, s.cfg)
	e, err := former.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes(3), nil); err != nil {
		t.Fatal(err)
	}
	c := conductorFor(t, s.cfg)
	if _, err := c.Begin(ctx, conductor.Permit{}); !errors.Is(err, conductor.ErrBusy) {
		t.Fatalf("without leave: %v, want busy", err)
	}
	elsewhere := conductor.Permit{Kill: []conductor.SessionAt{{Node: "192.0.2.1:830", ID: e.Session()}}}
	if _, err := c.Begin(ctx, elsewhere); !errors.Is(err, conductor.ErrBusy) {
		t.Fatalf("with leave for the same number on another node: %v, want busy", err)
	}
	p := conductor.Permit{Kill: []conductor.SessionAt{{Node: e.Running().Conductor, ID: e.Session()}}, Ours: func(added, removed []netip.Prefix) bool { return len(added) == 3 }}
	if err := change(ctx, c, p, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, s, s.Running(), prefixes(2))
	if err := e.Commit(ctx); err == nil {
		t.Error("the killed session committed")
	}
	e.Close(ctx)
}

func TestSimAnUnansweredFirstOperationGetsAnotherSession(t *testing.T) {
	t.Parallel()
	s := startSim(t, nil)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: "get-config", Times: 2})
	cfg := s.cfg
	cfg.Timeout = 8 * time.Second
	if _, err := conductorFor(t, cfg).Read(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSimARefusedLoginIsNotRepeated(t *testing.T) {
	t.Parallel()
	s := startSim(t, nil)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultLoginRefused})
	cfg := s.cfg
	cfg.Addresses = append(cfg.Addresses, cfg.Addresses[0], cfg.Addresses[0])
	if _, err := conductorFor(t, cfg).Read(t.Context()); !errors.Is(err, conductor.ErrLogin) {
		t.Errorf("got %v, want a refused login", err)
	}
	logins := 0
	for _, e := range s.History().Events() {
		if e.Kind == history.Login {
			logins++
		}
	}
	if logins != 1 {
		t.Errorf("%d logins, want 1", logins)
	}
}

// What somebody else has removed meanwhile is no failure, on a server of base:1.0 that says data-missing.
func TestSimDataMissingOnRemoveIsNoFailure(t *testing.T) {
	t.Parallel()
	s := startSim(t, func(c *conductorsim.Config) { c.Features.Lock, c.Features.Base11 = false, false })
	c, ctx := conductorFor(t, s.cfg), t.Context()
	if err := change(ctx, c, conductor.Permit{}, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	e, err := c.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(ctx)
	other := s.Admin("operator")
	defer other.Close()
	quicker := `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><name>` + s.cfg.Tenant + `</name><member><neighborhood>` + s.cfg.Neighborhood + `</neighborhood>` +
		`<address nc:operation="remove">` + prefixes(1)[0].String() + `</address></member></tenant></authority></config>`
	if err := errors.Join(other.Edit(quicker), other.Commit()); err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, nil, prefixes(2)); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, s, s.candidate(), nil)
}

func TestSimFailedAttemptsLeaveNothingBehind(t *testing.T) {
	s := startSim(t, nil)
	c := conductorFor(t, s.cfg)
	before := runtime.NumGoroutine()
	for i, f := range []conductorsim.Fault{
		{Kind: conductorsim.FaultUnreachable}, {Kind: conductorsim.FaultLockHeld}, {Kind: conductorsim.FaultWrongMessageID},
		{Kind: conductorsim.FaultDrop, At: "before", Op: "lock"}, {Kind: conductorsim.FaultDrop, At: "after", Op: "get-config"},
	} {
		s.inject(t, f)
		for range 20 {
			if _, err := c.Begin(t.Context(), conductor.Permit{}); err == nil {
				t.Errorf("fault %d: an attempt went through", i)
			}
		}
		s.Clear()
	}
	waitUntil(t, func() bool { return len(s.Sessions()) == 0 })
	waitUntil(t, func() bool { return runtime.NumGoroutine() <= before })
}

// Another session's confirmed commit is waited for: to confirm it is that session's alone, and until then nobody knows whether
// running stays as it is.
func TestSimAnothersConfirmedCommitIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, lock := range []bool{true, false} {
		s := startSim(t, func(c *conductorsim.Config) { c.Features.Lock, c.Features.ConfirmedCommit = lock, true })
		c, ctx := conductorFor(t, s.cfg), t.Context()
		if err := change(ctx, c, conductor.Permit{}, prefixes(2), nil); err != nil {
			t.Fatal(err)
		}
		other := s.Admin("operator")
		defer other.Close()
		risky := `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config"><router><name>risky</name></router></authority></config>`
		if err := errors.Join(other.Edit(risky), other.CommitConfirmed(time.Hour)); err != nil {
			t.Fatal(err)
		}
		if err := change(ctx, c, conductor.Permit{}, prefixes(4), nil); !errors.Is(err, conductor.ErrBusy) {
			t.Errorf("lock %v: got %v, want to wait", lock, err)
		}
		other.Close() // without a confirmation, which undoes it (RFC 6241 §8.4.1)
		if err := change(ctx, c, conductor.Permit{}, prefixes(4), nil); err != nil {
			t.Errorf("lock %v: afterwards: %v", lock, err)
		}
		wantAddresses(t, s, s.Running(), prefixes(4))
		if strings.Contains(text(t, s.Running()), "risky") {
			t.Errorf("lock %v: what nobody confirmed is permanent", lock)
		}
	}
}

func TestSimRunningIsSavedWhereThatIsAskedFor(t *testing.T) {
	t.Parallel()
	for _, save := range []bool{true, false} {
		s := startSim(t, func(c *conductorsim.Config) { c.Features.Startup = true })
		cfg := s.cfg
		cfg.SaveStartup = save
		c := conductorFor(t, cfg)
		if err := change(t.Context(), c, conductor.Permit{}, prefixes(2), nil); err != nil {
			t.Fatal(err)
		}
		if saved := s.Startup() != nil; saved != save {
			t.Errorf("save %v: saved %v", save, saved)
		}
		if warned := len(c.Warnings()) > 0; warned == save {
			t.Errorf("save %v: warnings %q", save, c.Warnings())
		}
		if save {
			wantAddresses(t, s, s.Startup(), prefixes(2))
		}
	}
}

// What could not be saved is told until it was, and tried again.
func TestSimRunningThatCannotBeSavedIsWarnedOf(t *testing.T) {
	t.Parallel()
	s := startSim(t, func(c *conductorsim.Config) { c.Features.Startup = true })
	cfg := s.cfg
	cfg.SaveStartup = true
	c := conductorFor(t, cfg)
	if err := s.Inject(conductorsim.Fault{Kind: conductorsim.FaultStartupFails}); err != nil {
		t.Fatal(err)
	}
	if err := change(t.Context(), c, conductor.Permit{}, prefixes(2), nil); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, s, s.Running(), prefixes(2))
	if w := strings.Join(c.Warnings(), "\n"); !strings.Contains(w, "would not survive a reboot") || !strings.Contains(w, "no space left on device") {
		t.Errorf("warnings %q", w)
	}
	s.Clear()
	if _, err := c.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantAddresses(t, s, s.Startup(), prefixes(2))
	if w := c.Warnings(); len(w) > 0 {
		t.Errorf("once it is saved: warnings %q", w)
	}
}

// A server that takes four sessions and no more: others' count, ours go as soon as they are done with.
func TestSimFourSessions(t *testing.T) {
	t.Parallel()
	s := startSim(t, func(c *conductorsim.Config) { c.MaxSessions = 4 })
	c := conductorFor(t, s.cfg)
	var others []*netconfclient.Session
	for range 4 {
		o, err := netconfclient.Dial(t.Context(), netconfclient.DialConfig{Address: s.cfg.Addresses[0], User: s.cfg.User, KeyFile: s.cfg.KeyFile, KnownHosts: s.cfg.KnownHosts})
		if err != nil {
			t.Fatal(err)
		}
		defer o.Close()
		others = append(others, o)
	}
	if err := change(t.Context(), c, conductor.Permit{}, prefixes(2), nil); !errors.Is(err, conductor.ErrUnreachable) {
		t.Errorf("the fifth session: %v", err)
	}
	if err := others[0].CloseSession(t.Context()); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { return len(s.Sessions()) == 3 })
	for i := range 5 {
		if err := change(t.Context(), c, conductor.Permit{}, prefixes(3+i), nil); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { return len(s.Sessions()) == 3 }) // the server needs a moment to let go
		if _, err := c.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, func() bool { return len(s.Sessions()) == 3 })
	}
}
