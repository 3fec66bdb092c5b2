package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/commit"
	"banmesh/mesh/conductor"
)

func createsWhatIsAbsent(b *bench) {
	if f := b.c.Features(); f != "" {
		b.Errorf("features before the first contact: %q", f)
	}
	r, err := b.c.Read(b.ctx())
	if err != nil || r.Exists || len(r.Addresses) != 0 || r.Conductor == "" {
		b.Fatalf("read of nothing: %+v, %v", r, err)
	}
	b.seed("192.0.2.1/32", "198.51.100.0/24", "2001:db8::/48")
	if r, err = b.c.Read(b.ctx()); err != nil || !r.Exists || sorted(r.Addresses) != "192.0.2.1/32 198.51.100.0/24 2001:db8::/48" {
		b.Errorf("read back: %+v, %v", r, err)
	}
	if d := b.Sim.Running().Child("config", "").Child("authority", "").Child("tenant", Tenant).Text("description"); d != Description {
		b.Errorf("description %q", d)
	}
	if b.c.Features() == "" {
		b.Error("no features after the contact")
	}
	b.wantClean()
}

func changesOnlyTheDifference(b *bench) {
	b.seed("192.0.2.1/32", "192.0.2.2/32")
	e, err := b.begin(b.c, conductor.Permit{})
	if err != nil {
		b.Fatal(err)
	}
	if got := sorted(e.Running().Addresses); got != "192.0.2.1/32 192.0.2.2/32" {
		b.Errorf("running of the edit: %s", got)
	}
	if (e.Session() != 0) != b.IDs {
		b.Errorf("session %d", e.Session())
	}
	if err := e.apply(Prefixes("192.0.2.3/32"), Prefixes("192.0.2.1/32")); err != nil {
		b.Fatal(err)
	}
	b.want("192.0.2.1/32", "192.0.2.2/32") // not before the commit
	if err := e.commit(); err != nil {
		b.Fatal(err)
	}
	e.close()
	b.want("192.0.2.2/32", "192.0.2.3/32")
	// The last change leaves the tenant in place: a policy may refer to it.
	if err := b.change(b.c, conductor.Permit{}, nil, Prefixes("192.0.2.2/32", "192.0.2.3/32")); err != nil {
		b.Fatal(err)
	}
	if r, err := b.c.Read(b.ctx()); err != nil || !r.Exists || len(r.Addresses) != 0 {
		b.Errorf("after the last: %+v, %v", r, err)
	}
	b.wantClean()
}

func changesNothingForNothing(b *bench) {
	b.seed("192.0.2.1/32")
	commits := b.Sim.History().Commits()
	for _, x := range [][2][]netip.Prefix{{nil, nil}, {Prefixes("192.0.2.1/32"), nil}, {nil, Prefixes("192.0.2.9/32")}} {
		if err := b.change(b.c, conductor.Permit{}, x[0], x[1]); err != nil {
			b.Errorf("%v: %v", x, err)
		}
	}
	if n := b.Sim.History().Commits(); n != commits {
		b.Errorf("%d commits of nothing", n-commits)
	}
	b.want("192.0.2.1/32")
	b.wantClean()
}

func takesAThousand(b *bench) {
	var all []netip.Prefix
	var texts []string
	for i := range 1000 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 32)
		all, texts = append(all, p), append(texts, p.String())
	}
	if err := b.change(b.c, conductor.Permit{}, all, nil); err != nil {
		b.Fatal(err)
	}
	b.want(texts...)
	if err := b.change(b.c, conductor.Permit{}, nil, all[:999]); err != nil {
		b.Fatal(err)
	}
	b.want(texts[999])
	if n := b.Sim.History().Commits(); n != 2 {
		b.Errorf("%d commits for two changes", n)
	}
}

