package conductorsim_test

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
)

// inject puts a fault in force.
func (s *server) inject(t *testing.T, f conductorsim.Fault) {
	t.Helper()
	if err := s.Inject(f); err != nil {
		t.Fatal(err)
	}
}

// until waits until the history holds an event that is wanted.
func (s *server) until(t *testing.T, what string, want func(history.Event) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		grown := s.History().Grown()
		if slices.ContainsFunc(s.History().Events(), want) {
			return
		}
		select {
		case <-grown:
		case <-deadline:
			t.Fatalf("%s: not in the history after 10 s", what)
		}
	}
}

const localCommit = `<commit><validation-type xmlns="urn:128technology:netconf:validate-type:1.0">local</validation-type></commit>`

func TestSlowCommitTakesItsTime(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultSlowCommit, For: conductorsim.Duration(200 * time.Millisecond), Times: 1})
	c := s.dial(t)
	c.ok(edit(tenant("192.0.2.1/32")))
	start := time.Now()
	c.ok(commit)
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("the commit took %s, want 200 ms", took)
	}
	if left := s.Faults(); len(left) != 0 {
		t.Errorf("faults left: %v", left)
	}
}

func TestWhileACommitRunsOthersWait(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultRouterOffline})
	one, two := s.dial(t), s.dial(t)
	one.ok(edit(tenant("192.0.2.1/32")))
	one.request(commit) // distributed: hangs for 90 s
	within(t, "commit under way", func() {
		for {
			if r := two.do(validate); len(r.Errors) == 1 && r.Errors[0].Message == "A request of type validate is already in progress" {
				return
			}
		}
	})
	two.refused(commit, "operation-failed")
	two.refused(edit(tenant("192.0.2.2/32")), "in-use")
	if e := two.refused(lockCandidate, "lock-denied"); e.Session != fmt.Sprint(one.Session) {
		t.Errorf("holder %q, want %d", e.Session, one.Session)
	}
	two.ok(fmt.Sprintf(`<kill-session><session-id>%d</session-id></kill-session>`, one.Session))
	if got := s.Addresses("black", "internet"); len(got) != 0 {
		t.Errorf("a killed commit took effect: %q", got)
	}
	two.ok(localCommit) // routers are not asked
	if got := s.Addresses("black", "internet"); len(got) != 1 {
		t.Errorf("addresses %q, want one", got)
	}
}

func TestLockHeldByNobodyHere(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultLockHeld, N: 77})
	c := s.dial(t)
	if e := c.refused(lockCandidate, "lock-denied"); e.Session != "77" {
		t.Errorf("holder %q, want 77", e.Session)
	}
	s.Clear(conductorsim.FaultLockHeld)
	c.ok(lockCandidate)
}

func TestAnotherAdministratorDirtiesTheCandidate(t *testing.T) {
	for _, valid := range []bool{true, false} {
		s := serve(t)
		if err := s.Dirty(valid); err != nil {
			t.Fatal(err)
		}
		c := s.dial(t)
		c.refused(lockCandidate, "resource-denied")
		if valid {
			c.ok(validate)
		} else {
			c.refused(validate, "operation-failed")
		}
		operator := s.Admin("operator")
		if err := operator.Discard(); err != nil {
			t.Fatal(err)
		}
		if err := operator.Lock(); err != nil {
			t.Fatal(err)
		}
		if e := c.refused(lockCandidate, "lock-denied"); e.Session != fmt.Sprint(operator.Session()) {
			t.Errorf("holder %q, want %d", e.Session, operator.Session())
		}
		operator.Close()
		c.ok(lockCandidate)
	}
}

func TestValidationRefusedWithSeveralErrors(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 3, Times: 2})
	c := s.dial(t)
	c.ok(edit(tenant("192.0.2.1/32")))
	if r := c.do(validate); len(r.Errors) != 3 {
		t.Errorf("%d errors, want 3", len(r.Errors))
	}
	if r := c.do(commit); len(r.Errors) != 3 {
		t.Errorf("%d errors, want 3", len(r.Errors))
	}
	c.ok(commit)
}

func TestCommitAndValidateFaults(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	c.ok(edit(tenant("192.0.2.1/32")))
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultValidateBusy, Times: 1})
	if e := c.refused(validate, "operation-failed"); !strings.Contains(e.Message, "already in progress") {
		t.Errorf("message %q", e.Message)
	}
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultCommitFails, Times: 1})
	c.refused(commit, "operation-failed")
	if n := s.History().Commits(); n != 0 {
		t.Errorf("%d commits, want none", n)
	}
	c.ok(commit)
}

