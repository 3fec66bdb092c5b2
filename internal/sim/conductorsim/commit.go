package conductorsim

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"slices"
	"time"

	"banmesh/internal/sim/conductorsim/history"
)

// errKilled ends an operation whose session was killed, or whose server is being closed.
var errKilled = errors.New("the session was killed")

// CommitOptions are the options of a commit.
type CommitOptions struct {
	// Local is the vendor's validation-type local: routers are not asked. Without it an offline router hangs the commit.
	Local bool
	// Confirmed makes the commit roll back after Timeout unless it is confirmed by another one.
	Confirmed bool
	Timeout   time.Duration // 0 means 10 minutes (RFC 6241 §8.4)
}

// confirmation is a commit that waits for its confirmation.
type confirmation struct {
	session uint64
	actor   Actor
	before  *Node // running before the commit
	timer   *time.Timer
}

// Commit makes a's candidate the running configuration. It continues if the connection is lost; ctx ends only when the
// session is killed or the server closed.
func (d *Datastores) Commit(ctx context.Context, a Actor, o CommitOptions) error {
	return d.refused(a, "commit", d.commit(ctx, a, o))
}

func (d *Datastores) commit(ctx context.Context, a Actor, o CommitOptions) error {
	d.mu.Lock()
	if used := d.inUse(a, d.on(a, StoreCandidate), lockOn{store: StoreRunning}); used != nil {
		d.mu.Unlock()
		return refuse(used)
	}
	if used := d.unconfirmed(a); used != nil {
		d.mu.Unlock()
		return refuse(used)
	}
	if err := d.begin(a); err != nil {
		d.mu.Unlock()
		return err
	}
	c := d.candidate(a)
	next, err := d.merged(a, c)
	d.mu.Unlock()
	defer d.end()
	if err != nil {
		return err
	}
	if err := d.settle(ctx, a, next, o.Local); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.put(a, next, func() {
		if d.confirm != nil {
			d.confirm.timer.Stop()
			if !o.Confirmed {
				d.confirm = nil
			}
		}
		if o.Confirmed {
			d.awaitConfirmation(a, o.Timeout)
		}
	})
}

// unconfirmed refuses while a commit of another session waits for confirmation, which only that session may give (RFC 6241
// §8.4.1). The caller holds d.mu.
func (d *Datastores) unconfirmed(a Actor) *RPCError {
	if d.confirm == nil || d.confirm.session == a.Session {
		return nil
	}
	e := protocolError("in-use", "cannot perform the operation with confirmed-commit pending")
	e.Session = &d.confirm.session
	return e
}

// settle is the slow part of a commit: validation, possibly at the routers, and the device's own slowness.
func (d *Datastores) settle(ctx context.Context, a Actor, next *Node, local bool) error {
	if errs := d.check(a, next); len(errs) > 0 {
		return errs
	}
	if _, fires := d.faults.fires(FaultCommitFails, a.Node); fires {
		return refuse(failed("simulated failure of the commit"))
	}
	delay := d.cfg.CommitDelay
	if f, fires := d.faults.fires(FaultSlowCommit, a.Node); fires {
		delay += time.Duration(f.For)
	}
	if !local {
		if f, fires := d.faults.fires(FaultRouterOffline, a.Node); fires {
			delay += time.Duration(f.For)
		}
	}
	if err := wait(ctx, delay); err != nil {
		return refuse(failed(errKilled.Error()))
	}
	return nil
}

// put makes next the running configuration: durable first, then visible and recorded. The caller holds d.mu.
func (d *Datastores) put(a Actor, next *Node, then func()) error {
	old := d.running
	next = d.lie("commit", a, old, next)
	if d.persist != nil {
		if err := d.persist(next); err != nil {
			return refuse(failed("the configuration cannot be stored: " + err.Error()))
		}
	}
	if f, lags := d.faults.fires(FaultRunningLags, a.Node); lags {
		d.stale = staleRunning{old, time.Now().Add(time.Duration(f.For))}
	}
	own := d.candidate(a)
	then()
	d.running = next
	added, removed := diff(old, next)
	d.record(a, history.Event{Kind: history.Running, Store: string(StoreRunning), Scope: d.scope(a), Added: added, Removed: removed})
	for _, c := range d.candidates {
		if c == own || same(c.root, old) {
			c.root, c.base = next, next
		}
	}
	return nil
}

