package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"banmesh/store/text"
)

// disk keeps the set over restarts. Tests substitute failing ones.
type disk interface {
	// load calls the visitor with everything held, each log before its records. Damage is returned as *damagedError.
	load(v visitor) error
	// commit writes the whole batch or nothing of it, and returns when it is durable.
	commit(b *batch) error
	// seqs returns the numbers of the records held of a log.
	seqs(log uint32) ([]uint64, error)
	close() error
}

// visitor takes what a disk loads, in this order: what is in doubt, all logs, how many records
// there are, the records, the notices, the rest. A record comes after its log. Slices belong to the
// disk and are valid only during the call; the values given to meta are copies.
type visitor struct {
	log    func(logHeader) error
	expect func(records int) // how many follow
	record func(log uint32, seq uint64, enc []byte) error
	notice func(Notice)
	bad    func(notice uint64, reason string) // for a notice that cannot be read
	meta   func(key string, value []byte)
	doubt  func(what string) // what may be missing from the file
}

// logHeader is what the file holds of a log besides its records.
type logHeader struct {
	disk uint32
	id   LogID
	held rangeSet
}

// batch is one transaction.
type batch struct {
	ops     []recordOp // in order
	heads   []logHeader
	gone    []uint32 // logs to delete with all their records
	notices []Notice
	done    []uint64 // notices to delete
	meta    map[string][]byte
}

// recordOp writes a record, or deletes it if enc is nil.
type recordOp struct {
	log uint32
	seq uint64
	enc []byte
}

func (b *batch) empty() bool {
	return len(b.ops)+len(b.heads)+len(b.gone)+len(b.notices)+len(b.done)+len(b.meta) == 0
}

// The file is a bbolt file. A record's key is its log's short name and its number, so that the records of a log are neighbours.
// Its value is the canonical encoding and a CRC-32C over key and encoding, because bbolt has no checksum for data pages.
var (
	bucketInfo    = []byte("info")
	bucketLogs    = []byte("logs")
	bucketRecords = []byte("records")
	bucketNotices = []byte("notices")
	bucketMeta    = []byte("meta")
	keyFormat     = []byte("format")
)

// castagnoli builds its table on first use: every command of the program would pay for it, and only the agent opens a store.
var castagnoli = sync.OnceValue(func() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) })

// fileFormat 2 has a tally. Files of format 1 are read, and the first transaction makes them format 2.
const fileFormat = 2

// boltDisk is the store's file. Apart from load and close only the writer's goroutine uses it, so
// it needs no lock; the copier of a shrink reads from db beside it, which bbolt allows.
type boltDisk struct {
	path  string
	db    *bbolt.DB
	doubt string // what may be missing from it, "" for nothing
	sum   tally  // of a file of format 1, as load found it
	live  int64  // bytes of keys and values, as the file stores them

	shrink  *shrink // under way, nil if none is
	resting Millis  // no new attempt before then
	renamed bool    // the directory is still to be synced
	space   func(dir string) (free int64, ok bool)
	at      func(step string) // tests: observes the steps of a shrink
}

// through passes each transaction through a function of the configuration.
type through struct {
	disk
	by func(write func() error) error
}

func (t *through) commit(b *batch) error {
	return t.by(func() error { return t.disk.commit(b) })
}

// tend implements shrinker if the wrapped disk does.
func (t *through) tend(now Millis, wake func()) (was, is int64, err error) {
	if d, ok := t.disk.(shrinker); ok {
		return d.tend(now, wake)
	}
	return 0, 0, nil
}

// openBolt opens or makes the file. It checks the whole structure before bbolt follows a single pointer, because bbolt trusts
// what it reads and panics, or worse, on damage. A new file is made under another name and renamed when complete, so that a
// half-made one is never taken for a damaged one.
func openBolt(path string) (disk, error) {
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		if err := makeFile(path); err != nil {
			return nil, err
		}
	}
	doubt, err := checkFile(path)
	if err != nil {
		return nil, err
	}
	d, err := openFile(path)
	if err != nil {
		return nil, err
	}
	d.doubt = doubt
	// Under the lock of the file: no other agent can be shrinking it now.
	os.Remove(path + shrinkSuffix) // left by a run that was cut short
	if err := d.checkFormat(); err != nil {
		d.db.Close()
		return nil, err
	}
	return d, nil
}

