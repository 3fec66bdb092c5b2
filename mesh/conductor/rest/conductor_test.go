package rest_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

// everyStyle runs a test against each kind of candidate, with PATCH merging and replacing.
func everyStyle(t *testing.T, test func(t *testing.T, c *lab)) {
	for _, style := range []conductorsim.Style{conductorsim.Style52, conductorsim.Style55, conductorsim.Style56} {
		for _, replaces := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/replaces=%v", style, replaces), func(t *testing.T) {
				test(t, serve(t, func(cfg *conductorsim.Config) { cfg.Style, cfg.PatchReplaces = style, replaces }))
			})
		}
	}
}

func TestChangeCreatesAddsAndRemoves(t *testing.T) {
	everyStyle(t, func(t *testing.T, c *lab) {
		r, ctx := c.client(), t.Context()
		got, err := r.Read(ctx)
		if err != nil || got.Exists || len(got.Addresses) > 0 {
			t.Fatalf("before: %+v, %v", got, err)
		}
		if err := change(ctx, r, conductor.Permit{}, prefixes("203.0.113.7/32", "2001:db8::/48", "198.51.100.0/24"), nil); err != nil {
			t.Fatal(err)
		}
		c.want("198.51.100.0/24", "2001:db8::/48", "203.0.113.7/32")
		if err := change(ctx, r, conductor.Permit{}, prefixes("192.0.2.1/32"), prefixes("203.0.113.7/32", "192.0.2.99/32")); err != nil {
			t.Fatal(err)
		}
		c.want("192.0.2.1/32", "198.51.100.0/24", "2001:db8::/48")
		if err := change(ctx, r, conductor.Permit{}, nil, prefixes("192.0.2.1/32", "198.51.100.0/24", "2001:db8::/48")); err != nil {
			t.Fatal(err)
		}
		c.want()
		if got, err = r.Read(ctx); err != nil || !got.Exists || got.Conductor != c.urls[0] {
			t.Errorf("after: %+v, %v", got, err)
		}
		if d := c.Running().Child("config", "").Child("authority", "").Child("tenant", tenant).Text("description"); d != "Blacklist maintained by fail2ban" {
			t.Errorf("description %q", d)
		}
		c.wantCleanCandidate("admin", 1)
		c.wantHistory()
	})
}

func TestFeaturesTellTheStyle(t *testing.T) {
	for style, want := range map[conductorsim.Style]string{
		conductorsim.Style52: "release 5.2, one candidate for all",
		conductorsim.Style55: "release 5.5, a candidate per node",
		conductorsim.Style56: "release 5.6, a candidate per user",
	} {
		c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = style })
		r := c.client()
		if f := r.Features(); f != "" {
			t.Errorf("before the first contact: %q", f)
		}
		if _, err := r.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f := r.Features(); !strings.Contains(f, want) {
			t.Errorf("features %q, want %q in it", f, want)
		}
	}
}

func TestAnotherAdministratorsEditsAreWaitedForAndKept(t *testing.T) {
	for _, style := range []conductorsim.Style{conductorsim.Style52, conductorsim.Style55} {
		for _, valid := range []bool{true, false} {
			c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = style })
			r := c.client()
			if err := c.Dirty(valid); err != nil {
				t.Fatal(err)
			}
			before := fmt.Sprint(flat(c.Candidate("admin", 1)))
			err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.1/32"), nil)
			var busy *conductor.BusyError
			if !errors.As(err, &busy) || !busy.Dirty || !strings.Contains(err.Error(), "service[half-finished]") {
				t.Errorf("%s: %v", style, err)
			}
			if after := fmt.Sprint(flat(c.Candidate("admin", 1))); after != before {
				t.Errorf("%s: the other's edits became\n%s\nwere\n%s", style, after, before)
			}
			if n := c.History().Commits(); n != 0 {
				t.Errorf("%s: %d commits", style, n)
			}
		}
	}
}

