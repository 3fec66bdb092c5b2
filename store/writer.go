package store

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	maxPending = 8 << 20 // bytes of merged records waiting for the disk before Merge waits too
	maxBatch   = 1 << 16 // own records in one transaction
	retryAfter = time.Second
	// silentAfter is how long a write may take before the store counts as not writing. A dying disk, a lost volume or a
	// snapshot can block a writer without end and without an error.
	silentAfter = 5 * time.Second
	// notYetAfter is how long a write must have been under way to be blamed for a late answer.
	notYetAfter = 100 * time.Millisecond
)

// pending is what was changed in memory and has still to be written. Guarded by Store.mu.
type pending struct {
	ops     []recordOp
	bytes   int
	heads   map[*logState]struct{} // whose held ranges changed
	gone    []uint32
	notices []Notice
	rewrite map[*logState]struct{} // whose records were dropped from ops because the disk failed: to be written whole later
	failing bool                   // the disk fails: keep no ops
}

// clear keeps what a transaction alone does not settle: which logs must be written anew, and
// whether that has failed before.
func (p *pending) clear() {
	rewrite, failing := p.rewrite, p.failing
	*p = pending{heads: make(map[*logState]struct{}), rewrite: rewrite, failing: failing}
	if p.rewrite == nil {
		p.rewrite = make(map[*logState]struct{})
	}
}

func (p *pending) empty() bool {
	return len(p.ops)+len(p.heads)+len(p.gone)+len(p.notices)+len(p.rewrite) == 0
}

// put queues a merged record. The caller must not modify enc.
func (p *pending) put(l *logState, seq uint64, enc []byte) {
	if p.failing {
		p.rewrite[l] = struct{}{}
		return
	}
	p.ops = append(p.ops, recordOp{l.disk, seq, enc})
	p.bytes += len(enc) + 64
}

// head queues the held ranges of a log.
func (p *pending) head(l *logState) {
	if p.failing {
		p.rewrite[l] = struct{}{}
		return
	}
	p.heads[l] = struct{}{}
}

// delete queues a deletion. While the disk fails it queues nothing: an expired or replaced record that is still in the file is
// forgotten or replaced again after the next start.
//
// twin is another record with that number, which takes its place.
func (p *pending) delete(l *logState, seq uint64, twin []byte) {
	if !p.failing {
		p.ops = append(p.ops, recordOp{l.disk, seq, twin})
		p.bytes += len(twin) + 64
	}
}

// op is one call of a writer.
type op struct {
	plan func(*plan) error
	ctx  context.Context
	err  error
	used bool // its outcome depends on the transaction
	done chan struct{}
}

// do passes a call to the writer and waits until its effect is durable and visible.
func (s *Store) do(ctx context.Context, f func(*plan) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o := &op{plan: f, ctx: ctx, done: make(chan struct{})}
	s.queueMu.Lock()
	s.queue = append(s.queue, o)
	s.queueMu.Unlock()
	signal(s.wake)
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		// The call stays in the queue. If its turn comes later, it is dropped there (planAll), as its context
		// has ended.
		return s.notYet(ctx.Err())
	case <-s.stop:
	}
	// The writer may be answering just now, or be gone.
	s.done.Wait()
	select {
	case <-o.done:
		return o.err
	default:
		return ErrClosed
	}
}

// notYet says why a call got no answer while its caller waited: the disk is to blame only if a write is under way.
func (s *Store) notYet(cause error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if since := time.Since(s.writing); !s.writing.IsZero() && since >= notYetAfter {
		return fmt.Errorf("the disk has not answered for %v: %w", since.Round(100*time.Millisecond), cause)
	}
	return fmt.Errorf("not written before the caller gave up: %w", cause)
}

// later passes one of the store's own calls to the writer without waiting.
func (s *Store) later(f func(*plan) error) {
	s.queueMu.Lock()
	s.queue = append(s.queue, &op{plan: f, ctx: context.Background(), done: make(chan struct{})})
	s.queueMu.Unlock()
	signal(s.wake)
}

