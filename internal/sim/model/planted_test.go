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

// plant is a fault, as a change of the present source.
type plant struct {
	name, file string
	changes    [][2]string
	by         []string // arguments of go test for what must find it
}

// What finds faults: the model, and whole agents in the simulated world.
var (
	histories = []string{"-run", "^TestHistories$", ".", "-histories=200000", "-within=9m", "-kinds=1"}
	worlds    = []string{"-run", "^TestSoakWorld$", "-failfast", "../world"}
)

// The first six are faults that the store once had.
var plants = []plant{
	{"a ban that nobody can read is acknowledged", "store/ban.go", [][2]string{
		{"start, again = named.before(start), true", "_, start, again = named, start+second+1, true"},
	}, histories},
	{"an offence of which one record has expired cannot be lifted", "store/unban.go", [][2]string{
		{"if r.until > p.now && !slices.ContainsFunc(live, o.same) {", "if r.until > p.now && len(offences) == 1 && !slices.ContainsFunc(live, o.same) {"},
	}, histories},
	{"lifts pile up", "store/supersede.go", [][2]string{
		{"return s.keepsRicher(l, it, r, more, less)\n\tcase KindGone:", "return s.keepsRicher(l, it, r, more && less, more && less)\n\tcase KindGone:"},
	}, []string{"-run", "^TestAThousandCyclesAtThreeAgents$", "../world"}},
	{"what was placed leaves a record for its whole lease", "store/gone.go", [][2]string{
		{"case KindAllow, KindPlaced, KindFreeze, KindBlock:\n\t\treturn true", "case KindAllow, KindFreeze, KindBlock:\n\t\treturn true"},
	}, histories},
	{"the author of a lift loses it for good", "store/merge.go", [][2]string{
		{"return s.takeBack(c), nil", "return Merged{Log: c.log}, nil"},
	}, histories},
	{"what was lifted comes back after a long partition", "store/unban.go", [][2]string{
		{"until = max(until, s.retained(c), r.start.plus(p.life))", "until = max(until, s.retained(c))"},
	}, histories},
	{"an error of the disk is no error", "store/writer.go", [][2]string{
		{"if err = s.watched(func() error { return s.disk.commit(b) }); err != nil {", "if err = s.watched(func() error { return s.disk.commit(b) }); false {"},
	}, worlds},
	{"records are forgotten although the clocks disagree", "mesh/agent.go", [][2]string{
		{"a.store.Tick(a.clock.agrees())", "a.store.Tick(true)"},
	}, worlds},
	{"a spooled call that failed is dropped", "mesh/api.go", [][2]string{
		{"fmt.Errorf(\"%w: %w\", spool.ErrRefused, err)\n\t}\n\treturn err", "fmt.Errorf(\"%w: %w\", spool.ErrRefused, err)\n\t}\n\treturn nil"},
	}, worlds},
	{"roots that differ start no exchange", "mesh/gossip/sync.go", [][2]string{
		{"case wait == 0:\n\t\ts.want(name, 0)", "case wait == 0:"},
	}, worlds},
	{"what was not heard of for long still agrees", "mesh/gossip/agreement.go", [][2]string{
		{"if p.state != Alive || t.silent(p, now) && now.Sub(p.compared) > t.patience() {", "if p.state != Alive {"},
	}, worlds},
	{"the kernel drops what is allowed", "mesh/enforce/want.go", [][2]string{
		{"for _, p := range b.Pieces {", "for _, p := range []netip.Prefix{b.Prefix} {"},
	}, worlds},
	{"an edit is made before its addresses are recorded as placed", "mesh/commit/attempt.go", [][2]string{
		{"if !p.Empty() {\n\t\tif fresh, first, err = c.place(step, p.Add); err != nil {", "if !p.Empty() {\n\t\tif false {"},
	}, worlds},
	{"what nobody placed is removed", "mesh/commit/plan.go", [][2]string{
		{"if _, ok := d.placed[p]; !ok {\n\t\t\td.foreigner(p)", "if _, ok := d.placed[p]; !ok && d.removeForeign {\n\t\t\td.foreigner(p)"},
	}, worlds},
	{"whatever session holds the lock is killed", "mesh/conductor/begin.go", [][2]string{
		{"case denied.Holder != 0 && slices.Contains(p.Kill, SessionAt{e.n.name, denied.Holder}) && !killed:", "case denied.Holder != 0 && !killed:"},
	}, worlds},
	{"a candidate is taken as it is found", "mesh/conductor/begin.go", [][2]string{
		{"d, err := e.cleanCandidate(ctx, p, true)", "d, err := e.compare(ctx)"},
	}, worlds},
	{"fail2ban is not told of what is lifted elsewhere", "mesh/fail2ban/notifier.go", [][2]string{
		{"\terr := n.client.Unban(ctx, jail, prefixes)", "\terr := ctx.Err()"},
	}, worlds},
	{"fail2ban is told once of what it must release, heard or not", "mesh/fail2ban/notifier.go", [][2]string{
		{"if err := n.unban(ctx, jail, prefixes, echoes); err != nil {\n\t\t\treturn err\n\t\t}", "n.unban(ctx, jail, prefixes, echoes)"},
	}, worlds},
}

// complaints are the lines of a test's output that say what failed.
func complaints(out string) (lines []string) {
	for _, l := range strings.Split(out, "\n") {
		if strings.Contains(l, "_test.go:") && !strings.Contains(l, " days in ") && len(lines) < 5 {
			lines = append(lines, strings.TrimSpace(l))
		}
	}
	return lines
}

// planted writes the changed source and returns the overlay that puts it in place.
func (p plant) planted(t *testing.T, dir string) string {
	path, err := filepath.Abs(filepath.Join("../../..", p.file))
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
			t.Fatalf("%s: %s has %d times %q: plant it where it is now", p.name, p.file, n, c[0])
		}
		text = strings.Replace(text, c[0], c[1], 1)
	}
	changed, overlay := filepath.Join(dir, "planted.go"), filepath.Join(dir, "overlay.json")
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
			cmd := exec.Command("go", append([]string{"test", "-count=1", "-timeout=12m", "-overlay", p.planted(t, t.TempDir())}, p.by...)...)
			cmd.Env = append(os.Environ(), "BANMESH_SOAK=9m", "BANMESH_SEEDS=")
			out, err := cmd.CombinedOutput()
			if err == nil {
				t.Fatalf("nobody finds it:\n%s", out)
			}
			if !strings.Contains(string(out), "--- FAIL") {
				t.Fatalf("it does not compile:\n%s", out)
			}
			t.Logf("found in %v: %s", time.Since(begun).Round(time.Second), strings.Join(complaints(string(out)), "\n"))
		})
	}
}
