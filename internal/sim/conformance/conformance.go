// Package conformance tests a driver against a simulated conductor: that it changes the tenant and nothing else, waits for
// others, undoes exactly its own edits, and never trusts an ok.
//
// Run tests one rule after another, RunHistory a random sequence of changes with faults. A Starter makes the conductor and
// the way to it, in memory, because each test has a testing/synctest bubble of its own. At the end of each test, the
// conductor's history is checked for changes that nobody asked for. A bench is for one goroutine, and has no locks.
package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
	"banmesh/mesh/commit"
	"banmesh/mesh/conductor"
)

// The tenant that the tested drivers keep.
const (
	Tenant      = "blacklist-fail2ban"
	Member      = "internet"
	Description = "Blacklist maintained by fail2ban"
	User        = "banmesh" // account of the drivers
)

// Office is a configuration that contains things that are not ours.
const Office = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
	`<router><name>r1</name></router><tenant><name>office</name><member><neighborhood>lan</neighborhood><address>10.1.0.0/16</address></member></tenant>` +
	`<service xmlns="http://128technology.com/t128/config/service-config"><name>web</name><scope>public</scope><address>198.51.100.80/32</address></service>` +
	`</authority></config>`

// A Setup is a conductor and a way to it.
type Setup struct {
	Sim   *conductorsim.Sim
	Nodes int // of the conductor
	// Open returns another driver to the conductor, as of another member of the mesh. The caller closes it.
	Open  func() commit.Conductor
	Locks bool // a lock makes the driver's edits exclude each other
	IDs   bool // the driver's sessions have ids
	// OwnCandidate says that other users' uncommitted edits are in their own candidates.
	OwnCandidate bool
	// Private says that the driver's account has a candidate of its own and that the driver knows it: it undoes differences
	// within the tenant without asking.
	Private bool
}

// Starter makes a new conductor with the configuration Office, whose Config configure may change. It ends with t.
type Starter func(t *testing.T, configure func(*conductorsim.Config)) Setup

// bound limits each single step of a test.
const bound = 30 * time.Second

// Run tests a driver. Each rule has its own testing/synctest bubble, so what start makes must live in memory.
func Run(t *testing.T, start Starter) {
	for _, test := range []struct {
		name string
		run  func(*bench)
	}{
		{"creates what is absent", createsWhatIsAbsent},
		{"changes only the difference", changesOnlyTheDifference},
		{"changes nothing for nothing", changesNothingForNothing},
		{"takes a thousand addresses", takesAThousand},
		{"leaves spellings and others' values", leavesSpellings},
		{"leaves nothing without commit", leavesNothingWithoutCommit},
		{"waits for another administrator", waitsForAnother},
		{"undoes its own leftovers exactly", undoesLeftovers},
		{"never lets two edits mix", neverMixes},
		{"reads while an edit is open", readsMeanwhile},
		{"tells a refusal", tellsRefusals},
		{"waits for a validation in progress", waitsForValidation},
		{"finds out lies", findsOutLies},
		{"never bans everybody", neverBansEverybody},
		{"learns an unknown outcome", learnsUnknownOutcome},
		{"tells a refused login", tellsRefusedLogin},
		{"tells a dead conductor", tellsDeadConductor},
		{"keeps to its context", keepsToItsContext},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := &bench{T: t, start: start}
				b.with(nil)
				test.run(b)
			})
		})
	}
	t.Run("goes to the other node", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := &bench{T: t, start: start}
			b.with(func(c *conductorsim.Config) { c.Nodes = 2 })
			goesToTheOtherNode(b)
		})
	})
}

// bench is what one test works with.
type bench struct {
	*testing.T
	start Starter
	Setup
	c commit.Conductor

	added, removed map[netip.Prefix]bool // what any of our changes asked for
}

func (b *bench) with(configure func(*conductorsim.Config)) {
	b.Setup = b.start(b.T, configure)
	b.added, b.removed = make(map[netip.Prefix]bool), make(map[netip.Prefix]bool)
	b.c = b.open()
	b.Cleanup(b.checkHistory)
}

func (b *bench) open() commit.Conductor {
	c := b.Open()
	b.Cleanup(func() {
		if err := c.Close(); err != nil {
			b.Errorf("close: %v", err)
		}
	})
	return c
}

// checkHistory judges every change of running.
func (b *bench) checkHistory() {
	asked := func(set map[netip.Prefix]bool) func(history.Change) error {
		return func(c history.Change) error {
			if c.Member == Member && set[c.Prefix] {
				return nil
			}
			return errors.New("nobody asked for it")
		}
	}
	checker := history.Checker{Tenant: Tenant, Came: asked(b.added), Gone: asked(b.removed), MustLock: b.Locks}
	for _, v := range checker.Check(b.Sim.History().Events()) {
		b.Errorf("history: %v", v)
	}
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), bound)
	b.Cleanup(cancel)
	return ctx
}

// begin begins an edit that the test's end closes, if nobody did before.
func (b *bench) begin(c commit.Conductor, p conductor.Permit) (*edit, error) {
	e, err := c.Begin(b.ctx(), p)
	if err != nil {
		return nil, err
	}
	open := &edit{Edit: e, b: b}
	b.Cleanup(open.close)
	return open, nil
}