func openFile(path string) (*boltDisk, error) { return openFileBy(path, os.OpenFile) }

const (
	// mapAhead is how much of the address space the file's map takes from the start. A transaction that outgrows the map has
	// bbolt copy all that it has read and written so far.
	mapAhead = 128 << 20
	// growBy is how much longer than its content the file may be, which is less than what makes it worth shrinking.
	growBy = shrinkFrom / 2
)

// openTries is how often openBolt tries again when another file takes the path's place meanwhile.
const openTries = 3

// openFileBy opens and locks the file, and tries again if it is no longer the one at path by then:
// the agent that had the lock may have shrunk it, and the lock would be on a file that nobody opens
// again.
func openFileBy(path string, open func(path string, flag int, mode os.FileMode) (*os.File, error)) (*boltDisk, error) {
	for range openTries {
		var db *bbolt.DB
		var f *os.File
		err := guard(path, func() (err error) {
			db, err = bbolt.Open(path, 0o600, &bbolt.Options{
				Timeout: 200 * time.Millisecond, FreelistType: bbolt.FreelistMapType, InitialMmapSize: mapAhead,
				OpenFile: func(path string, flag int, mode os.FileMode) (_ *os.File, err error) {
					f, err = open(path, flag, mode)
					return f, err
				},
			})
			return err
		})
		switch {
		case err == nil && isAt(f, path):
			db.AllocSize = growBy
			return &boltDisk{path: path, db: db, at: func(string) {}, space: FreeSpace}, nil
		// Another file has taken its name in between.
		case err == nil:
			db.Close()
		case errors.Is(err, bolterrors.ErrTimeout):
			return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
		case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
			return nil, &damagedError{path, err.Error()}
		default:
			return nil, fmt.Errorf("open store: %w", err)
		}
	}
	return nil, fmt.Errorf("open %s: %w", path, ErrLocked)
}

// isAt reports whether an open file, now locked, is still the file at that path: an agent that shrinks its file puts another
// one in its place and then unlocks the old one.
func isAt(f *os.File, path string) bool {
	opened, err := f.Stat()
	if err != nil {
		return false
	}
	there, err := os.Stat(path)
	return err == nil && os.SameFile(opened, there)
}

// makeFile makes the file under another name first: a crash leaves either no file or a complete
// one, never an empty one that would be taken for damaged.
func makeFile(path string) error {
	fresh := path + ".new"
	// bbolt would open a half-made one of an earlier run as it is.
	if err := os.Remove(fresh); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("make store: %w", err)
	}
	d, err := openFile(fresh)
	if err != nil {
		return err
	}
	err = d.update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketInfo, bucketLogs, bucketRecords, bucketNotices, bucketMeta} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return tx.Bucket(bucketInfo).Put(keyFormat, encodeFormat(0))
	})
	err = errors.Join(err, d.db.Close())
	if err == nil {
		err = os.Rename(fresh, path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("make store: %w", err)
	}
	return nil
}

// syncDir makes a rename durable. Without it a power loss can bring the old name back.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// checkFormat refuses a file of another format.
func (d *boltDisk) checkFormat() error {
	return d.view(func(tx *bbolt.Tx) error {
		info := tx.Bucket(bucketInfo)
		if info == nil {
			return &damagedError{d.path, "bucket info is missing"}
		}
		v := info.Get(keyFormat)
		switch _, _, ok := decodeFormat(v); {
		case ok:
		// Of this format, only not whole: damage, and no later version.
		case len(v) == len(encodeFormat(0)) && v[0] == fileFormat:
			return &damagedError{d.path, "checksum of its format"}
		default:
			return fmt.Errorf("store file %s has format %x, this version knows %d: use the version that wrote it", d.path, v, fileFormat)
		}
		return nil
	})
}

