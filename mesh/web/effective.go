package web

import (
	"net/netip"
	"slices"
	"sync"
	"time"

	"banmesh/store"
)

// maxRegions is how many changed prefixes are read one by one. After more changes the whole set is read.
const maxRegions = 2048

// effective is the effective set, sorted and kept up to date by its changes: reading a hundred thousand entries again takes
// ten times longer than a bouncer may wait.
type effective struct {
	set       replicatedSet
	now       func() time.Time
	takenJail string

	mu      sync.Mutex
	entries []entry   // shared and immutable: a new list replaces it
	read    time.Time // when the whole set was last read; zero if never
	last    time.Time // when current was last called
	revives time.Time // until then the store may let bans that had expired live again

	// Apart from mu, since changed runs under the store's lock and must not wait for a reading of the set.
	noted sync.Mutex // taken after mu
	some  map[netip.Prefix]struct{}
	all   bool
}

// changed notes a change. It does not block.
func (e *effective) changed(c store.Change) {
	e.noted.Lock()
	defer e.noted.Unlock()
	e.all = e.all || c.More > 0
	for i := range c.Events {
		if e.all {
			break
		}
		switch ev := &c.Events[i]; ev.Kind {
		case store.EventBan, store.EventExtend, store.EventLift, store.EventExpire:
			if e.some == nil {
				e.some = make(map[netip.Prefix]struct{})
			}
			e.some[ev.Prefix] = struct{}{}
			e.all = !ev.Prefix.IsValid() || len(e.some) > maxRegions
		default: // an allow affects parts of bans far around it
			e.all = feedsShow(ev.Kind)
		}
	}
}

// takeChanges takes what changed since the last call: some prefixes, or all of them if there were too many to
// note.
func (e *effective) takeChanges() (some map[netip.Prefix]struct{}, all bool) {
	e.noted.Lock()
	defer e.noted.Unlock()
	some, all = e.some, e.all
	e.some, e.all = nil, false
	return some, all
}

// revival is how long after a clock that was set back the store surely has let what had expired live again: it does so within a
// second, and without an event.
const revival = 2 * time.Second

// current returns the set as of now. Callers must not change it.
func (e *effective) current() []entry {
	e.mu.Lock()
	defer e.mu.Unlock()
	some, all := e.takeChanges() // before reading the set, so that later changes are noted again
	now := e.now()
	if now.Before(e.last) {
		e.revives = now.Add(revival)
	}
	e.last = now
	switch {
	case all || now.Before(e.revives) || now.Sub(e.read) >= 2*lookAgain:
		e.reread()
	case len(some) > 0:
		e.entries = replaced(e.entries, some, e.set, e.takenJail)
	}
	return e.entries
}

// lookAgain reads the whole set, because some changes come without an event.
func (e *effective) lookAgain() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.takeChanges()
	e.reread()
}

func (e *effective) reread() { e.read, e.entries = e.now(), read(e.set, 0, e.takenJail) }

// replaced returns the entries with some regions read again. A ban and its end change only what lies within its prefix.
func replaced(entries []entry, some map[netip.Prefix]struct{}, set replicatedSet, takenJail string) []entry {
	regions := make([]entry, 0, len(some))
	for p := range some {
		regions = append(regions, newEntry(p, 0))
	}
	slices.SortFunc(regions, entry.compare)
	out := make([]entry, 0, len(entries)+len(regions))
	for i, r := range regions {
		if i > 0 && regions[i-1].covers(r) {
			regions[i] = regions[i-1]
			continue
		}
		first := r
		first.until = store.Never // sorts first among entries of its prefix
		from, _ := slices.BinarySearchFunc(entries, first, entry.compare)
		to := from
		for to < len(entries) && r.covers(entries[to]) {
			to++
		}
		out = append(out, entries[:from]...)
		out = append(out, readIn(set, r, takenJail)...)
		entries = entries[to:]
	}
	return append(out, entries...)
}

// readIn reads what is effective within a region, sorted.
func readIn(set replicatedSet, region entry, takenJail string) []entry {
	var all []entry
	for b := range set.EffectiveIn(region.prefix()) {
		all = appendEntries(all, &b, takenJail)
	}
	// A ban that covers the region may also have pieces outside it.
	return distinct(slices.DeleteFunc(all, func(e entry) bool { return !region.covers(e) }))
}