func TestDropsTheConnectionAroundACommit(t *testing.T) {
	for point, committed := range map[string]bool{"before": false, "in": true, "after": true} {
		t.Run(point, func(t *testing.T) {
			s := serve(t, func(c *conductorsim.Config) { c.CommitDelay = 20 * time.Millisecond })
			s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultDrop, At: point, Times: 1})
			c := s.dial(t)
			c.ok(lockCandidate)
			c.ok(edit(tenant("192.0.2.1/32")))
			c.request(commit)
			within(t, "end of the connection", func() {
				if msg, err := c.receive(); err == nil {
					t.Errorf("answered %s", msg)
				}
			})
			s.until(t, "end of the session", func(e history.Event) bool { return e.Kind == history.Closed && e.Session == c.Session })
			if got := len(s.Addresses("black", "internet")) == 1; got != committed {
				t.Errorf("committed: %v, want %v", got, committed)
			}
		})
	}
}

func TestFrozenServerKeepsTheLock(t *testing.T) {
	s := serve(t)
	one, two := s.dial(t), s.dial(t)
	one.ok(lockCandidate)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: "edit-config"})
	one.request(edit(tenant("192.0.2.1/32")))
	two.refused(lockCandidate, "lock-denied")
	one.kill() // it hears nothing of that
	two.refused(lockCandidate, "lock-denied")
	s.Clear()
	s.until(t, "end of the frozen session", func(e history.Event) bool { return e.Kind == history.Closed && e.Session == one.Session })
	two.refused(lockCandidate, "resource-denied") // it had read the edit and did it
	two.ok(discard)
	two.ok(lockCandidate)
}

func TestWhatFrozeStaysFrozenWhenTheFaultHasHealed(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: "get-config", Times: 1})
	one, two := s.dial(t), s.dial(t)
	one.ok(lockCandidate)
	one.request(getRunning)
	within(t, "freeze", func() {
		for len(s.Faults()) > 0 {
			two.refused(lockCandidate, "lock-denied")
		}
	})
	two.ok(getRunning)
	s.Clear(conductorsim.FaultSlowCommit)
	two.refused(lockCandidate, "lock-denied")
	s.Clear(conductorsim.FaultFreeze)
	if msg, err := one.receive(); err != nil || !strings.Contains(msg, "<data>") {
		t.Errorf("after the thaw: %s, %v", msg, err)
	}
}

func TestFrozenSessionCanBeKilled(t *testing.T) {
	s := serve(t)
	one, two := s.dial(t), s.dial(t)
	one.ok(lockCandidate)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: "edit-config"})
	one.request(edit(tenant("192.0.2.1/32")))
	two.ok(fmt.Sprintf(`<kill-session><session-id>%d</session-id></kill-session>`, one.Session))
	two.ok(lockCandidate)
}

func TestLiesWithOk(t *testing.T) {
	for _, c := range []struct {
		kind conductorsim.FaultKind
		want []string
	}{
		{conductorsim.FaultLieDropAdded, nil},
		{conductorsim.FaultLieDropOne, []string{"192.0.2.3/32"}},
		{conductorsim.FaultLieWideOpen, []string{"0.0.0.0/0", "192.0.2.3/32"}},
	} {
		for _, point := range []string{"edit", "commit"} {
			t.Run(string(c.kind)+" at "+point, func(t *testing.T) {
				s := serve(t)
				x := s.dial(t)
				x.ok(edit(tenant("192.0.2.1/32")))
				x.ok(commit)
				s.inject(t, conductorsim.Fault{Kind: c.kind, At: point, Times: 1})
				x.ok(edit(tenant("-192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")))
				lied := !strings.Contains(x.ok(getCandidate).text, "192.0.2.2/32")
				if want := point == "edit"; lied != want {
					t.Errorf("the candidate lies: %v, want %v", lied, want)
				}
				x.ok(commit)
				if got := s.Addresses("black", "internet"); !slices.Equal(got, c.want) {
					t.Errorf("addresses %q, want %q", got, c.want)
				}
			})
		}
	}
}

func TestFirstRequestThatComesWithTheHelloIsNotAnswered(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultFirstUnanswered, Times: 1})
	c, err := open(t, s.Sim, s.addr, "admin")
	if err != nil {
		t.Fatal(err)
	}
	early := &client{t: t, chunked: true}
	c.send(hello(base11) + early.frame(`<rpc xmlns="`+baseNS+`" message-id="early"><get/></rpc>`))
	c.greeted(base11)
	if r := c.ok(getRunning); r.ID != "1" {
		t.Errorf("message-id %q, want that of the second request", r.ID)
	}
}

func TestTinyChunks(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultChunkSize})
	for _, version := range []string{base10, base11} {
		c := dial(t, s.Sim, s.addr, "admin", version)
		c.ok(edit(tenant("192.0.2.1/32")))
		if r := c.ok(getCandidate); !strings.Contains(r.text, ">192.0.2.1/32<") {
			t.Errorf("%s: got %s", version, r.text)
		}
	}
}

func TestWrongMessageID(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultWrongMessageID, Op: "commit"})
	c.ok(getRunning)
	if r, err := c.try(commit); err != nil || r.ID == fmt.Sprint(c.id) || r.OK == nil {
		t.Errorf("got %+v, %v: want ok with another message-id", r, err)
	}
}

