package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// screenOf is the status as an operator sees it, and how many lines of 80 columns it takes.
func screenOf(t *testing.T, s control.Status) (text string, lines int) {
	t.Helper()
	var out bytes.Buffer
	if err := newConsole(nil, &out, nil, func(string) string { return "" }).printStatus(s); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		lines += max(1, (len(strings.TrimRight(line, "\n"))+79)/80)
	}
	return out.String(), lines
}

// With all the troubles that come together when the conductor is away, a router is gone and the agents were frozen.
func TestStatusFitsOneScreenAndSaysEachThingOnce(t *testing.T) {
	reason := "connect to 192.0.2.1:830: conductor is unreachable: dial tcp 192.0.2.1:830: connect: connection refused"
	s := control.Status{Name: "router1", Version: "1.0.0", UptimeS: 90000, Why: reason, Frozen: true, FrozenBy: "router2", Spooled: 3, Enforce: &control.Enforcement{Driver: "fail2ban", State: "limited", InForce: 1000}, Fail2ban: "3 to tell"}
	s.Members.Alive, s.Members.Failed = 2, 1
	s.Commit = control.CommitStatus{Driver: "netconf", State: "failing", Detail: reason, LastError: &reason, PendingAdd: 12, Features: "NETCONF, one candidate for all, validate before commit"}
	s.Warnings = []string{
		"enforcement by fail2ban: peers have 1400 bans, the newest 1000 of them are in fail2ban's jail mesh (enforce.limit): enforce.driver nftables takes all",
		"frozen by router2: nothing new is committed or enforced; resume with `banmesh thaw`",
		"no answer from router3: no bans get there until this ends; check `systemctl status banmesh` there",
		"no router commits; this one cannot: " + reason,
	}
	text, lines := screenOf(t, s)
	if lines > 24 {
		t.Errorf("%d lines of 80 columns, want 24 at most:\n%s", lines, text)
	}
	if got := strings.Count(text, reason); got != 1 {
		t.Errorf("the reason is told %d times:\n%s", got, text)
	}
	for _, want := range []string{"none yet; this one cannot, see commit\n", "commit     failing: " + reason + "\n", "warning    no router commits; this one cannot, see commit\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}

	other := "the candidate is locked"
	s.Commit.LastError, s.Why = &other, "no key"
	if text, _ := screenOf(t, s); !strings.Contains(text, "last error: "+other) || !strings.Contains(text, "this one cannot: no key") {
		t.Errorf("another error and another reason are not told:\n%s", text)
	}
}

// A clock agrees with nobody where nobody answers.
func TestStatusOfALoneRouterComparesNoClock(t *testing.T) {
	var s control.Status
	s.Members.Alive, s.Members.Failed = 1, 2
	if text, _ := screenOf(t, s); !strings.Contains(text, "clock      not compared: no other member answers\n") {
		t.Errorf("no other member answers:\n%s", text)
	}
}

// The status is shown at once and at each tick, also after an agent that was away.
func TestStatusIsWatchedUntilItsEnd(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	var out, errOut bytes.Buffer
	c := newConsole(strings.NewReader(""), &out, &errOut, func(string) string { return "" })
	c.socket = socket
	ctx, cancel := context.WithCancel(t.Context())
	tick := make(chan time.Time)
	ended := make(chan error, 1)
	go func() { ended <- c.watchStatus(ctx, tick) }()
	tick <- time.Time{} // taken only once the first try, at no agent, is over
	stop, err := serveFake(socket, newFakeAgent())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	tick <- time.Time{}
	tick <- time.Time{}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if n := strings.Count(out.String(), "router1  banmesh test"); n < 1 || n > 3 {
		t.Errorf("shown %d times, want once for each tick:\n%s", n, &out)
	}
	if !strings.Contains(errOut.String(), "no agent reachable") {
		t.Errorf("an agent that is away is not said: %q", &errOut)
	}
}
