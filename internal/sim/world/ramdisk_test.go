package world

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAKilledWorldsFilesAreRemoved: by the next one, which leaves alone what a living one uses.
func TestAKilledWorldsFilesAreRemoved(t *testing.T) {
	used, remove, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	killed, err := os.MkdirTemp(filepath.Dir(used), "banmesh-world-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(killed, "store.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	next, remove, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	remove()
	for dir, want := range map[string]bool{used: true, killed: false, next: false} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s: %v, want it to be there: %t", dir, err, want)
		}
	}
}
