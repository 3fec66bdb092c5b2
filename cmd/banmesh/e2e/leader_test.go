package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
)

func set(prefixes ...string) map[string]bool {
	m := make(map[string]bool, len(prefixes))
	for _, p := range prefixes {
		m[p] = true
	}
	return m
}

// TestFiguresFailover: from the end of the leader until its successor has
// committed what waited.
func TestFiguresFailover(t *testing.T) {
	for _, c := range []struct {
		name string
		most time.Duration
		end  func(*agent)
	}{
		{"kill", 6 * time.Second, func(a *agent) { a.cmd.Process.Kill() }},
		{"leave", time.Second, func(a *agent) { a.must("leave") }},
		{"stop", time.Second, func(a *agent) { a.cmd.Process.Signal(os.Interrupt) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			cond := startConductor(t)
			// A window that only a new leader's first commit does not wait for.
			agents := trio(t, settings{commit: cond.commitTo(", window: 60s, max_wait: 60s")})
			lead, others := leaderOf(t, agents)
			for _, a := range agents {
				eventually(t, 20*time.Second, a.name+" to be able to lead", func() bool { return len(a.status().Warnings) == 0 })
			}
			others[0].must("ban", "203.0.113.1", "--for", "1h")
			for _, a := range agents {
				eventually(t, 10*time.Second, "the ban at "+a.name, func() bool { return a.banned("203.0.113.1/32") != nil })
			}
			if got := cond.running(t); len(got) != 0 {
				t.Fatalf("running holds %v before the failover", got)
			}
			began := time.Now()
			c.end(lead)
			eventually(t, 30*time.Second, "the successor's commit", cond.holds(t, "203.0.113.1/32"))
			took := time.Since(began)
			next, _ := leaderOf(t, others)
			t.Logf("%s: %s committed %v after %s was gone", c.name, next.name, took.Round(10*time.Millisecond), lead.name)
			if took > c.most {
				t.Errorf("%s: committed after %v, want at most %v", c.name, took, c.most)
			}
		})
	}
}