// A conductor may give values to a tenant that we create, and others may do so until we commit it.
func TestAValueGivenToTheNewTenantByAnotherStopsTheCommit(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Assigns = true })
	r, ctx := c.client(), t.Context()
	e, err := r.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes("192.0.2.1/32"), nil); err != nil {
		t.Fatal(err)
	}
	other := c.Admin("operator")
	defer other.Close()
	if err := other.Edit(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant><name>` + tenant + `</name><generated>true</generated></tenant></authority></config>`); err != nil {
		t.Fatal(err)
	}
	err = e.Commit(ctx)
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || !busy.Dirty {
		t.Errorf("commit: %v", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if n := c.History().Commits(); n != 0 {
		t.Errorf("%d commits", n)
	}
	cand := fmt.Sprint(flat(c.Candidate("admin", 1)))
	if strings.Contains(cand, "192.0.2.1") || !strings.Contains(cand, "generated=true") {
		t.Errorf("candidate afterwards: %s", cand)
	}
}

func TestAnotherUsersEditsAreNoObstacleFromRelease56(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
	if err := c.Dirty(true); err != nil {
		t.Fatal(err)
	}
	c.seed(c.client(), "192.0.2.1/32")
	c.want("192.0.2.1/32")
	c.wantHistory()
}

func TestEditsBegunMeanwhileStopTheCommit(t *testing.T) {
	c := serve(t)
	r, ctx := c.client(), t.Context()
	e, err := r.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes("192.0.2.1/32"), nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Dirty(true); err != nil {
		t.Fatal(err)
	}
	err = e.Commit(ctx)
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || !busy.Dirty {
		t.Errorf("commit: %v", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	cand := fmt.Sprint(flat(c.Candidate("admin", 1)))
	if strings.Contains(cand, "192.0.2.1") || strings.Contains(cand, tenant) || !strings.Contains(cand, "half-finished") {
		t.Errorf("candidate afterwards: %s", cand)
	}
	if n := c.History().Commits(); n != 0 {
		t.Errorf("%d commits", n)
	}
}

func TestLeftoversAreUndoneExactlyWhereTheyAreOurs(t *testing.T) {
	everyStyle(t, func(t *testing.T, c *lab) {
		ctx := t.Context()
		killed := c.client()
		c.seed(killed, "192.0.2.1/32", "192.0.2.2/32")
		e, err := killed.Begin(ctx, conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(ctx, prefixes("192.0.2.3/32"), prefixes("192.0.2.1/32")); err != nil {
			t.Fatal(err)
		}
		// Another process finds it.
		next := c.client()
		if c.private {
			if err := change(ctx, next, conductor.Permit{}, prefixes("192.0.2.4/32"), nil); err != nil {
				t.Errorf("in the account's own candidate: %v", err)
			}
			c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32")
			c.wantCleanCandidate("admin", 1)
			return
		}
		if err := change(ctx, next, conductor.Permit{}, prefixes("192.0.2.4/32"), nil); !errors.Is(err, conductor.ErrBusy) {
			t.Errorf("without permission: %v", err)
		}
		var asked []string
		ours := func(added, removed []netip.Prefix) bool {
			asked = append(asked, fmt.Sprint(added, removed))
			return true
		}
		if err := change(ctx, next, conductor.Permit{Ours: ours}, prefixes("192.0.2.4/32"), nil); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(asked) != "[[192.0.2.3/32] [192.0.2.1/32]]" {
			t.Errorf("asked for %v", asked)
		}
		c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32")
		c.wantCleanCandidate("admin", 1)
		c.wantHistory()
	})
}

func TestACandidateThatIsBehindIsRefreshed(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
	ctx := t.Context()
	killed := c.client()
	c.seed(killed, "192.0.2.1/32")
	e, err := killed.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes("192.0.2.3/32"), nil); err != nil {
		t.Fatal(err)
	}
	a := c.Admin("operator")
	defer a.Close()
	if err := c.Dirty(true); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := change(ctx, c.client(), conductor.Permit{Ours: all}, prefixes("192.0.2.4/32"), nil); err != nil {
		t.Fatal(err)
	}
	c.want("192.0.2.1/32", "192.0.2.4/32")
	c.wantCleanCandidate("admin", 1)
	c.wantHistory()
}

func TestAConflictMeansReadAndPlanAgain(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
	r, ctx := c.client(), t.Context()
	c.seed(r, "192.0.2.1/32")
	// Between the last look and the commit another user commits the removal of the member that we add to.
	e, err := r.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Apply(ctx, prefixes("192.0.2.2/32"), nil); err != nil {
		t.Fatal(err)
	}
	a := c.Admin("operator")
	defer a.Close()
	remove := `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"><name>` + tenant + `</name></tenant></authority></config>`
	if err := a.Edit(remove); err != nil {
		t.Fatal(err)
	}
	if err := a.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := e.Commit(ctx); !errors.Is(err, conductor.ErrBusy) {
		t.Errorf("commit: %v", err)
	}
	if err := e.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
	if err := change(ctx, r, conductor.Permit{Ours: all}, prefixes("192.0.2.2/32"), nil); err != nil {
		t.Fatal(err)
	}
	c.want("192.0.2.2/32")
}

