package warning

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"banmesh/internal/shell"
	"banmesh/store"
)

// Lifts counts which other routers took back what this one wrote in the last hour: bans that they lifted, allow entries that
// they removed.
type Lifts struct {
	mu    sync.Mutex
	of    map[string]map[int64]takenBack // by name, by minute
	small map[int64]takenBack            // by minute, of names that there is no room for
}

type takenBack struct{ bans, allows int }

func (t takenBack) plus(o takenBack) takenBack {
	return takenBack{t.bans + o.bans, t.allows + o.allows}
}

const (
	liftsFor = time.Hour
	// manyLifts is from how many bans on status says so: an operator lifts a few. An allow entry is rarely removed elsewhere
	// than where it was made, and one alone can protect much, so that each is told.
	manyLifts = 10
	// fewLifts are enough where they leave this router with fewer bans than they took.
	fewLifts   = 3
	maxLifters = 64
)

// Note takes in a change of the set.
func (b *Lifts) Note(self string, c store.Change, now time.Time) {
	minute := now.Unix() / 60
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range c.Events {
		// Only what others took back of this router's; what nobody did has ended by itself.
		if e.Origin != self || e.By == self || e.By == "" {
			continue
		}
		var one takenBack
		switch e.Kind {
		case store.EventLift:
			one.bans = 1
		case store.EventDisallow:
			one.allows = 1
		default:
			continue
		}
		minutes := b.of[e.By]
		if minutes == nil {
			// Names cost nothing to a holder of the key: beyond so many they are counted together, and none is
			// kept.
			if b.forget(now); len(b.of) >= maxLifters {
				if b.small == nil {
					b.small = make(map[int64]takenBack)
				}
				b.small[minute] = b.small[minute].plus(one)
				continue
			}
			if b.of == nil {
				b.of = make(map[string]map[int64]takenBack)
			}
			minutes = make(map[int64]takenBack)
			b.of[e.By] = minutes
		}
		minutes[minute] = minutes[minute].plus(one)
	}
}

// forget drops what is over an hour ago. Called with the lock held.
func (b *Lifts) forget(now time.Time) {
	first, last := now.Add(-liftsFor).Unix()/60, now.Unix()/60
	// Also what lies ahead, after the clock was set back: it would stay for as long as the clock needs to get
	// there.
	past := func(m int64, _ takenBack) bool { return m < first || m > last }
	for name, minutes := range b.of {
		if maps.DeleteFunc(minutes, past); len(minutes) == 0 {
			delete(b.of, name)
		}
	}
	maps.DeleteFunc(b.small, past)
}

// Warnings names the routers that lifted many bans, or most of them, or removed an allow entry; left is how many bans this router
// has.
func (b *Lifts) Warnings(now time.Time, left int) (w []string) {
	many := func(lifted int) bool { return lifted > manyLifts || lifted >= fewLifts && lifted > left }
	b.mu.Lock()
	defer b.mu.Unlock()
	b.forget(now)
	rest := sumOf(b.small) // what names did that lifted a few each: names cost nothing to a holder of the key
	var by []string        // the names that removed allow entries
	allows := rest.allows
	for name, minutes := range b.of {
		n := sumOf(minutes)
		if many(n.bans) {
			w = append(w, fmt.Sprintf("%d of this router's bans were lifted by %s in the last hour: if that is not in order, `banmesh revoke --origin %s --block`", n.bans, name, shell.Quote(name)))
		} else {
			rest.bans += n.bans
		}
		if n.allows > 0 {
			allows += n.allows
			by = append(by, name)
		}
	}
	slices.Sort(w)
	w = Few(w, "routers lifted many of this router's bans: `banmesh monitor` names them; if they are not yours, somebody has the gossip key")
	if many(rest.bans) {
		w = append(w, fmt.Sprintf("%d of this router's bans were lifted in the last hour by others, a few each: `banmesh monitor` names them; if they are not your routers, somebody has the gossip key", rest.bans))
	}
	if allows > 0 {
		slices.Sort(by)
		names := strings.Join(by[:min(len(by), 3)], ", ")
		if len(by) > 3 {
			names += " and others"
		}
		w = append(w, fmt.Sprintf("%d of this router's allow entries were removed by %s in the last hour: if that is not in order, `banmesh revoke --origin %s --block` brings back what it removed", allows, names, shell.Quote(by[0])))
	}
	slices.Sort(w)
	return w
}

func sumOf(minutes map[int64]takenBack) (sum takenBack) {
	for _, n := range minutes {
		sum = sum.plus(n)
	}
	return sum
}