// plan collects what the calls of one transaction write. Calls read the set through it: nothing changes while they plan, and
// planned holds what earlier calls of the same transaction have planned.
type plan struct {
	set                    *set
	own                    *logState
	now                    Millis
	next                   uint64
	items                  []item
	buf                    []byte          // the encodings of items: a bulk call would make as many small allocations
	planned                map[planKey]int // index in items of the last record of that kind, prefix and jail
	lifts                  int             // lifts of other members' records
	life                   Millis          // how long after its start a ban may live at any member
	notices                []Notice
	done                   []uint64
	meta                   map[string][]byte
	used                   bool     // the call being planned depends on the transaction
	withdrawn, goneAlready []uint32 // own records to withdraw: by this call, by earlier ones
	refused                error    // why the call being planned must not be written
	limited                bool     // part of the call would exceed a limit
	isTold                 func(Notice) bool
	told                   map[noticeKey]bool
}

// planKey is what an own record of this transaction replaces, so that two calls in one transaction
// see each other.
type planKey struct {
	kind Kind
	key  pkey
	jail string
}

// write adds a record to the own log. An invalid one makes the whole call fail.
func (p *plan) write(it item) {
	if reason := it.invalid(); reason != "" && p.refused == nil {
		p.refused = &InvalidError{prefix: it.key.prefix(), reason: reason}
	}
	it.seq = p.next
	p.next++
	if cap(p.buf)-len(p.buf) < 128 { // what outgrows the rest is still encoded, into memory of its own
		p.buf = make([]byte, 0, min(max(128, 2*cap(p.buf)), 64<<10))
	}
	from := len(p.buf)
	p.buf = it.append(p.buf)
	it.enc = p.buf[from:len(p.buf):len(p.buf)]
	p.items = append(p.items, it)
	p.used = true
}

// notify adds a notice, once.
func (p *plan) notify(n Notice) {
	if !p.told[keyOfNotice(n)] && !p.isTold(n) {
		p.told[keyOfNotice(n)] = true
		p.notices = append(p.notices, n)
		p.used = true
	}
}

// write is the only goroutine that writes to disk. Everything that waits goes into one transaction, so that a burst costs few
// syncs.
func (s *Store) write() {
	var retry <-chan time.Time
	for {
		stopping := false
		select {
		case <-s.wake:
		case <-retry:
		case <-s.stop:
			stopping = true
		}
		retry = nil
		// All that has come meanwhile, too: a signal that waits is one, however many calls there are.
		for s.writeBatch() {
		}
		if stopping {
			return
		}
		s.tend()
		s.mu.RLock()
		// A disk that has failed is tried again without being asked, or it would stay unhealthy until the next
		// call.
		if s.health != nil {
			retry = time.After(retryAfter)
		}
		s.mu.RUnlock()
	}
}

// tend shrinks the file if that is due.
func (s *Store) tend() {
	d, ok := s.disk.(shrinker)
	if !ok {
		return
	}
	var was, is int64
	err := s.watched(func() (err error) {
		was, is, err = d.tend(s.now(), func() { signal(s.wake) })
		return err
	})
	switch {
	case err != nil:
		s.log.Warn("the store file keeps its size", "err", err)
	case is > 0:
		s.log.Info("the store file is smaller", "path", s.cfg.Path, "was", was, "is", is)
	}
}

// takeQueue returns the calls that wait.
func (s *Store) takeQueue() []*op {
	s.queueMu.Lock()
	defer s.queueMu.Unlock()
	ops := s.queue
	s.queue = nil
	return ops
}