func TestAFailedCommitLeavesNothing(t *testing.T) {
	faults := map[string]struct {
		fault conductorsim.Fault
		want  error
	}{
		"validate refused": {conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 3}, conductor.ErrRejected},
		"validate busy":    {conductorsim.Fault{Kind: conductorsim.FaultValidateBusy}, conductor.ErrBusy},
		"commit fails":     {conductorsim.Fault{Kind: conductorsim.FaultCommitFails}, conductor.ErrRejected},
		"lie at edit":      {conductorsim.Fault{Kind: conductorsim.FaultLieDropAdded, At: "edit", Times: 1}, conductor.ErrMismatch},
		"one dropped":      {conductorsim.Fault{Kind: conductorsim.FaultLieDropOne, At: "edit", Times: 1}, conductor.ErrMismatch},
		"wide open":        {conductorsim.Fault{Kind: conductorsim.FaultLieWideOpen, At: "edit", Times: 1}, conductor.ErrWideOpen},
		"dropped before":   {conductorsim.Fault{Kind: conductorsim.FaultDrop, At: "before", Op: "validate", Times: 1}, conductor.ErrUnreachable},
		"edit dropped":     {conductorsim.Fault{Kind: conductorsim.FaultDrop, At: "after", Op: "edit-config", Times: 1}, conductor.ErrUnreachable},
		"500":              {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/validate", N: 500, Times: 1}, conductor.ErrUnreachable},
		"403":              {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 403, Times: 2}, conductor.ErrForbidden},
		"409":              {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 409, Times: 1}, conductor.ErrBusy},
		"404":              {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 404, Times: 1}, conductor.ErrRejected},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			everyStyle(t, func(t *testing.T, c *lab) {
				r, ctx := c.client(), t.Context()
				c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
				commits := c.History().Commits()
				e, err := r.Begin(ctx, conductor.Permit{})
				if err != nil {
					t.Fatal(err)
				}
				if err := c.Inject(f.fault); err != nil {
					t.Fatal(err)
				}
				err = e.Apply(ctx, prefixes("192.0.2.3/32"), prefixes("192.0.2.1/32"))
				if err == nil {
					err = e.Commit(ctx)
				}
				if !errors.Is(err, f.want) {
					t.Errorf("%v, want %v", err, f.want)
				}
				if err := e.Close(ctx); err != nil {
					t.Errorf("close: %v", err)
				}
				if n := c.History().Commits() - commits; n != 0 {
					t.Errorf("%d commits", n)
				}
				c.want("192.0.2.1/32", "192.0.2.2/32")
				c.wantCleanCandidate("admin", 1)
				c.Clear()
				if err := change(ctx, r, conductor.Permit{}, prefixes("192.0.2.3/32"), prefixes("192.0.2.1/32")); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				c.want("192.0.2.2/32", "192.0.2.3/32")
				c.wantHistory()
			})
		})
	}
}

