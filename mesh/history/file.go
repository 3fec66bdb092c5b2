package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

var bucketBlocks = []byte("blocks")

// file is the bbolt file. Each block is stored under the number of its first entry.
type file struct {
	path string
	db   *bbolt.DB
}

// openFile opens or creates the file. It renames an unreadable file, and aside names that one: starting the router's agent is
// worth more than its history.
func openFile(path string) (f *file, aside string, err error) {
	f = &file{path: path}
	if err = f.open(); err == nil {
		return f, "", nil
	}
	if _, statErr := os.Stat(path); statErr != nil || !damaged(err) {
		return nil, "", fmt.Errorf("open the history %s: %w", path, err)
	}
	// One is kept, the latest: a disk that damages the file again and again must not be filled with its remains.
	aside = path + ".damaged"
	if err := os.Rename(path, aside); err != nil {
		return nil, "", fmt.Errorf("set the damaged history aside: %w", err)
	}
	if err := f.open(); err != nil {
		return nil, aside, fmt.Errorf("open the history %s: %w", path, err)
	}
	return f, aside, nil
}

// damaged reports whether the file will never open, rather than just not now.
func damaged(err error) bool {
	var path *os.PathError
	return !errors.As(err, &path) && !errors.Is(err, berrors.ErrTimeout)
}

// open is guarded because bbolt panics on some damaged files.
func (f *file) open() error {
	err := guard(func() (err error) {
		// The lock is held by one agent for as long as it runs; a short wait covers the end of the one before.
		f.db, err = bbolt.Open(f.path, 0o600, &bbolt.Options{Timeout: 200 * time.Millisecond, FreelistType: bbolt.FreelistMapType})
		return err
	})
	if err != nil {
		return err
	}
	err = f.update(func(tx *bbolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(bucketBlocks)
		return err
	})
	if err != nil {
		f.close()
	}
	return err
}

// guard turns bbolt's reaction to a damaged file (a panic, or a fault in mapped memory) into an error.
func guard(do func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the history file cannot be read: %v", r)
		}
	}()
	return do()
}

// view reads in one transaction; what it gives to do is valid only within.
func (f *file) view(do func(*bbolt.Bucket) error) error {
	return guard(func() error {
		return f.db.View(func(tx *bbolt.Tx) error { return do(tx.Bucket(bucketBlocks)) })
	})
}

func (f *file) update(do func(*bbolt.Tx) error) error {
	return guard(func() error { return f.db.Update(do) })
}

// write puts and deletes blocks in one transaction.
func (f *file) write(blocks []block, gone []uint64) error {
	return f.update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(bucketBlocks)
		// Blocks are appended in the order of their numbers, so that a page that is split need not leave room for others.
		b.FillPercent = 1
		for _, k := range blocks {
			if err := b.Put(number(k.first), k.encode()); err != nil {
				return err
			}
		}
		for _, first := range gone {
			if err := b.Delete(number(first)); err != nil {
				return err
			}
		}
		return nil
	})
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func (f *file) close() error {
	return guard(f.db.Close)
}