// writeBatch writes one transaction and answers its calls. It reports whether there may be more to do at once.
func (s *Store) writeBatch() (more bool) {
	ops := s.takeQueue()
	merged, b, probe := s.takeMerged()
	p, rest := s.planAll(ops)
	if len(rest) > 0 {
		s.queueMu.Lock()
		// In front of what came meanwhile: calls keep their order.
		s.queue = append(rest, s.queue...)
		s.queueMu.Unlock()
		ops = ops[:len(ops)-len(rest)]
	}
	if len(p.items)+len(merged.ops) > 0 {
		s.planNamesake(p)
	}
	b.ops = slices.Grow(b.ops, len(p.items))
	for i := range p.items {
		it := &p.items[i]
		b.ops = append(b.ops, recordOp{s.own.disk, it.seq, it.enc})
	}
	if len(p.items) > 0 {
		// Own numbers have no gaps: what is replaced or withdrawn was held once.
		b.heads = append(b.heads, logHeader{s.own.disk, s.own.id, rangeSet{{1, p.next - 1}}})
	}
	s.numberNotices(p.notices)
	b.notices = append(b.notices, p.notices...)
	b.done, b.meta = p.done, p.meta

	if probe && b.empty() { // only a transaction shows whether the disk works again
		b.meta = map[string][]byte{"probe": nil}
	}
	var err error
	if !b.empty() {
		if err = s.watched(func() error { return s.disk.commit(b) }); err != nil {
			err = fmt.Errorf("write store file %s: %w", s.cfg.Path, err)
		}
	}
	s.finish(p, &merged, err)
	// After finish: a caller that has its answer finds its record in the set. A call that wrote nothing does
	// not depend on the disk.
	for _, o := range ops {
		if o.err == nil && err != nil && o.used {
			o.err = err
		}
		close(o.done)
	}
	if err == nil && s.rewriteOne() {
		return true
	}
	return len(rest) > 0
}

// takeMerged takes what merges have left to write, as the beginning of a transaction. Such records are in memory already: if the
// transaction fails, finish puts them back. probe asks for a transaction even if there is nothing to write.
func (s *Store) takeMerged() (merged pending, b *batch, probe bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	merged = s.pending
	s.pending.clear()
	b = &batch{ops: merged.ops, gone: merged.gone, notices: merged.notices}
	for l := range merged.heads {
		if s.set.byID[l.id] == l { // not forgotten since
			b.heads = append(b.heads, logHeader{l.disk, l.id, append(rangeSet(nil), l.held...)})
		}
	}
	return merged, b, s.health != nil
}

// planNamesake adds what is known of other runs under the own name, if that has changed. It goes with the next records instead
// of costing a transaction of its own.
func (s *Store) planNamesake(p *plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := &s.namesake
	if n.dirty {
		p.meta[epochsKey] = n.encode()
		n.dirty = false
	}
	if n.unsaved {
		p.meta[foreignKey] = n.encodeForeign()
		n.unsaved = false
	}
}

// numberNotices gives notices their numbers. They are not reused if the transaction fails: nobody
// can tell how much of it the disk kept.
func (s *Store) numberNotices(notices []Notice) {
	if len(notices) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range notices {
		s.noticed++
		notices[i].ID = s.noticed
	}
}

// newPlan begins a transaction. Called with mu held, for reading at least.
func (s *Store) newPlan() *plan {
	return &plan{
		set: s.set, own: s.own, now: s.now(), next: s.nextSeq, isTold: s.isTold, life: s.life(),
		planned: make(map[planKey]int), meta: make(map[string][]byte), told: make(map[noticeKey]bool),
	}
}

// preview lets a call plan as do does, and discards the plan.
func (s *Store) preview(ctx context.Context, f func(*plan) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	p := s.newPlan()
	if err := f(p); err != nil {
		return err
	}
	return p.refused
}

// planAll lets the calls plan, in their order, until the transaction is full.
func (s *Store) planAll(ops []*op) (p *plan, rest []*op) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p = s.newPlan()
	if len(ops) == 0 {
		return p, nil
	}
	for i, o := range ops {
		// Between two calls and never within one: a call is written as a whole or not at all.
		if len(p.items) > maxBatch {
			return p, ops[i:]
		}
		// Its caller has gone, and was told that nothing was written.
		if o.err = o.ctx.Err(); o.err != nil {
			continue
		}
		p.used, p.refused, p.limited = false, nil, false
		items, notices := len(p.items), len(p.notices)
		withdrawn := len(p.goneAlready)
		o.err = o.plan(p)
		if o.err == nil {
			p.flushGone()
		}
		p.withdrawn = p.withdrawn[:0]
		o.used = p.used
		// Nothing of a refused call is written, and its numbers go to the next one.
		if p.refused != nil {
			o.err = p.refused
			p.takeBack(items, notices)
			p.goneAlready = p.goneAlready[:withdrawn]
		}
	}
	return p, nil
}