// TestALostStoreAndNoPeersUnbanNothing: what an agent does not know of it leaves
// alone, however long it leads.
func TestALostStoreAndNoPeersUnbanNothing(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	agents := trio(t, settings{commit: cond.commitTo(steady)})
	lead, others := leaderOf(t, agents)
	d, want := deeds{}, set("203.0.113.1/32", "203.0.113.2/32", "203.0.113.3/32")
	d.ban(lead, "203.0.113.1/32")
	d.ban(others[0], "203.0.113.2/32")
	d.ban(others[1], "203.0.113.3/32")
	tenantBecomes(t, 20*time.Second, cond, want)

	for _, a := range agents {
		a.kill()
	}
	wiped := agents[2]
	if err := os.RemoveAll(filepath.Join(wiped.dir, "data")); err != nil {
		t.Fatal(err)
	}
	// With a join that nobody answers it would not lead for its first five minutes.
	config := regexp.MustCompile(`(?m)^join: .*$`).ReplaceAllString(fileText(t, wiped.config), "join: []")
	if err := os.WriteFile(wiped.config, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	wiped.start()
	d.ban(wiped, "203.0.113.4/32")
	want["203.0.113.4/32"] = true
	tenantBecomes(t, 90*time.Second, cond, want)
	s := wiped.status()
	if s.Leader == nil || *s.Leader != wiped.name || s.Commit.Foreign != 3 {
		t.Errorf("leader %v, %d foreign; want %s and the three it does not know", s.Leader, s.Commit.Foreign, wiped.name)
	}
	if diff := wiped.must("diff"); strings.Contains(diff, "remove") {
		t.Errorf("diff wants to remove something:\n%s", diff)
	}

	t.Log("the others are back: all is known again, and can be unbanned")
	agents[0].start()
	agents[1].start()
	agreed(t, 60*time.Second, agents, cond, want)
	d.unban(wiped, "203.0.113.2/32")
	delete(want, "203.0.113.2/32")
	agreed(t, 30*time.Second, agents, cond, want)
	content(t, cond, d)
}

func TestWhatExpiredWhileTheConductorWasAwayIsRemoved(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	agents := trio(t, settings{commit: cond.commitTo(steady)})
	leaderOf(t, agents)
	agents[1].must("ban", "203.0.113.1", "--for", "12s")
	agents[1].must("ban", "203.0.113.2", "--for", "1h")
	tenantBecomes(t, 11*time.Second, cond, set("203.0.113.1/32", "203.0.113.2/32"))
	control := cond.control(t)
	if err := control.Inject(conductorsim.Fault{Kind: conductorsim.FaultUnreachable}); err != nil {
		t.Fatal(err)
	}
	agents[2].must("ban", "203.0.113.3", "--for", "1h")
	for _, a := range agents {
		eventually(t, 20*time.Second, "the end of the ban at "+a.name, func() bool { return a.banned("203.0.113.1/32") == nil })
		eventually(t, 60*time.Second, a.name+" to say that the conductor is away", func() bool { return a.status().Commit.State == "failing" })
	}
	if got := cond.running(t); !slices.Equal(got, []string{"203.0.113.1/32", "203.0.113.2/32"}) {
		t.Errorf("running holds %v while nobody reaches the conductor", got)
	}
	if err := control.Clear(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	tenantBecomes(t, 120*time.Second, cond, set("203.0.113.2/32", "203.0.113.3/32"))
	t.Logf("removed %v after the conductor was back", time.Since(back).Round(100*time.Millisecond))
}

// tenantEdit is an administrator's edit of one address of the tenant.
func tenantEdit(operation, prefix string) string {
	return `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant><name>blacklist-fail2ban</name><member><neighborhood>internet</neighborhood>` +
		fmt.Sprintf(`<address xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation=%q>%s</address>`, operation, prefix) +
		`</member></tenant></authority></config>`
}

func TestWhatAnAdministratorDoesByHandStands(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	agents := trio(t, settings{commit: cond.commitTo(steady)})
	lead, _ := leaderOf(t, agents)
	agents[1].must("ban", "203.0.113.1", "203.0.113.2", "--for", "1h")
	tenantBecomes(t, 20*time.Second, cond, set("203.0.113.1/32", "203.0.113.2/32"))
	eventually(t, 20*time.Second, "the leader to be idle", func() bool { return lead.status().Commit.State == "idle" })

	control := cond.control(t)
	for _, step := range []conductorsim.ControlRequest{
		{Op: "lock"}, {Op: "edit", Config: tenantEdit("remove", "203.0.113.1/32")},
		{Op: "edit", Config: tenantEdit("merge", "198.51.100.9/32")}, {Op: "commit"}, {Op: "unlock"},
	} {
		step.Do, step.User = "admin", "ann"
		if _, err := control.Do(step); err != nil {
			t.Fatalf("%s: %v", step.Op, err)
		}
	}
	for i := 3; i <= 5; i++ {
		agents[i%3].must("ban", fmt.Sprintf("203.0.113.%d", i), "--for", "1h")
	}
	want := set("203.0.113.2/32", "203.0.113.3/32", "203.0.113.4/32", "203.0.113.5/32", "198.51.100.9/32")
	tenantBecomes(t, 20*time.Second, cond, want)
	for _, a := range agents {
		eventually(t, 20*time.Second, a.name+" to show what was done by hand", func() bool {
			s := a.status()
			return s.Commit.Foreign == 1 && !a.banned("203.0.113.1/32").Committed && a.banned("203.0.113.2/32").Committed
		})
	}
	if s := lead.status(); !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "by hand") }) {
		t.Errorf("the leader does not say that an address was removed by hand: %q", s.Warnings)
	}
	agents[1].must("unban", "203.0.113.2")
	delete(want, "203.0.113.2/32")
	tenantBecomes(t, 20*time.Second, cond, want)
	oneLine(t, agents[1].run("unban", "198.51.100.9"), 1, "198.51.100.9")
}

