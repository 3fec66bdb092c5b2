// Package random is where randomness comes from: a package draws it from a source that it is given, so that a simulation can
// use a seeded one. Keys, nonces and tokens are the exception: they always come from the system.
package random

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
	"time"
)

// Source draws from the system. It may be used by several goroutines.
var Source rand.Source = system{}

type system struct{}

// Uint64 implements rand.Source; crypto/rand.Read never fails.
func (system) Uint64() uint64 {
	var b [8]byte
	crand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// New returns a generator over a source, which several goroutines may use if they may use the source; nil is the system's.
func New(s rand.Source) *rand.Rand {
	if s == nil {
		s = Source
	}
	return rand.New(s)
}

// Below draws a duration from 0 up to and without d; 0 where d is not greater than 0.
func Below(r *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(r.Int64N(int64(d)))
}
