package world

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"banmesh/mesh"
	"banmesh/mesh/control"
	"banmesh/store"
)

// book records what was requested and answered: which bans must exist, and which may never come back. It does not depend on
// how the store works: what an agent wrote is read from that agent once, right after its answer.
type book struct {
	w      *World
	mu     sync.Mutex
	facts  map[offence]*fact
	allows map[allowed]*fact
	quiet  time.Time // when all last agreed
}

// offence identifies a ban.
type offence struct {
	origin, jail string
	prefix       netip.Prefix
	start        store.Millis
}

type fact struct {
	until   store.Millis
	lifted  bool
	doubt   bool      // either is possible: a call was cut short, or a disk was lost with the only copy
	by      string    // whose disk the last change was written to first
	touched time.Time // when it was written
}

func newBook(w *World) *book {
	return &book{w: w, facts: make(map[offence]*fact), allows: make(map[allowed]*fact), quiet: time.Now()}
}

// held returns the records of one prefix at an agent.
func held(a *mesh.Agent, p netip.Prefix) map[offence]store.Millis {
	out := make(map[offence]store.Millis)
	for _, e := range a.Set().List(store.Query{Prefix: p}) {
		if e.Prefix != p {
			continue
		}
		for _, r := range e.Records {
			out[offence{r.Origin, r.Jail, p, r.Start}] = r.Until
		}
	}
	return out
}

// banned records that an agent has acknowledged a ban of its own, with the lock held.
func (b *book) banned(m *Member, a *mesh.Agent, jail string, p netip.Prefix) bool {
	found := false
	own := held(a, p)
	maps.DeleteFunc(own, func(o offence, _ store.Millis) bool { return o.origin != m.name || o.jail != jail })
	// A ban that is given while an older one is live carries that one's end and takes its place: whoever lifts it lifts both.
	for o, f := range b.facts {
		if _, still := own[o]; still || len(own) == 0 || f.lifted || o.origin != m.name || o.jail != jail || o.prefix != p {
			continue
		}
		if !f.doubt {
			for o := range own {
				own[o] = max(own[o], f.until)
			}
		}
		delete(b.facts, o)
	}
	for o, until := range own {
		found = true
		f := b.facts[o]
		if f == nil {
			f = &fact{}
			b.facts[o] = f
		}
		if f.lifted { // elsewhere and not known here yet, or here
			if !f.doubt && f.by == m.name {
				b.w.fault("%s took in %v, which was lifted there", m.name, show(o))
			}
			continue
		}
		f.until, f.by, f.touched = max(f.until, until), m.name, time.Now()
	}
	return found
}

// lifted records that an agent has acknowledged lifting what it had seen.
func (b *book) lifted(m *Member, seen map[offence]store.Millis) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for o, until := range seen {
		f := b.facts[o]
		if f == nil {
			f = &fact{until: until}
			b.facts[o] = f
		}
		f.lifted, f.by, f.touched = true, m.name, time.Now()
	}
}

// doubtful records that the outcome of a call is unknown.
func (b *book) doubtful(seen map[offence]store.Millis) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for o := range seen {
		if f := b.facts[o]; f != nil {
			f.doubt = true
		}
	}
}

// lostDisk records that a disk was wiped or restored: what was written there since all last agreed may be lost.
func (b *book) lostDisk(m *Member) {
	b.mu.Lock()
	defer b.mu.Unlock()
	lose := func(f *fact) { f.doubt = f.doubt || f.by == m.name && f.touched.After(b.quiet.Add(-time.Minute)) }
	for _, f := range b.facts {
		lose(f)
	}
	for _, f := range b.allows {
		lose(f)
	}
}

// forget drops what ended long ago.
func (b *book) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := store.At(time.Now().Add(-2 * time.Hour))
	for o, f := range b.facts {
		if f.until < now {
			delete(b.facts, o)
		}
	}
	maps.DeleteFunc(b.allows, func(_ allowed, f *fact) bool { return f.until < now })
}