// TestTheNextRouterCommitsWhenTheLeadersDiskIsFull: a leader that cannot record
// what it places gives way; the ban is committed all the same.
func TestTheNextRouterCommitsWhenTheLeadersDiskIsFull(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	dir := shortDir(t)
	fill := smallDisk(t, filepath.Join(dir, "data"))
	section := cond.commitTo(steady)
	lead := newAgent(t, "router1", settings{commit: section, dir: dir}).start()
	others := []*agent{
		newAgent(t, "router2", settings{commit: section, join: []*agent{lead}}).start(),
		newAgent(t, "router3", settings{commit: section, join: []*agent{lead}}).start(),
	}
	all := append([]*agent{lead}, others...)
	awaitMembers(t, all, 3)
	if got, _ := leaderOf(t, all); got != lead {
		t.Fatalf("%s leads, want router1", got.name)
	}
	lead.must("ban", "203.0.113.1", "--for", "1h")
	tenantBecomes(t, 20*time.Second, cond, set("203.0.113.1/32"))

	free := fill()
	want := set("203.0.113.1/32")
	acknowledge := func(a *agent, block, n int) bool {
		bare, prefixes := addresses(block, n)
		r := a.run(append([]string{"ban", "--for", "1h", "--spool", filepath.Join(dir, "data", "spool")}, bare...)...)
		if r.code != 0 {
			oneLine(t, r, r.code, "space")
			return false
		}
		for _, p := range prefixes {
			want[p] = true
		}
		return true
	}
	// What is left in the store's own file is used up first.
	for block := 0; acknowledge(lead, block, 100); block++ {
		if block == 60 {
			t.Fatal("a full disk refused nothing")
		}
	}
	for block := 100; block < 105; block++ {
		if !acknowledge(others[0], block, 200) {
			t.Fatal("router2 refused a ban")
		}
	}
	tenantBecomes(t, 90*time.Second, cond, want)
	for _, a := range all {
		eventually(t, 30*time.Second, "every acknowledged ban at "+a.name, func() bool { return a.status().Bans.Live == len(want) })
	}
	s := lead.status()
	t.Logf("leader %v; router1 warns: %q", *s.Leader, s.Warnings)
	if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "space") }) {
		t.Errorf("router1 does not say that its disk is full: %q", s.Warnings)
	}
	if *s.Leader == lead.name {
		t.Errorf("router1 leads though it cannot record what it places")
	}

	free()
	eventually(t, 30*time.Second, "router1 to take bans again", func() bool { return lead.run("ban", "203.0.113.3", "--for", "1h").code == 0 })
	want["203.0.113.3/32"] = true
	agreed(t, 60*time.Second, all, cond, want)
}

// TestTheLockOfAFrozenLeaderIsBroken: a leader that is stopped with the lock in
// hand keeps it, and its session, until its silence has lasted long enough; once
// it goes on, it does no harm.
func TestTheLockOfAFrozenLeaderIsBroken(t *testing.T) {
	t.Parallel()
	cond := startConductor(t, "--commit-delay", "2s")
	agents := trio(t, settings{commit: cond.commitTo(steady)})
	lead, others := leaderOf(t, agents)
	d, want := deeds{}, set("203.0.113.1/32", "203.0.113.2/32")
	d.ban(others[0], "203.0.113.1/32")
	eventually(t, 20*time.Second, "the leader to commit", func() bool { return lead.status().Commit.State == "committing" })
	lead.cmd.Process.Signal(syscall.SIGSTOP)
	frozen := time.Now()
	d.ban(others[0], "203.0.113.2/32")
	eventually(t, 20*time.Second, "the next leader to wait for the frozen one's session", func() bool {
		s := others[0].status()
		return s.Leader != nil && *s.Leader != lead.name && s.Commit.State == "waiting" && strings.Contains(s.Commit.Detail, "session")
	})
	tenantBecomes(t, 60*time.Second, cond, want)
	took := time.Since(frozen)
	t.Logf("committed %v after the leader froze", took.Round(10*time.Millisecond))
	if took < 15*time.Second {
		t.Errorf("a session was killed after %v, want 15 s of silence first", took)
	}
	d.ban(others[1], "203.0.113.3/32")
	want["203.0.113.3/32"] = true
	tenantBecomes(t, 30*time.Second, cond, want)
	lead.cmd.Process.Signal(syscall.SIGCONT)
	if next := agreed(t, 30*time.Second, agents, cond, want); next == lead {
		t.Errorf("%s leads again at once, want the one who took over", lead.name)
	}
	d.unban(lead, "203.0.113.1/32")
	delete(want, "203.0.113.1/32")
	agreed(t, 30*time.Second, agents, cond, want)
	content(t, cond, d)
}
