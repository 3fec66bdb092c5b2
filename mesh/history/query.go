package history

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"go.etcd.io/bbolt"

	"banmesh/store"
)

// Query selects entries. The zero Query selects all.
type Query struct {
	Prefix       netip.Prefix // selects entries about it, about prefixes that cover it and about prefixes inside it
	Jail, Origin string
	Kinds        []store.EventKind
	Since        store.Millis // seen at that time or later
	Limit        int          // newest entries to return; 0 means all
}

// Events returns the selected events, the newest first. more reports whether Limit left any out.
func (h *History) Events(q Query) (events []store.Event, more bool, err error) {
	var kinds [256]bool
	for _, k := range q.Kinds {
		kinds[k] = true
	}
	want := keyOf(q.Prefix)
	err = h.scan(q.Since, func(b *block, from int) bool {
		jail, origin := slices.Index(b.texts, q.Jail), slices.Index(b.texts, q.Origin)
		// Texts are stored once in a block: one that is not among them saves looking at its 512 entries.
		if q.Jail != "" && jail < 0 || q.Origin != "" && origin < 0 {
			return true
		}
		for i := b.len() - 1; i >= from; i-- {
			e := b.at(i)
			switch {
			case q.Prefix.IsValid() && !want.overlaps(e.key()), e.seen() < q.Since, len(q.Kinds) > 0 && !kinds[e.kind()],
				q.Jail != "" && int(e.jail()) != jail, q.Origin != "" && int(e.origin()) != origin:
				continue
			}
			if q.Limit > 0 && len(events) == q.Limit {
				more = true
				return false
			}
			events = append(events, b.event(e))
		}
		return true
	})
	return events, more, err
}

// Entries returns the number of entries, at most one block too high, and the time of the earliest; 0 and 0 for none.
func (h *History) Entries() (n int, since store.Millis) {
	h.mu.Lock()
	oldest, end := h.last.block, h.last.end()
	if len(h.full) > 0 {
		oldest = h.full[0].block
	}
	h.mu.Unlock()
	err := h.file.view(func(bucket *bbolt.Bucket) error {
		k, v := bucket.Cursor().First()
		if k == nil {
			return nil
		}
		b, err := decode(binary.BigEndian.Uint64(k), v)
		if err == nil {
			// Only the length is used afterwards: the bytes are bbolt's, and gone with the transaction.
			oldest = block{first: b.first, from: b.from, entries: make([]byte, len(b.entries))}
		}
		return err
	})
	if err != nil || oldest.len() == 0 {
		return 0, 0
	}
	begin, most := h.bounds()
	return int(min(end-oldest.first, most)), max(oldest.from, begin)
}

// scan calls each for the blocks that may hold entries seen at since or later, the newest first, with the index of the
// block's first entry that is still remembered, until each returns false. It skips damaged blocks. The block is valid only
// until each returns.
func (h *History) scan(since store.Millis, each func(b *block, from int) bool) error {
	return h.scanUntil(since, each, func() {})
}

// scanUntil is scan with blocks that stay valid until done returns. It calls done after the last block of the file, unless the
// file cannot be read.
func (h *History) scanUntil(since store.Millis, each func(b *block, from int) bool, done func()) error {
	h.mu.Lock()
	waiting := make([]block, 0, len(h.full)+1)
	for _, b := range h.full {
		waiting = append(waiting, b.block)
	}
	waiting = append(waiting, h.last.block)
	h.mu.Unlock()
	begin, end := waiting[0].first, waiting[len(waiting)-1].end()
	oldest, most := h.bounds()
	// Counted from the end: blocks that the writer has not dropped yet are hidden already.
	lowest := end - min(end, most)
	since = max(since, oldest)
	one := func(b *block) (goOn bool) {
		if b.end() <= lowest {
			return false
		}
		if b.to < since {
			return true
		}
		from := 0
		if lowest > b.first {
			from = int(lowest - b.first)
		}
		for from < b.len() && b.at(from).seen() < oldest {
			from++
		}
		return from == b.len() || each(b, from)
	}
	for i := len(waiting) - 1; i >= 0; i-- {
		if waiting[i].len() > 0 && !one(&waiting[i]) {
			return nil
		}
	}
	damaged := 0
	err := h.file.view(func(bucket *bbolt.Bucket) error {
		defer done()
		c := bucket.Cursor()
		k, v := c.Seek(number(begin))
		if k == nil {
			k, v = c.Last()
		}
		for ; k != nil; k, v = c.Prev() {
			// The writer may have put waiting blocks into the file since they were copied. They have been shown.
			if len(k) != 8 || binary.BigEndian.Uint64(k) >= begin {
				continue
			}
			// Decoding costs the most, and the head tells that all of the block is too old.
			if len(v) >= headSize && store.Millis(binary.LittleEndian.Uint64(v[16:])) < since {
				continue
			}
			b, err := decode(binary.BigEndian.Uint64(k), v)
			if err != nil {
				damaged++
				continue
			}
			if !one(&b) {
				return nil
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the history %s: %w", h.file.path, err)
	}
	if damaged > 0 {
		h.log.Warn("blocks of the history are damaged and left out", "blocks", damaged)
	}
	return nil
}
