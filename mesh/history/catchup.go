package history

import (
	"hash/maphash"
	"slices"
	"time"

	"banmesh/store"
)

// caughtUpFor is how long the events of bans noted by a catch-up may still arrive after it.
const caughtUpFor = 10 * time.Second

// offences hashes what identifies an offence: prefix, origin, jail and start, in seconds as fail2ban rounds them.
type offences struct{ seed maphash.Seed }

func (o offences) text(s string) uint64 { return maphash.String(o.seed, s) }

// of hashes what makes two records one offence; starts count by the second because fail2ban rounds. 0 is kept
// for an empty slot.
func (o offences) of(k key, origin, jail uint64, start store.Millis) uint64 {
	h := mix(k.hi^uint64(k.bits), k.lo)
	h = mix(h^origin, jail)
	return max(1, mix(h, uint64(start/1000)))
}

// mix is the finisher of splitmix64 over two words.
func mix(a, b uint64) uint64 {
	x := a ^ (b+0x9e3779b97f4a7c15)*0xbf58476d1ce4e5b9
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// A random seed for each run: what attackers choose, such as addresses, cannot be made to collide. Nothing of it is stored.
var hashes = offences{maphash.MakeSeed()}

func hashBan(b *store.LiveBan) uint64 {
	return hashes.of(keyOf(b.Prefix), hashes.text(b.Origin), hashes.text(b.Jail), b.Start)
}

// caught holds the bans of the last catch-up.
type caught struct {
	bans  map[uint64]bool // true: noted by the catch-up, so the event may still arrive; false: noted by its event
	going bool
	till  time.Time // until when such events are expected
}

// has reports whether the catch-up has noted the ban of an event. While a catch-up is under way it also records the bans of
// other events, so that the catch-up does not note them again.
func (c *caught) has(now time.Time, e *store.Event) bool {
	if c.bans != nil && !c.going && now.After(c.till) {
		c.bans = nil
	}
	if c.bans == nil || e.Kind != store.EventBan {
		return false
	}
	hash := hashes.of(keyOf(e.Prefix), hashes.text(e.Origin), hashes.text(e.Jail), e.Start)
	noted, known := c.bans[hash]
	if c.going && !known {
		c.bans[hash] = false
	}
	return noted
}

// catchUpAtOnce is how many bans catchUp notes before it writes them.
const catchUpAtOnce = 65_536

// catchUp notes live bans that the history lacks: from before the first start, lost in a crash, or part of a bulk change. It
// notes only as many as fit, since more would push out the past and finally the bans themselves.
func (h *History) catchUp() {
	entries, _ := h.Entries()
	_, most := h.bounds()
	room := int(most) - entries
	if room <= 0 {
		return
	}
	h.mu.Lock()
	h.caught = caught{bans: make(map[uint64]bool), going: true}
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		h.caught.going, h.caught.till = false, h.cfg.Now().Add(caughtUpFor)
		h.mu.Unlock()
	}()
	for before := -1; room > 0; {
		select {
		case <-h.stop:
			return
		default:
		}
		most := min(room, catchUpAtOnce)
		known, found, err := h.catchUpSome(most)
		// Written before the next round reads the file: what it has noted is then known.
		if err == nil && found > 0 {
			err = h.flush()
		}
		if err != nil {
			h.log.Warn("the history is not compared with what is banned", "error", err)
		}
		if err != nil || found < most || known <= before { // what was noted does not stay
			return
		}
		before, room = known, room-found
	}
}

// catchUpSome notes at most that many bans. It returns how many live bans the history had before.
func (h *History) catchUpSome(most int) (had, found int, err error) {
	known, err := h.known()
	if err != nil {
		return 0, 0, err
	}
	now := h.cfg.Now()
	for b := range h.cfg.Set.LiveBans() {
		hash := hashBan(&b)
		if _, ok := slices.BinarySearch(known, hash); ok {
			had++
			continue
		}
		// The loop goes on for the sake of had; these are left to the next round.
		if found == most {
			continue
		}
		h.mu.Lock()
		if _, ok := h.caught.bans[hash]; !ok {
			found++
			h.caught.bans[hash] = true
			h.add(store.At(now), &store.Event{
				Kind: store.EventBan, Prefix: b.Prefix, Origin: b.Origin, Jail: b.Jail, Start: b.Start, Until: b.Until, Failures: b.Failures, Text: b.Reason,
			})
		}
		h.mu.Unlock()
	}
	return had, found, nil
}

// known returns the hashes of all offences in the history, sorted.
func (h *History) known() ([]uint64, error) {
	entries, _ := h.Entries()
	known := make([]uint64, 0, entries)
	err := h.scan(0, func(b *block, from int) bool {
		texts := make([]uint64, len(b.texts))
		for i, s := range b.texts {
			texts[i] = hashes.text(s)
		}
		for i := from; i < b.len(); i++ {
			if e := b.at(i); e.kind() == store.EventBan {
				known = append(known, hashes.of(e.key(), texts[e.origin()], texts[e.jail()], e.start()))
			}
		}
		return true
	})
	slices.Sort(known)
	return known, err
}
