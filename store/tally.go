package store

import (
	"bytes"
	"encoding/binary"

	"go.etcd.io/bbolt"
)

// tally is the order-free sum over everything in the file. Each value has its own checksum, but a page that has lost one of its
// elements still looks whole: only the tally shows that something is missing. It is written in the transaction that changes it.
type tally uint64

func (t *tally) add(bucket, key, value []byte) { *t += entry(bucket, key, value) }

// entry is what one value adds. Its last four bytes are its checksum, which stands for the rest of it.
func entry(bucket, key, value []byte) tally {
	h := uint64(14695981039346656037) // FNV-1a
	for _, part := range [...][]byte{bucket, key, value[max(0, len(value)-4):]} {
		for _, b := range part {
			h = (h ^ uint64(b)) * 1099511628211
		}
	}
	// FNV gives similar inputs similar hashes; the finalizer of splitmix64 spreads them.
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return tally(h ^ h>>31)
}

// account is how a transaction changes the totals of the file.
type account struct {
	sum  tally
	live int64 // bytes of all keys and values, as the file stores them
}

func (a *account) add(bucket, key, value []byte) {
	a.sum.add(bucket, key, value)
	a.live += footprint(key, value)
}

func (a *account) drop(bucket, key, value []byte) {
	a.sum -= entry(bucket, key, value)
	a.live -= footprint(key, value)
}

// footprint is what a value takes in a page.
func footprint(key, value []byte) int64 { return int64(len(key) + len(value) + pageElement) }

// ledger is a bucket whose changes are entered into the account.
type ledger struct {
	bucket *bbolt.Bucket
	cursor *bbolt.Cursor // kept, because Get would make one for each call
	name   []byte
	*account
}

// newLedger is how every write to a bucket must go: past it the file would fail its own check at
// the next start.
func newLedger(tx *bbolt.Tx, name []byte, a *account) ledger {
	b := tx.Bucket(name)
	return ledger{b, b.Cursor(), name, a}
}

func (l ledger) put(key, value []byte) error {
	l.drop(key)
	l.account.add(l.name, key, value)
	return l.bucket.Put(key, value)
}

func (l ledger) delete(key []byte) error {
	l.drop(key)
	return l.bucket.Delete(key)
}

// drop takes what stands under the key out of the account, before it is replaced or deleted.
// Nothing there is no error.
func (l ledger) drop(key []byte) {
	if k, old := l.cursor.Seek(key); bytes.Equal(k, key) {
		l.account.drop(l.name, key, old)
	}
}

// encodeFormat makes the value that holds the file's format and its tally.
func encodeFormat(sum tally) []byte {
	return sealed(keyFormat, binary.BigEndian.AppendUint64([]byte{fileFormat}, uint64(sum)))
}

// decodeFormat reads it; tallied is false for a file of format 1, which has no tally yet.
func decodeFormat(v []byte) (sum tally, tallied, ok bool) {
	if len(v) == 1 && v[0] == 1 {
		return 0, false, true
	}
	body, ok := unseal(keyFormat, v)
	if !ok || len(body) != 9 || body[0] != fileFormat {
		return 0, false, false
	}
	return tally(binary.BigEndian.Uint64(body[1:])), true, true
}
