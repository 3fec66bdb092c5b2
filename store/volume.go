package store

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"
)

// Volume replaces the store file in a simulation: it keeps in memory what a store writes and, like a file, outlives the store.
// It loses nothing; Config.Commit simulates the faults of a disk.
type Volume struct {
	mu      sync.Mutex
	open    bool
	logs    map[uint32]logHeader
	records map[uint32]map[uint64][]byte // by log
	notices map[uint64]Notice
	meta    map[string][]byte
}

// NewVolume returns an empty volume.
func NewVolume() *Volume {
	return &Volume{
		logs: make(map[uint32]logHeader), records: make(map[uint32]map[uint64][]byte),
		notices: make(map[uint64]Notice), meta: make(map[string][]byte),
	}
}

// Clone returns a copy of what the volume holds, as a copy of the file would be. No store has the copy open.
func (v *Volume) Clone() *Volume {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := &Volume{
		logs: maps.Clone(v.logs), records: make(map[uint32]map[uint64][]byte, len(v.records)),
		notices: maps.Clone(v.notices), meta: maps.Clone(v.meta),
	}
	for log, records := range v.records { // the records themselves never change
		c.records[log] = maps.Clone(records)
	}
	return c
}

// mount gives the volume to a store, one at a time.
func (v *Volume) mount(string) (disk, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.open {
		return nil, ErrLocked
	}
	v.open = true
	return v, nil
}

// load hands on everything whose order can matter in a fixed one, so that two runs of a simulation
// with one seed see the same.
func (v *Volume) load(to visitor) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	disks := slices.Sorted(maps.Keys(v.logs))
	for _, disk := range disks {
		h := v.logs[disk]
		h.held = slices.Clone(h.held) // the store modifies its own
		if err := to.log(h); err != nil {
			return err
		}
	}
	if len(v.records) > len(disks) {
		return errors.New("record of no log")
	}
	for _, disk := range disks {
		for _, seq := range slices.Sorted(maps.Keys(v.records[disk])) {
			if err := to.record(disk, seq, v.records[disk][seq]); err != nil {
				return err
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(v.notices)) {
		to.notice(v.notices[id])
	}
	for k, b := range v.meta {
		to.meta(k, bytes.Clone(b))
	}
	return nil
}

// commit keeps copies: the store reuses its buffers, and a file would not change with them either.
func (v *Volume) commit(b *batch) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, o := range b.ops {
		records := v.records[o.log]
		switch {
		case o.enc == nil:
			delete(records, o.seq)
			if len(records) == 0 {
				delete(v.records, o.log)
			}
			continue
		case records == nil:
			records = make(map[uint64][]byte)
			v.records[o.log] = records
		}
		records[o.seq] = bytes.Clone(o.enc)
	}
	for _, h := range b.heads {
		v.logs[h.disk] = h
	}
	for _, log := range b.gone {
		delete(v.logs, log)
		delete(v.records, log)
	}
	for _, n := range b.notices {
		v.notices[n.ID] = n
	}
	for _, id := range b.done {
		delete(v.notices, id)
	}
	for k, value := range b.meta {
		if value == nil {
			delete(v.meta, k)
		} else {
			v.meta[k] = bytes.Clone(value)
		}
	}
	return nil
}

func (v *Volume) seqs(log uint32) ([]uint64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Sorted(maps.Keys(v.records[log])), nil
}

// close keeps what is stored, so that a later Open finds it as after a restart.
func (v *Volume) close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.open = false
	return nil
}
