package model

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

// plant is a fault that the store once had, as a change of its present source.
type plant struct {
	name, file string
	changes    [][2]string
	by         []string // arguments of go test for what must find it
}

var histories = []string{"-run", "^TestHistories$", ".", "-histories=200000", "-within=9m", "-kinds=1"}

var plants = []plant{
	{"a ban that nobody can read is acknowledged", "ban.go", [][2]string{
		{"start, again = named.before(start), true", "_, start, again = named, start+second+1, true"},
	}, histories},
	{"an offence of which one record has expired cannot be lifted", "unban.go", [][2]string{
		{"if r.until > p.now && !slices.ContainsFunc(live, o.same) {", "if r.until > p.now && len(offences) == 1 && !slices.ContainsFunc(live, o.same) {"},
	}, histories},
	{"lifts pile up", "supersede.go", [][2]string{
		{"case more && less:\n\t\t\treturn s.compareOrder(l, it, r), true\n\t\tcase more:\n\t\t\treturn 1, true\n\t\t}\n\t\treturn -1, less\n\tcase KindGone:", "case more && less:\n\t\t\treturn s.compareOrder(l, it, r), true\n\t\t}\n\t\treturn 0, false\n\tcase KindGone:"},
	}, []string{"-run", "^TestAThousandCyclesAtThreeAgents$", "../world"}},
	{"what was placed leaves a record for its whole lease", "gone.go", [][2]string{
		{"case KindAllow, KindPlaced, KindFreeze, KindBlock:\n\t\treturn true", "case KindAllow, KindFreeze, KindBlock:\n\t\treturn true"},
	}, histories},
	{"the author of a lift loses it for good", "merge.go", [][2]string{
		{"return s.takeBack(c), nil", "return Merged{Log: c.log}, nil"},
	}, histories},
	{"what was lifted comes back after a long partition", "unban.go", [][2]string{
		{"until = max(until, s.retained(c), r.start.plus(p.life))", "until = max(until, s.retained(c))"},
	}, histories},
}

// planted writes the changed source and returns the overlay that puts it in place.
func (p plant) planted(t *testing.T, dir string) string {
	path, err := filepath.Abs(filepath.Join("../../../store", p.file))
	if err != nil {
		t.Fatal(err)
	}
	src, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text := string(src)
	for _, c := range p.changes {
		if n := strings.Count(text, c[0]); n != 1 {
			t.Fatalf("%s: store/%s has %d times %q: plant it where it is now", p.name, p.file, n, c[0])
		}
		text = strings.Replace(text, c[0], c[1], 1)
	}
	changed, overlay := filepath.Join(dir, p.file), filepath.Join(dir, "overlay.json")
	b, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{changed: []byte(text), overlay: b} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return overlay
}

// TestFaultsCanBePlanted: the faults that TestSoakPlantedFaults plants still have a place in the source.
func TestFaultsCanBePlanted(t *testing.T) {
	for _, p := range plants {
		p.planted(t, t.TempDir())
	}
}

// TestSoakPlantedFaults puts faults back that the store once had, one by one: the model or the simulation must find each.
func TestSoakPlantedFaults(t *testing.T) {
	need.Soak(t)
	need.Programs(t, "go")
	for _, p := range plants {
		t.Run(p.name, func(t *testing.T) {
			begun := time.Now()
			out, err := exec.Command("go", append([]string{"test", "-count=1", "-timeout=10m", "-overlay", p.planted(t, t.TempDir())}, p.by...)...).CombinedOutput()
			if err == nil {
				t.Fatalf("nobody finds it:\n%s", out)
			}
			if !strings.Contains(string(out), "--- FAIL") {
				t.Fatalf("it does not compile:\n%s", out)
			}
			t.Logf("found in %v", time.Since(begun).Round(time.Second))
		})
	}
}
