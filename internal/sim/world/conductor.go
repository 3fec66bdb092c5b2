package world

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"go4.org/netipx"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
)

// console is a conductor in memory: running, one shared candidate and its lock. It is as strict as RFC 6241, and also records
// what a conductor cannot know: who placed each address, and whose each session is.
type console struct {
	w *World

	mu        sync.Mutex
	running   tree
	candidate tree
	holder    uint64  // of the lock; 0 if it is free
	last      *Member // whose session locked last
	sessions  map[uint64]*session
	next      uint64
	foreign   map[netip.Prefix]bool // placed by another administrator

	down    bool          // answers nobody
	slow    time.Duration // added to each answer
	lose    int           // how many answers to commits are lost; every other of those commits takes effect
	refuse  int           // how many commits are refused
	commits int
	killed  int
}

type tree struct {
	exists, member bool
	description    string
	addrs          map[netip.Prefix]bool
	other          int // what is not ours
}

func (t tree) clone() tree {
	t.addrs = maps.Clone(t.addrs)
	return t
}

func (t tree) equal(u tree) bool {
	return t.exists == u.exists && t.member == u.member && t.description == u.description && t.other == u.other && maps.Equal(t.addrs, u.addrs)
}

func (t tree) tenant() *conductor.Tenant {
	out := &conductor.Tenant{Exists: t.exists, Member: t.member, Description: t.description, Described: t.description != ""}
	for p := range t.addrs {
		out.Addresses = append(out.Addresses, p)
	}
	out.Addresses = prefixset.Sort(out.Addresses)
	return out
}

func newConsole(w *World) *console {
	return &console{
		w: w, sessions: make(map[uint64]*session), foreign: make(map[netip.Prefix]bool),
		running: tree{addrs: map[netip.Prefix]bool{}}, candidate: tree{addrs: map[netip.Prefix]bool{}},
	}
}

// driver is one agent's connection to the console.
type driver struct {
	c *console
	m *Member
	n int // the member's run that it belongs to
}

func (d *driver) Nodes() []string { return []string{"conductor"} }
func (d *driver) Close() error    { return nil }

func (d *driver) Open(ctx context.Context, _ int) (conductor.Session, error) {
	s := &session{c: d.c, m: d.m, run: d.n}
	if err := d.c.trip(ctx, s); err != nil {
		return nil, err
	}
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	d.c.next++
	s.id = d.c.next
	d.c.sessions[s.id] = s
	return s, nil
}

// session is one session of an agent. The console's lock guards its fields.
type session struct {
	c      *console
	m      *Member
	run    int
	id     uint64
	ended  bool
	frozen bool // its host lost power, which the console has not noticed yet
}

var errGone = fmt.Errorf("%w: the session has ended", conductor.ErrUnreachable)

