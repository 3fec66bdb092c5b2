package conductorsim

import (
	"context"
	"fmt"
	"sync"
	"time"

	"banmesh/internal/sim/conductorsim/history"
)

// Store names a datastore.
type Store string

// The datastores.
const (
	StoreRunning   Store = "running"
	StoreCandidate Store = "candidate"
)

// Actor is who does something to the datastores, and through which front.
type Actor struct {
	Session uint64 // 0 without a session (REST), which can hold no lock
	User    string
	Via     string // netconf, rest or console
	Node    int    // from 1
}

// Datastores is the configuration of a conductor: running, and the candidates of its Style. All fronts (NETCONF, REST,
// console) work on it. A method that refuses returns RPCErrors.
type Datastores struct {
	cfg     Config
	faults  *faultSet
	history *history.Log
	persist func(*Node) error // makes running durable before it counts; may be nil

	mu         sync.Mutex
	running    *Node
	candidates map[string]*candidate // by scope
	locks      map[lockOn]Actor
	busy       *Actor // who validates or commits; a device does one at a time
	confirm    *confirmation
	stale      staleRunning
	startup    *Node // running after a restart; nil if nothing was saved
}

// staleRunning is an old running that a fault shows to readers for a while after a commit.
type staleRunning struct {
	root  *Node
	until time.Time
}

// candidate is one candidate configuration.
type candidate struct {
	root *Node
	base *Node // running when the first edit was made, for merging a user's own candidate
}

// lockOn is the target of a lock: running, or the candidate of a scope.
type lockOn struct {
	store Store
	scope string
}

func newDatastores(cfg Config, running *Node, faults *faultSet, log *history.Log, persist func(*Node) error) *Datastores {
	d := &Datastores{cfg: cfg, faults: faults, history: log, persist: persist, running: running,
		candidates: make(map[string]*candidate), locks: make(map[lockOn]Actor)}
	log.Add(history.Event{Kind: history.Start, Added: lines(running)})
	return d
}

// scope says which candidate a works on.
func (d *Datastores) scope(a Actor) string {
	switch d.cfg.Style {
	case Style55:
		return fmt.Sprintf("node%d", a.Node)
	case Style56:
		return a.User
	}
	return ""
}

func (d *Datastores) on(a Actor, s Store) lockOn {
	if s == StoreRunning {
		return lockOn{store: s}
	}
	return lockOn{s, d.scope(a)}
}

// candidate returns the candidate that a works on; d.mu is held.
func (d *Datastores) candidate(a Actor) *candidate {
	scope := d.scope(a)
	c := d.candidates[scope]
	if c == nil {
		c = &candidate{root: d.running, base: d.running}
		d.candidates[scope] = c
	}
	return c
}

// record adds an event of a to the history.
func (d *Datastores) record(a Actor, e history.Event) {
	e.Session, e.User, e.Via, e.Node = a.Session, a.User, a.Via, a.Node
	d.history.Add(e)
}

// refused records and returns a refusal.
func (d *Datastores) refused(a Actor, op string, err error) error {
	if err != nil {
		d.record(a, history.Event{Kind: history.Refused, Op: op, Detail: clip(err.Error())})
	}
	return err
}

// Read returns a configuration as it is now.
func (d *Datastores) Read(a Actor, s Store) *Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s == StoreRunning {
		return d.running
	}
	return d.candidate(a).root
}

// SaveStartup saves running for a restart.
func (d *Datastores) SaveStartup() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.startup = d.running
}

// Show returns the configuration that a reader is shown, which a fault may make an old one.
func (d *Datastores) Show(a Actor, s Store) *Node {
	root := d.Read(a, s)
	d.mu.Lock()
	defer d.mu.Unlock()
	if s == StoreRunning && d.stale.root != nil && d.faults.inForce(FaultRunningLags) && time.Now().Before(d.stale.until) {
		return d.stale.root
	}
	return root
}

// catchUp has readers see running as it is: what once showed late does not come back with a later fault.
func (d *Datastores) catchUp() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stale = staleRunning{}
}

