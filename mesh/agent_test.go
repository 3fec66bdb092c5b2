package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/config"
	"banmesh/mesh/control"
)

// simulated starts a conductor for a test and returns the commit section that
// reaches it.
func simulated(t *testing.T, change func(*conductorsim.Config)) (*conductorsim.Sim, config.Commit) {
	t.Helper()
	cfg := conductorsim.DefaultConfig()
	cfg.Dir = t.TempDir()
	if change != nil {
		change(&cfg)
	}
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go sim.Serve(ln)
	k := config.Default().Commit
	k.Driver, k.Conductors = "netconf", []string{ln.Addr().String()}
	k.Key, k.KnownHosts = filepath.Join(cfg.Dir, "client_key"), filepath.Join(cfg.Dir, "known_hosts")
	k.Window, k.MaxWait, k.Timeout = config.Duration(100*time.Millisecond), config.Duration(time.Second), config.Duration(10*time.Second)
	return sim, k
}

// overREST starts a conductor of a release and returns the commit section that
// reaches it over REST.
func overREST(t *testing.T, style conductorsim.Style) (*conductorsim.Sim, config.Commit) {
	t.Helper()
	cfg := conductorsim.DefaultConfig()
	cfg.Dir, cfg.Style, cfg.Password = t.TempDir(), style, "secret"
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sim.Close() })
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go sim.ServeREST(1, ln)
	password := filepath.Join(cfg.Dir, "password")
	if err := os.WriteFile(password, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	k := config.Default().Commit
	k.Driver, k.Conductors, k.PasswordFile = "rest", []string{"https://" + ln.Addr().String()}, password
	k.CAFile = filepath.Join(cfg.Dir, "rest_cert.pem")
	k.Window, k.MaxWait, k.Timeout = config.Duration(100*time.Millisecond), config.Duration(time.Second), config.Duration(10*time.Second)
	return sim, k
}

// started opens an agent and runs it until the test ends.
func started(t *testing.T, name string, change func(*config.Config)) *Agent {
	t.Helper()
	a, _ := startedBy(t, time.Now, name, change)
	return a
}