// trip waits for the round trip of a call.
func (c *console) trip(ctx context.Context, s *session) error {
	c.mu.Lock()
	d := 5*time.Millisecond + c.slow
	lost := c.down || s.m.cutOff.Load()
	c.mu.Unlock()
	if lost {
		d = 10 * time.Second
	}
	if err := pause(ctx, d); err != nil || lost {
		return fmt.Errorf("%w: no answer", conductor.ErrUnreachable)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended || s.frozen {
		return errGone
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// call runs f under the lock, after a round trip.
func (s *session) call(ctx context.Context, f func() error) error {
	if err := s.c.trip(ctx, s); err != nil {
		return err
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return f()
}

func (s *session) At() conductor.SessionAt             { return conductor.SessionAt{Node: "conductor", ID: s.id} }
func (s *session) Identity() string                    { return "simulated" }
func (s *session) Features(conductor.Abilities) string { return "simulated" }
func (s *session) Candidate() conductor.Candidate      { return conductor.SharedCandidate }
func (s *session) Warnings() []string                  { return nil }

func (s *session) Lock(ctx context.Context) error {
	return s.call(ctx, func() error {
		c := s.c
		switch {
		case c.holder == s.id:
			return nil
		case c.holder != 0:
			return &conductor.LockedError{Holder: c.holder, Err: errors.New("lock-denied")}
		case !c.candidate.equal(c.running):
			return &conductor.LockedError{Uncommitted: true, Err: errors.New("resource-denied: uncommitted edits")}
		}
		c.holder = s.id
		if c.last != nil && c.last != s.m {
			c.w.reached("conductor: another member took the lock")
		}
		c.last = s.m
		return nil
	})
}

func (s *session) Unlock(ctx context.Context) error {
	return s.call(ctx, func() error {
		if s.c.holder == s.id {
			s.c.holder = 0
			s.c.candidate = s.c.running.clone()
		}
		return nil
	})
}

func (s *session) Kill(ctx context.Context, id uint64) error {
	return s.call(ctx, func() error {
		other := s.c.sessions[id]
		if other == nil {
			return &conductor.RejectedError{Step: "kill-session", Messages: []string{"no such session"}}
		}
		s.c.killed++
		s.c.w.reached("conductor: a session was killed")
		switch {
		case other.m == nil:
			s.c.w.fault("%s killed the session of another administrator", s.m.name)
		case other.m != s.m && other.run == int(other.m.runs.Load()) && !other.frozen && s.c.w.hears(s.m, other.m):
			s.c.w.fault("%s killed the session of %s, which lives and is heard", s.m.name, other.m.name)
		}
		s.c.end(other)
		return nil
	})
}

// hears reports whether heartbeats from one member reach another, and have for longer than a leader may be silent.
func (w *World) hears(m, from *Member) bool {
	return w.net.Open(from.addr.Addr(), m.addr.Addr()) && w.calmFor(time.Minute)
}

// end ends a session: its lock is released and its edits are discarded (RFC 6241 §7.5).
func (c *console) end(s *session) {
	s.ended = true
	delete(c.sessions, s.id)
	if c.holder == s.id {
		if s.m != nil && !c.candidate.equal(c.running) {
			c.w.reached("conductor: a session ended in the middle of an edit")
		}
		c.holder = 0
		c.candidate = c.running.clone()
	}
}

func (s *session) Read(ctx context.Context, store conductor.Datastore) (t *conductor.Tenant, err error) {
	err = s.call(ctx, func() error {
		if store == conductor.RunningStore {
			t = s.c.running.tenant()
		} else {
			t = s.c.candidate.tenant()
		}
		return nil
	})
	return t, err
}

func (s *session) Compare(ctx context.Context) (d *conductor.Difference, err error) {
	err = s.call(ctx, func() error {
		d = &conductor.Difference{}
		if !s.c.running.equal(s.c.candidate) {
			d.Running, d.Candidate = s.c.running.tenant(), s.c.candidate.tenant()
			if s.c.running.other != s.c.candidate.other {
				d.Foreign = "another part of the configuration"
			}
		}
		return nil
	})
	return d, err
}

func (s *session) Write(ctx context.Context, _ *conductor.Tenant, ch conductor.Change) (t *conductor.Tenant, err error) {
	err = s.call(ctx, func() error {
		c := s.c
		if c.holder != 0 && c.holder != s.id {
			c.w.fault("%s wrote while session %d holds the lock", s.m.name, c.holder)
			return &conductor.BusyError{Holder: c.holder}
		}
		k := &c.candidate
		switch {
		case ch.DropTenant:
			*k = tree{addrs: map[netip.Prefix]bool{}, other: k.other}
		case ch.DropMember:
			k.member, k.addrs = false, map[netip.Prefix]bool{}
		default:
			k.exists = true
			for _, p := range ch.Remove {
				delete(k.addrs, p)
			}
			for _, p := range ch.Add {
				k.member = true
				k.addrs[p] = true
			}
			if ch.Describe != "" {
				k.description = ch.Describe
			}
			if ch.DropDescription {
				k.description = ""
			}
		}
		t = k.tenant()
		return nil
	})
	return t, err
}

func (s *session) Validate(ctx context.Context) error {
	return s.call(ctx, func() error { return nil })
}

func (s *session) Commit(ctx context.Context) error {
	var lost, done bool
	err := s.call(ctx, func() error {
		c := s.c
		if c.refuse > 0 {
			c.refuse--
			c.w.reached("conductor: a commit was refused")
			return &conductor.RejectedError{Step: "commit", Messages: []string{"simulated refusal"}, Err: errors.New("operation-failed")}
		}
		if c.lose > 0 {
			lost, done = true, c.lose%2 == 0
			c.lose--
		}
		return nil
	})
	if err != nil {
		return err
	}
	// The server finishes the commit, whatever becomes of the caller.
	finished := make(chan error, 1)
	time.AfterFunc(400*time.Millisecond, func() {
		s.c.mu.Lock()
		defer s.c.mu.Unlock()
		if lost && !done {
			finished <- conductor.ErrUnknown
			return
		}
		if s.ended {
			finished <- errGone
			return
		}
		s.c.commit(s)
		finished <- nil
	})
	select {
	case err = <-finished:
	case <-ctx.Done():
		err = ctx.Err()
	}
	s.c.mu.Lock()
	frozen := s.frozen
	s.c.mu.Unlock()
	if lost || err != nil || frozen {
		s.c.w.reached("conductor: an answer to a commit was lost")
		s.c.mu.Lock()
		s.c.end(s)
		s.c.mu.Unlock()
		return fmt.Errorf("%w: the answer was lost", conductor.ErrUnknown)
	}
	return nil
}

// commit makes the candidate running, and checks that the agent respected what is not its own.
func (c *console) commit(s *session) {
	if c.candidate.other != c.running.other {
		c.w.fault("%s committed another administrator's uncommitted edits", s.m.name)
	}
	for p := range c.foreign {
		if c.running.addrs[p] && !c.candidate.addrs[p] {
			c.w.fault("%s removed %v, which another administrator put into the tenant", s.m.name, p)
		}
	}
	for p := range c.candidate.addrs {
		if !c.running.addrs[p] && c.w.sacred(p) {
			c.w.fault("%s committed %v, which holds an address of never_ban", s.m.name, p)
		}
	}
	if s.m.frozen() {
		for _, p := range grown(c.running, c.candidate) {
			c.w.fault("%s committed %v while it was frozen", s.m.name, p)
		}
	}
	c.w.say("%s: session %d commits %s", s.m.name, s.id, changed(c.running, c.candidate))
	c.commits++
	c.running = c.candidate.clone()
}

// grown returns what a commit adds to the addresses that are covered: the parts that replace a wider prefix add nothing.
func grown(from, to tree) []netip.Prefix {
	var more netipx.IPSetBuilder
	for p := range to.addrs {
		more.AddPrefix(p)
	}
	for p := range from.addrs {
		more.RemovePrefix(p)
	}
	return ipset(&more).Prefixes()
}

// changed tells what a commit changes.
func changed(from, to tree) string {
	var out []string
	for p := range to.addrs {
		if !from.addrs[p] {
			out = append(out, "+"+p.String())
		}
	}
	for p := range from.addrs {
		if !to.addrs[p] {
			out = append(out, "-"+p.String())
		}
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func (s *session) Discard(ctx context.Context) error {
	return s.call(ctx, func() error {
		s.c.candidate = s.c.running.clone()
		return nil
	})
}

func (s *session) Denied(context.Context) ([]string, error)         { return []string{"internet-in"}, nil }
func (s *session) Cut(context.Context, []netip.Prefix) (int, error) { return 0, errors.ErrUnsupported }
func (s *session) Close(context.Context) error                      { s.c.hangUp(s); return nil }

func (s *session) Alive() bool {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	return !s.ended && !s.frozen
}

func (c *console) hangUp(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.frozen && !s.ended {
		c.end(s)
	}
}

// lost notes that a member's process has ended. If its host lost power, the console is not told and keeps the session and its
// lock for two minutes.
func (c *console) lost(m *Member, power bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range slices.Collect(maps.Values(c.sessions)) {
		if s.m != m {
			continue
		}
		if !power {
			c.end(s)
			continue
		}
		if c.holder == s.id {
			c.w.reached("conductor: a host lost power while its session held the lock")
		}
		s.frozen = true
		time.AfterFunc(2*time.Minute, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			if !s.ended {
				c.end(s)
			}
		})
	}
}

// administrator edits for a while, under the lock or, impolitely, without; what it adds stays in the tenant.
func (c *console) administrator(hold time.Duration, locked bool, add, remove []netip.Prefix) {
	c.mu.Lock()
	if c.holder != 0 || !c.candidate.equal(c.running) {
		c.mu.Unlock()
		return
	}
	c.next++
	id := c.next
	s := &session{c: c, id: id}
	c.sessions[id] = s
	if locked {
		c.holder = id
	}
	c.candidate.other++
	c.mu.Unlock()
	time.Sleep(hold)
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.ended {
		return
	}
	if locked || c.holder == 0 {
		c.candidate.exists, c.candidate.member = true, true
		for _, p := range add {
			c.candidate.addrs[p], c.foreign[p] = true, true
		}
		for _, p := range remove {
			delete(c.candidate.addrs, p)
			delete(c.foreign, p)
		}
		c.w.say("another administrator commits %s", changed(c.running, c.candidate))
		c.running = c.candidate.clone()
	}
	c.end(s)
}

// reset removes the whole tenant, as restoring an old configuration does.
func (c *console) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.holder != 0 {
		return
	}
	c.running = tree{addrs: map[netip.Prefix]bool{}, other: c.running.other}
	c.candidate = c.running.clone()
	clear(c.foreign)
}

func (c *console) addresses() []netip.Prefix {
	c.mu.Lock()
	defer c.mu.Unlock()
	return prefixset.Sort(slices.Collect(maps.Keys(c.running.addrs)))
}

var _ conductor.Driver = (*driver)(nil)