// takeBack drops what the last call planned.
func (p *plan) takeBack(items, notices int) {
	for _, n := range p.notices[notices:] {
		delete(p.told, keyOfNotice(n))
	}
	p.notices = p.notices[:notices]
	p.next -= uint64(len(p.items) - items)
	p.items = p.items[:items]
	// Built anew: the call may have put its records in place of those that earlier calls planned.
	clear(p.planned)
	for i := range p.items {
		it := &p.items[i]
		jail := ""
		if it.kind == KindBan {
			jail = it.jail
		}
		p.planned[planKey{it.kind, it.key, jail}] = i
	}
}

// finish makes visible what was written, or keeps what was not for later.
func (s *Store) finish(p *plan, merged *pending, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextSeq = p.next // even after a failure: nobody can tell how much of it the disk kept
	if len(p.items) > 0 {
		s.own.held = s.own.held.add(seqRange{1, p.next - 1})
	}
	if err != nil {
		// What planNamesake took for written may not be in the file.
		s.namesake.dirty, s.namesake.unsaved = true, true
		s.failed(merged, err)
		return
	}
	for _, n := range p.notices {
		s.noticed = max(s.noticed, n.ID)
		s.keepNotice(n)
	}
	for _, id := range p.done {
		s.dropNotice(id)
	}
	for k, v := range p.meta {
		// Nil deletes a key, see SaveMeta.
		if v == nil {
			delete(s.meta, k)
		} else {
			s.meta[k] = v
		}
	}
	if len(p.items) > 0 {
		s.apply(p)
	}
	if len(s.pending.rewrite) == 0 {
		if s.health != nil {
			s.log.Info("store file is written again", "path", s.cfg.Path)
		}
		s.health, s.pending.failing = nil, false
	}
	s.room.Broadcast()
}

// apply puts own records, now durable, into the set.
func (s *Store) apply(p *plan) {
	fresh := make([]uint32, 0, len(p.items))
	s.set.expect(len(p.items))
	for i := range p.items {
		it := &p.items[i]
		s.set.mute = it.kind == KindLift
		if index, res := s.set.add(s.own, it, true); res == added {
			fresh = append(fresh, index)
		} else { // it says no more than a record that is held
			s.set.out.removed = append(s.set.out.removed, removal{s.own, it.seq})
		}
	}
	s.set.mute = false
	s.own.insert(&s.set.slab, fresh)
	s.headSeq = p.next - 1
	s.set.finish()
	s.collect()
	s.noteChange(true, nil, 0)
}

// failed keeps in memory what could not be written, to be written whole when the disk works again.
func (s *Store) failed(merged *pending, err error) {
	if s.health == nil {
		s.log.Error("store file cannot be written", "path", s.cfg.Path, "err", err)
	}
	s.health = err
	s.postpone(merged)
	p := &s.pending
	p.gone = append(merged.gone, p.gone...)
	p.notices = append(merged.notices, p.notices...)
	s.room.Broadcast()
}

// rewriteOne writes one log whole that the disk had refused, and reports whether it did and others may be left. Until then the
// file holds less of it than memory does, and no header claims more.
func (s *Store) rewriteOne() bool {
	s.mu.Lock()
	var l *logState
	for l = range s.pending.rewrite {
		break
	}
	if l == nil {
		s.mu.Unlock()
		return false
	}
	// Before it is written: what is merged meanwhile puts the log back, and it is written again.
	delete(s.pending.rewrite, l)
	head := logHeader{l.disk, l.id, append(rangeSet(nil), l.held...)}
	s.mu.Unlock()

	err := s.rewriteLog(l, head)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.pending.rewrite[l] = struct{}{}
		s.pending.failing = true
		s.health = fmt.Errorf("write store file %s: %w", s.cfg.Path, err)
		return false
	}
	if len(s.pending.rewrite) == 0 {
		s.health, s.pending.failing = nil, false
		s.log.Info("store file is written again", "path", s.cfg.Path)
	}
	return true
}