// Dirty reports whether a's candidate differs from running.
func (d *Datastores) Dirty(a Actor) bool {
	d.mu.Lock()
	cand, running := d.candidate(a), d.running
	root, base := cand.root, cand.base
	d.mu.Unlock()
	if d.cfg.Style == Style56 {
		return !same(root, base)
	}
	return !same(root, running)
}

// inUse refuses when another session holds the lock, or commits; d.mu is held.
func (d *Datastores) inUse(a Actor, on ...lockOn) *RPCError {
	holder := Actor{}
	for _, o := range on {
		if h, held := d.locks[o]; held && (h.Session != a.Session || a.Session == 0) {
			holder = h
		}
	}
	if holder.Session == 0 {
		return nil
	}
	e := protocolError("in-use", "the configuration is locked by another session")
	if d.cfg.Dialect == DialectFailed {
		e.Session = &holder.Session
	}
	return e
}

// Lock takes the lock of a store for a's session.
func (d *Datastores) Lock(a Actor, s Store) error {
	err := d.lock(a, s)
	return d.refused(a, "lock", err)
}

func (d *Datastores) lock(a Actor, s Store) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	denied := func(holder uint64) error {
		e := protocolError("lock-denied", "the lock is held by another entity")
		e.Session = &holder
		return refuse(e)
	}
	if f, held := d.faults.fires(FaultLockHeld, a.Node); held {
		return denied(uint64(f.N))
	}
	on := d.on(a, s)
	if h, held := d.locks[on]; held {
		if h.Session == a.Session && d.cfg.Dialect == DialectFailed {
			return refuse(failed("this session holds the lock already"))
		}
		return denied(h.Session)
	}
	if d.busy != nil && d.busy.Session != a.Session {
		return denied(d.busy.Session)
	}
	if d.unconfirmed(a) != nil {
		return denied(d.confirm.session)
	}
	if s == StoreCandidate && !same(d.candidate(a).root, d.running) {
		message := "the candidate configuration has uncommitted changes"
		if d.cfg.Dialect == DialectFailed {
			return refuse(failed(message))
		}
		return refuse(protocolError("resource-denied", message))
	}
	d.locks[on] = a
	d.record(a, history.Event{Kind: history.Lock, Store: string(s), Scope: on.scope})
	return nil
}

// Unlock gives the lock of a store back.
func (d *Datastores) Unlock(a Actor, s Store) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	on := d.on(a, s)
	if h, held := d.locks[on]; !held || h.Session != a.Session {
		return d.refused(a, "unlock", refuse(failed("this session does not hold the lock")))
	}
	d.unlock(a, on, "unlocked")
	return nil
}

// unlock releases a lock that is held; d.mu is held.
func (d *Datastores) unlock(a Actor, on lockOn, why string) {
	if d.cfg.DiscardOnUnlock && on.store == StoreCandidate {
		d.drop(a)
	}
	delete(d.locks, on)
	d.record(a, history.Event{Kind: history.Unlock, Store: string(on.store), Scope: on.scope, Detail: why})
}

// Release gives up all that a's session holds, when it ends. The candidate's edits stay.
func (d *Datastores) Release(a Actor) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for on, h := range d.locks {
		if h.Session == a.Session {
			d.unlock(a, on, "session ended")
		}
	}
	if d.confirm != nil && d.confirm.session == a.Session {
		d.rollBack("session ended before the commit was confirmed")
	}
}

// Edit is an edit of a datastore.
type Edit struct {
	Config     *Element
	DefaultOp  string // merge, replace or none; "" is merge
	TestOption string // test-then-set, set or test-only; "" is set, as devices do it with a candidate
}

// Edit edits a store. A refused edit changes nothing.
func (d *Datastores) Edit(ctx context.Context, a Actor, s Store, e Edit) error {
	if s == StoreRunning {
		return d.editRunning(ctx, a, e)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	op := "edit-config"
	if used := d.inUse(a, d.on(a, s)); used != nil {
		return d.refused(a, op, refuse(used))
	}
	if d.busy != nil && d.busy.Session != a.Session {
		return d.refused(a, op, refuse(protocolError("in-use", "a commit is in progress")))
	}
	c := d.candidate(a)
	root, err := d.edited(a, c.root, e)
	if err != nil {
		return d.refused(a, op, err)
	}
	if e.TestOption == "test-only" {
		return nil
	}
	d.setCandidate(a, c, root, history.Edit)
	return nil
}

// Replace makes a configuration the candidate (copy-config).
func (d *Datastores) Replace(a Actor, root *Node) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if used := d.inUse(a, d.on(a, StoreCandidate)); used != nil {
		return d.refused(a, "copy-config", refuse(used))
	}
	d.setCandidate(a, d.candidate(a), root, history.Edit)
	return nil
}

