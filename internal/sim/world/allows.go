package world

import (
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh"
	"banmesh/store"
)

// allowed identifies an allow: an operator's word at one member about one prefix.
type allowed struct {
	origin string
	prefix netip.Prefix
}

// allowsAt returns the allows that an agent holds, and how long each lasts.
func allowsAt(a *mesh.Agent) map[allowed]store.Millis {
	out := make(map[allowed]store.Millis)
	for _, e := range a.Set().Allows() {
		k := allowed{e.Origin, e.Prefix}
		out[k] = max(out[k], e.Until)
	}
	return out
}

// allow records that an agent has acknowledged an allow; before is what it held of it, 0 for nothing.
func (b *book) allow(m *Member, a *mesh.Agent, p netip.Prefix, before store.Millis) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := allowed{m.name, p}
	until, held := allowsAt(a)[k]
	if !held {
		if b.w.calmFor(time.Minute) && !b.w.stepped {
			b.w.fault("%s acknowledged the allow of %v and does not hold it", m.name, p)
		}
		b.unsure(k)
		return
	}
	f := b.allows[k]
	if f == nil || f.lifted && before == 0 {
		f = &fact{}
		b.allows[k] = f
	}
	f.doubt = f.doubt || f.lifted // it was dropped where this member has not heard of yet: the longer one may be the one that goes
	// A shorter one replaces a longer one.
	f.until, f.by, f.touched = until, m.name, time.Now()
}

// dropped records that an agent has acknowledged dropping the allows of a prefix that it had seen.
func (b *book) dropped(m *Member, p netip.Prefix, seen map[allowed]store.Millis) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, until := range seen {
		if k.prefix != p {
			continue
		}
		f := b.allows[k]
		if f == nil {
			f = &fact{until: until}
			b.allows[k] = f
		}
		f.doubt = f.doubt || f.until > until // a longer one has not arrived there yet
		f.lifted, f.by, f.touched = true, m.name, time.Now()
	}
}

// unsure records that the outcome of an allow is unknown. The caller holds the lock.
func (b *book) unsure(k allowed) {
	if f := b.allows[k]; f != nil {
		f.doubt = true
		return
	}
	b.allows[k] = &fact{until: store.At(time.Now().Add(24 * time.Hour)), doubt: true}
}

func (b *book) unsureAllows(origin string, p netip.Prefix) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if origin != "" {
		b.unsure(allowed{origin, p})
		return
	}
	for k := range b.allows {
		if k.prefix == p {
			b.unsure(k)
		}
	}
}

// standing returns what must be allowed everywhere, in the order of addresses. The caller holds the lock.
func (b *book) standing() (out []netip.Prefix) {
	soon := store.At(time.Now().Add(clockSlack))
	for k, f := range b.allows {
		if !f.doubt && !f.lifted && f.until > soon {
			out = append(out, k.prefix)
		}
	}
	slices.SortFunc(out, func(x, y netip.Prefix) int { return x.Addr().Compare(y.Addr()) })
	return slices.Compact(out)
}

// compareAllows checks one agent's allows, and that neither its packet filter nor the conductor blocks what is allowed.
func (b *book) compareAllows(m *Member, a *mesh.Agent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	have := allowsAt(a)
	soon := store.At(time.Now().Add(clockSlack))
	for k, f := range b.allows {
		until, held := have[k]
		switch {
		case f.doubt:
		case f.lifted && held:
			b.w.fault("%s shows the allow of %v by %s, which was dropped at %s at %v", m.name, k.prefix, k.origin, f.by, f.touched.Sub(b.w.began))
		case !f.lifted && f.until > soon && until < f.until-1000:
			b.w.fault("%s has lost the allow of %v by %s until %v, acknowledged at %v", m.name, k.prefix, k.origin, f.until.Time().UTC(), f.touched.Sub(b.w.began))
		}
	}
	inForce := m.kernel.elements()
	for _, p := range b.standing() {
		for from, e := range inForce {
			if !p.Addr().Less(from) && !e.to.Less(p.Addr()) {
				b.w.fault("the packet filter of %s blocks %v, which is allowed", m.name, p)
			}
		}
	}
}

// compareAllowsAt checks that the conductor blocks nothing that is allowed.
func (b *book) compareAllowsAt(c *console) {
	b.mu.Lock()
	defer b.mu.Unlock()
	blocked := c.addresses()
	for _, p := range b.standing() {
		for _, t := range blocked {
			if t.Overlaps(p) {
				b.w.fault("the tenant holds %v, although %v is allowed", t, p)
			}
		}
	}
}
