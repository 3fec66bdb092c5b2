package history

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.etcd.io/bbolt"

	"banmesh/store"
)

// Defaults of the configuration.
const (
	DefaultKeep       = 90 * 24 * time.Hour
	DefaultMaxEntries = 1_000_000
)

const (
	// writeEvery is how long the first entry waits for others before it is written. writeLast bounds how much longer it waits
	// for a moment without events, of the length quiet. A write keeps the disk busy for some milliseconds, and new bans wait
	// for the same disk. A crash loses what waits here.
	writeEvery = time.Second
	writeLast  = 3 * time.Second
	quiet      = 100 * time.Millisecond
	// retryEvery is the time between a failed write and the next attempt.
	retryEvery = 5 * time.Second
	// maxWaiting bounds the entries that wait for the disk; 15 MB of memory.
	maxWaiting = 262_144
	// writeAtOnce is how many blocks one transaction writes.
	writeAtOnce = 64
	// closeWithin is how long Close waits for a disk that does not answer.
	closeWithin = time.Second
)

// EventLost stands for events that were not noted; its Failures counts them.
const EventLost store.EventKind = 0

// replicatedSet is what History needs of the replicated set; *store.Store implements it.
type replicatedSet interface {
	LiveBans() iter.Seq[store.LiveBan]
}

// Config configures a History.
type Config struct {
	Dir        string        // directory of the file
	Keep       time.Duration // how long an entry is kept; 0 means for ever
	MaxEntries int           // how many entries are kept
	Set        replicatedSet
	Now        func() time.Time
	Logger     *slog.Logger
}

// info describes a block in the file.
type info struct {
	first uint64
	to    store.Millis // the latest time seen in it
}

// History is one router's history. All methods may be called concurrently.
type History struct {
	cfg  Config
	log  *slog.Logger
	file *file
	wake chan struct{} // wakes the writer; holds one

	mu sync.Mutex
	// At most maxWaiting entries together with last.
	full      []*builder // waiting for the disk, the oldest first
	last      *builder   // the growing block
	saved     uint64     // number of the first entry that is not in the file
	lost      int        // events since the last entry that were not noted
	caught    caught
	keep      time.Duration
	most      int
	health    error
	closed    bool
	lastNoted time.Time // when something was last noted

	blocks []info        // in the file; only the writer uses it
	ready  chan struct{} // closed after the first catch-up
	stop   chan struct{}
	done   chan struct{} // nil before Start

	// Patience is how long Close waits for a disk that does not answer. It may be set before Close.
	Patience time.Duration
}

// Open opens the history in a directory, and creates it if it is not there. Nothing is written before Start.
func Open(c Config) (*History, error) {
	f, aside, err := openFile(filepath.Join(c.Dir, "history.db"))
	if err != nil {
		return nil, err
	}
	if aside != "" {
		c.Logger.Error("the history was damaged and starts anew", "kept", aside)
	}
	h := &History{
		cfg: c, keep: c.Keep, most: c.MaxEntries, log: c.Logger, file: f, wake: make(chan struct{}, 1), last: newBuilder(1), saved: 1,
		ready: make(chan struct{}), stop: make(chan struct{}), Patience: closeWithin,
	}
	if err := h.load(); err != nil {
		return nil, errors.Join(err, f.close())
	}
	return h, nil
}

// Start notes the live bans that the history lacks, and from then on writes what is noted. It may be called once, when all
// events are being noted; what happened before is in the set.
func (h *History) Start() {
	h.done = make(chan struct{})
	go h.write()
}

// load finds the blocks in the file and continues the last one.
func (h *History) load() error {
	return h.file.view(func(b *bbolt.Bucket) error {
		c := b.Cursor()
		var newest []byte
		for k, v := c.First(); k != nil; k, v = c.Next() {
			// The heads alone: decoding every block would only delay the start of the agent.
			if len(k) == 8 && len(v) >= headSize {
				h.blocks = append(h.blocks, info{binary.BigEndian.Uint64(k), store.Millis(binary.LittleEndian.Uint64(v[16:]))})
				newest = v
			}
		}
		if n := len(h.blocks); n > 0 {
			first := h.blocks[n-1].first
			// Numbers go on behind what the last block can hold at most, so that none is given twice.
			h.last = newBuilder(first + blockLen)
			// Leave a damaged last block as it is; the next entry begins a new one.
			if last, err := decode(first, append([]byte(nil), newest...)); err == nil && last.len() < blockLen {
				h.last = grow(last)
			}
		}
		h.saved = h.last.end()
		return nil
	})
}

