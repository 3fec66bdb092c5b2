package store

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"go.etcd.io/bbolt"
)

// bbolt reuses freed pages but never shrinks its file. If more than half of the file is dead, the live part is copied into
// another file, which then takes its name. The copy is made beside the running store in short reads, so that neither a ban nor
// bbolt's own growth waits for it; transactions committed meanwhile are written to both. Only the last step stops the writer,
// for about as long as three transactions: what the copy lacks, the rename, the sync of the directory. Until the rename only
// the old file counts; from then on both hold the same.

const (
	shrinkSuffix = ".compact"
	shrinkFrom   = 1 << 20 // bytes: smaller files are not worth it
	shrinkEvery  = 10 * minute
	shrinkSlice  = 256 << 10 // bytes per read
	shrinkRest   = 256 << 10 // bytes of transactions that the writer itself copies in the last step
	shrinkRounds = 8         // how often the copier catches up before the last step
	shrinkNoted  = 32 << 20  // bytes of transactions that wait for the copy; beyond that it is given up
	spareDisk    = 64 << 20  // bytes that must be free besides the copy
)

// shrinker is a disk that can shrink its file.
type shrinker interface {
	// The writer calls tend between two transactions. It starts or finishes a shrink, and calls wake when it wants to be called
	// again. An error leaves the file as it is.
	tend(now Millis, wake func()) (was, is int64, err error)
}

// shrink is a copy that is being made.
type shrink struct {
	to     *bbolt.DB
	path   string
	notes  []*batch // committed since the copy began
	bytes  int      // size of notes
	over   bool     // notes grew too large
	rounds int
	stop   chan struct{}
	done   chan error // closed by the copier after its only message
	at     func(step string)
}

// wasteful reports the size of the file if more than half of it is dead.
func (d *boltDisk) wasteful() (size int64, yes bool) {
	info, err := os.Stat(d.path)
	if err != nil {
		return 0, false
	}
	return info.Size(), info.Size() > shrinkFrom && d.live < info.Size()/2
}

// tend implements shrinker.
func (d *boltDisk) tend(now Millis, wake func()) (was, is int64, err error) {
	if s := d.shrink; s != nil {
		select {
		case err = <-s.done:
		default:
			return 0, 0, nil
		}
		switch {
		case err != nil:
		case s.over || s.bytes > shrinkRest && s.rounds == shrinkRounds:
			err = errors.New("too much is written meanwhile") // stop: no ban may wait for the writer to catch up
		case s.bytes > shrinkRest:
			s.catchUp(wake)
			return 0, 0, nil
		default:
			was, is, err = d.finishShrink()
		}
		if err != nil {
			d.resting = now + shrinkEvery
			d.shrink.abandon()
			err = fmt.Errorf("make %s smaller: %w", d.path, err)
		}
		d.shrink = nil
		return was, is, err
	}
	if now < d.resting && now > d.resting-2*shrinkEvery {
		return 0, 0, nil
	}
	size, yes := d.wasteful()
	if !yes {
		d.resting = now + minute
		return 0, 0, nil
	}
	d.resting = now + shrinkEvery
	if v, err := formatOf(d.path, d.db); err != nil || len(v) != len(encodeFormat(0)) {
		return 0, 0, err // format 1: the next transaction makes it 2
	}
	if free, ok := d.space(filepath.Dir(d.path)); ok && free < 2*d.live+spareDisk {
		return 0, 0, fmt.Errorf("make %s smaller: %d MB of it are dead, but only %d MB are free beside it", d.path, (size-d.live)>>20, free>>20)
	}
	d.shrink, err = startShrink(d, wake)
	return 0, 0, err
}

// startShrink removes what an earlier run left of its copy and begins another. The copier only
// reads from the file; it reports once, and the writer does the rest in tend.
func startShrink(d *boltDisk, wake func()) (*shrink, error) {
	s := &shrink{path: d.path + shrinkSuffix, stop: make(chan struct{}), done: make(chan error, 1), at: d.at}
	if err := os.Remove(s.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	to, err := openFile(s.path)
	if err != nil {
		return nil, err
	}
	s.to = to.db
	from, done := d.db, s.done // the writer replaces s.done when it has read from it
	go func() {
		done <- s.copy(from, d.path)
		close(done)
		wake()
	}()
	return s, nil
}

// note records what was committed to the old file.
func (s *shrink) note(b *batch) {
	for _, o := range b.ops {
		s.bytes += 64 + len(o.enc)
	}
	s.bytes += 1024 * (len(b.heads) + len(b.notices) + len(b.meta) + 1)
	if s.over = s.over || s.bytes > shrinkNoted; s.over {
		s.notes = nil
		return
	}
	s.notes = append(s.notes, b)
}

// abandon keeps the old file as the only one.
func (s *shrink) abandon() {
	if s == nil {
		return
	}
	close(s.stop)
	for range s.done { // until the copier has released both files
	}
	s.to.Close()
	os.Remove(s.path)
}

var errAbandoned = errors.New("abandoned")

// copy copies bucket after bucket, a slice at a time. Changes made meanwhile are in the notes; replaying those in order is
// right whether or not a slice has seen them.
func (s *shrink) copy(from *bbolt.DB, path string) error {
	var a account
	for _, name := range [][]byte{bucketInfo, bucketLogs, bucketRecords, bucketNotices, bucketMeta} {
		for next, more := []byte(nil), true; more; {
			select {
			case <-s.stop:
				return errAbandoned
			default:
			}
			var keys, values [][]byte
			err := guard(path, func() error {
				return from.View(func(tx *bbolt.Tx) error {
					keys, values, next, more = slice(tx.Bucket(name), next)
					return nil
				})
			})
			if err == nil {
				err = guard(s.path, func() error { return s.to.Update(func(tx *bbolt.Tx) error { return a.paste(tx, name, keys, values) }) })
			}
			if err != nil {
				return err
			}
			s.at("slice")
		}
	}
	s.at("copied")
	return guard(s.path, func() error {
		return s.to.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucketInfo).Put(keyFormat, encodeFormat(a.sum)) })
	})
}

