package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/commit"
	"banmesh/mesh/conductor"
)

// chapter is one random sequence of changes, with faults, killed processes, resets and other administrators.
type chapter struct {
	*bench
	random *rand.Rand
	wanted map[netip.Prefix]bool
	killed bool // a process was killed
	log    []string
}

// RunHistory makes a random history of commits with faults, by a seed, and judges every change of running. At the end the
// faults are cleared, and what is wanted must come about.
func RunHistory(t *testing.T, start Starter, seed uint64, steps int) {
	b := &bench{T: t, start: start}
	h := &chapter{bench: b, random: rand.New(rand.NewPCG(seed, 1)), wanted: make(map[netip.Prefix]bool)}
	t.Cleanup(func() { // runs after the history was judged
		if t.Failed() {
			t.Logf("seed %d:\n%s", seed, strings.Join(h.log, "\n"))
		}
	})
	b.with(func(c *conductorsim.Config) { c.Features.ConfirmedCommit = true })
	for range steps {
		h.step()
	}
	b.Sim.Clear()
	synctest.Wait()
	h.settle()
}

func (h *chapter) note(format string, args ...any) {
	h.log = append(h.log, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (h *chapter) step() {
	switch n := h.random.IntN(12); {
	case n == 0: // the process is killed, and another one continues
		h.note("restart")
		h.c = h.open()
	case n == 1: // a backup without our tenant is restored
		h.note("reset")
		a := h.Sim.Admin("operator")
		err := a.Edit(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
			`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"><name>` + Tenant + `</name></tenant></authority></config>`)
		h.note("reset: %v", errors.Join(err, a.Commit()))
		_ = a.Discard()
		a.Close()
	case n == 2: // another administrator leaves edits for a while
		a := h.Sim.Admin("operator")
		h.note("dirty: %v", h.Sim.Dirty(h.random.IntN(2) == 0))
		h.change()
		_ = a.Discard()
		a.Close()
	case n == 3: // another administrator's confirmed commit is never confirmed
		a := h.Sim.Admin("operator")
		err := a.Edit(fmt.Sprintf(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config"><router><name>risky%d</name></router></authority></config>`, h.random.IntN(1000)))
		h.note("confirmed commit: %v", errors.Join(err, a.CommitConfirmed(time.Duration(1+h.random.IntN(10))*time.Second)))
		h.change()
		_ = a.Discard()
		a.Close()
	default:
		if h.random.IntN(2) == 0 {
			f := h.fault()
			h.note("fault %+v", f)
			h.inject(f)
		}
		h.change()
		h.Sim.Clear()
		// What was frozen takes effect now. A frozen commit takes all of a shared candidate, and over REST, without a lock, no client
		// can keep an edit out of it that an administrator makes at the same moment.
		synctest.Wait()
	}
}

func (h *chapter) fault() conductorsim.Fault {
	ops := []string{"get-config", "edit-config", "commit", "validate", "lock", "discard-changes", "unlock"}
	op := ops[h.random.IntN(len(ops))]
	times := 1 + h.random.IntN(3)
	node := 0
	if h.Nodes > 1 {
		node = 1 // the other node is fine
	}
	f := h.kindOfFault(op, times)
	f.Node = node
	return f
}

func (h *chapter) kindOfFault(op string, times int) conductorsim.Fault {
	switch h.random.IntN(11) {
	case 5:
		return conductorsim.Fault{Kind: conductorsim.FaultCutReply, Op: op, N: 1 + h.random.Int64N(4096), Times: times}
	case 6:
		return conductorsim.Fault{Kind: conductorsim.FaultKilled, At: []string{"before", "in", "after"}[h.random.IntN(3)], Op: op, Times: times}
	case 7:
		return conductorsim.Fault{Kind: []conductorsim.FaultKind{conductorsim.FaultUnreachable, conductorsim.FaultFreeze, conductorsim.FaultRESTTruncated}[h.random.IntN(3)], Times: times}
	case 0:
		return conductorsim.Fault{Kind: conductorsim.FaultCommitFails, Times: times}
	case 1:
		return conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(time.Duration(h.random.IntN(20_000)) * time.Millisecond)}
	case 2:
		return conductorsim.Fault{Kind: conductorsim.FaultFreeze, Op: op, Times: 1}
	case 3:
		return conductorsim.Fault{Kind: conductorsim.FaultSlowCommit, For: conductorsim.Duration(time.Duration(h.random.IntN(15_000)) * time.Millisecond)}
	case 4:
		places := []string{"/config/running", "/config/candidate", "/config/running/authority/tenant", "/config/candidate/authority/tenant", "/config/commit", "/config/validate", "/config/version"}
		bodies := []string{`{"message":"internal error"}`, "null", "<html>hello</html>", "{}", ""}
		codes := []int64{200, 400, 403, 404, 409, 500, 503}
		return conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: places[h.random.IntN(len(places))], N: codes[h.random.IntN(len(codes))],
			Body: bodies[h.random.IntN(len(bodies))], Times: times}
	}
	return conductorsim.Fault{Kind: conductorsim.FaultDrop, At: []string{"before", "in", "after"}[h.random.IntN(3)], Op: op, Times: times}
}

// change asks for some of a few addresses, within a short time.
func (h *chapter) change() {
	var add, remove []netip.Prefix
	for i := range 6 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
		switch h.random.IntN(4) {
		case 0:
			add, h.wanted[p], h.added[p] = append(add, p), true, true
		case 1:
			remove, h.wanted[p], h.removed[p] = append(remove, p), false, true
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	defer cancel()
	h.note("add %v remove %v: %v", add, remove, h.attempt(ctx, add, remove))
}

func (h *chapter) attempt(ctx context.Context, add, remove []netip.Prefix) error {
	e, err := h.c.Begin(ctx, conductor.Permit{Ours: everything})
	if err != nil {
		return err
	}
	if err = e.Apply(ctx, add, remove); err == nil && h.random.IntN(10) > 0 {
		err = e.Commit(ctx)
	}
	if h.random.IntN(10) > 0 {
		return errors.Join(err, e.Close(ctx))
	}
	// Killed: it does nothing more, and its session ends with the process.
	old := h.c
	h.c, h.killed = h.open(), true
	return errors.Join(err, errors.New("killed"), old.Close())
}

// settle brings about what is wanted, as a mesh would: it reads, plans and tries again. From its first attempt on, a new process
// leaves other nodes alone for as long as a commit may take to show. So attempts are that long apart, and two must find nothing
// to do.
func (h *chapter) settle() {
	h.c = h.open()
	var err error
	var done commit.Conductor // the one that found nothing to do
	for deadline := time.Now().Add(200 * bound); time.Now().Before(deadline); {
		time.Sleep(bound)
		var r conductor.Running
		if r, err = h.c.Read(h.ctx()); err != nil {
			continue
		}
		var add, remove []netip.Prefix
		for p, wanted := range h.wanted {
			switch there := slices.Contains(r.Addresses, p); {
			case wanted && !there:
				add, h.added[p] = append(add, p), true
			case !wanted && there:
				remove, h.removed[p] = append(remove, p), true
			}
		}
		if err = h.attempt(h.ctx(), add, remove); err != nil {
			h.note("settle: %v", err)
		} else if len(add)+len(remove) == 0 {
			if done == h.c {
				h.revertBehind()
				h.wantClean()
				return
			}
			done = h.c
		}
	}
	h.Fatalf("what is wanted does not come about: %v", err)
}

// revertBehind does what only an administrator can. If a process was killed at node 2 while a router was committed at node 1, the
// edit that it left keeps node 2's candidate from following when the router goes. The next process undoes that edit, but to it the
// router is an administrator's edit.
func (h *chapter) revertBehind() {
	risky := func(line string) bool { return strings.Contains(line, "/router[risky") }
	if !h.killed || h.Nodes < 2 || h.OwnCandidate || slices.ContainsFunc(leaves(h.Sim.Running()), risky) ||
		!slices.ContainsFunc(leaves(h.Sim.Candidate(User, 2)), risky) {
		return
	}
	h.note("revert node 2, which is behind: %v", h.Sim.Revert(2))
}
