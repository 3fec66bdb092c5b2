package store

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// LogID names a log: the member that writes it and the random number it drew at its start. Epochs are never ordered.
type LogID struct {
	Origin string
	Epoch  uint64
}

// String returns origin/epoch, the epoch in hexadecimal.
func (id LogID) String() string { return fmt.Sprintf("%s/%016x", id.Origin, id.Epoch) }

func (id LogID) compare(o LogID) int {
	return cmp.Or(cmp.Compare(id.Origin, o.Origin), cmp.Compare(id.Epoch, o.Epoch))
}

// hash is the short name of the log in digests: the first 8 bytes of SHA-256(origin 0 epoch).
func (id LogID) hash() uint64 {
	b := make([]byte, 0, len(id.Origin)+9)
	b = append(b, id.Origin...)
	b = append(b, 0)
	b = binary.BigEndian.AppendUint64(b, id.Epoch)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

// Dot is the identity of a record: its log and its number there. Numbers are contiguous from 1.
type Dot struct {
	Log LogID
	Seq uint64
}

// seqRange is an inclusive range of sequence numbers.
type seqRange struct{ First, Last uint64 }

// dotRange names records of one log.
type dotRange struct {
	Log LogID
	seqRange
}

func (d dotRange) compare(e dotRange) int {
	return cmp.Or(d.Log.compare(e.Log), cmp.Compare(d.First, e.First))
}

func (d dotRange) covers(id LogID, seq uint64) bool {
	return d.Log == id && d.First <= seq && seq <= d.Last
}

// Head is the newest durable record of a log.
type Head struct {
	Log LogID
	Seq uint64
}