// merged returns running after committing c. If each user has a candidate, it holds only that user's edits: if two users
// changed the same leaf, the later commit fails. The caller holds d.mu.
func (d *Datastores) merged(a Actor, c *candidate) (*Node, error) {
	if d.cfg.Style != Style56 || c.base == d.running {
		return c.root, nil
	}
	next, conflicts := merge3(c.base, c.root, d.running)
	if len(conflicts) > 0 {
		d.drop(a)
		errs := make(RPCErrors, 0, len(conflicts))
		for _, line := range conflicts[:min(len(conflicts), maxErrors)] {
			errs = append(errs, failed("conflicting change: "+line))
		}
		return nil, errs
	}
	return next, nil
}

// editRunning edits running directly, for servers without a candidate.
func (d *Datastores) editRunning(ctx context.Context, a Actor, e Edit) error {
	d.mu.Lock()
	used := d.inUse(a, lockOn{store: StoreRunning})
	if used == nil {
		used = d.unconfirmed(a)
	}
	if used != nil {
		d.mu.Unlock()
		return d.refused(a, "edit-config", refuse(used))
	}
	if err := d.begin(a); err != nil {
		d.mu.Unlock()
		return d.refused(a, "edit-config", err)
	}
	running := d.running
	d.mu.Unlock()
	defer d.end()
	next, err := d.edited(a, running, e)
	if err == nil && e.TestOption != "test-only" {
		err = d.settle(ctx, a, next, true)
	}
	if err != nil || e.TestOption == "test-only" {
		return d.refused(a, "edit-config", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.refused(a, "edit-config", d.put(a, next, func() {}))
}

// awaitConfirmation starts the time in which a commit must be confirmed; d.mu is held and running is still the old one.
func (d *Datastores) awaitConfirmation(a Actor, timeout time.Duration) {
	if timeout <= 0 {
		timeout = 10 * time.Minute
	}
	before := d.running
	if d.confirm != nil {
		before = d.confirm.before // a follow-up extends the time, and rolls back to before the first commit
	}
	c := &confirmation{session: a.Session, actor: a, before: before}
	c.timer = time.AfterFunc(timeout, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.confirm == c {
			d.rollBack("the commit was not confirmed in time")
		}
	})
	d.confirm = c
}

// rollBack undoes a commit that was not confirmed; d.mu is held.
func (d *Datastores) rollBack(why string) {
	c := d.confirm
	d.confirm = nil
	c.timer.Stop()
	err := d.put(c.actor, c.before, func() {})
	d.refused(c.actor, "confirm", errors.Join(errors.New(why), err))
}

// Cancel undoes the commit that waits for confirmation (cancel-commit).
func (d *Datastores) Cancel(a Actor) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.confirm == nil || d.confirm.session != a.Session {
		return d.refused(a, "cancel-commit", refuse(failed("no commit of this session waits for confirmation")))
	}
	d.rollBack("cancelled")
	return nil
}

// stop stops the timers.
func (d *Datastores) stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.confirm != nil {
		d.confirm.timer.Stop()
		d.confirm = nil
	}
}

// lie returns what a lying server would store instead of next, if such a fault is in force.
func (d *Datastores) lie(point string, a Actor, old, next *Node) *Node {
	var addresses map[history.Address]bool
	brought := func() map[history.Address]bool {
		if addresses == nil {
			addresses = make(map[history.Address]bool)
			added, _ := diff(old, next)
			for _, line := range added {
				if a, ok := history.AddressOf(line); ok {
					addresses[a] = true
				}
			}
		}
		return addresses
	}
	brings := func(Fault) bool { return len(brought()) > 0 }
	if _, fires := d.faults.fires(FaultLieDropAdded, a.Node, at(point), brings); fires {
		return mapAddresses(next, func(a history.Address) (string, bool) { return a.Text, !brought()[a] })
	}
	done := false // drop only one address
	if _, fires := d.faults.fires(FaultLieDropOne, a.Node, at(point), brings); fires {
		return mapAddresses(next, func(a history.Address) (string, bool) {
			if done || !brought()[a] {
				return a.Text, true
			}
			done = true
			return "", false
		})
	}
	if _, fires := d.faults.fires(FaultLieWideOpen, a.Node, at(point), brings); fires {
		return mapAddresses(next, func(a history.Address) (string, bool) {
			if done || !brought()[a] {
				return a.Text, true
			}
			done = true
			return "0.0.0.0/0", true
		})
	}
	return next
}

