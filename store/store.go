package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"go4.org/netipx"

	"banmesh/internal/random"
)

// Store is the replicated set of this member. All methods may be called concurrently.
//
// Locks, in the order in which they may be taken: exemptionsMu, then mu, then protectedMu, queueMu or changeMu; none of the last
// three is held while another is taken. Nothing slow happens under mu: no disk, no callback.
type Store struct {
	cfg  Config
	log  *slog.Logger
	disk disk // used only by the writer's goroutine once Open has returned

	mu         sync.RWMutex
	set        *set
	own        *logState
	nextSeq    uint64 // of the own log; numbers of a failed transaction are not reused
	headSeq    uint64 // last durable number of the own log
	pending    pending
	room       *sync.Cond // on mu: signals that pending has shrunk
	health     error      // error of the last attempt to persist merged records
	writing    time.Time  // start of the write under way; zero if there is none
	silent     bool       // that write has taken longer than silentAfter
	doubt      string     // found by Open; never changes after it
	notices    map[uint64]Notice
	told       map[noticeKey]uint64
	noticed    uint64 // last notice ID
	meta       map[string][]byte
	version    uint64 // incremented by every change
	namesake   namesake
	lives      []toldLife // longest first
	unreadable map[Dot]Unreadable
	tidied     Millis // when tidy last ran
	closed     bool

	protectedMu sync.Mutex
	protected   *protected

	exemptionsMu sync.Mutex
	exemptions   *netipx.IPSet
	exemptionsAt uint64 // control.exemptionsVersion from which it was built
	exemptionsOf Millis // valid from then on: a clock may step back
	exemptionsTo Millis // valid until then

	queueMu sync.Mutex
	queue   []*op
	wake    chan struct{} // wakes the writer; holds one

	changeMu   sync.Mutex
	change     Change
	changeWake chan struct{} // wakes notifyChanges; holds one

	stop   chan struct{}
	done   sync.WaitGroup
	counts countsCache
}

// noticeKey is what a notice tells, apart from when: one that waits makes another with the same key
// needless.
type noticeKey struct {
	kind   NoticeKind
	prefix netip.Prefix
	jail   string
}

// Open opens the store file, makes it if it is missing, and starts a new log of this member. The log's epoch is random, so that
// a wiped, restored or copied store never writes a dot twice. It returns ErrLocked if another agent holds the file and
// errDamaged if the file cannot be trusted.
func Open(cfg Config) (*Store, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.openDisk != nil:
	case cfg.Volume != nil:
		cfg.openDisk = cfg.Volume.mount
	default:
		cfg.openDisk = openBolt
	}
	if cfg.Random == nil {
		cfg.Random = random.Source
	}
	d, err := cfg.openDisk(cfg.Path)
	if err != nil {
		return nil, err
	}
	if cfg.Commit != nil {
		d = &through{d, cfg.Commit}
	}
	s := &Store{
		cfg: cfg, log: cfg.Logger, disk: d,
		set:     newSet(cfg.Origin, cfg.Limits, cfg.Random.Uint64()),
		notices: make(map[uint64]Notice), told: make(map[noticeKey]uint64), meta: make(map[string][]byte),
		wake: make(chan struct{}, 1), changeWake: make(chan struct{}, 1), stop: make(chan struct{}),
		nextSeq: 1, unreadable: make(map[Dot]Unreadable),
	}
	if cfg.Members != nil {
		s.set.members = make(map[string]bool, len(cfg.Members))
		for _, name := range cfg.Members {
			s.set.members[name] = true
		}
	}
	s.set.guard.Guard = cfg.Guard
	s.room = sync.NewCond(&s.mu)
	switch {
	// Nobody listens, so no events are kept.
	case cfg.OnChange == nil:
	case cfg.KeepRest:
		s.set.events = maxEvents + maxRest
	default:
		s.set.events = maxEvents
	}
	s.pending.clear()
	if err := s.load(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	signal(s.wake) // the file may be worth shrinking
	s.done.Go(s.write)
	s.done.Go(s.notifyChanges)
	return s, nil
}

// Close writes what is pending and releases the file. Later calls of writers get ErrClosed.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.room.Broadcast()
	s.mu.Unlock()
	close(s.stop)
	s.done.Wait()
	if err := s.disk.close(); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return s.Health()
}

// now is the own clock.
func (s *Store) now() Millis { return At(s.cfg.Now()) }