// slice reads values from a key on, and says where the next slice begins.
func slice(b *bbolt.Bucket, from []byte) (keys, values [][]byte, next []byte, more bool) {
	size := 0
	c := b.Cursor()
	for k, v := c.Seek(from); k != nil; k, v = c.Next() {
		if size >= shrinkSlice {
			return keys, values, bytes.Clone(k), true
		}
		keys, values = append(keys, bytes.Clone(k)), append(values, bytes.Clone(v))
		size += len(k) + len(v)
	}
	return keys, values, nil, false
}

// paste writes one slice of a bucket into the copy and counts it, so that the copy's tally is its
// own and shows what the copying lost. Pages are filled to 90 %, because keys come in ascending
// order and nothing will be put between them.
func (a *account) paste(tx *bbolt.Tx, name []byte, keys, values [][]byte) error {
	b, err := tx.CreateBucketIfNotExists(name)
	if err != nil {
		return err
	}
	b.FillPercent = 0.9
	for i, k := range keys {
		if !bytes.Equal(name, bucketInfo) {
			a.add(name, k, values[i])
		}
		if err := b.Put(k, values[i]); err != nil {
			return err
		}
	}
	return nil
}

// catchUp has the copier write what was committed meanwhile.
func (s *shrink) catchUp(wake func()) {
	notes := s.notes
	s.notes, s.bytes, s.rounds, s.done = nil, 0, s.rounds+1, make(chan error, 1)
	done := s.done
	go func() {
		done <- s.paste(notes)
		close(done)
		wake()
	}()
}

// paste writes transactions to the copy without syncing each: one sync at the end suffices.
func (s *shrink) paste(notes []*batch) error {
	s.to.NoSync = true
	for _, b := range notes {
		if _, err := commit(s.path, s.to, b, account{}); err != nil {
			return err
		}
	}
	return nil
}

// syncName syncs the directory, so that the file is found under its new name after a power loss. Nothing is acknowledged
// before.
func (d *boltDisk) syncName() error {
	if !d.renamed {
		return nil
	}
	if err := syncDir(filepath.Dir(d.path)); err != nil {
		return err
	}
	d.renamed = false
	return nil
}

// finishShrink completes the shrink: equal tallies show that both files hold the same, and only then does the new one take the
// place of the old.
func (d *boltDisk) finishShrink() (was, is int64, err error) {
	s := d.shrink
	if err := s.paste(s.notes); err != nil {
		return 0, 0, err
	}
	want, err := formatOf(d.path, d.db)
	if err != nil {
		return 0, 0, err
	}
	if got, err := formatOf(s.path, s.to); err != nil || !bytes.Equal(got, want) {
		return 0, 0, errors.Join(errors.New("the copy does not hold what the file holds"), err)
	}
	if info, err := os.Stat(d.path); err == nil {
		was = info.Size()
	}
	s.at("written")
	if err := s.to.Sync(); err != nil {
		return 0, 0, err
	}
	s.to.NoSync = false
	s.at("whole")
	if err := os.Rename(s.path, d.path); err != nil {
		return 0, 0, err
	}
	s.at("renamed")
	// The rename is done. There is no way back, and none is needed: both files hold the same.
	old := d.db
	d.db, d.shrink, d.renamed = s.to, nil, true
	err = d.syncName()
	s.at("synced")
	go old.Close() // frees the space of the old file
	if info, err := os.Stat(d.path); err == nil {
		is = info.Size()
	}
	return was, is, err
}

// formatOf reads the value that holds the tally.
func formatOf(path string, db *bbolt.DB) (v []byte, err error) {
	err = guard(path, func() error {
		return db.View(func(tx *bbolt.Tx) error {
			v = bytes.Clone(tx.Bucket(bucketInfo).Get(keyFormat))
			return nil
		})
	})
	return v, err
}