func leavesSpellings(b *bench) {
	b.admin(`<member><neighborhood>`+Member+`</neighborhood><address>192.0.2.77/24</address></member>`+
		`<member><neighborhood>lan</neighborhood><address>10.9.0.0/16</address></member>`, true)
	if r, err := b.c.Read(b.ctx()); err != nil || sorted(r.Addresses) != "192.0.2.0/24" {
		b.Fatalf("read: %+v, %v", r, err)
	}
	typed := b.Sim.Addresses(Tenant, Member)
	if err := b.change(b.c, conductor.Permit{}, Prefixes("203.0.113.1/32", "203.0.113.2/32"), nil); err != nil {
		b.Fatal(err)
	}
	if err := b.change(b.c, conductor.Permit{}, nil, Prefixes("203.0.113.1/32")); err != nil {
		b.Fatal(err)
	}
	if got := b.Sim.Addresses(Tenant, Member); !slices.Contains(got, typed[0]) {
		b.Errorf("what an administrator typed became %v", got)
	}
	if got := b.Sim.Addresses(Tenant, "lan"); len(got) != 1 {
		b.Errorf("the other member has %v", got)
	}
	if err := b.change(b.c, conductor.Permit{}, nil, Prefixes("192.0.2.0/24")); err != nil {
		b.Fatal(err)
	}
	b.want("203.0.113.2/32")
}

func leavesNothingWithoutCommit(b *bench) {
	for round := range 2 { // without and with a tenant
		before := b.Sim.History().Commits()
		e, err := b.begin(b.c, conductor.Permit{})
		if err != nil {
			b.Fatal(err)
		}
		if err := e.apply(Prefixes("192.0.2.5/32"), Prefixes("192.0.2.1/32")); err != nil {
			b.Fatal(err)
		}
		e.close()
		b.wantClean()
		if n := b.Sim.History().Commits(); n != before {
			b.Errorf("%d commits", n-before)
		}
		if round == 0 {
			b.seed("192.0.2.1/32", "192.0.2.2/32")
		}
	}
	b.want("192.0.2.1/32", "192.0.2.2/32")
	// An edit that was only begun leaves nothing in the way either.
	e, err := b.begin(b.c, conductor.Permit{})
	if err != nil {
		b.Fatal(err)
	}
	e.close()
	if err := b.change(b.open(), conductor.Permit{}, Prefixes("192.0.2.3/32"), nil); err != nil {
		b.Error(err)
	}
}

func waitsForAnother(b *bench) {
	for _, valid := range []bool{true, false} {
		if err := b.Sim.Dirty(valid); err != nil {
			b.Fatal(err)
		}
		theirs := leaves(b.Sim.Candidate("operator", 1))
		commits := b.Sim.History().Commits()
		err := b.change(b.c, conductor.Permit{Ours: everything}, Prefixes("192.0.2.1/32"), nil)
		if b.OwnCandidate {
			if err != nil {
				b.Errorf("another user's edits are in the way: %v", err)
			}
			return
		}
		b.wantDirty(err)
		if got := leaves(b.Sim.Candidate("operator", 1)); !slices.Equal(got, theirs) {
			b.Errorf("their edits became\n%s\nwere\n%s", strings.Join(got, "\n"), strings.Join(theirs, "\n"))
		}
		if n := b.Sim.History().Commits(); n != commits {
			b.Errorf("%d commits", n-commits)
		}
		a := b.Sim.Admin("operator")
		if err := a.Discard(); err != nil {
			b.Fatal(err)
		}
		a.Close()
	}
	b.seed("192.0.2.1/32")
	// Others' edits inside our tenant are not ours either.
	a := b.admin(`<member><neighborhood>`+Member+`</neighborhood><address>192.0.2.50/32</address></member>`, false)
	asked := ""
	no := func(added, removed []netip.Prefix) bool {
		asked = fmt.Sprint(added, removed)
		return false
	}
	b.wantDirty(b.change(b.c, conductor.Permit{Ours: no}, Prefixes("192.0.2.2/32"), nil))
	if asked != "[192.0.2.50/32] []" {
		b.Errorf("asked whether %s are ours", asked)
	}
	if err := a.Commit(); err != nil {
		b.Fatal(err)
	}
	b.want("192.0.2.1/32", "192.0.2.50/32")
}