// startedBy gives it a clock; stop stops it before the test ends.
func startedBy(t *testing.T, now func() time.Time, name string, change func(*config.Config)) (_ *Agent, stop func()) {
	t.Helper()
	dir, err := os.MkdirTemp("", "bm") // short enough for a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cfg := config.Default()
	cfg.Name, cfg.DataDir, cfg.Socket = name, dir, filepath.Join(dir, "s")
	cfg.Gossip.Bind, cfg.Gossip.Profile = "127.0.0.1:0", "local"
	cfg.Fail2ban.Unban = false
	if change != nil {
		change(&cfg)
	}
	a, err := Open(t.Context(), cfg, Options{Version: "test", Logger: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if a.past.History != nil {
		a.past.Patience = time.Minute // a busy machine's disk is slow
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("%s: %v", name, err)
		}
	})
	t.Cleanup(stop)
	return a, stop
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s for %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func status(t *testing.T, a *Agent) control.Status {
	t.Helper()
	s, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func listing(t *testing.T, a *Agent) map[string]control.Ban {
	t.Helper()
	bans, _, err := a.List(t.Context(), control.ListQuery{})
	if err != nil {
		t.Fatal(err)
	}
	m := make(map[string]control.Ban)
	for b := range bans {
		m[b.Prefix] = b
	}
	return m
}

func ban(t *testing.T, a *Agent, prefixes ...string) control.BanReply {
	t.Helper()
	c := control.BanCall{Until: control.UntilAt(time.Now().Add(time.Hour)), Jail: "sshd"}
	for _, p := range prefixes {
		c.Prefixes = append(c.Prefixes, netip.MustParsePrefix(p))
	}
	reply, err := a.Ban(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

// pair is a leader and a follower with a conductor.
func pair(t *testing.T, change func(*conductorsim.Config)) (sim *conductorsim.Sim, lead, follower *Agent) {
	t.Helper()
	sim, k := simulated(t, change)
	lead = started(t, "router1", func(c *config.Config) { c.Commit = k })
	follower = started(t, "router2", func(c *config.Config) { c.Commit, c.Join = k, []string{lead.Addr()} })
	eventually(t, "router1 to lead", func() bool {
		a, b := status(t, lead), status(t, follower)
		return a.Leader != nil && b.Leader != nil && *a.Leader == "router1" && *b.Leader == "router1"
	})
	return sim, lead, follower
}

func TestFollowersKnowWhatIsCommitted(t *testing.T) {
	t.Parallel()
	sim, lead, follower := pair(t, nil)
	ban(t, follower, "203.0.113.7/32", "198.51.100.0/24")
	for _, a := range []*Agent{lead, follower} {
		eventually(t, "both to be committed at "+a.cfg.Name, func() bool {
			l := listing(t, a)
			return l["203.0.113.7/32"].Committed && l["198.51.100.0/24"].Committed
		})
		eventually(t, "2 addresses in 1 commit at "+a.cfg.Name, func() bool {
			s := status(t, a).Commit
			return s.Committed == 2 && s.Commits == 1 && s.State == "idle"
		})
	}

	t.Log("an allow cuts a hole: what is left of the network is what counts")
	_, err := follower.Allow(t.Context(), control.AllowCall{
		Prefixes: control.Prefixes{netip.MustParsePrefix("198.51.100.7/32")}, Until: control.Never,
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the network with its hole to be committed", func() bool {
		b := listing(t, follower)["198.51.100.0/24"]
		return b.Committed && len(b.Except) == 1 && len(sim.Addresses("blacklist-fail2ban", "internet")) == 9
	})
}

func TestWhatFailsToCommitIsNotCalledCommitted(t *testing.T) {
	t.Parallel()
	sim, lead, follower := pair(t, nil)
	if err := sim.Dirty(true); err != nil {
		t.Fatal(err)
	}
	ban(t, lead, "203.0.113.7/32")
	eventually(t, "the follower to say whom the leader waits for", func() bool {
		s := status(t, follower)
		return s.Commit.State == "waiting" && strings.Contains(s.Commit.Detail, "administrator")
	})
	for _, a := range []*Agent{lead, follower} {
		if listing(t, a)["203.0.113.7/32"].Committed {
			t.Errorf("%s calls a ban committed that waits for another administrator", a.cfg.Name)
		}
	}
}

func TestCommitAtAFollowerIsDoneByTheLeader(t *testing.T) {
	t.Parallel()
	sim, k := simulated(t, nil)
	k.Window, k.MaxWait = config.Duration(time.Hour), config.Duration(time.Hour)
	lead := started(t, "router1", func(c *config.Config) { c.Commit = k })
	follower := started(t, "router2", func(c *config.Config) { c.Commit, c.Join = k, []string{lead.Addr()} })
	eventually(t, "a leader", func() bool { s := status(t, follower); return s.Leader != nil && *s.Leader == "router1" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	// A new leader commits at once, before or after this ban. What comes after this commit waits for the window.
	ban(t, follower, "203.0.113.7/32")
	eventually(t, "the first ban at the leader", func() bool { return len(listing(t, lead)) == 1 })
	if _, err := follower.Commit(ctx, control.CommitCall{}); err != nil {
		t.Fatal(err)
	}
	ban(t, follower, "203.0.113.8/32")
	eventually(t, "the second ban at the leader", func() bool { return len(listing(t, lead)) == 2 })
	reply, err := follower.Commit(ctx, control.CommitCall{})
	if err != nil {
		t.Fatal(err)
	}
	if !reply.Committed || reply.Leader != "router1" {
		t.Errorf("reply %+v, want committed by router1", reply)
	}
	if got := sim.Addresses("blacklist-fail2ban", "internet"); len(got) != 2 {
		t.Errorf("running holds %v, want both bans", got)
	}
}

func TestAgentsCommitOverRESTToEveryStyleOfRelease(t *testing.T) {
	need.Long(t)
	for _, style := range []conductorsim.Style{conductorsim.Style52, conductorsim.Style55, conductorsim.Style56} {
		t.Run(string(style), func(t *testing.T) {
			t.Parallel()
			sim, k := overREST(t, style)
			a := started(t, "router1", func(c *config.Config) { c.Commit = k })
			b := started(t, "router2", func(c *config.Config) { c.Commit, c.Join = k, []string{a.Addr()} })
			ban(t, b, "203.0.113.7/32", "2001:db8::7/128")
			eventually(t, "both bans to be committed", func() bool {
				return len(sim.Addresses("blacklist-fail2ban", "internet")) == 2 && listing(t, b)["203.0.113.7/32"].Committed
			})
			if _, err := a.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{netip.MustParsePrefix("203.0.113.7/32")}}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the unban to be committed", func() bool {
				got := sim.Addresses("blacklist-fail2ban", "internet")
				return len(got) == 1 && got[0] == "2001:db8::7/128"
			})
			if s := status(t, a); !strings.Contains(s.Commit.Features, "REST") {
				t.Errorf("status says of the conductor %q, want that it is REST", s.Commit.Features)
			}
		})
	}
}

func TestUnbanBeforeTheFirstExchangeIsRepeatedAfterIt(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	ban(t, a, "203.0.113.7/32")
	// Nobody answers at this address: router2 tries alone for 30 s before it is settled.
	b := started(t, "router2", func(c *config.Config) { c.Join = []string{"127.0.0.1:1"} })
	if _, err := b.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{netip.MustParsePrefix("203.0.113.7/32")}}); err != nil {
		t.Fatal(err)
	}
	if len(listing(t, a)) != 1 {
		t.Fatal("lifted before the two had met")
	}
	if _, err := b.Join(t.Context(), control.JoinCall{Addrs: []string{a.Addr()}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the repeated unban to lift it", func() bool { return len(listing(t, a)) == 0 })
}

// A router without a conductor that has met nobody is told so, and nothing of commits.
func TestAloneWithoutAConductorSpeaksOfNoCommit(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) { c.Join = []string{"127.0.0.1:1"} })
	eventually(t, "the warning", func() bool {
		s, err := a.Status(t.Context())
		text := strings.Join(s.Warnings, "\n")
		if err != nil || strings.Contains(text, "commit") {
			t.Fatalf("%v, warnings %s", err, text)
		}
		return strings.Contains(text, "this router has met none of those that it joins")
	})
}

func TestReloadChangesWhatARunningAgentCan(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	ban(t, a, "203.0.113.7/32")
	cfg := a.cfg
	cfg.NeverBan = []config.Prefix{{Prefix: netip.MustParsePrefix("203.0.113.0/24")}}
	cfg.Commit.Tenant = "another"
	cfg.Limits.LivePerOrigin = 5
	waiting, err := a.Reload(t.Context(), loaded(cfg))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(waiting, " "), "limits.live_per_origin commit.tenant"; got != want {
		t.Errorf("keys that wait for a restart: %q, want %q", got, want)
	}
	eventually(t, "the new never-ban to cover the ban", func() bool { return !listing(t, a)["203.0.113.7/32"].Effective })
	cfg.Name = ""
	if _, err := a.Reload(t.Context(), loaded(cfg)); err == nil {
		t.Error("a configuration without a name was taken over")
	}
}

func loaded(cfg config.Config) func() (config.Config, error) {
	return func() (config.Config, error) { return cfg, nil }
}

// `systemctl reload` succeeds whatever the agent makes of the file, and nobody reads the log.
func TestStatusWarnsOfWhatAReloadLeftUndone(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	own := a.cfg
	other := own
	other.Commit.Tenant = "another"
	broken := func() (config.Config, error) { return config.Config{}, errors.New("banmesh.yaml:3: nam: unknown key") }
	const failed, waits = "the configuration was not reloaded", "commit.tenant will take effect only after a restart"
	for _, step := range []struct {
		load func() (config.Config, error)
		want []string
	}{
		{broken, []string{failed}},
		{loaded(other), []string{waits}},
		{broken, []string{failed, waits}},
		{loaded(own), nil},
	} {
		_, _ = a.Reload(t.Context(), step.load)
		s, err := a.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Join(s.Warnings, "\n")
		for _, warning := range []string{failed, waits} {
			if got, want := strings.Contains(text, warning), slices.Contains(step.want, warning); got != want {
				t.Errorf("warned of %q: %v, want %v: %q", warning, got, want, text)
			}
		}
	}
}

func TestOwnAndConductorAddressesAreNeverBanned(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) {
		c.Commit.Conductors = []string{"192.0.2.10:830"} // driver none: named, and not spoken to
		c.NeverBan = []config.Prefix{{Prefix: netip.MustParsePrefix("10.0.0.0/8")}}
	})
	ban(t, a, "192.0.2.10/32", "10.1.2.3/32", "203.0.113.7/32")
	eventually(t, "the never-ban list", func() bool {
		l := listing(t, a)
		return !l["192.0.2.10/32"].Effective && !l["10.1.2.3/32"].Effective && l["203.0.113.7/32"].Effective
	})
}

func TestAnEventHasTheTimeAtWhichItHappened(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	got := make(chan control.Event, 16)
	go a.Events(t.Context(), func(e control.Event) error { got <- e; return nil })
	eventually(t, "the reader", a.watchers.events.Watched)
	before := control.At(time.Now())
	ban(t, a, "203.0.113.7/32")
	for e := range got {
		if e.Event != "ban" {
			continue
		}
		if e.Time < before || e.Time > control.At(time.Now()) {
			t.Errorf("the ban is told of %v, it was made at %v or later", e.Time, before)
		}
		return
	}
}
