package mesh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/mesh/config"
)

// What is missing is made; a directory that is there stays whose it is: it may be /etc.
func TestAMissingFileGivesNoDirectoryAway(t *testing.T) {
	dir := t.TempDir()
	dangling := filepath.Join(dir, "dangling")
	if err := os.Symlink(filepath.Join(dir, "nothing"), dangling); err != nil {
		t.Fatal(err)
	}
	cfg := config.Default()
	for path, advice := range map[string]string{
		filepath.Join(dir, "token"):           "put it there",
		dangling:                              "put it there",
		filepath.Join(dir, "absent it's/s"):   " '" + filepath.Join(dir, `absent it'\''s`) + "'`",
		filepath.Join(dir, "absent", "s"):     " " + filepath.Join(dir, "absent") + "`",
		filepath.Join(dir, "absent/two", "s"): " " + filepath.Join(dir, "absent/two") + "`",
	} {
		_, err := os.ReadFile(path)
		said := CannotUse(err, &cfg).Error()
		if !strings.Contains(said, advice) || strings.Contains(said, "install -d") != strings.Contains(path, "absent") {
			t.Errorf("%s: %q, want %q", path, said, advice)
		}
	}
}
