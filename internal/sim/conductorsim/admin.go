package conductorsim

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// Admin is another administrator working at the device's console, in process. It has a session-id like a NETCONF session and
// works on the same datastores.
type Admin struct {
	sim   *Sim
	actor Actor
	ctx   context.Context
	end   func()
}

// Admin opens a session of another administrator on node 1. Close it.
func (s *Sim) Admin(user string) *Admin {
	a := &Admin{sim: s}
	var end func()
	a.actor, a.ctx, end = s.enter(Actor{User: user, Via: "console", Node: 1}, closerFunc(func() { a.end() }))
	a.end = sync.OnceFunc(end)
	return a
}

// closerFunc turns a function that cannot fail into an io.Closer.
type closerFunc func()

func (f closerFunc) Close() error { f(); return nil }

// do runs f unless the session has ended.
func (a *Admin) do(f func() error) error {
	if err := context.Cause(a.ctx); err != nil {
		return fmt.Errorf("session %d of %s: %w", a.actor.Session, a.actor.User, err)
	}
	return f()
}

// Session returns the session-id that others see when this administrator holds a lock.
func (a *Admin) Session() uint64 { return a.actor.Session }

// Edit merges a configuration document into the candidate; it may contain NETCONF operations.
func (a *Admin) Edit(config string) error {
	e, err := configElement([]byte(config), a.sim.cfg.MaxDepth)
	if err != nil {
		return fmt.Errorf("edit of %s: %w", a.actor.User, err)
	}
	return a.do(func() error { return a.sim.stores.Edit(a.ctx, a.actor, StoreCandidate, Edit{Config: e}) })
}

// Commit commits the candidate, including what others have left in it, with local validation.
func (a *Admin) Commit() error {
	return a.do(func() error { return a.sim.stores.Commit(a.ctx, a.actor, CommitOptions{Local: true}) })
}

// CommitConfirmed commits like Commit, and rolls back after a time unless Commit confirms it.
func (a *Admin) CommitConfirmed(timeout time.Duration) error {
	return a.do(func() error {
		return a.sim.stores.Commit(a.ctx, a.actor, CommitOptions{Local: true, Confirmed: true, Timeout: timeout})
	})
}

// Discard drops all edits of the candidate, including other people's.
func (a *Admin) Discard() error { return a.do(func() error { return a.sim.stores.Discard(a.actor) }) }

// Revert drops all edits of a node's candidate, as an administrator at that node.
func (s *Sim) Revert(node int) error {
	return s.stores.Discard(Actor{User: "operator", Via: "console", Node: node})
}

// Lock takes the candidate's lock.
func (a *Admin) Lock() error {
	return a.do(func() error { return a.sim.stores.Lock(a.actor, StoreCandidate) })
}

// Unlock releases the candidate's lock.
func (a *Admin) Unlock() error {
	return a.do(func() error { return a.sim.stores.Unlock(a.actor, StoreCandidate) })
}

// Close ends the session; its locks are released, its edits stay in the candidate.
func (a *Admin) Close() { a.end() }

// Unfinished work of another administrator.
const (
	dirtyValid = `<config xmlns="` + nsT128 + `"><authority xmlns="` + nsAuthy + `"><service xmlns="` + nsSvc + `">` +
		`<name>half-finished</name><description>another administrator is at work</description><scope>private</scope>` +
		`</service></authority></config>`
	dirtyInvalid = `<config xmlns="` + nsT128 + `"><authority xmlns="` + nsAuthy + `"><service xmlns="` + nsSvc + `">` +
		`<name>half-finished</name><access-policy><source>tenant-to-come</source><permission>deny</permission></access-policy>` +
		`</service></authority></config>`
)

// Dirty leaves another administrator's unfinished service in the candidate and ends the session: a valid service, or one
// whose access policy names a tenant that does not exist. An Admin's Discard or Commit ends it.
func (s *Sim) Dirty(valid bool) error {
	a := s.Admin("operator")
	defer a.Close()
	if valid {
		return a.Edit(dirtyValid)
	}
	return a.Edit(dirtyInvalid)
}
