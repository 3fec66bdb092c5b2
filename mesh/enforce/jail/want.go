package jail

import (
	"cmp"
	"container/heap"
	"net/netip"
	"slices"

	"banmesh/store"
)

// ban is one prefix for the jail.
type ban struct {
	prefix netip.Prefix
	newest store.Millis // start of its latest offence
}

// compare orders by importance: the newer one first, and of two equally new the lower address, so that the choice is the same
// each time.
func (b ban) compare(o ban) int {
	return cmp.Or(cmp.Compare(b.newest, o.newest), o.prefix.Addr().Compare(b.prefix.Addr()), cmp.Compare(b.prefix.Bits(), o.prefix.Bits()))
}

// selection is what the jail should hold.
type selection struct {
	bans  []ban                 // newest first, within the limit
	total int                   // of bans that might be fed
	kept  map[netip.Prefix]bool // what is kept from being fed because a human unbanned it
}

// choose selects the peers' bans that are effective and that no human has unbanned in the jail. While frozen it adds nothing:
// only what the jail holds may stay.
func (j *Enforcer) choose(frozen bool, held map[netip.Prefix]bool) selection {
	s := selection{kept: make(map[netip.Prefix]bool)}
	var best least
	for e := range j.cfg.Set.Effective() {
		if !e.ByPeer || e.Held {
			continue // fail2ban banned it itself, or it is held
		}
		for _, piece := range e.Pieces {
			one, all := j.book.holds(piece, e.Newest)
			if one {
				s.kept[piece] = true
			}
			if one || all || frozen && !held[piece] {
				continue
			}
			s.total++
			if b := (ban{piece, e.Newest}); len(best) < j.cfg.Limit {
				heap.Push(&best, b)
			} else if b.compare(best[0]) > 0 {
				best[0] = b
				heap.Fix(&best, 0)
			}
		}
	}
	slices.SortFunc(best, func(a, b ban) int { return b.compare(a) })
	s.bans = best
	return s
}

// least is a heap with the least important ban on top.
type least []ban

func (h least) Len() int           { return len(h) }
func (h least) Less(i, j int) bool { return h[i].compare(h[j]) < 0 }
func (h least) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *least) Push(x any)        { *h = append(*h, x.(ban)) }
func (h *least) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