// mapAddresses rewrites the addresses of all tenants: f returns the new text of an address, and whether it stays.
func mapAddresses(root *Node, f func(history.Address) (string, bool)) *Node {
	member := func(tenant string, m *Node) *Node {
		return mapChildren(m, "address", func(n *Node) *Node {
			text, keep := f(history.Address{Tenant: tenant, Member: m.Key, Text: n.Value})
			if !keep {
				return nil
			}
			return &Node{Name: n.Name, Kind: n.Kind, Value: text}
		})
	}
	return mapChildren(root, "config", func(n *Node) *Node {
		return mapChildren(n, "authority", func(n *Node) *Node {
			return mapChildren(n, "tenant", func(t *Node) *Node {
				return mapChildren(t, "member", func(m *Node) *Node { return member(t.Key, m) })
			})
		})
	})
}

// mapChildren returns n with each child of that name replaced by f's result, or dropped if that is nil.
func mapChildren(n *Node, local string, f func(*Node) *Node) *Node {
	out := *n
	out.Children = make([]*Node, 0, len(n.Children))
	for _, c := range n.Children {
		if c.Name.Local == local {
			c = f(c)
		}
		if c != nil {
			out.Children = append(out.Children, c)
		}
	}
	return &out
}

// merge3 applies the changes from base to mine onto theirs. A conflict is a leaf that both changed differently, or a change
// inside something that the other removed.
func merge3(base, mine, theirs *Node) (*Node, []string) {
	m := merger{}
	out := m.node("", base, mine, theirs)
	slices.Sort(m.conflicts)
	return out, m.conflicts
}

type merger struct{ conflicts []string }

// node merges one node; nil means absent, for each of the three and for the result.
func (m *merger) node(path string, base, mine, theirs *Node) *Node {
	switch {
	case mine == theirs || base == mine:
		return theirs
	case base == theirs:
		return mine
	}
	some := mine
	if some == nil {
		some = theirs
	}
	if some.Name != (xml.Name{}) {
		path += step(some)
	}
	if some.Kind == Leaf || some.Kind == LeafList {
		return m.leaf(path, base, mine, theirs)
	}
	if mine == nil || theirs == nil {
		if base != nil && same(base, some) {
			return nil // removed on one side, untouched on the other
		}
		if base == nil {
			return some
		}
		m.conflicts = append(m.conflicts, fmt.Sprintf("%s was removed and changed", path))
		return some
	}
	return m.children(path, base, mine, theirs)
}

func (m *merger) leaf(path string, base, mine, theirs *Node) *Node {
	value := func(n *Node) string {
		if n == nil {
			return "\x00absent"
		}
		return n.Value
	}
	switch b, x, y := value(base), value(mine), value(theirs); {
	case x == y || b == x:
		return theirs
	case b == y:
		return mine
	}
	m.conflicts = append(m.conflicts, path)
	return theirs
}

func (m *merger) children(path string, base, mine, theirs *Node) *Node {
	index := func(n *Node) map[ident]*Node {
		out := make(map[ident]*Node)
		if n != nil {
			for _, c := range n.Children {
				out[c.ident()] = c
			}
		}
		return out
	}
	b, x, y := index(base), index(mine), index(theirs)
	out := *theirs
	out.Children = nil
	for _, c := range theirs.Children {
		id := c.ident()
		if n := m.node(path, b[id], x[id], c); n != nil {
			out.Children = append(out.Children, n)
		}
	}
	for _, c := range mine.Children {
		id := c.ident()
		if y[id] != nil {
			continue
		}
		if n := m.node(path, b[id], c, nil); n != nil {
			out.Children = append(out.Children, n)
		}
	}
	return &out
}
