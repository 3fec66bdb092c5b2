package world

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"go4.org/netipx"

	"banmesh/mesh"
	"banmesh/store"
)

// The limits that a simulation must keep.
const (
	meetWithin   = 3 * time.Minute  // all members see each other, after all faults are repaired
	agreeWithin  = 10 * time.Second // then all roots are equal
	lieWithin    = 15 * time.Second // how long status may say in sync while roots differ
	enforceQuiet = time.Second      // kernel set = effective set, after the last change

	// Of an agent at rest with some hundred bans.
	mostFiles      = 4
	mostGoroutines = 60
	mostHeap       = 4 << 20
)

// look checks what must hold at all times.
func (w *World) look() {
	now := time.Now()
	r := w.running()
	minute := store.Minute(now)
	for _, a := range r {
		if frozen, _ := a.agent.Load().Set().Frozen(); !frozen {
			a.frozenAt.Store(0)
		} else {
			a.frozenAt.CompareAndSwap(0, now.UnixNano())
		}
		if time.Since(a.settleAt) < time.Minute {
			continue
		}
		root := a.agent.Load().Set().Root(minute)
		members, err := a.agent.Load().Members(context.Background())
		if err != nil {
			w.fault("members at %s: %v", a.name, err)
			continue
		}
		for _, b := range r {
			if a == b {
				continue
			}
			pair := [2]string{a.name, b.name}
			if root == b.agent.Load().Set().Root(minute) {
				delete(w.differ, pair)
				continue
			}
			says := false
			for _, x := range members {
				says = says || x.Name == b.name && x.State == "alive" && x.InSync
			}
			if !says {
				delete(w.differ, pair) // it does not claim to be in sync
				continue
			}
			if w.differ[pair].IsZero() {
				w.differ[pair] = now
			}
			if d := now.Sub(w.differ[pair]); d > lieWithin {
				w.fault("%s says that it is in sync with %s, and the roots have differed for %v", a.name, b.name, d)
			}
		}
	}
}

// settle waits until all members see each other and agree.
func (w *World) settle() bool {
	if !w.until(meetWithin, "all members see all", func() string {
		for _, m := range w.members {
			if !m.running() {
				return m.name + " does not run"
			}
			members, _ := m.agent.Load().Members(context.Background())
			alive := 0
			for _, x := range members {
				if x.State == "alive" {
					alive++
				}
			}
			if alive != len(w.members) {
				return fmt.Sprintf("%s sees %d alive: %+v", m.name, alive, members)
			}
		}
		return ""
	}) {
		return false
	}
	return w.until(agreeWithin, "the roots are equal", func() string {
		minute := store.Minute(time.Now())
		for _, m := range w.members[1:] {
			if m.agent.Load().Set().Root(minute) != w.members[0].agent.Load().Set().Root(minute) {
				return fmt.Sprintf("%s and %s differ: %+v %+v", w.members[0].name, m.name, w.members[0].agent.Load().Set().Counts(), m.agent.Load().Set().Counts())
			}
		}
		return ""
	})
}