func TestACommitWithoutAnswerIsJudgedByRunning(t *testing.T) {
	for _, at := range []string{"in", "after"} {
		c := serve(t)
		r := c.client()
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultDrop, At: at, Op: "commit", Times: 1}); err != nil {
			t.Fatal(err)
		}
		err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil)
		if err != nil && !errors.Is(err, conductor.ErrUnknown) {
			t.Errorf("%s: %v", at, err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for len(c.addresses()) == 0 && time.Now().Before(deadline) {
			<-time.After(time.Millisecond)
		}
		c.want("192.0.2.1/32")
		if err := change(t.Context(), r, conductor.Permit{}, nil, prefixes("192.0.2.1/32")); err != nil {
			t.Errorf("%s, afterwards: %v", at, err)
		}
	}
	// Where it did not take effect, what it left is known to be ours by the process that left it. As long as running may show the
	// commit late, it is committed once more.
	c := serve(t)
	r := c.client()
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultDrop, At: "before", Op: "commit", Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil); !errors.Is(err, conductor.ErrUnknown) {
		t.Errorf("before: %v", err)
	}
	if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); err != nil {
		t.Errorf("before, afterwards: %v", err)
	}
	c.want("192.0.2.1/32", "192.0.2.2/32")
}

func TestACommitThatLiesIsFoundOut(t *testing.T) {
	c := serve(t)
	r := c.client(func(cfg *rest.Config) { cfg.Timeout = time.Second })
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultLieDropAdded, At: "commit", Times: 1}); err != nil {
		t.Fatal(err)
	}
	err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil)
	if !errors.Is(err, conductor.ErrUnknown) || !strings.Contains(err.Error(), "running read back differs") {
		t.Errorf("%v", err)
	}
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultLieWideOpen, At: "commit", Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil); !errors.Is(err, conductor.ErrWideOpen) {
		t.Errorf("%v", err)
	}
	if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrWideOpen) {
		t.Errorf("read: %v", err)
	}
}

func TestWideOpenIsNeverSent(t *testing.T) {
	c := serve(t)
	r := c.client()
	for _, p := range []string{"0.0.0.0/0", "::/0"} {
		if err := change(t.Context(), r, conductor.Permit{}, prefixes(p), nil); !errors.Is(err, conductor.ErrWideOpen) {
			t.Errorf("%s: %v", p, err)
		}
	}
	c.wantCleanCandidate("admin", 1)
}