// compare checks one agent's set, while nothing is wrong.
func (b *book) compare(m *Member, a *mesh.Agent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	type key struct {
		origin, jail string
		prefix       netip.Prefix
	}
	have := make(map[key][]offence)
	untils := make(map[offence]store.Millis)
	for _, e := range a.Set().List(store.Query{}) {
		for _, r := range e.Records {
			k := key{r.Origin, r.Jail, e.Prefix}
			o := offence{r.Origin, r.Jail, e.Prefix, r.Start}
			have[k] = append(have[k], o)
			untils[o] = r.Until
			if r.Start > store.At(time.Now().Add(clockSlack)) && !b.w.guessed(r.Origin) {
				b.w.fault("%s shows %v, which starts in the future", m.name, show(o))
			}
		}
	}
	soon := store.At(time.Now().Add(clockSlack))
	for o, f := range b.facts {
		if f.doubt {
			continue
		}
		there := false
		for _, h := range have[key{o.origin, o.jail, o.prefix}] {
			same := near(h.start, o.start)
			if f.lifted && same {
				b.w.fault("%s shows %v until %v, which was lifted at %s at %v", m.name, show(o), untils[h].Time().UTC(), f.by, f.touched.Sub(b.w.began))
			}
			there = there || untils[h] >= f.until-1000
		}
		if !f.lifted && !there && f.until > soon {
			b.w.fault("%s has lost %v until %v, acknowledged by %s at %v", m.name, show(o), f.until.Time().UTC(), f.by, f.touched.Sub(b.w.began))
		}
	}
}

func show(o offence) string {
	return strings.Join([]string{o.origin, o.jail, o.prefix.String(), o.start.Time().UTC().String()}, " ")
}

// clockSlack bounds how far the clocks of a simulation drift from each other and from the true time.
const clockSlack = 45 * time.Second

// spooled records that a hook's call waits in the spool: it may take effect now or later.
func (w *World) spooled(m *Member, c control.HookCall) {
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	for o, f := range w.book.facts {
		if o.origin == m.name && o.jail == c.Jail && slices.Contains(c.Prefixes, o.prefix) {
			f.doubt = true
		}
	}
}

// afterHook records that an agent has answered a hook.
func (w *World) afterHook(m *Member, a *mesh.Agent, c control.HookCall, reply control.HookReply) {
	if len(c.Prefixes) != 1 {
		return
	}
	w.book.mu.Lock()
	defer w.book.mu.Unlock()
	p := c.Prefixes[0]
	switch c.Event {
	case control.HookBan, control.HookProlong:
		if reply.Note != "" {
			if strings.Contains(reply.Note, "lifted") {
				w.reached("a ban did not count: its offence is lifted")
			} else {
				w.reached("a ban did not count: it starts in the future")
			}
			return
		}
		left := time.Duration(int64(c.Until)-time.Now().UnixMilli()) * time.Millisecond
		// A ban lasts no longer than max_duration from its start, however often it is prolonged.
		left = min(left, time.Until(time.UnixMilli(int64(c.Start)).Add(w.cfg.MaxDuration)))
		// A replay from when the clock was ahead has ended for an agent that knows it.
		left -= max(0, m.watchdog.off(c.Jail, p.Addr()))
		if !w.book.banned(m, a, c.Jail, p) && left > clockSlack && w.calmFor(time.Minute) {
			w.fault("%s acknowledged the %s of %v in %s for %v and does not hold it", m.name, c.Event, p, c.Jail, left)
		}
	case control.HookUnban:
		if int64(c.At) >= int64(c.Until)-2000 {
			return // the end of the ban by this router's clock: it lifts nothing, even where that clock is wrong
		}
		for o, f := range w.book.facts {
			if o.origin != m.name || o.jail != c.Jail || o.prefix != p || f.lifted {
				continue
			}
			if _, still := held(a, p)[o]; still {
				f.doubt = true
				continue
			}
			f.lifted, f.by, f.touched = true, m.name, time.Now()
		}
	}
}

// near reports whether two starts can belong to the same offence.
func near(a, b store.Millis) bool { return a-b <= 1000 && b-a <= 1000 }