func undoesLeftovers(b *bench) {
	b.seed("192.0.2.1/32", "192.0.2.2/32")
	// A member killed between edit and commit leaves its edits but no session.
	left := b.Sim.Admin(User)
	if err := left.Edit(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><name>` + Tenant + `</name><member><neighborhood>` + Member + `</neighborhood>` +
		`<address>192.0.2.3/32</address><address nc:operation="remove">192.0.2.1/32</address></member></tenant></authority></config>`); err != nil {
		b.Fatal(err)
	}
	left.Close()
	if b.Private {
		b.seedMore("192.0.2.4/32")
		b.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32")
		b.wantClean()
		return
	}
	b.wantDirty(b.change(b.c, conductor.Permit{}, Prefixes("192.0.2.4/32"), nil))
	asked := ""
	yes := func(added, removed []netip.Prefix) bool {
		asked = fmt.Sprint(added, removed)
		return true
	}
	if err := b.change(b.c, conductor.Permit{Ours: yes}, Prefixes("192.0.2.4/32"), nil); err != nil {
		b.Fatal(err)
	}
	if asked != "[192.0.2.3/32] [192.0.2.1/32]" {
		b.Errorf("asked whether %s are ours", asked)
	}
	b.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32")
	b.wantClean()
}

func neverMixes(b *bench) {
	b.seed("192.0.2.1/32", "192.0.2.2/32")
	other := b.open()
	one, err := b.begin(b.c, conductor.Permit{})
	if err != nil {
		b.Fatal(err)
	}
	two, errTwo := b.begin(other, conductor.Permit{})
	if b.Locks {
		var busy *conductor.BusyError
		if !errors.As(errTwo, &busy) || busy.Holder != one.Session() {
			b.Errorf("the second edit: %v, want waiting for session %d", errTwo, one.Session())
		}
	} else if errTwo != nil {
		b.Fatal(errTwo)
	}
	finish := func(e *edit, add, remove []netip.Prefix) error {
		err := e.apply(add, remove)
		if err == nil {
			err = e.commit()
		}
		e.close()
		if err != nil && !errors.Is(err, conductor.ErrBusy) && !errors.Is(err, conductor.ErrMismatch) && !errors.Is(err, conductor.ErrRejected) {
			b.Errorf("of an edit that is not alone: %v", err)
		}
		return err
	}
	if err := one.apply(Prefixes("192.0.2.3/32"), nil); err != nil {
		b.Fatal(err)
	}
	want := []string{"192.0.2.1/32", "192.0.2.2/32"}
	if two != nil && finish(two, Prefixes("192.0.2.4/32"), Prefixes("192.0.2.1/32")) == nil {
		want = append(want[1:], "192.0.2.4/32")
	}
	if finish(one, nil, nil) == nil {
		want = append(want, "192.0.2.3/32")
	}
	b.want(want...)
	b.wantClean()
	if err := b.change(other, conductor.Permit{}, Prefixes("192.0.2.9/32"), nil); err != nil {
		b.Errorf("afterwards: %v", err)
	}
}

func readsMeanwhile(b *bench) {
	b.seed("192.0.2.1/32")
	e, err := b.begin(b.c, conductor.Permit{})
	if err != nil {
		b.Fatal(err)
	}
	if err := e.apply(Prefixes("192.0.2.2/32"), nil); err != nil {
		b.Fatal(err)
	}
	for _, c := range []commit.Conductor{b.c, b.open()} {
		if r, err := c.Read(b.ctx()); err != nil || sorted(r.Addresses) != "192.0.2.1/32" {
			b.Errorf("read: %+v, %v", r, err)
		}
	}
	if err := e.commit(); err != nil {
		b.Error(err)
	}
}

func tellsRefusals(b *bench) {
	b.seed("192.0.2.1/32")
	for name, x := range map[string]struct {
		fault conductorsim.Fault
		texts []string
	}{
		"validation": {conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 2}, []string{"error 1 of 2", "error 2 of 2"}},
		"commit":     {conductorsim.Fault{Kind: conductorsim.FaultCommitFails}, []string{"simulated failure"}},
	} {
		b.inject(x.fault)
		err := b.change(b.c, conductor.Permit{}, Prefixes("192.0.2.2/32"), Prefixes("192.0.2.1/32"))
		if err == nil {
			b.Errorf("%s: not refused", name)
		}
		b.wantErr(err, conductor.ErrRejected, x.texts...)
		b.want("192.0.2.1/32")
		b.Sim.Clear()
		b.wantClean()
	}
	if err := b.change(b.c, conductor.Permit{}, Prefixes("192.0.2.2/32"), Prefixes("192.0.2.1/32")); err != nil {
		b.Errorf("afterwards: %v", err)
	}
}

func waitsForValidation(b *bench) {
	b.seed("192.0.2.1/32")
	b.inject(conductorsim.Fault{Kind: conductorsim.FaultValidateBusy})
	b.wantErr(b.change(b.c, conductor.Permit{}, Prefixes("192.0.2.2/32"), nil), conductor.ErrBusy, "already in progress")
	b.Sim.Clear()
	b.want("192.0.2.1/32")
	b.wantClean()
}

func findsOutLies(b *bench) {
	b.seed("192.0.2.1/32", "192.0.2.2/32")
	for _, kind := range []conductorsim.FaultKind{conductorsim.FaultLieDropAdded, conductorsim.FaultLieDropOne, conductorsim.FaultLieWideOpen} {
		kindOf := conductor.ErrMismatch
		if kind == conductorsim.FaultLieWideOpen {
			kindOf = conductor.ErrWideOpen
		}
		b.inject(conductorsim.Fault{Kind: kind, At: "edit", Times: 1})
		b.wantErr(b.change(b.c, conductor.Permit{}, Prefixes("192.0.2.3/32", "192.0.2.4/32"), Prefixes("192.0.2.1/32")), kindOf)
		b.want("192.0.2.1/32", "192.0.2.2/32")
		b.wantClean()
	}
	// A commit that was answered with success may show late, so the driver waits as long as it may.
	b.inject(conductorsim.Fault{Kind: conductorsim.FaultLieDropAdded, At: "commit", Times: 1})
	b.wantErr(b.changeWithin(time.Second, Prefixes("192.0.2.3/32"), Prefixes("192.0.2.1/32")), conductor.ErrUnknown, "192.0.2.3/32")
	if err := b.change(b.c, conductor.Permit{Ours: everything}, Prefixes("192.0.2.3/32"), nil); err != nil {
		b.Errorf("afterwards: %v", err)
	}
	b.want("192.0.2.2/32", "192.0.2.3/32")
}

func neverBansEverybody(b *bench) {
	b.seed("192.0.2.1/32")
	for _, s := range []string{"0.0.0.0/0", "::/0"} {
		e, err := b.begin(b.c, conductor.Permit{})
		if err != nil {
			b.Fatal(err)
		}
		b.wantErr(e.Apply(b.ctx(), Prefixes("192.0.2.2/32", s), nil), conductor.ErrWideOpen)
		e.close()
	}
	b.want("192.0.2.1/32")
	b.wantClean()
	b.admin(`<member><neighborhood>`+Member+`</neighborhood><address>0.0.0.0/0</address></member>`, true)
	_, err := b.c.Begin(b.ctx(), conductor.Permit{})
	b.wantErr(err, conductor.ErrWideOpen)
}

func learnsUnknownOutcome(b *bench) {
	for i, at := range []string{"before", "in", "after"} {
		add := Prefixes(fmt.Sprintf("192.0.2.%d/32", i+1))
		b.inject(conductorsim.Fault{Kind: conductorsim.FaultDrop, At: at, Op: "commit", Times: 1})
		if err := b.change(b.c, conductor.Permit{}, add, nil); err != nil {
			b.wantErr(err, conductor.ErrUnknown)
		} else if at == "before" {
			b.Error("an ok for what cannot have happened")
		}
		// Reading shows the outcome, and nothing stays in the way.
		there := func() bool {
			r, err := b.c.Read(b.ctx())
			if err != nil {
				b.Fatalf("%s: read: %v", at, err)
			}
			return slices.Contains(r.Addresses, add[0])
		}
		if at != "before" {
			b.eventually(there)
		} else if there() {
			b.Error("a commit that never came took effect")
		}
		b.eventually(func() bool {
			err := b.change(b.c, conductor.Permit{Ours: everything}, add, nil)
			if err != nil && !errors.Is(err, conductor.ErrBusy) {
				b.Fatalf("%s: afterwards: %v", at, err)
			}
			return err == nil
		})
	}
	b.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")
	b.wantClean()
}

// eventually waits until ok is true.
func (b *bench) eventually(ok func() bool) {
	b.Helper()
	deadline := time.Now().Add(bound)
	for !ok() {
		if time.Now().After(deadline) {
			b.Fatal("did not become true in time")
		}
		grown := b.Sim.History().Grown()
		select {
		case <-grown:
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func tellsRefusedLogin(b *bench) {
	b.inject(conductorsim.Fault{Kind: conductorsim.FaultLoginRefused})
	_, err := b.c.Read(b.ctx())
	b.wantErr(err, conductor.ErrLogin)
	_, err = b.open().Begin(b.ctx(), conductor.Permit{})
	b.wantErr(err, conductor.ErrLogin)
	b.Sim.Clear()
	b.seed("192.0.2.1/32")
}

func tellsDeadConductor(b *bench) {
	b.inject(conductorsim.Fault{Kind: conductorsim.FaultUnreachable})
	_, err := b.c.Read(b.ctx())
	b.wantErr(err, conductor.ErrUnreachable)
	_, err = b.c.Begin(b.ctx(), conductor.Permit{})
	b.wantErr(err, conductor.ErrUnreachable)
	b.Sim.Clear()
	b.seed("192.0.2.1/32")
	// Lost in the middle of an edit: nothing was committed, and nothing stays in the way.
	b.inject(conductorsim.Fault{Kind: conductorsim.FaultDrop, At: "after", Op: "edit-config", Times: 1})
	b.wantErr(b.change(b.c, conductor.Permit{}, Prefixes("192.0.2.2/32"), nil), conductor.ErrUnreachable)
	b.want("192.0.2.1/32")
	b.eventually(func() bool {
		return b.change(b.c, conductor.Permit{Ours: everything}, Prefixes("192.0.2.3/32"), nil) == nil
	})
	b.want("192.0.2.1/32", "192.0.2.3/32")
	b.wantClean()
}

func keepsToItsContext(b *bench) {
	b.seed("192.0.2.1/32")
	b.inject(conductorsim.Fault{Kind: conductorsim.FaultFreeze})
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	start := time.Now()
	if _, err := b.c.Read(ctx); err == nil {
		b.Error("a frozen conductor was read")
	}
	if e, err := b.c.Begin(ctx, conductor.Permit{}); err == nil {
		b.Error("a frozen conductor let begin")
		e.Close(b.ctx())
	}
	if took := time.Since(start); took > 10*time.Second {
		b.Errorf("took %v", took)
	}
	b.Sim.Clear()
	b.eventually(func() bool {
		return b.change(b.c, conductor.Permit{}, Prefixes("192.0.2.2/32"), nil) == nil
	})
}

func goesToTheOtherNode(b *bench) {
	b.seed("192.0.2.1/32")
	r, err := b.c.Read(b.ctx())
	if err != nil {
		b.Fatal(err)
	}
	for _, kind := range []conductorsim.FaultKind{conductorsim.FaultUnreachable, conductorsim.FaultFreeze} {
		b.inject(conductorsim.Fault{Kind: kind, Node: 1})
		e, err := b.begin(b.open(), conductor.Permit{})
		if err != nil {
			b.Fatalf("%s: %v", kind, err)
		}
		if got := e.Running(); got.Conductor == r.Conductor || !slices.Contains(got.Addresses, netip.MustParsePrefix("192.0.2.1/32")) {
			b.Errorf("%s: began at %s with %v", kind, got.Conductor, got.Addresses)
		}
		if err := errors.Join(e.apply(Prefixes("192.0.2.2/32"), nil), e.commit()); err != nil {
			b.Errorf("%s: %v", kind, err)
		}
		e.close()
		b.Sim.Clear()
	}
	b.want("192.0.2.1/32", "192.0.2.2/32")
}