func TestAForeignSpellingAndValueStay(t *testing.T) {
	everyStyle(t, func(t *testing.T, c *lab) {
		a := c.Admin("operator")
		defer a.Close()
		edit := `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
			`<tenant><name>` + tenant + `</name><member><neighborhood>` + member + `</neighborhood><address>192.0.2.77/24</address></member>` +
			`<member><neighborhood>lan</neighborhood><address>10.9.0.0/16</address></member></tenant></authority></config>`
		if err := a.Edit(edit); err != nil {
			t.Fatal(err)
		}
		if err := a.Commit(); err != nil {
			t.Fatal(err)
		}
		r := c.client()
		c.seed(r, "203.0.113.1/32", "203.0.113.2/32")
		if err := change(t.Context(), r, conductor.Permit{}, nil, prefixes("203.0.113.1/32")); err != nil {
			t.Fatal(err)
		}
		c.want("192.0.2.77/24", "203.0.113.2/32")
		if err := change(t.Context(), r, conductor.Permit{}, nil, prefixes("192.0.2.0/24")); err != nil {
			t.Fatal(err)
		}
		c.want("203.0.113.2/32")
		if got := c.Addresses(tenant, "lan"); len(got) != 1 {
			t.Errorf("the other member has %v", got)
		}
	})
}

func TestTheDirtyFlagDoesNotDecide(t *testing.T) {
	everyStyle(t, func(t *testing.T, c *lab) {
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTDirtyFlag}); err != nil {
			t.Fatal(err)
		}
		c.seed(c.client(), "192.0.2.1/32")
		c.want("192.0.2.1/32")
	})
}

func TestADeadNodeCostsOneTimeoutAndTheOtherIsKept(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultFreeze, Node: 1}); err != nil {
		t.Fatal(err)
	}
	const timeout = 3 * time.Second // the other node must answer within it, also on a busy machine
	r := c.client(func(cfg *rest.Config) { cfg.DialTimeout = timeout })
	e, err := r.Begin(t.Context(), conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Running().Conductor; got != c.urls[1] {
		t.Errorf("began at %s", got)
	}
	e.Close(t.Context())
	start := time.Now()
	c.seed(r, "192.0.2.1/32")
	if took := time.Since(start); took >= timeout {
		t.Errorf("the dead node was tried again: %v", took)
	}
	c.wantCleanCandidate("admin", 2)
}

func TestACallEndsWithItsContext(t *testing.T) {
	c := serve(t)
	r := c.client()
	c.seed(r, "192.0.2.1/32")
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultFreeze}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := r.Read(ctx); !errors.Is(err, conductor.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := r.Read(t.Context())
		done <- err
	}()
	time.AfterFunc(50*time.Millisecond, func() { r.Close() })
	select {
	case err := <-done:
		if err == nil {
			t.Error("a frozen conductor answered")
		}
	case <-time.After(3 * time.Second):
		t.Error("Close does not end a call")
	}
	if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestAConflictIsNoRejection(t *testing.T) {
	for _, status := range []int64{200, 400, 409} {
		c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
		r := c.client()
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: status, Times: 1,
			Body: `[{"message":"Conflicting change: /authority/tenant"}]`}); err != nil {
			t.Fatal(err)
		}
		err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil)
		var busy *conductor.BusyError
		if !errors.As(err, &busy) || !busy.Conflict || errors.Is(err, conductor.ErrRejected) {
			t.Errorf("%d: %v", status, err)
		}
		c.wantCleanCandidate("admin", 1)
		c.seed(r, "192.0.2.1/32")
	}
}

func TestValidateMayBeMissing(t *testing.T) {
	for _, mode := range []conductor.ValidateMode{conductor.ValidateAuto, conductor.ValidateExplicit, conductor.ValidateNone} {
		c := serve(t)
		r := c.client(func(cfg *rest.Config) { cfg.ValidateMode = mode })
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/validate", N: 404}); err != nil {
			t.Fatal(err)
		}
		err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil)
		if explicit := mode == conductor.ValidateExplicit; (err != nil) != explicit || explicit && !errors.Is(err, conductor.ErrRejected) {
			t.Errorf("%s: %v", mode, err)
		}
		if f := r.Features(); strings.Contains(f, "validated by the commit alone") == (mode == conductor.ValidateExplicit) {
			t.Errorf("%s: features %q", mode, f)
		}
	}
}

func TestAllReasonsOfARefusalAreTold(t *testing.T) {
	for _, status := range []int{200, 400, 422} {
		c := serve(t, func(cfg *conductorsim.Config) { cfg.VerdictStatus = status })
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 5}); err != nil {
			t.Fatal(err)
		}
		err := change(t.Context(), c.client(), conductor.Permit{}, prefixes("192.0.2.1/32"), nil)
		var rejected *conductor.RejectedError
		if !errors.As(err, &rejected) || rejected.Step != "validate" || len(rejected.Messages) != 5 || !strings.Contains(err.Error(), "and 2 more") {
			t.Errorf("%d: %v", status, err)
		}
	}
}

func TestADescriptionGivenToAnOlderTenantIsTakenBack(t *testing.T) {
	everyStyle(t, func(t *testing.T, c *lab) {
		a := c.Admin("operator")
		defer a.Close()
		edit := `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
			`<tenant><name>` + tenant + `</name><member><neighborhood>` + member + `</neighborhood><address>192.0.2.1/32</address></member>` +
			`<member><neighborhood>lan</neighborhood><address>10.9.0.0/16</address></member></tenant></authority></config>`
		if err := errors.Join(a.Edit(edit), a.Commit()); err != nil {
			t.Fatal(err)
		}
		r := c.client()
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultCommitFails, Times: 1}); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrRejected) {
			t.Errorf("%v", err)
		}
		c.wantCleanCandidate("admin", 1)
		c.seed(r, "192.0.2.2/32")
		c.want("192.0.2.1/32", "192.0.2.2/32")
		c.wantHistory()
	})
}