func TestHugeReply(t *testing.T) {
	s := serve(t)
	c := s.dial(t)
	const size = 3 << 20
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultHugeReply, N: size, Times: 1})
	if r := c.ok(getRunning); len(r.text) < size {
		t.Errorf("%d bytes, want more than %d", len(r.text), size)
	}
	c.ok(getRunning)
}

func TestUnreachable(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultUnreachable, Times: 1})
	if _, err := open(t, s.Sim, s.addr, "admin"); err == nil {
		t.Error("connected")
	}
	s.dial(t).ok(getRunning)
}

func TestRefusesFaultsThatItDoesNotKnow(t *testing.T) {
	s := serve(t)
	for _, f := range []conductorsim.Fault{{Kind: "earthquake"}, {Kind: conductorsim.FaultDrop, At: "noon"},
		{Kind: conductorsim.FaultSlowCommit, For: -1}, {Kind: conductorsim.FaultSlowCommit, At: "edit"}} {
		if err := s.Inject(f); err == nil {
			t.Errorf("%+v was accepted", f)
		}
	}
}

func TestPairSharesTheCandidateOrNot(t *testing.T) {
	for style, shared := range map[conductorsim.Style]bool{conductorsim.Style52: true, conductorsim.Style55: false} {
		t.Run(string(style), func(t *testing.T) {
			s := serve(t, func(c *conductorsim.Config) { c.Nodes, c.Style = 2, style })
			second := s.listen(t, 2)
			one := s.dial(t)
			two := dial(t, s.Sim, second.Addr().String(), "admin", base11)
			one.ok(edit(tenant("192.0.2.1/32")))
			seen := strings.Contains(two.ok(getCandidate).text, "192.0.2.1/32")
			if seen != shared {
				t.Errorf("the other node sees the edit: %v, want %v", seen, shared)
			}
			one.ok(commit)
			if !strings.Contains(two.ok(getRunning).text, "192.0.2.1/32") || !strings.Contains(two.ok(getCandidate).text, "192.0.2.1/32") {
				t.Error("the other node does not have what was committed")
			}
			one.ok(lockCandidate)
			if shared {
				two.refused(lockCandidate, "lock-denied")
			} else {
				two.ok(lockCandidate)
			}
			second.Close()
			within(t, "end of the node's sessions", func() {
				if _, err := two.receive(); err == nil {
					t.Error("a node that is down answers")
				}
			})
			one.ok(getRunning)
		})
	}
}

func TestEveryUserHasACandidateMergedAtCommit(t *testing.T) {
	s := serve(t, func(c *conductorsim.Config) { c.Style, c.Users = conductorsim.Style56, []string{"ann", "bob"} })
	ann := dial(t, s.Sim, s.addr, "ann", base11)
	bob := dial(t, s.Sim, s.addr, "bob", base11)
	description := func(d string) string {
		return `<authy:tenant><authy:name>black</authy:name><authy:description>` + d + `</authy:description></authy:tenant>`
	}
	ann.ok(edit(tenant("192.0.2.1/32") + description("of ann")))
	bob.ok(edit(tenant("192.0.2.2/32")))
	if strings.Contains(bob.ok(getCandidate).text, "192.0.2.1/32") {
		t.Error("one sees the other's edit")
	}
	ann.ok(commit)
	bob.ok(commit)
	got := s.Addresses("black", "internet")
	slices.Sort(got)
	if want := []string{"192.0.2.1/32", "192.0.2.2/32"}; !slices.Equal(got, want) {
		t.Errorf("addresses %q, want both", got)
	}
	ann.ok(edit(description("second of ann")))
	bob.ok(edit(description("of bob")))
	ann.ok(commit)
	if e := bob.refused(commit, "operation-failed"); !strings.Contains(e.Message, "conflicting") {
		t.Errorf("message %q", e.Message)
	}
	if r := bob.ok(getCandidate); !strings.Contains(r.text, "second of ann") {
		t.Errorf("the conflicting edit was not dropped: %s", r.text)
	}
	bob.ok(edit(description("second of bob")))
	bob.ok(commit)
}

func TestCloseEndsEverything(t *testing.T) {
	s := serve(t)
	s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultRouterOffline})
	c, idle := s.dial(t), s.dial(t)
	c.ok(edit(tenant("192.0.2.1/32")))
	c.request(commit)
	within(t, "close", func() { s.Close() })
	for _, x := range []*client{c, idle} {
		within(t, "end of the session", func() {
			for {
				if _, err := x.receive(); err != nil {
					return
				}
			}
		})
	}
	if len(s.Sessions()) != 0 {
		t.Errorf("sessions left: %v", s.Sessions())
	}
	if _, err := io.WriteString(idle.in, "x"); err == nil {
		t.Error("the connection is still open")
	}
}