// Note records the events of a change at the time now. It does not block.
func (h *History) Note(now time.Time, c store.Change) {
	at := store.At(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, events := range [2][]store.Event{c.Events, c.Rest} {
		for i := range events {
			if e := &events[i]; kept(e.Kind) && !h.caught.has(now, e) {
				h.add(at, e)
			}
		}
	}
	if n := c.More - len(c.Rest); n > 0 {
		h.lost += n
	}
	if h.last.end() > h.saved || h.lost > 0 {
		h.lastNoted = time.Now()
		signal(h.wake)
	}
}

// kept reports whether events of a kind are remembered; the others are the mesh's own bookkeeping.
func kept(k store.EventKind) bool {
	switch k {
	case store.EventBan, store.EventExtend, store.EventLift, store.EventExpire, store.EventAllow, store.EventDisallow,
		store.EventFreeze, store.EventThaw, store.EventBlock, store.EventUnblock:
		return true
	}
	return false
}

// add records one event, with mu held.
func (h *History) add(at store.Millis, e *store.Event) {
	if h.closed || h.last.end()-h.saved >= maxWaiting {
		h.lost++
		return
	}
	// The gap gets an entry of its own in its place, so that a reader sees where something is missing.
	if h.lost > 0 {
		lost := store.Event{Kind: EventLost, Failures: uint32(min(h.lost, 1<<31))}
		h.lost = 0
		h.push(at, &lost)
	}
	h.push(at, e)
}

// push never waits for the disk. A full block goes to those that are written; the next one begins where it
// ended, so that times never go back within the history.
func (h *History) push(at store.Millis, e *store.Event) {
	seen := *e
	seen.Time = at
	h.last.add(&seen)
	if h.last.len() == blockLen {
		h.full = append(h.full, h.last)
		h.last = newBuilder(h.last.end())
	}
}

// signal wakes a loop that may be busy: one waiting signal is enough.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// write is the goroutine that writes to the file.
func (h *History) write() {
	defer close(h.done)
	h.catchUp()
	close(h.ready)
	var timer <-chan time.Time
	var latest time.Time
	for {
		select {
		// The first event starts the timer; those after it change nothing.
		case <-h.wake:
			if timer == nil {
				timer, latest = time.After(writeEvery), time.Now().Add(writeLast)
			}
			continue
		case <-timer:
			if busy := h.busy(); busy > 0 && time.Now().Before(latest) {
				timer = time.After(busy)
				continue
			}
		case <-h.stop:
			// The last chance to write; Close waits for it as long as Patience says.
			h.flush()
			return
		}
		timer = nil
		if err := h.flush(); err != nil {
			timer = time.After(retryEvery)
		} else if h.hasLost() {
			// What was lost for want of room may still be live, and there is room again.
			h.catchUp()
		}
	}
}

// busy returns how long it takes until nothing has been noted for the time quiet.
func (h *History) busy() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return quiet - time.Since(h.lastNoted)
}

func (h *History) hasLost() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lost > 0
}

// flush writes what waits and drops what is too old.
func (h *History) flush() error {
	for {
		more, err := h.flushSome()
		h.mu.Lock()
		// Once at each turn, and not at every attempt: a disk may be full for days.
		if err != nil && h.health == nil {
			h.log.Warn("the history cannot be written: it goes on in memory, and loses what does not fit there", "error", err)
		} else if err == nil && h.health != nil {
			h.log.Info("the history is written again")
		}
		h.health = err
		h.mu.Unlock()
		if err != nil || !more {
			return err
		}
	}
}

// flushSome writes the oldest full blocks that are not on disk, and the one being filled after the last of them. more says that
// full ones are left. The lock is not held during the write: events keep coming while a disk is slow.
func (h *History) flushSome() (more bool, err error) {
	h.mu.Lock()
	var blocks []block
	for _, b := range h.full[:min(len(h.full), writeAtOnce)] {
		blocks = append(blocks, b.block)
	}
	full := len(blocks)
	more = len(h.full) > full
	if !more && h.last.end() > h.saved && h.last.len() > 0 {
		blocks = append(blocks, h.last.block)
	}
	h.mu.Unlock()
	if len(blocks) == 0 {
		return false, nil
	}
	end := blocks[len(blocks)-1].end()
	// A copy, taken over once the write has succeeded: after an error the file is as it was.
	all := slices.Clone(h.blocks)
	for _, b := range blocks {
		// The last block of the file has grown, and is written over.
		if n := len(all); n > 0 && all[n-1].first == b.first {
			all[n-1].to = b.to
		} else {
			all = append(all, info{b.first, b.to})
		}
	}
	gone := h.outdated(all, end)
	if err := h.file.write(blocks, gone); err != nil {
		return false, fmt.Errorf("write %s: %w", h.file.path, err)
	}
	h.blocks = all[len(gone):]
	h.mu.Lock()
	defer h.mu.Unlock()
	// A new slice: the old one would keep the written blocks in memory. More may have come meanwhile, behind
	// those.
	h.full = append([]*builder(nil), h.full[full:]...)
	h.saved = end
	return more, nil
}

// outdated returns the oldest blocks in which no entry is within the bounds any more. The last block is never one of them.
func (h *History) outdated(blocks []info, end uint64) (gone []uint64) {
	oldest, most := h.bounds()
	for i, b := range blocks {
		if i+1 == len(blocks) || b.to >= oldest && end-blocks[i+1].first < most {
			break
		}
		gone = append(gone, b.first)
	}
	return gone
}

// Rebound changes the bounds. The next write drops what exceeds them.
// Queries go by the new ones at once.
func (h *History) Rebound(keep time.Duration, maxEntries int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep, h.most = keep, maxEntries
}

// bounds returns the time before which nothing is remembered, and the largest number of entries.
func (h *History) bounds() (oldest store.Millis, most uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keep > 0 {
		oldest = store.At(h.cfg.Now().Add(-h.keep))
	}
	return oldest, uint64(h.most)
}

// Health returns the error of the last write, nil if it succeeded.
func (h *History) Health() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.health
}

// Close writes what waits and closes the file. If the disk does not answer within Patience, Close returns an error, and the
// file is closed later, when the disk answers.
func (h *History) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	close(h.stop)
	// Never started, so no writer is to be waited for.
	if h.done == nil {
		return h.file.close()
	}
	late, cancel := context.WithTimeout(context.Background(), h.Patience)
	defer cancel()
	select {
	case <-h.done:
		return h.file.close()
	case <-late.Done():
		// The writer may still be inside the file, which must not be closed under it.
		go func() {
			<-h.done
			h.file.close()
		}()
		return fmt.Errorf("close the history %s: the disk does not answer", h.file.path)
	}
}
