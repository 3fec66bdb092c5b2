package history

import (
	"hash/maphash"
	"slices"
	"time"

	"banmesh/store"
)

// caughtUpFor is how long after a catch-up the event of a ban that it has noted may still arrive.
const caughtUpFor = 10 * time.Second

// offences hashes what tells one offence from another: prefix, origin, jail and start. fail2ban rounds to seconds.
type offences struct{ seed maphash.Seed }

func (o offences) text(s string) uint64 { return maphash.String(o.seed, s) }

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

var hashes = offences{maphash.MakeSeed()}

func hashBan(b *store.LiveBan) uint64 {
	return hashes.of(keyOf(b.Prefix), hashes.text(b.Origin), hashes.text(b.Jail), b.Start)
}

// caught are the bans of the last catch-up.
type caught struct {
	bans  map[uint64]bool // true: noted by it, so their events may still arrive; false: noted as they happened
	going bool
	till  time.Time // when it is over: how long events may still arrive
}

// has reports whether the ban of an event has been noted already. While a catch-up is under way it takes down the others,
// as they are noted and need no catching up.
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

// catchUp notes the live bans that the memory does not know: of before the first start, of a crash, of a bulk change. It notes
// only what there is room for, as it would otherwise push out what is past, and in the end itself.
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
		if err == nil && found > 0 {
			err = h.flush()
		}
		if err != nil {
			h.log.Warn("the history is not compared with what is banned", "error", err)
		}
		if err != nil || found < most || known <= before { // what is noted does not stay
			return
		}
		before, room = known, room-found
	}
}

// catchUpSome notes so many at most. It returns how many live bans the memory knew.
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

// known are the hashes of all offences that the memory holds, in order.
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
