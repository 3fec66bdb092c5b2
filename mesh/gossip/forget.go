package gossip

import (
	"slices"
	"time"
)

// Forget removes members that an operator says are not coming back: those that were last heard of before the given time, even
// if their failure is noticed later. A live member refutes it, and one that returns is a member as before. It reports which
// members it has removed.
func (m *Mesh) Forget(gone map[string]time.Time) (forgotten []string) {
	for name, at := range gone {
		if name == m.cfg.Name {
			continue
		}
		addr, dropped := m.table.drop(name, at)
		if m.known.drop(name, addr, at) || dropped {
			forgotten = append(forgotten, name)
		}
	}
	slices.Sort(forgotten)
	return forgotten
}

// Remembers says whether a member of that name is looked for, including one known only from an earlier run.
func (m *Mesh) Remembers(name string) bool {
	m.known.mu.Lock()
	defer m.known.mu.Unlock()
	return m.known.members[name] != nil
}

// drop forgets a member that is gone and was last heard of before the given time.
func (t *table) drop(name string, at time.Time) (addr string, dropped bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil || p.state == Alive || p.seen.After(at) {
		return "", false
	}
	delete(t.all, name)
	t.refresh()
	return p.addr, true
}

// drop forgets a member last seen before the given time, and the address by which an operator joined it. A live member has been
// seen since.
func (k *known) drop(name, addr string, at time.Time) bool {
	if _, alive := k.m.table.addr(name); alive {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.members[name]
	if e == nil || e.Seen > at.Unix() {
		return false
	}
	delete(k.members, name)
	k.seeds = slices.DeleteFunc(k.seeds, func(s string) bool { return s == addr || s == e.Addr })
	k.touch()
	return true
}