// proxied gives the URL of a proxy before the conductor that shows its requests to see first; where see says no, the
// answer is 500.
func (c *lab) proxied(see func(*http.Request) bool) func(*rest.Config) {
	c.t.Helper()
	return c.answering(see, nil)
}

// answering is proxied, and may change the answers.
func (c *lab) answering(see func(*http.Request) bool, answer func(*http.Response) error) func(*rest.Config) {
	c.t.Helper()
	target, err := url.Parse(c.urls[0])
	if err != nil {
		c.t.Fatal(err)
	}
	ln, err := c.listen()
	if err != nil {
		c.t.Fatal(err)
	}
	transport := &http.Transport{DialContext: c.dial, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	p := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: transport, ModifyResponse: answer, ErrorLog: log.New(io.Discard, "", 0)}
	s := &httptest.Server{Listener: ln, Config: &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !see(r) {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		p.ServeHTTP(w, r)
	})}}
	s.StartTLS()
	c.t.Cleanup(func() {
		s.Close()
		transport.CloseIdleConnections()
	})
	pin := fmt.Sprintf("%x", sha256.Sum256(s.Certificate().Raw))
	return func(cfg *rest.Config) { cfg.URLs, cfg.PinSHA256 = []string{s.URL}, pin }
}

// The one moment in which the candidate lacks the member: what was left there is made good by the process that left it.
func TestAMemberLostWhileItIsMadeAnewComesBack(t *testing.T) {
	c := serve(t)
	ctx := t.Context()
	var broken atomic.Bool
	r := c.client(c.proxied(func(req *http.Request) bool {
		return !broken.Load() || req.Method != http.MethodPost || !strings.HasSuffix(req.URL.Path, "/member")
	}))
	c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTNoPut}); err != nil {
		t.Fatal(err)
	}
	for i, next := range []*conductor.Conductor{c.client(), r} { // another process, and the one that left it
		broken.Store(true)
		if err := change(ctx, r, conductor.Permit{}, nil, prefixes("192.0.2.2/32")); !errors.Is(err, conductor.ErrUnreachable) {
			t.Fatal(err)
		}
		broken.Store(false)
		if err := change(ctx, next, conductor.Permit{}, prefixes(fmt.Sprintf("192.0.2.%d/32", 3+i)), nil); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32")
	c.wantHistory()
}

