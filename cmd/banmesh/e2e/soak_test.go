package e2e

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"
)

// seed is what all chance of a test comes from: BANMESH_SEED, or a new one. It is
// logged, so that a run can be repeated.
func seed(t *testing.T) uint64 {
	t.Helper()
	s := rand.Uint64()
	if text := os.Getenv("BANMESH_SEED"); text != "" {
		var err error
		if s, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("BANMESH_SEED: %v", err)
		}
	}
	t.Logf("seed %d; again with BANMESH_SEED=%d go test -run '^%s$'", s, s, t.Name())
	return s
}

// upTo is a duration up to most, by chance.
func upTo(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most)))
}
