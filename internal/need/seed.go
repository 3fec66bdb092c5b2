package need

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Seed is what all chance of a test comes from: BANMESH_SEED, which `make test` sets so that no change fails by chance, or a
// new one. It is logged, so that a run can be repeated.
func Seed(t testing.TB) uint64 {
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
