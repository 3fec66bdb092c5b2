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
	// writeEvery is how long the first entry waits for company before it is written, writeLast how long it may wait beyond that
	// for a moment in which nothing has been noted for the time of quiet. Each write has the disk busy for some milliseconds,
	// and where bans come they wait for the same disk. What waits is what a crash loses.
	writeEvery = time.Second
	writeLast  = 3 * time.Second
	quiet      = 100 * time.Millisecond
	// retryEvery is how long after a failure the next attempt to write is.
	retryEvery = 5 * time.Second
	// maxWaiting bounds the entries that wait for the disk; 15 MB of memory.
	maxWaiting = 262_144
	// writeAtOnce is how many blocks one transaction writes.
	writeAtOnce = 64
	// closeWithin is how long Close waits for a disk that does not answer.
	closeWithin = time.Second
)

// EventLost stands for events that were not noted, as many as the event's Failures say.
const EventLost store.EventKind = 0

// replicatedSet is what History asks the replicated set: *store.Store is one.
type replicatedSet interface {
	LiveBans() iter.Seq[store.LiveBan]
}

// Config is what a History needs.
type Config struct {
	Dir        string        // where the file is
	Keep       time.Duration // how long an entry is kept; 0 is no bound
	MaxEntries int           // how many are kept
	Set        replicatedSet
	Now        func() time.Time
	Logger     *slog.Logger
}

// info is a block in the file.
type info struct {
	first uint64
	to    store.Millis // the latest time seen in it
}

// History is the memory of one router. All methods may be called concurrently.
type History struct {
	cfg  Config
	log  *slog.Logger
	file *file
	wake chan struct{} // to the writer; holds one

	mu        sync.Mutex
	full      []*builder // waiting for the disk, the oldest first
	last      *builder   // the block that grows
	saved     uint64     // the number of the first entry that is not in the file
	lost      int        // events since the last entry that were not noted
	caught    caught
	keep      time.Duration
	most      int
	health    error
	closed    bool
	lastNoted time.Time // when something was last noted

	blocks []info        // in the file; the writer's alone
	ready  chan struct{} // closed after the first catch-up
	stop   chan struct{}
	done   chan struct{} // nil before Start

	// Patience is how long Close waits for a disk that does not answer. It may be set before Close.
	Patience time.Duration
}

// Open opens the memory in a directory, made when it is not there. Start has it written.
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

// Start notes what is banned and was not seen, and writes from then on what is noted. It is called once, when all that happens
// is noted: what happened before is in the set.
func (h *History) Start() {
	h.done = make(chan struct{})
	go h.write()
}

// load finds the blocks of the file and takes up the last one.
func (h *History) load() error {
	return h.file.view(func(b *bbolt.Bucket) error {
		c := b.Cursor()
		var newest []byte
		for k, v := c.First(); k != nil; k, v = c.Next() {
			if len(k) == 8 && len(v) >= headSize {
				h.blocks = append(h.blocks, info{binary.BigEndian.Uint64(k), store.Millis(binary.LittleEndian.Uint64(v[16:]))})
				newest = v
			}
		}
		if n := len(h.blocks); n > 0 {
			first := h.blocks[n-1].first
			h.last = newBuilder(first + blockLen)
			// One that is damaged is left as it is; the next entry begins a block.
			if last, err := decode(first, append([]byte(nil), newest...)); err == nil && last.len() < blockLen {
				h.last = grow(last)
			}
		}
		h.saved = h.last.end()
		return nil
	})
}

// Note takes in what happened at the time of now. It waits for nothing.
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

// kept are the kinds of event that are remembered: the others are the mesh's own bookkeeping.
func kept(k store.EventKind) bool {
	switch k {
	case store.EventBan, store.EventExtend, store.EventLift, store.EventExpire, store.EventAllow, store.EventDisallow,
		store.EventFreeze, store.EventThaw, store.EventBlock, store.EventUnblock:
		return true
	}
	return false
}

// add takes in one event, with mu held.
func (h *History) add(at store.Millis, e *store.Event) {
	if h.closed || h.last.end()-h.saved >= maxWaiting {
		h.lost++
		return
	}
	if h.lost > 0 {
		lost := store.Event{Kind: EventLost, Failures: uint32(min(h.lost, 1<<31))}
		h.lost = 0
		h.push(at, &lost)
	}
	h.push(at, e)
}

func (h *History) push(at store.Millis, e *store.Event) {
	seen := *e
	seen.Time = at
	h.last.add(&seen)
	if h.last.len() == blockLen {
		h.full = append(h.full, h.last)
		h.last = newBuilder(h.last.end())
	}
}

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
			h.flush()
			return
		}
		timer = nil
		if err := h.flush(); err != nil {
			timer = time.After(retryEvery)
		} else if h.hasLost() {
			h.catchUp()
		}
	}
}

// busy returns how long it is until nothing has been noted for the time of quiet.
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
	all := slices.Clone(h.blocks)
	for _, b := range blocks {
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
	h.full = append([]*builder(nil), h.full[full:]...)
	h.saved = end
	return more, nil
}

// outdated names the oldest of the blocks that hold nothing which is still remembered. The last one never is.
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

// Rebound changes how much is remembered, and for how long. What that is too much goes with the next write.
func (h *History) Rebound(keep time.Duration, maxEntries int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.keep, h.most = keep, maxEntries
}

// bounds are the time before which nothing is remembered, and how many entries are.
func (h *History) bounds() (oldest store.Millis, most uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.keep > 0 {
		oldest = store.At(h.cfg.Now().Add(-h.keep))
	}
	return oldest, uint64(h.most)
}

// Health is the error of the last attempt to write, nil where it is well.
func (h *History) Health() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.health
}

// Close writes what waits and closes the file. A disk that does not answer is given a second; the file is let go of when it
// does.
func (h *History) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	h.closed = true
	h.mu.Unlock()
	close(h.stop)
	if h.done == nil {
		return h.file.close()
	}
	late, cancel := context.WithTimeout(context.Background(), h.Patience)
	defer cancel()
	select {
	case <-h.done:
		return h.file.close()
	case <-late.Done():
		go func() {
			<-h.done
			h.file.close()
		}()
		return fmt.Errorf("close the history %s: the disk does not answer", h.file.path)
	}
}