func TestTwoUsersOfOneTenantConflictOnlyInTheSame(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
	a := c.Admin("operator")
	defer a.Close()
	edit := func(inside string) {
		t.Helper()
		config := `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
			`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><name>` + tenant + `</name>` + inside + `</tenant></authority></config>`
		if err := errors.Join(a.Edit(config), a.Commit()); err != nil {
			t.Error(err)
		}
	}
	// The other one commits in the very moment before ours.
	var before func()
	r := c.client(c.proxied(func(req *http.Request) bool {
		if f := before; f != nil && strings.HasSuffix(req.URL.Path, "/config/commit") {
			before = nil
			f()
		}
		return true
	}))
	c.seed(r, "192.0.2.1/32")
	before = func() {
		edit(`<member nc:operation="remove"><neighborhood>` + member + `</neighborhood></member>`)
	}
	err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil)
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || !busy.Conflict {
		t.Errorf("the same: %v", err)
	}
	c.want()
	c.wantCleanCandidate("admin", 1)
	c.seed(r, "192.0.2.2/32")
	c.want("192.0.2.2/32")
	before = func() { edit(`<description>theirs</description>`) }
	if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.3/32"), nil); err != nil {
		t.Errorf("another leaf: %v", err)
	}
	c.want("192.0.2.2/32", "192.0.2.3/32")
	c.wantHistory()
}

func TestAnUnknownOutcomeIsNothingElse(t *testing.T) {
	c := serve(t)
	var refuse, refused atomic.Bool
	r := c.client(c.proxied(func(req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, "/config/commit") && refused.CompareAndSwap(false, true) {
			refuse.Store(true)
			if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 409, Times: 1}); err != nil {
				t.Error(err)
			}
			return true
		}
		return !refuse.Load() // running cannot be read any more
	}))
	err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil)
	if !errors.Is(err, conductor.ErrUnknown) || errors.Is(err, conductor.ErrBusy) || errors.Is(err, conductor.ErrUnreachable) {
		t.Errorf("%v", err)
	}
	refuse.Store(false)
	c.seed(r, "192.0.2.2/32")
	c.want("192.0.2.2/32")
}

// A node that can be read and does not take edits is no node to stay with.
func TestANodeThatTakesNoEditsIsLeft(t *testing.T) {
	for name, f := range map[string]conductorsim.Fault{
		"503 to the candidate": {Op: "/config/candidate", N: 503},
		"403 to the candidate": {Op: "/config/candidate", N: 403},
		"503 to edits":         {Op: "/config/candidate/authority/tenant", N: 503},
		"403 to edits":         {Op: "/config/candidate/authority/tenant", N: 403},
		"500 to the commit":    {Op: "/config/commit", N: 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := serve(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style56 })
			r := c.client()
			c.seed(r, "192.0.2.1/32")
			f.Kind, f.Node = conductorsim.FaultRESTAnswer, 1
			if err := c.Inject(f); err != nil {
				t.Fatal(err)
			}
			if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.2/32"), nil); err == nil {
				t.Fatal("the node took it")
			}
			if got, err := r.Read(t.Context()); err != nil || len(got.Addresses) != 1 {
				t.Errorf("in between: %+v, %v", got, err)
			}
			if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.2/32"), nil); err != nil {
				t.Errorf("the next attempt: %v", err)
			}
			c.want("192.0.2.1/32", "192.0.2.2/32")
		})
	}
}

func TestWhoseTheCandidateIsComesFromWhatIsPublished(t *testing.T) {
	unknown := conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/system", N: 404, Body: `{"message":"not found"}`}
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
	if err := c.Inject(unknown); err != nil {
		t.Fatal(err)
	}
	r := c.client()
	if _, err := r.Read(t.Context()); err != nil {
		t.Fatal(err)
	}
	if f, w := r.Features(), fmt.Sprint(r.Warnings()); !strings.Contains(f, "not known") || !strings.Contains(w, "set commit.candidate") {
		t.Errorf("unknown: features %q, warnings %s", f, w)
	}
	r = c.client(func(cfg *rest.Config) { cfg.Candidate = "user" })
	c.seed(r, "192.0.2.1/32")
	if f, w := r.Features(), r.Warnings(); !strings.Contains(f, "a candidate per user") || len(w) > 0 {
		t.Errorf("configured: features %q, warnings %s", f, w)
	}
	// A router's node tells its own release, and no conductor is older than its routers.
	for version, want := range map[string]string{"7.1.3-2r1": "a candidate per user", "5.4.0": "not known"} {
		r := fake(t, func(w http.ResponseWriter, req *http.Request) {
			switch strings.TrimPrefix(req.URL.Path, "/api/v1") {
			case "/login":
				fmt.Fprint(w, `{"token":"t"}`)
			case "/config/version":
				fmt.Fprint(w, `{"isDirty":false}`)
			case "/router":
				fmt.Fprint(w, `[{"name":"r 1"}]`)
			case "/router/r 1/node":
				fmt.Fprint(w, `[{"name":"node1"}]`)
			case "/router/r 1/node/node1/version":
				fmt.Fprintf(w, `{"version":%q}`, version)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		})
		if _, err := r.Read(t.Context()); err != nil || !strings.Contains(r.Features(), want) {
			t.Errorf("%s: %v, features %q, want %q", version, err, r.Features(), want)
		}
	}
}

// A configuration has versions of its own, which are counted.
func TestAVersionOfTheConfigurationIsNoRelease(t *testing.T) {
	for version, want := range map[string]string{
		`{"isDirty":false,"version":17}`:                   "release 5.2.4, one candidate for all",
		`{"isDirty":false,"version":"17.3"}`:               "release 5.2.4, one candidate for all",
		`{"isDirty":false,"currentVersion":1.2e2}`:         "release 5.2.4, one candidate for all",
		`{"isDirty":false,"release":17}`:                   "release 5.2.4, one candidate for all",
		`{"isDirty":false,"version":3,"release":"7.1.3"}`:  "release 7.1.3, a candidate per user",
		`{"isDirty":false,"version":99,"release":"5.4.0"}`: "release 5.4.0, a candidate per node",
	} {
		r := fake(t, func(w http.ResponseWriter, req *http.Request) {
			switch strings.TrimPrefix(req.URL.Path, "/api/v1") {
			case "/login":
				fmt.Fprint(w, `{"token":"t"}`)
			case "/config/version":
				fmt.Fprint(w, version)
			case "/system":
				fmt.Fprint(w, `{"softwareVersion":"5.2.4"}`)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		})
		if _, err := r.Read(t.Context()); err != nil || !strings.Contains(r.Features(), want) {
			t.Errorf("%s: %v, features %q, want %q", version, err, r.Features(), want)
		}
	}
}

// Nothing but plain text is asked for. A proxy that compresses all the same is understood, within the bounds of an answer.
func TestAnAnswerThatIsCompressedUnasked(t *testing.T) {
	c := serve(t)
	var asked atomic.Value
	compress := func(a *http.Response) error {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		_, err := io.Copy(z, a.Body)
		if err := errors.Join(err, z.Close()); err != nil {
			return err
		}
		a.Body, a.ContentLength = io.NopCloser(&b), int64(b.Len())
		a.Header.Set("Content-Length", fmt.Sprint(b.Len()))
		a.Header.Set("Content-Encoding", "gzip")
		return nil
	}
	c.seed(c.client(c.answering(func(req *http.Request) bool {
		asked.Store(req.Header.Get("Accept-Encoding"))
		return true
	}, compress)), "192.0.2.1/32")
	c.want("192.0.2.1/32")
	for coding, body := range map[string]string{"gzip": "\x1f\x8b", "br": "x", "deflate": "x"} {
		r := fake(t, func(w http.ResponseWriter, req *http.Request) {
			w.Header().Set("Content-Encoding", coding)
			fmt.Fprint(w, body)
		})
		if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) || !strings.Contains(err.Error(), coding) {
			t.Errorf("%s: %v", coding, err)
		}
	}
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	blanks := bytes.Repeat([]byte(" "), 1<<20)
	for range 8 {
		z.Write(blanks)
	}
	z.Close()
	r := fake(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb.Bytes())
	}, func(cfg *rest.Config) { cfg.MaxReply = 1 << 20 })
	if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) || !strings.Contains(err.Error(), "more than") {
		t.Errorf("a bomb: %v", err)
	}
	if got := asked.Load(); got != "identity" {
		t.Errorf("asked for %q", got)
	}
}