// setCandidate makes root the content of a's candidate c; d.mu is held.
func (d *Datastores) setCandidate(a Actor, c *candidate, root *Node, kind history.Kind) {
	added, removed := diff(c.root, root)
	c.root = root
	d.record(a, history.Event{Kind: kind, Store: string(StoreCandidate), Scope: d.scope(a), Added: added, Removed: removed})
}

// edited applies e to root and tests the result as asked.
func (d *Datastores) edited(a Actor, root *Node, e Edit) (*Node, error) {
	ed := editor{storage: d.cfg.Storage, noPath: d.cfg.Dialect == DialectFailed, assigns: d.cfg.Assigns}
	op := e.DefaultOp
	if op == "" {
		op = opMerge
	}
	next := ed.apply(root, e.Config, op)
	if len(ed.errs) > 0 {
		return nil, ed.errs
	}
	next = d.lie("edit", a, root, next)
	if e.TestOption == "test-then-set" || e.TestOption == "test-only" {
		if errs := d.check(a, next); len(errs) > 0 {
			return nil, errs
		}
	}
	return next, nil
}

// Discard drops the edits of a's candidate.
func (d *Datastores) Discard(a Actor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if used := d.inUse(a, d.on(a, StoreCandidate)); used != nil {
		return d.refused(a, "discard-changes", refuse(used))
	}
	if d.busy != nil && d.busy.Session != a.Session {
		return d.refused(a, "discard-changes", refuse(protocolError("in-use", "a commit is in progress")))
	}
	d.drop(a)
	return nil
}

// drop resets a's candidate to running. Up to release 5.5 that drops everybody's edits. The caller holds d.mu.
func (d *Datastores) drop(a Actor) {
	c := d.candidate(a)
	c.base = d.running
	d.setCandidate(a, c, d.running, history.Discard)
}

// check validates a configuration and returns its errors, and those that a fault adds.
func (d *Datastores) check(a Actor, root *Node) RPCErrors {
	errs := validate(root)
	if f, refused := d.faults.fires(FaultValidateRefused, a.Node); refused {
		for i := range min(f.N, maxErrors) {
			errs = append(errs, &RPCError{Type: "application", Tag: "operation-failed", AppTag: "simulated",
				Path:    fmt.Sprintf("/t128:config/authy:authority/authy:router[authy:name='router%d']", i+1),
				Message: fmt.Sprintf("simulated validation error %d of %d", i+1, f.N)})
		}
	}
	return errs
}

// begin claims the single slot for validations and commits. The caller holds d.mu.
func (d *Datastores) begin(a Actor) error {
	if _, fires := d.faults.fires(FaultValidateBusy, a.Node); fires || d.busy != nil {
		return refuse(failed("A request of type validate is already in progress"))
	}
	d.busy = &a
	return nil
}

func (d *Datastores) end() {
	d.mu.Lock()
	d.busy = nil
	d.mu.Unlock()
}

// Validate validates a's candidate, or the configuration root where that is not nil.
func (d *Datastores) Validate(a Actor, root *Node) error {
	d.mu.Lock()
	if err := d.begin(a); err != nil {
		d.mu.Unlock()
		return d.refused(a, "validate", err)
	}
	if root == nil {
		root = d.candidate(a).root
	}
	d.mu.Unlock()
	defer d.end()
	if errs := d.check(a, root); len(errs) > 0 {
		return d.refused(a, "validate", errs)
	}
	return nil
}

// wait waits for a delay; it fails if ctx ends first.
func wait(ctx context.Context, delay time.Duration) error {
	if delay <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