// rewriteLog writes a log as it is in memory over what the file has of it, after a transaction
// failed and nobody knows what of it is on disk. It goes in slices, each of which begins where the
// one before ended, and gives the lock back in between; at the end it deletes what the file has too
// much. The header, which says that all this is held, comes with the last transaction: after a
// crash before it the numbers are not claimed, and are asked for again.
func (s *Store) rewriteLog(l *logState, head logHeader) error {
	const slice = 16384
	for from := uint64(0); ; {
		b := &batch{}
		s.mu.RLock()
		if s.set.byID[l.id] != l {
			s.mu.RUnlock()
			return nil
		}
		for _, i := range l.recs[l.search(&s.set.slab, from):] {
			if r := s.set.slab.at(i); !r.is(flagDead) && r.seq >= from { // of two with one number the first
				b.ops = append(b.ops, recordOp{l.disk, r.seq, s.set.encode(nil, i)})
				from = r.seq + 1
				if len(b.ops) == slice {
					break
				}
			}
		}
		if l.id.Origin == s.cfg.Origin {
			b.meta = map[string][]byte{epochsKey: s.namesake.encode(), foreignKey: s.namesake.encodeForeign()}
		}
		s.mu.RUnlock()
		if len(b.ops) == 0 {
			break
		}
		if err := s.watched(func() error { return s.disk.commit(b) }); err != nil {
			return err
		}
	}
	var seqs []uint64
	err := s.watched(func() (err error) {
		seqs, err = s.disk.seqs(l.disk)
		return err
	})
	if err != nil {
		return err
	}
	b := &batch{heads: []logHeader{head}}
	s.mu.RLock()
	for _, seq := range seqs {
		if l.find(&s.set.slab, seq) == 0 && head.held.contains(seq) {
			b.ops = append(b.ops, recordOp{l.disk, seq, nil})
		}
	}
	s.mu.RUnlock()
	return s.watched(func() error { return s.disk.commit(b) })
}

// watched runs what the writer needs the disk for, and reports it while no answer comes. The writer itself cannot, because
// nothing interrupts the call.
func (s *Store) watched(write func() error) error {
	s.mu.Lock()
	s.writing = time.Now()
	s.mu.Unlock()
	over := false // guarded by mu
	timer := time.AfterFunc(silentAfter, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// Stop does not wait for a timer that runs already, and this one may have waited for mu until the answer
		// was there.
		if over {
			return
		}
		s.silent = true
		s.log.Error("the disk of the store does not answer", "path", s.cfg.Path)
		s.room.Broadcast() // nobody waits for it any more
	})
	err := write()
	timer.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.silent {
		s.log.Warn("the disk of the store answers again", "path", s.cfg.Path, "after", time.Since(s.writing).Round(time.Millisecond))
	}
	over, s.silent, s.writing = true, false, time.Time{}
	return err
}

// postpone drops merged records that wait for the disk and has their logs written whole later. Called with mu held.
func (s *Store) postpone(merged *pending) {
	byDisk := make(map[uint32]*logState, len(s.set.byID))
	for _, l := range s.set.byID {
		byDisk[l.disk] = l
	}
	p := &s.pending
	for _, ops := range [][]recordOp{merged.ops, p.ops} {
		for _, o := range ops {
			if l := byDisk[o.log]; l != nil {
				p.rewrite[l] = struct{}{}
			}
		}
	}
	for _, heads := range []map[*logState]struct{}{merged.heads, p.heads} {
		for l := range heads {
			p.rewrite[l] = struct{}{}
		}
	}
	clear(p.heads)
	p.ops, p.bytes, p.failing = nil, 0, true
}
