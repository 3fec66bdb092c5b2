package e2e

import (
	"math/rand/v2"
	"time"
)

// upTo is a duration up to most, by chance.
func upTo(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most)))
}
