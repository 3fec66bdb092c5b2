package web

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/store"
)

const (
	// restFor is how long a feed is not written anew, whatever happens: while bans
	// pour in, a caller that asks again and again costs no more than that.
	restFor = time.Second

	// lookAgain is how old a feed may be before it is looked at although no change
	// was told: a never-ban list that ran out, and limits counted by the minute,
	// are told by nobody. That look is taken in the background.
	lookAgain = time.Minute

	// keepFor is how long a feed that nobody asks for is kept, keepBytes how much
	// of them all: the one asked for least lately goes first.
	keepFor   = 10 * time.Minute
	keepBytes = 24 << 20
)

// feeds answers the feeds and keeps what it has written, so that a caller who
// asks whether it has changed is answered at once. It is safe for concurrent use.
type feeds struct {
	set  replicatedSet
	now  func() time.Time
	most int // keepBytes

	changes atomic.Uint64 // of the set that feeds may show
	again   chan variant  // to be looked at again by keep
	pages   pages

	// writing is held by the one who writes: so much memory and time is taken only
	// once.
	writing chan struct{}

	mu   sync.Mutex
	kept map[variant]*edition
}

// edition is a feed as it was written. All but the body stays when the body is
// let go, so that asking whether it changed stays cheap.
type edition struct {
	etag     string
	modified time.Time // since when the content is this, at the latest; whole seconds
	size     int       // of the body
	body     []byte    // not to be changed; nil: let go

	changes uint64    // what feeds.changes was when the set was read
	read    time.Time // when that was
	used    time.Time
	looking bool // it is to be looked at again
}

func newFeeds(set replicatedSet, now func() time.Time) *feeds {
	return &feeds{
		set: set, now: now, most: keepBytes, again: make(chan variant, 64), writing: make(chan struct{}, 1),
		kept: make(map[variant]*edition),
	}
}

// changed notes a change.
func (f *feeds) changed(c store.Change) {
	if c.More > 0 || slices.ContainsFunc(c.Events, func(e store.Event) bool { return feedsShow(e.Kind) }) {
		f.changes.Add(1)
	}
}

// feedsShow reports whether what happened may change a feed.
func feedsShow(k store.EventKind) bool {
	switch k {
	case store.EventPlaced, store.EventFreeze, store.EventThaw:
		return false
	}
	return true
}

// get returns the feed of this moment, with its body where that is needed, else
// perhaps without. The result is a copy.
func (f *feeds) get(ctx context.Context, v variant, needBody bool) (edition, error) {
	if e, ok := f.fresh(v, needBody); ok {
		return e, nil
	}
	select {
	case f.writing <- struct{}{}:
	case <-ctx.Done():
		return edition{}, ctx.Err()
	}
	defer func() { <-f.writing }()
	if e, ok := f.fresh(v, needBody); ok { // somebody wrote it meanwhile
		return e, nil
	}
	return f.write(v)
}

// fresh returns what is kept of a feed unless it must be written anew.
func (f *feeds) fresh(v variant, needBody bool) (edition, bool) {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	e := f.kept[v]
	if e == nil || needBody && e.body == nil {
		return edition{}, false
	}
	age := now.Sub(e.read)
	if age < 0 || age >= restFor && e.changes != f.changes.Load() {
		return edition{}, false
	}
	e.used = now
	if age >= lookAgain && !e.looking {
		select {
		case f.again <- v:
			e.looking = true
		default:
		}
	}
	return *e, true
}

// write writes a feed, with writing held.
func (f *feeds) write(v variant) (edition, error) {
	changes, now := f.changes.Load(), f.now()
	body, etag, err := render(f.set, v)
	if err != nil {
		return edition{}, fmt.Errorf("write the feed: %w", err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// An entity tag tells contents apart, a date only where each has its own.
	modified := now.Truncate(time.Second)
	if old := f.kept[v]; old != nil {
		switch {
		case old.etag == etag:
			modified = old.modified
		case !modified.After(old.modified):
			modified = old.modified.Add(time.Second)
		}
	}
	e := &edition{etag: etag, modified: modified, size: len(body), body: body, changes: changes, read: now, used: now}
	f.kept[v] = e
	out := *e
	f.shrink()
	return out, nil
}

// shrink lets bodies go until the bound suffices, with mu held.
func (f *feeds) shrink() {
	for {
		total := 0
		var last *edition
		for _, e := range f.kept {
			total += len(e.body)
			if e.body != nil && (last == nil || e.used.Before(last.used)) {
				last = e
			}
		}
		if total <= f.most || last == nil {
			return
		}
		last.body = nil
	}
}

// keep looks again at what has not changed for long, and drops what nobody asks
// for, until ctx ends.
func (f *feeds) keep(ctx context.Context) {
	ticker := time.NewTicker(keepFor / 10)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case v := <-f.again:
			f.lookAgain(ctx, v)
		case <-ticker.C:
			f.drop()
		}
	}
}

func (f *feeds) lookAgain(ctx context.Context, v variant) {
	select {
	case f.writing <- struct{}{}:
		defer func() { <-f.writing }()
	case <-ctx.Done():
		return
	}
	if _, err := f.write(v); err != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.kept, v) // the next request is told
	}
}

func (f *feeds) drop() {
	now := f.now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for v, e := range f.kept {
		if now.Sub(e.used) >= keepFor {
			delete(f.kept, v)
		}
	}
}
