package e2e

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPackagesListWhatTheyAreMadeOf compares the bill of materials in each package with what
// the linker noted in the binary beside it, and with go.sum.
func TestPackagesListWhatTheyAreMadeOf(t *testing.T) {
	t.Parallel()
	dist := built(t, release)
	pinned := fileText(t, "../../../go.sum")
	for _, arch := range []string{"amd64", "arm64"} {
		dir := t.TempDir()
		system(t, "dpkg-deb", "--extract", filepath.Join(dist, "banmesh_1.0.0-1_"+arch+".deb"), dir)
		binary := filepath.Join(dir, "usr/bin/banmesh")
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		var bill struct {
			Format   string `json:"bomFormat"`
			Spec     string `json:"specVersion"`
			Metadata struct {
				Timestamp string
				Component struct {
					Name, Version string
					Hashes        []struct{ Alg, Content string }
				}
			}
			Components []struct {
				Name, Version, PURL string
				Licenses            []struct{ Expression string }
				Properties          []struct{ Name, Value string }
			}
		}
		if err := json.Unmarshal([]byte(fileText(t, filepath.Join(dir, "usr/share/doc/banmesh/banmesh.cdx.json"))), &bill); err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256([]byte(fileText(t, binary)))
		made := bill.Metadata.Component
		if bill.Format != "CycloneDX" || bill.Spec != "1.5" || bill.Metadata.Timestamp == "" || made.Name != "banmesh" || made.Version != "1.0.0" ||
			len(made.Hashes) != 1 || made.Hashes[0].Content != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: the bill is of %+v", arch, bill.Metadata)
		}
		listed := map[string]bool{}
		for _, c := range bill.Components {
			listed[c.Name+" "+c.Version] = true
			if len(c.Licenses) != 1 || c.Licenses[0].Expression == "" || c.PURL != "pkg:golang/"+c.Name+"@"+c.Version {
				t.Errorf("%s: %+v", arch, c)
			}
		}
		want := append(info.Deps[:0:0], info.Deps...)
		for _, m := range want {
			if !listed[m.Path+" "+m.Version] {
				t.Errorf("%s: %s %s is linked and not listed", arch, m.Path, m.Version)
			}
			if !strings.Contains(pinned, m.Path+" "+m.Version+" "+m.Sum+"\n") {
				t.Errorf("%s: go.sum does not pin %s %s", arch, m.Path, m.Version)
			}
		}
		if !listed["std "+strings.TrimPrefix(info.GoVersion, "go")] || len(bill.Components) != len(want)+1 {
			t.Errorf("%s: %d components are listed, %d modules and %s are linked", arch, len(bill.Components), len(want), info.GoVersion)
		}
	}
}

// TestTheSameSourcesGiveTheSameBytes builds in another directory, with nothing
// compiled before, and says what it is.
func TestTheSameSourcesGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	const top = "../../.."
	elsewhere := t.TempDir()
	files := strings.Split(strings.TrimRight(system(t, "git", "-C", top, "ls-files", "-z", "--cached", "--others", "--exclude-standard"), "\x00"), "\x00")
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			continue // deleted, and not yet said so
		}
		to := filepath.Join(elsewhere, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(top, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
	build := func(dir, out, command string, env ...string) {
		t.Helper()
		cmd := exec.Command("make", "-s", "-C", dir, "build", "COMMANDS="+command, "VERSION=1.2.3", "COMMIT=0123456789ab", "BIN="+out)
		cmd.Env = append(append(os.Environ(), "MAKEFLAGS=", "MFLAGS="), env...)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("make build in %s: %v: %s", dir, err, said)
		}
	}
	here, there := t.TempDir(), t.TempDir()
	otherwise := []string{"HOME=" + t.TempDir(), "TZ=Asia/Tokyo", "GOMODCACHE=" + strings.TrimSpace(system(t, "go", "env", "GOMODCACHE"))}
	// The large one is linked anew, of packages that are compiled once; the small one is compiled anew as well.
	for command, cache := range map[string]string{"banmesh": strings.TrimSpace(system(t, "go", "env", "GOCACHE")), "banmesh-hook": t.TempDir()} {
		build(top, here, command)
		build(elsewhere, there, command, append(otherwise, "GOCACHE="+cache)...)
		if fileText(t, filepath.Join(here, command)) != fileText(t, filepath.Join(there, command)) {
			t.Errorf("built elsewhere, %s is another one", command)
		}
	}
	two := filepath.Join(there, "banmesh")
	if said := system(t, two, "version"); !strings.HasPrefix(said, "banmesh 1.2.3 (commit 0123456789ab, go1") {
		t.Errorf("it says it is %q", said)
	}
	if strings.Contains(fileText(t, two), elsewhere) {
		t.Errorf("the binary holds the path %s of its sources", elsewhere)
	}
}