// guard turns what bbolt does on a damaged file (a panic, a fault in mapped memory) into an error.
func guard(path string, f func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if r := recover(); r != nil {
			err = &damagedError{path, fmt.Sprint(r)}
		}
	}()
	return f()
}

func (d *boltDisk) view(f func(*bbolt.Tx) error) error {
	return guard(d.path, func() error { return d.db.View(f) })
}

// update runs one transaction. bbolt rolls back and releases its locks even if it panics.
func (d *boltDisk) update(f func(*bbolt.Tx) error) error {
	return guard(d.path, func() error { return d.db.Update(f) })
}

// recordKey sorts by log and then by number, so that a log is read in its order and deleted as one
// stretch of the tree.
func recordKey(log uint32, seq uint64) []byte {
	k := make([]byte, 0, 12)
	k = binary.BigEndian.AppendUint32(k, log)
	return binary.BigEndian.AppendUint64(k, seq)
}

// commit returns after the fsync of bbolt: only then may the writer answer its callers.
func (d *boltDisk) commit(b *batch) error {
	live, err := commit(d.path, d.db, b, account{d.sum, d.live})
	if d.shrink != nil {
		d.shrink.note(b) // even if it failed: nobody can tell whether it is in the file
	}
	if err == nil {
		d.live = live
		err = d.syncName()
	}
	return err
}

// commit writes a batch to a file. before is what is known of the file: its live bytes and, for format 1, its tally.
func commit(path string, db *bbolt.DB, b *batch, before account) (live int64, err error) {
	err = guard(path, func() error {
		return db.Update(func(tx *bbolt.Tx) error { // bbolt rolls back and releases its locks even if it panics
			// Start from what the file holds, not from what was last written: a transaction whose last sync failed was refused,
			// and may be in the file nevertheless.
			a := before
			info := tx.Bucket(bucketInfo)
			if sum, tallied, _ := decodeFormat(info.Get(keyFormat)); tallied {
				a.sum = sum
			}
			if err := commitRecords(newLedger(tx, bucketRecords, &a), b); err != nil {
				return err
			}
			if err := commitRest(tx, &a, b); err != nil {
				return err
			}
			live = a.live
			return info.Put(keyFormat, encodeFormat(a.sum))
		})
	})
	return live, err
}

