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

// caught are the bans that catchUp has just noted, whose events may still arrive.
type caught struct {
	bans map[uint64]struct{}
	till time.Time
}

func (c *caught) has(now time.Time, e *store.Event) bool {
	if c.bans != nil && now.After(c.till) {
		c.bans = nil
	}
	if c.bans == nil || e.Kind != store.EventBan {
		return false
	}
	_, ok := c.bans[hashes.of(keyOf(e.Prefix), hashes.text(e.Origin), hashes.text(e.Jail), e.Start)]
	return ok
}

// catchUpAtOnce is how many bans catchUp notes before it writes them.
const catchUpAtOnce = 65_536

// catchUp notes the live bans that the memory does not know: of before the first start, of a crash, of a bulk change.
func (h *History) catchUp() {
	for {
		found, err := h.catchUpSome()
		if err == nil && found > 0 {
			err = h.flush()
		}
		if err != nil {
			h.log.Warn("the history is not compared with what is banned", "error", err)
		}
		if err != nil || found < catchUpAtOnce {
			return
		}
	}
}

func (h *History) catchUpSome() (found int, err error) {
	known, err := h.known()
	if err != nil {
		return 0, err
	}
	now := h.cfg.Now()
	h.mu.Lock()
	h.caught = caught{make(map[uint64]struct{}), now.Add(caughtUpFor)}
	h.mu.Unlock()
	for b := range h.cfg.Set.LiveBans() {
		hash := hashBan(&b)
		if _, ok := slices.BinarySearch(known, hash); ok {
			continue
		}
		if found++; found > catchUpAtOnce {
			break
		}
		h.mu.Lock()
		h.caught.bans[hash] = struct{}{}
		h.add(store.At(now), &store.Event{
			Kind: store.EventBan, Prefix: b.Prefix, Origin: b.Origin, Jail: b.Jail, Start: b.Start, Until: b.Until, Failures: b.Failures, Text: b.Reason,
		})
		h.mu.Unlock()
	}
	return found, nil
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