// until waits for a condition; lacks returns what is missing, or "".
func (w *World) until(limit time.Duration, what string, lacks func() string) bool {
	last := ""
	for began := time.Now(); ; {
		synctest.Wait()
		text := lacks()
		if text != last {
			w.say("not yet: %s", text)
		}
		last = text
		if text == "" {
			return true
		}
		if time.Since(began) > limit {
			w.fault("not within %v: %s: %s", limit, what, text)
			return false
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// quietPoint repairs all faults, waits until all agree, and compares everything.
func (w *World) quietPoint() {
	w.now("all is made well")
	w.end(func(event) bool { return true })
	w.heal()
	w.troubled()
	w.thaw()
	for _, m := range w.members {
		if !m.running() {
			if err := m.start(); err != nil {
				w.fault("start %s: %v", m.name, err)
				return
			}
		}
	}
	w.end(func(event) bool { return true }) // also what belongs to faults that have just ended
	w.thaw()
	time.Sleep(35 * time.Second) // for clocks to be measured and spools to be drained
	if !w.settle() {
		return
	}
	w.thaw()
	w.pass(time.Now().Add(65 * time.Second)) // a failed packet filter is tried again each minute
	if !w.settle() || w.failed() {
		return
	}
	w.quiet++
	w.signSet()
	w.hallow()
	time.Sleep(enforceQuiet)
	synctest.Wait()
	for _, m := range w.members {
		w.book.compare(m, m.agent.Load())
		w.book.compareAllows(m, m.agent.Load())
		w.compareAnswers(m, m.agent.Load())
		w.compareKernel(m)
		w.compareFail2ban(m)
	}
	w.book.mu.Lock()
	w.book.quiet = time.Now()
	w.book.mu.Unlock()
	w.bounds()
	if w.quiet%4 == 0 && !w.failed() {
		w.compareConductor()
	}
	w.book.forget()
}

// signSet adds to the trace which bans all agree on. It leaves out exact times and bans that end about now, because those
// depend on the scheduler.
func (w *World) signSet() {
	var all []string
	soon := store.At(time.Now().Add(time.Minute))
	for _, e := range w.members[0].agent.Load().Set().List(store.Query{}) {
		for _, r := range e.Records {
			if r.Until > soon {
				all = append(all, e.Prefix.String()+" "+r.Origin+" "+r.Jail)
			}
		}
	}
	slices.Sort(all)
	w.sign("%q", slices.Compact(all))
}

// compareKernel compares a packet filter with the effective set.
func (w *World) compareKernel(m *Member) {
	set := m.agent.Load().Set()
	if frozen, by := set.Frozen(); frozen {
		w.fault("%s is frozen by %s, and all was thawed", m.name, by)
		return
	}
	var all, must, have, late netipx.IPSetBuilder
	soon := store.At(m.now().Add(clockSlack))
	for e := range set.EffectiveParts() {
		for _, p := range e.Pieces {
			all.AddPrefix(p)
			if e.Until > soon {
				must.AddPrefix(p)
			}
		}
	}
	for from, e := range m.kernel.elements() {
		r := netipx.IPRangeFrom(from, e.to)
		have.AddRange(r)
		if e.until.IsZero() || time.Until(e.until) > clockSlack {
			late.AddRange(r)
		}
	}
	want, held := ipset(&all), ipset(&have)
	must.RemoveSet(held)
	if missing := ipset(&must); len(missing.Prefixes()) > 0 {
		w.fault("the packet filter of %s lacks %v", m.name, missing.Prefixes())
	}
	late.RemoveSet(want)
	if extra := ipset(&late); len(extra.Prefixes()) > 0 {
		w.fault("the packet filter of %s holds %v, which nothing bans", m.name, extra.Prefixes())
	}
}

// compareAnswers checks what an agent answers about itself while nothing is wrong.
func (w *World) compareAnswers(m *Member, a *mesh.Agent) {
	s, err := a.Status(context.Background())
	if err != nil {
		w.fault("status at %s: %v", m.name, err)
		return
	}
	if !s.InSync || s.Unknown > 0 || s.Frozen || s.Members.Alive != len(w.members) || s.Spooled > 0 || s.Store != nil && !s.Store.Healthy {
		w.fault("%s answers that it is not well, and all is: in sync %t, unknown %d, frozen %t, alive %d of %d, spooled %d, store %+v",
			m.name, s.InSync, s.Unknown, s.Frozen, s.Members.Alive, len(w.members), s.Spooled, s.Store)
	}
	if d := time.Duration(s.SkewMS) * time.Millisecond; d.Abs() > clockSlack {
		w.fault("%s answers that its clock is off by %v, and it is right", m.name, d)
	}
	live := a.Set().List(store.Query{})
	if s.Bans.Live != len(live) {
		w.fault("%s answers that %d prefixes are banned, and lists %d", m.name, s.Bans.Live, len(live))
	}
	for i, e := range live {
		if i%7 != int(m.runs.Load())%7 {
			continue
		}
		why, err := a.Why(context.Background(), e.Prefix)
		if err != nil || !why.Banned || why.Effective != e.Effective {
			w.fault("%s lists %v (effective: %t) and answers to why: %+v, %v", m.name, e.Prefix, e.Effective, why, err)
		}
	}
}

// compareFail2ban checks that no fail2ban still holds a lifted ban.
func (w *World) compareFail2ban(m *Member) {
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	m.watchdog.mu.Lock()
	defer m.watchdog.mu.Unlock()
	for k, s := range m.watchdog.bans {
		if time.Until(s.start.Add(s.life)) < clockSlack {
			continue
		}
		for o, f := range w.book.facts {
			if o.origin == m.name && o.jail == k.jail && o.prefix.Addr() == k.addr && near(o.start, store.At(s.start)) &&
				f.lifted && !f.doubt && time.Since(f.touched) > 2*time.Minute {
				w.fault("the fail2ban of %s holds %s, which was lifted at %s at %v", m.name, show(o), f.by, f.touched.Sub(w.began))
			}
		}
	}
}

func ipset(b *netipx.IPSetBuilder) *netipx.IPSet {
	s, err := b.IPSet()
	if err != nil {
		return new(netipx.IPSet)
	}
	return s
}

// bounds checks that the sets have no more records than there are facts to record.
func (w *World) bounds() {
	w.book.mu.Lock()
	facts := len(w.book.facts)
	w.book.mu.Unlock()
	if n := runtime.NumGoroutine(); n > mostGoroutines*(len(w.members)+1) {
		w.fault("%d goroutines for %d agents at rest", n, len(w.members))
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	if most := uint64(mostHeap * (len(w.members) + 1)); memory.HeapAlloc > most {
		w.fault("%d agents with %d bans take %d bytes of memory", len(w.members), facts, memory.HeapAlloc)
	}
	w.say("%d goroutines, %d bytes of memory, %d bans", runtime.NumGoroutine(), memory.HeapAlloc, facts)
	for _, m := range w.members {
		set := m.agent.Load().Set()
		// Each offence has a ban and a lift, and each of two leaders and their predecessors may have placed it.
		most := 6*facts + 8*len(w.members)*len(w.members) + 300
		if c := set.Counts(); c.Records > most {
			w.fault("%s keeps %d records for %d bans of the last hours", m.name, c.Records, facts)
		}
		if bad := set.Unreadable(); len(bad) > 0 {
			w.fault("%s holds records that cannot be read: %+v", m.name, bad)
		}
		if err := set.Health(); err != nil {
			w.fault("%s: the disk works, and the store says %v", m.name, err)
		}
		if n := len(set.Notices()); n > facts {
			w.fault("%s keeps %d notices for its fail2ban, of %d bans", m.name, n, facts)
		}
		if fi, err := os.Stat(m.path()); err != nil {
			w.fault("%v", err)
		} else if limit := int64(1<<20 + 4<<10*most); fi.Size() > limit {
			w.fault("the store of %s has %d bytes, with %d records", m.name, fi.Size(), set.Counts().Records)
		}
		if files, err := os.ReadDir(m.dir); err != nil || len(files) > mostFiles {
			w.fault("%s keeps %d files: %v, %v", m.name, len(files), files, err)
		}
		if n, _ := m.spool.Len(); n > 0 {
			w.fault("%s: %d calls still wait in the spool", m.name, n)
		}
	}
}

// whyThere tells what the members make of addresses of the tenant.
func (w *World) whyThere(extra []netip.Prefix) string {
	var out []string
	for _, m := range w.members {
		set := m.agent.Load().Set()
		placed := set.PlacedBy(func(_ string, p netip.Prefix) bool { return slices.Contains(extra, p) })
		for _, p := range extra {
			e := placed[p]
			out = append(out, fmt.Sprintf("%s: %v %+v, placed %v to %v", m.name, p, set.Gone(p), e.Start.Time().UTC(), e.Until.Time().UTC()))
		}
	}
	return strings.Join(out, "; ")
}

// compareConductor waits for the committer, and compares the tenant with the effective set.
func (w *World) compareConductor() {
	w.now("wait for the conductor")
	w.console.set(func(c *console) { c.lose, c.refuse = 0, 0 })
	compared := false
	w.until(12*time.Minute, "the tenant holds what is effective", func() string {
		for _, m := range w.members {
			m.watchdog.pass()
		}
		set := w.members[0].agent.Load().Set()
		s, err := w.members[0].agent.Load().Status(context.Background())
		if err != nil || s.Commit.Held > 0 {
			return ""
		}
		var must, all netipx.IPSetBuilder
		soon := store.At(time.Now().Add(7 * time.Minute)) // an expiry may wait five minutes for other changes
		for e := range set.EffectiveParts() {
			for _, p := range e.Pieces {
				all.AddPrefix(p)
				if e.Until > soon {
					must.AddPrefix(p)
				}
			}
		}
		var have netipx.IPSetBuilder
		for _, p := range w.console.addresses() {
			have.AddPrefix(p)
		}
		held := ipset(&have)
		must.RemoveSet(held)
		if missing := ipset(&must).Prefixes(); len(missing) > 0 {
			return fmt.Sprintf("it lacks %v; the commit is %s: %s", missing, s.Commit.State, s.Commit.Detail)
		}
		have.RemoveSet(ipset(&all))
		w.console.set(func(c *console) {
			for p := range c.foreign {
				have.RemovePrefix(p)
			}
		})
		have.RemovePrefix(netip.MustParsePrefix("198.18.0.0/24"))
		if extra := ipset(&have).Prefixes(); len(extra) > 0 {
			return fmt.Sprintf("it holds %v, which nothing bans (%s); the commit is %s: %s", extra, w.whyThere(extra), s.Commit.State, s.Commit.Detail)
		}
		compared = true
		return ""
	})
	if compared {
		w.book.compareAllowsAt(w.console)
	}
}
