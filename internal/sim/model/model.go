// Package model is a reference model of the replicated set, written from its definition and not from the store. Operations
// are immutable, and a member is the set of operations that it knows. What is banned, allowed, frozen, blocked and placed is
// computed from that set each time. The model forgets nothing, optimises nothing, and shares only public names with the
// store.
//
// The tests run random histories over real stores and the model side by side, and compare everything visible. The package has
// no goroutines and no locks.
package model

import (
	"cmp"
	"net/netip"
	"slices"

	"banmesh/store"
)

// mask is a set of addresses. Histories use 64 addresses of each family, so that two words hold the addresses of any prefix.
type mask [2]uint64

func (m mask) or(o mask) mask      { return mask{m[0] | o[0], m[1] | o[1]} }
func (m mask) without(o mask) mask { return mask{m[0] &^ o[0], m[1] &^ o[1]} }

var (
	space4 = netip.MustParseAddr("203.0.113.0").As4()
	space6 = netip.MustParseAddr("2001:db8::").As16()
)

// maskOf returns the addresses of a prefix within those (space4, space6), and whether the prefix lies within it.
func maskOf(p netip.Prefix) (mask, bool) {
	a := p.Addr()
	family, last, host := 0, byte(0), 32-p.Bits()
	if a.Is4() {
		b := a.As4()
		last, b[3] = b[3], 0
		if b != space4 {
			return mask{}, false
		}
	} else {
		b := a.As16()
		last, b[15] = b[15], 0
		if b != space6 {
			return mask{}, false
		}
		family, host = 1, 128-p.Bits()
	}
	if host > 6 || last > 63 {
		return mask{}, false
	}
	var m mask
	for i := range 1 << host {
		m[family] |= 1 << (int(last) + i)
	}
	return m, true
}

// offence is what a Lift removes. It stays the same while its start, which fail2ban rounds, is within a second. An offence of
// a manual ban has a tag instead, because nobody repeats such a ban with the same start.
type offence struct {
	origin, jail string
	prefix       netip.Prefix
	start        store.Millis
	tag          int
}

func (o offence) same(p offence) bool {
	d := o.start - p.start
	return o.origin == p.origin && o.jail == p.jail && o.prefix == p.prefix && o.tag == p.tag && (o.tag != 0 || -1000 <= d && d <= 1000)
}

// op is one operation: a record, and the dots of its log.
type op struct {
	id          int
	log         store.LogID
	first, last uint64 // numbers taken by the call; operations of one call share them
	kind        store.Kind
	prefix      netip.Prefix
	until       store.Millis
	offence     offence      // Ban
	lifts       []offence    // Lift: what it names
	perhaps     []offence    // Lift: what its writer may have forgotten, so that it need not name it
	gone        []int        // the operations that it replaces or lifts by dot
	covers      []int        // what it may take out too: a withdrawal says what earlier ones said, as far as it fits
	at          store.Millis // when it was given, by its writer's clock
	replaces    bool         // gone are own ones of the same key: it replaces them whether or not its origin counts
	prefixes    []netip.Prefix
	kept        store.Millis // NeverBan: until when it keeps older ones from counting, which may have ended later
	target      string       // Block
}

func (o *op) origin() string { return o.log.Origin }

// outlasted reports whether of two leases of one member the other is left. A writer makes a lease outlast those that it knows, but
// one that has lost its store does not know them all, and its clock may have been ahead.
func (o *op) outlasted(by *op) bool {
	return cmp.Or(cmp.Compare(o.kept, by.kept), cmp.Compare(o.last, by.last), cmp.Compare(o.log.Epoch, by.log.Epoch)) < 0
}

// set is what one member knows: operations by id, nil for unknown ones.
type set []*op

func (s *set) add(o *op) {
	for len(*s) <= o.id {
		*s = append(*s, nil)
	}
	(*s)[o.id] = o
}

func (s set) has(id int) bool { return id < len(s) && s[id] != nil }

// retained returns how long an operation must be remembered: as long as it or anything that it replaced holds.
func (s set) retained(o *op) store.Millis {
	until := o.until
	for _, g := range o.gone {
		if o.replaces && s.has(g) {
			until = max(until, s.retained(s[g]))
		}
	}
	return until
}

// all yields the operations in the order in which they were made.
func (s set) all(yield func(*op) bool) {
	for _, o := range s {
		if o != nil && !yield(o) {
			return
		}
	}
}

// view is what a set of operations means at one moment.
type view struct {
	now     store.Millis
	known   set
	blocked map[string]bool
	unclear bool   // it is unknown what was withdrawn
	dead    []bool // by id: lifted by dot or replaced
	lifts   []offence
	held    []*op // live bans, also those of blocked members
	bans    []*op // live bans that count
}

// look computes a view.
func look(known set, now store.Millis) *view {
	v := &view{now: now, known: known, dead: make([]bool, len(known))}
	v.blocked = blocks(known)
	for o := range known.all {
		for _, g := range o.gone {
			switch {
			case !known.has(g):
			case known[g].kind == store.KindBlock: // see blocks
				v.dead[g] = v.dead[g] || o.origin() == known[g].origin() || o.origin() != known[g].target
			case o.replaces || !v.blocked[o.origin()]:
				v.dead[g] = true
			}
		}
		if o.kind == store.KindNeverBan {
			// A member's lease replaces its other ones that are kept no longer, whichever of them it knew.
			for p := range known.all {
				if p.kind == o.kind && p.origin() == o.origin() && p.outlasted(o) {
					v.dead[p.id] = true
				}
			}
		}
		if !v.blocked[o.origin()] {
			v.lifts = append(v.lifts, o.lifts...)
		}
	}
	v.unclear = unclear(known, now)
	for o := range known.all {
		if o.kind == store.KindBan && o.until > now && !v.dead[o.id] && !v.lifted(o.offence) {
			v.held = append(v.held, o)
			if !v.blocked[o.origin()] {
				v.bans = append(v.bans, o)
			}
		}
	}
	return v
}