// Tick handles what has expired. The agent calls it each second. agree tells whether the own clock is within 60 s of the peers'
// median: nothing is forgotten otherwise.
func (s *Store) Tick(agree bool) {
	for {
		s.mu.Lock()
		s.set.agree = agree
		s.set.advance(s.now())
		// In parts, so that mu is not held for as long as a mass expiry takes; the loop goes on with the rest.
		more := agree && s.set.forget(20000)
		s.set.finish()
		s.set.guardTick()
		changed := s.set.endConfirmed()
		s.collect()
		// Each minute, and at once if the clock was set back behind the last time.
		tidy := s.set.now >= s.tidied+minute || s.set.now < s.tidied
		if tidy {
			s.tidied = s.set.now
		}
		s.mu.Unlock()
		if changed {
			s.later(func(p *plan) error {
				p.meta[confirmedKey] = encodeConfirmed(s.set.guard.granted, s.set.guard.confirmed)
				p.used = true
				return nil
			})
		}
		if tidy {
			s.later(func(p *plan) error { p.tidy(); return nil })
		}
		if !more {
			return
		}
	}
}

// collect passes on the effects of a change. It is called with mu held, after every change.
func (s *Store) collect() {
	out := &s.set.out
	s.version++
	for _, r := range out.removed {
		s.pending.delete(r.log, r.seq, s.successor(r))
	}
	s.pending.gone = append(s.pending.gone, out.gone...)
	for _, n := range out.notices {
		if s.isTold(n) {
			continue
		}
		s.noticed++
		n.ID = s.noticed
		s.keepNotice(n)
		s.pending.notices = append(s.pending.notices, n)
	}
	if len(out.events) > 0 {
		s.noteChange(false, out.events, out.more)
	}
	out.removed, out.gone, out.notices, out.events, out.more = out.removed[:0], out.gone[:0], out.notices[:0], nil, 0
	// The memory that a mass removal has needed is not kept.
	if cap(out.removed) > 4096 {
		out.removed = nil
	}
	if !s.pending.empty() {
		signal(s.wake)
	}
}

// signal wakes the reader of a channel of one place. If a signal waits already the reader will look
// anyhow, and nothing is lost.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// noteChange adds to the change that is told next.
func (s *Store) noteChange(ownHead bool, events []Event, more int) {
	if s.cfg.OnChange == nil {
		return
	}
	s.changeMu.Lock()
	c := &s.change
	c.OwnHead = c.OwnHead || ownHead
	n := min(len(events), maxEvents-len(c.Events))
	c.Events = append(c.Events, events[:n]...)
	c.More += more + len(events) - n
	if s.cfg.KeepRest {
		rest := events[n:]
		c.Rest = append(c.Rest, rest[:min(len(rest), maxRest-len(c.Rest))]...)
	}
	s.changeMu.Unlock()
	signal(s.changeWake)
}

// notifyChanges calls OnChange until Close.
func (s *Store) notifyChanges() {
	if s.cfg.OnChange == nil {
		return
	}
	tell := func() {
		s.changeMu.Lock()
		c := s.change
		s.change = Change{}
		s.changeMu.Unlock()
		if c.OwnHead || len(c.Events) > 0 || c.More > 0 {
			s.cfg.OnChange(c)
		}
	}
	for {
		select {
		case <-s.changeWake:
			tell()
		case <-s.stop:
			tell()
			return
		}
	}
}

// Health returns the error of the last attempt to write merged records, or a *SilentError while a write has been under way for
// more than 5 s; nil if all is on disk or about to be. While it is not nil, the set goes on in memory. A failed attempt is
// repeated. One without an answer cannot be, and only its answer ends the silence.
func (s *Store) Health() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.silent {
		return &SilentError{s.cfg.Path, time.Since(s.writing)}
	}
	return s.health
}

// Doubt says what may be missing from the file as Open found it, "" if it was whole. Peers send it again, including this
// member's own records.
func (s *Store) Doubt() string { return s.doubt }

// SaveMeta keeps a small value under a key, durably; nil deletes it.
func (s *Store) SaveMeta(ctx context.Context, key string, value []byte) error {
	if key == "" || len(key) > 1024 {
		return fmt.Errorf("save %q: a key has 1 to 1024 bytes", key)
	}
	if value != nil {
		// A copy, which the writer reads later; never nil, which would delete.
		value = append([]byte{}, value...)
	}
	return s.do(ctx, func(p *plan) error {
		p.meta[key] = value
		p.used = true
		return nil
	})
}

// Meta returns the value that SaveMeta kept.
func (s *Store) Meta(key string) ([]byte, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	v, ok := s.meta[key]
	return append([]byte(nil), v...), ok
}