// edit records what is asked for, and closes once.
type edit struct {
	conductor.Edit
	b      *bench
	closed bool
}

func (e *edit) apply(add, remove []netip.Prefix) error {
	for _, p := range add {
		e.b.added[p] = true
	}
	for _, p := range remove {
		e.b.removed[p] = true
	}
	return e.Apply(e.b.ctx(), add, remove)
}

func (e *edit) commit() error { return e.Commit(e.b.ctx()) }

func (e *edit) close() {
	if e.closed {
		return
	}
	e.closed = true
	if err := e.Close(e.b.ctx()); err != nil {
		e.b.Logf("close of an edit: %v", err)
	}
}

// change makes one whole change.
func (b *bench) change(c commit.Conductor, p conductor.Permit, add, remove []netip.Prefix) error {
	e, err := b.begin(c, p)
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.apply(add, remove); err != nil {
		return err
	}
	return e.commit()
}

// changeWithin makes one change and gives up its commit after d.
func (b *bench) changeWithin(d time.Duration, add, remove []netip.Prefix) error {
	e, err := b.begin(b.c, conductor.Permit{})
	if err != nil {
		return err
	}
	defer e.close()
	if err := e.apply(add, remove); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(b.ctx(), d)
	defer cancel()
	return e.Commit(ctx)
}

// seedMore adds addresses to running.
func (b *bench) seedMore(texts ...string) {
	b.Helper()
	if err := b.change(b.c, conductor.Permit{}, Prefixes(texts...), nil); err != nil {
		b.Fatalf("seed: %v", err)
	}
}

// seed adds addresses to running, and fails the test if that fails.
func (b *bench) seed(texts ...string) {
	b.Helper()
	if err := b.change(b.c, conductor.Permit{}, Prefixes(texts...), nil); err != nil {
		b.Fatalf("seed: %v", err)
	}
	b.want(texts...)
}

// want compares the tenant in running, masked.
func (b *bench) want(texts ...string) {
	b.Helper()
	var got []string
	for _, a := range b.Sim.Addresses(Tenant, Member) {
		p, err := netip.ParsePrefix(a)
		if err != nil {
			b.Errorf("running has %q", a)
			continue
		}
		got = append(got, p.Masked().String())
	}
	slices.Sort(got)
	texts = slices.Sorted(slices.Values(texts))
	if !slices.Equal(got, texts) {
		b.Errorf("running has %v, want %v", got, texts)
	}
}

// wantErr checks the kind of an error, and that it fits in one line of a log.
func (b *bench) wantErr(err, kind error, texts ...string) {
	b.Helper()
	if !errors.Is(err, kind) {
		b.Errorf("got %v, want %v", err, kind)
		return
	}
	for _, s := range texts {
		if !strings.Contains(err.Error(), s) {
			b.Errorf("%q is not in: %v", s, err)
		}
	}
	if err != nil && strings.ContainsAny(err.Error(), "\r\x00") {
		b.Errorf("unfit for a log: %q", err)
	}
}

// wantDirty checks that the driver waits for somebody else's edits.
func (b *bench) wantDirty(err error) {
	b.Helper()
	var busy *conductor.BusyError
	if !errors.As(err, &busy) || !busy.Dirty || !errors.Is(err, conductor.ErrBusy) {
		b.Errorf("got %v, want waiting for uncommitted changes", err)
	}
}

// wantClean checks that our user's candidate holds nothing of ours.
func (b *bench) wantClean() {
	b.Helper()
	for node := 1; node <= max(b.Nodes, 1); node++ {
		if got, want := leaves(b.Sim.Candidate(User, node)), leaves(b.Sim.Running()); !slices.Equal(got, want) {
			b.Errorf("the candidate of node %d differs from running:\n%s\nrunning:\n%s", node, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// leaves returns a configuration's leaves, sorted.
func leaves(n *conductorsim.Node) []string {
	var out []string
	var walk func(string, *conductorsim.Node)
	walk = func(path string, n *conductorsim.Node) {
		path += fmt.Sprintf("/%s[%s]", n.Name.Local, n.Key)
		if n.Kind == conductorsim.Leaf || n.Kind == conductorsim.LeafList {
			out = append(out, path+"="+n.Value)
		}
		for _, c := range n.Children {
			walk(path, c)
		}
	}
	walk("", n)
	slices.Sort(out)
	return out
}

// inject injects a fault, once unless it says otherwise.
func (b *bench) inject(f conductorsim.Fault) {
	b.Helper()
	if err := b.Sim.Inject(f); err != nil {
		b.Fatal(err)
	}
}

// admin is another administrator who edits the content of the tenant.
func (b *bench) admin(inside string, committed bool) *conductorsim.Admin {
	b.Helper()
	a := b.Sim.Admin("operator")
	b.Cleanup(a.Close)
	err := a.Edit(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0"><name>` + Tenant + `</name>` + inside + `</tenant></authority></config>`)
	if err == nil && committed {
		err = a.Commit()
	}
	if err != nil {
		b.Fatal(err)
	}
	return a
}

// Prefixes parses prefixes.
func Prefixes(texts ...string) []netip.Prefix {
	out := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		out[i] = netip.MustParsePrefix(s)
	}
	return out
}

func everything([]netip.Prefix, []netip.Prefix) bool { return true }

func sorted(ps []netip.Prefix) string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}