// unclear reports whether a known withdrawal may cover something that its author is not known to have withdrawn.
func unclear(known set, now store.Millis) bool {
	var own map[int]bool // what its author is known to have taken back or replaced
	for o := range known.all {
		if len(o.covers) == 0 {
			continue
		}
		if own == nil {
			own = map[int]bool{}
			for p := range known.all {
				for _, g := range p.gone {
					if known.has(g) && known[g].origin() == p.origin() {
						own[g] = true
					}
				}
			}
		}
		for _, g := range o.covers {
			if known.has(g) && known[g].until > now && !own[g] {
				return true
			}
		}
	}
	return false
}

// blocks returns the members whose operations do not count. A Block stands until it is lifted by its writer or by a member
// that it does not block, even a blocked one. A standing Block counts unless a third member, neither its writer nor its
// target, has a standing Block against its writer. So members that know the same operations agree, whoever is blocked.
func blocks(known set) map[string]bool {
	type pair struct{ by, of string }
	standing := map[pair]bool{}
	for b := range known.all {
		if b.kind != store.KindBlock {
			continue
		}
		lifted := false
		for l := range known.all {
			lifted = lifted || slices.Contains(l.gone, b.id) && (l.origin() == b.origin() || l.origin() != b.target)
		}
		if !lifted {
			standing[pair{b.origin(), b.target}] = true
		}
	}
	var blocked map[string]bool
	for b := range standing {
		third := false
		for c := range standing {
			third = third || c.of == b.by && c.by != b.of && c.by != b.by
		}
		if !third {
			if blocked == nil {
				blocked = map[string]bool{}
			}
			blocked[b.of] = true
		}
	}
	return blocked
}

// mute reports whether a member's operations do not count, or may not.
func (v *view) mute(name string) bool { return v.unclear || v.blocked[name] }

func (v *view) lifted(f offence) bool {
	for _, l := range v.lifts {
		if l.same(f) {
			return true
		}
	}
	return false
}

// until returns when the last live ban of a prefix ends, 0 if it is not banned.
func (v *view) until(p netip.Prefix) (until store.Millis) {
	for _, b := range v.bans {
		if b.prefix == p {
			until = max(until, b.until)
		}
	}
	return until
}

// who identifies what one member says about a prefix in one jail.
type who struct {
	prefix       netip.Prefix
	origin, jail string
}

// byWho returns when the last live ban of each ends.
func (v *view) byWho() map[who]store.Millis {
	m := map[who]store.Millis{}
	for _, b := range v.bans {
		k := who{b.prefix, b.origin(), b.offence.jail}
		m[k] = max(m[k], b.until)
	}
	return m
}

// allows returns the live allows that count.
func (v *view) allows() (out []*op) {
	for o := range v.known.all {
		if o.kind == store.KindAllow && o.until > v.now && !v.dead[o.id] && !v.blocked[o.origin()] {
			out = append(out, o)
		}
	}
	return out
}

// neverBans returns the counting lease of each member: the one with the latest end.
func (v *view) neverBans() map[string]*op {
	m := map[string]*op{}
	for o := range v.known.all {
		if o.kind == store.KindNeverBan && o.until > v.now && !v.dead[o.id] && !v.blocked[o.origin()] {
			if have := m[o.origin()]; have == nil || have.until < o.until {
				m[o.origin()] = o
			}
		}
	}
	return m
}

// exemptions returns every address that must not be blocked.
func (v *view) exemptions() (m mask) {
	add := func(p netip.Prefix) {
		a, _ := maskOf(p)
		m = m.or(a)
	}
	for _, o := range v.allows() {
		add(o.prefix)
	}
	for _, o := range v.neverBans() {
		for _, p := range o.prefixes {
			add(p)
		}
	}
	return m
}

// effective returns what remains of each prefix banned by a counting ban, without fully exempt ones.
func (v *view) effective(counts func(*op) bool) map[netip.Prefix]mask {
	exemptions := v.exemptions()
	out := map[netip.Prefix]mask{}
	for _, b := range v.bans {
		if counts(b) {
			m, _ := maskOf(b.prefix)
			out[b.prefix] = m.without(exemptions)
		}
	}
	return out
}

// frozen returns the first member, by name, whose freeze holds; "" for none.
func (v *view) frozen() (by string) {
	for o := range v.known.all {
		if o.kind == store.KindFreeze && !v.dead[o.id] && !v.blocked[o.origin()] && (by == "" || o.origin() < by) {
			by = o.origin()
		}
	}
	return by
}

// placed returns the last end of each prefix that was placed and not seen gone. Any member may have placed it. A prefix that
// a blocked member placed and withdrew itself may be either: its log says that it is gone, as does a lift, which does not
// count.
func (v *view) placed() (m map[netip.Prefix]store.Millis, either map[netip.Prefix]bool) {
	m, either = map[netip.Prefix]store.Millis{}, map[netip.Prefix]bool{}
	for o := range v.known.all {
		if o.kind == store.KindPlaced && o.until > v.now && !v.dead[o.id] {
			m[o.prefix] = max(m[o.prefix], o.until)
			if v.blocked[o.origin()] {
				either[o.prefix] = true
			}
		}
	}
	return m, either
}

// live returns the known operations of a kind that are neither over nor dead and that fit.
func (v *view) live(kind store.Kind, fits func(*op) bool) (ids []int) {
	for o := range v.known.all {
		if o.kind == kind && o.until > v.now && !v.dead[o.id] && fits(o) {
			ids = append(ids, o.id)
		}
	}
	return ids
}