// commitRest writes all but the records. A nil value of meta deletes its key.
func commitRest(tx *bbolt.Tx, a *account, b *batch) error {
	logs := newLedger(tx, bucketLogs, a)
	for _, h := range b.heads {
		if err := logs.put(binary.BigEndian.AppendUint32(nil, h.disk), h.encode()); err != nil {
			return err
		}
	}
	for _, l := range b.gone {
		if err := logs.delete(binary.BigEndian.AppendUint32(nil, l)); err != nil {
			return err
		}
	}
	notices := newLedger(tx, bucketNotices, a)
	for _, n := range b.notices {
		if err := notices.put(binary.BigEndian.AppendUint64(nil, n.ID), n.encode()); err != nil {
			return err
		}
	}
	for _, id := range b.done {
		if err := notices.delete(binary.BigEndian.AppendUint64(nil, id)); err != nil {
			return err
		}
	}
	meta := newLedger(tx, bucketMeta, a)
	for k, v := range b.meta {
		var err error
		if v == nil {
			err = meta.delete([]byte(k))
		} else {
			err = meta.put([]byte(k), sealed([]byte(k), v))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// commitRecords writes and deletes records, in the order of the batch: a record that was written
// and replaced within one transaction must end up deleted. The logs that are gone come last.
func commitRecords(records ledger, b *batch) error {
	records.bucket.FillPercent = 0.9 // a log grows at its end, so fill the pages
	size := 0
	for _, o := range b.ops {
		if o.enc != nil {
			size += 16 + len(o.enc)
		}
	}
	buf := make([]byte, 0, size) // sized up front: bbolt keeps slices of it until the transaction ends
	for _, o := range b.ops {
		if o.enc == nil {
			if err := records.delete(recordKey(o.log, o.seq)); err != nil {
				return err
			}
			continue
		}
		at := len(buf)
		buf = binary.BigEndian.AppendUint32(buf, o.log)
		buf = binary.BigEndian.AppendUint64(buf, o.seq)
		key := buf[at:]
		buf = append(buf, o.enc...)
		sum := crc32.Checksum(buf[at:], castagnoli())
		buf = binary.BigEndian.AppendUint32(buf, sum)
		if err := records.put(key[:12:12], buf[at+12:len(buf):len(buf)]); err != nil {
			return err
		}
	}
	for _, l := range b.gone {
		c := records.bucket.Cursor()
		first := recordKey(l, 0)
		// Sought anew after each: a bbolt cursor may skip the item behind one that it has deleted.
		for k, v := c.Seek(first); len(k) == 12 && binary.BigEndian.Uint32(k) == l; k, v = c.Seek(first) {
			records.account.drop(records.name, k, v)
			if err := c.Delete(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sealed appends a CRC-32C over key and value, which unseal checks.
func sealed(key, value []byte) []byte {
	out := append(append(make([]byte, 0, len(value)+4), value...), 0, 0, 0, 0)
	sum := crc32.Update(crc32.Checksum(key, castagnoli()), castagnoli(), value)
	binary.BigEndian.PutUint32(out[len(value):], sum)
	return out
}

// unseal takes the checksum off a value. It covers the key too: a page whose keys and values got
// mixed up would pass otherwise.
func unseal(key, value []byte) ([]byte, bool) {
	n := len(value) - 4
	if n < 0 {
		return nil, false
	}
	sum := crc32.Update(crc32.Checksum(key, castagnoli()), castagnoli(), value[:n])
	return value[:n], sum == binary.BigEndian.Uint32(value[n:])
}

// encode does not contain the log's records, only which of its numbers are held. The number is the
// key in the file, 4 bytes instead of a name in each record's key.
func (h logHeader) encode() []byte {
	b := []byte{wireVersion}
	b = appendArray(b, 3)
	b = appendString(b, h.id.Origin)
	b = appendUint(b, h.id.Epoch)
	b = appendArray(b, 2*len(h.held))
	for _, g := range h.held {
		b = appendUint(b, g.First)
		b = appendUint(b, g.Last)
	}
	return sealed(binary.BigEndian.AppendUint32(nil, h.disk), b)
}

func decodeHeader(disk uint32, b []byte) (logHeader, error) {
	h := logHeader{disk: disk}
	r := &reader{b: b}
	checkVersion(r)
	if r.array(3) != 3 {
		r.fail("not a log header")
	}
	h.id.Origin = r.origin(make(names))
	h.id.Epoch = r.uint()
	h.held = r.ranges(1 << 24)
	r.end()
	return h, r.err()
}

// encode gives the end as a distance from the start, as records do.
func (n Notice) encode() []byte {
	b := []byte{wireVersion}
	b = appendArray(b, 5)
	b = append(b, byte(n.Kind))
	k, _ := keyOf(n.Prefix)
	b = appendPrefix(b, k)
	b = appendString(b, n.Jail)
	b = appendUint(b, uint64(n.Start))
	b = appendSpan(b, n.Start, n.Until)
	return sealed(binary.BigEndian.AppendUint64(nil, n.ID), b)
}

func decodeNotice(id uint64, b []byte) (Notice, error) {
	n := Notice{ID: id}
	r := &reader{b: b}
	checkVersion(r)
	if r.array(5) != 5 {
		r.fail("not a notice")
	}
	n.Kind = NoticeKind(r.uint())
	n.Prefix = r.prefix(false).prefix()
	n.Jail = string(r.text(text.MaxName))
	if n.Start = r.millis(); !n.Start.sane() {
		r.fail("time out of bounds")
	}
	n.Until = r.span(n.Start)
	r.end()
	return n, r.err()
}

// damaged makes an error that matches errDamaged.
func (d *boltDisk) damaged(format string, args ...any) error {
	return &damagedError{d.path, fmt.Sprintf(format, args...)}
}

// load reads everything once and adds up what it saw. Each value has a checksum of its own; that
// nothing is missing shows only in the tally. A value whose checksum fails makes the whole file
// damaged, since what it said is not known.
func (d *boltDisk) load(v visitor) error {
	if d.doubt != "" {
		v.doubt(d.doubt)
	}
	return d.view(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{bucketLogs, bucketRecords, bucketNotices, bucketMeta} {
			if tx.Bucket(name) == nil {
				return d.damaged("bucket %s is missing", name)
			}
		}
		var a account
		// each reads a bucket whose keys have that many bytes (0: any number) and hands on what its checksum confirms.
		each := func(bucket []byte, what string, width int, take func(k, body []byte) error) error {
			return tx.Bucket(bucket).ForEach(func(k, val []byte) error {
				a.add(bucket, k, val)
				body, ok := unseal(k, val)
				if width > 0 && len(k) != width || !ok {
					return d.damaged("checksum of "+what, k)
				}
				return take(k, body)
			})
		}
		err := each(bucketLogs, "log %x", 4, func(k, body []byte) error {
			h, err := decodeHeader(binary.BigEndian.Uint32(k), body)
			if err != nil {
				return d.damaged("log %x: %v", k, err)
			}
			return v.log(h)
		})
		if err != nil {
			return err
		}
		if v.expect != nil {
			v.expect(tx.Bucket(bucketRecords).Stats().KeyN)
		}
		err = each(bucketRecords, "record %x", 12, func(k, body []byte) error {
			if err := v.record(binary.BigEndian.Uint32(k), binary.BigEndian.Uint64(k[4:]), body); err != nil {
				return d.damaged("record %x: %v", k, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = each(bucketNotices, "notice %x", 8, func(k, body []byte) error {
			// One that cannot be read costs a call to fail2ban, so it is counted instead of refusing the whole file.
			if n, err := decodeNotice(binary.BigEndian.Uint64(k), body); err != nil {
				v.bad(n.ID, err.Error())
			} else {
				v.notice(n)
			}
			return nil
		})
		if err != nil {
			return err
		}
		err = each(bucketMeta, "value %q", 0, func(k, body []byte) error {
			v.meta(string(k), append([]byte{}, body...)) // body is bbolt's and only valid within the transaction
			return nil
		})
		if err != nil {
			return err
		}
		if want, tallied, _ := decodeFormat(tx.Bucket(bucketInfo).Get(keyFormat)); tallied && a.sum != want {
			return d.damaged("something of it is missing: its tally is another")
		}
		d.sum, d.live = a.sum, a.live
		return nil
	})
}

// seqs returns which records of a log are in the file, for rewriteLog to find those that should not
// be.
func (d *boltDisk) seqs(log uint32) ([]uint64, error) {
	var out []uint64
	err := d.view(func(tx *bbolt.Tx) error {
		c := tx.Bucket(bucketRecords).Cursor()
		for k, _ := c.Seek(recordKey(log, 0)); len(k) == 12 && binary.BigEndian.Uint32(k) == log; k, _ = c.Next() {
			out = append(out, binary.BigEndian.Uint64(k[4:]))
		}
		return nil
	})
	return out, err
}

// close gives up a shrink under way; its copy is removed, and made anew by a later run if it is
// still due.
func (d *boltDisk) close() error {
	d.shrink.abandon()
	d.shrink = nil
	return d.db.Close()
}

// ResetFile moves a damaged store file aside, so that the next Open starts anew, and returns its new name. A missing file is
// not an error; the name is then empty.
func ResetFile(path string) (aside string, err error) {
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	// An agent that runs holds the lock: it would go on writing to the file that was set aside.
	unlock, err := lockFile(path)
	if err != nil {
		return "", err
	}
	defer unlock()
	stem := path + ".damaged-" + time.Now().UTC().Format("20060102T150405Z")
	aside = stem
	// Two resets within one second must not overwrite each other.
	for i := 1; ; i++ {
		if _, err := os.Lstat(aside); errors.Is(err, os.ErrNotExist) {
			break
		}
		aside = fmt.Sprintf("%s-%d", stem, i)
	}
	if err := os.Rename(path, aside); err != nil {
		return "", fmt.Errorf("move the damaged store aside: %w", err)
	}
	return aside, nil
}
