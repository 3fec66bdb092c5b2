package store

import (
	"cmp"
	"errors"
	"fmt"
)

// loader fills the set from the file, record by record.
type loader struct {
	*Store
	logs    map[uint32]*logState // by their short names in the file
	strings names
	current *logState // the log being read
	fresh   []uint32  // its records that are not in its order yet
	leftOut map[string]int
}

// load fills the set from the file and opens a new log.
func (s *Store) load() error {
	set := s.set
	set.quiet = true
	set.now = At(s.cfg.Now())
	set.hz.at = Minute(set.now.Time())
	set.hz.expired = expiryMinute(set.now)
	l := &loader{
		Store: s, logs: make(map[uint32]*logState), strings: make(names), fresh: make([]uint32, 0, 1024), leftOut: make(map[string]int),
	}
	err := s.disk.load(visitor{
		log: l.takeLog, record: l.takeRecord, notice: s.keepNotice, bad: l.dropNotice,
		expect: func(records int) { set.table.reserve(&set.slab, records) },
		meta:   func(key string, value []byte) { s.meta[key] = value },
		doubt: func(what string) {
			s.doubt = fmt.Sprintf("the store file %s: %s", s.cfg.Path, what)
			s.log.Error("the store was damaged", "file", s.cfg.Path, "what", what)
		},
	})
	if err != nil {
		return err
	}
	l.flush()
	for origin, n := range l.leftOut {
		s.log.Warn("records in the store file exceed a limit and do not count", "origin", origin, "records", n)
	}
	id := LogID{s.cfg.Origin, s.cfg.Random.Uint64()}
	// A random number that the file holds already: two logs must not share a name, however unlikely that is.
	for set.byID[id] != nil {
		id.Epoch = s.cfg.Random.Uint64()
	}
	s.own = set.log(id)
	set.own = s.own
	s.loadEpochs()
	s.loadLives()
	set.finish()
	s.loadConfirmed()
	set.quiet = false
	s.collect()
	return nil
}

// takeLog refuses a log that is named twice, by its number in the file or by its name: the records
// of the two could not be told apart.
func (l *loader) takeLog(h logHeader) error {
	if l.logs[h.disk] != nil || l.set.byID[h.id] != nil {
		return errors.New("log named twice")
	}
	log := l.set.restoreLog(h.id, h.disk)
	log.held = h.held
	l.logs[h.disk] = log
	l.set.touched[log] = struct{}{}
	return nil
}

// takeRecord takes in one record. One that does not count is not held, so that peers may send it again, and stays in the file as
// long as others of its log do: a later version may read it.
func (l *loader) takeRecord(disk uint32, seq uint64, enc []byte) error {
	log := l.logs[disk]
	if log == nil {
		return errors.New("record of no log")
	}
	r := &reader{b: enc}
	it := item{}
	ok := r.record(&it, l.strings)
	r.end()
	if !r.ok() || it.seq != seq {
		l.setAside(Dot{log.id, seq}, cmp.Or(r.reason, "it has another number"), true)
		ok = false
	}
	if !ok { // or a newer version wrote it
		log.held = log.held.without(rangeSet{{seq, seq}})
		return nil
	}
	if log != l.current || it.kind == KindGone { // a Gone removes records of the log
		l.flush()
		l.current = log
	}
	it.enc = enc
	switch i, res := l.set.add(log, &it, false); res {
	case added:
		l.fresh = append(l.fresh, i)
		if len(l.fresh) == cap(l.fresh) {
			l.flush()
		}
	case superseded: // it was not when it was written
		l.set.out.removed = append(l.set.out.removed, removal{log, seq})
	case refused: // limits were higher when it was written
		l.leftOut[log.id.Origin]++
		log.held = log.held.without(rangeSet{{seq, seq}})
		return nil
	}
	log.held = log.held.add(seqRange{seq, seq})
	return nil
}

// flush puts the records read into the order of their log.
func (l *loader) flush() {
	if l.current != nil {
		l.current.insert(&l.set.slab, l.fresh)
		l.fresh = l.fresh[:0]
	}
}

// dropNotice deletes a notice that cannot be read with the first transaction after loading. Its
// number stays used.
func (l *loader) dropNotice(id uint64, reason string) {
	l.log.Warn("a notice to fail2ban in the store file cannot be read and is dropped", "notice", id, "reason", reason)
	l.noticed = max(l.noticed, id)
	l.later(func(p *plan) error {
		p.done = append(p.done, id)
		p.used = true
		return nil
	})
}
