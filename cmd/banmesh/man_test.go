package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/internal/need"
)

// The pages are set by groff, as man does it; it complains about what it does
// not understand.
func TestManualHasAPageForEveryCommand(t *testing.T) {
	need.Programs(t, "groff") // comes with man-db
	dir := t.TempDir()
	if code, out, errOut := try("man", dir); code != exitDone || out+errOut != "" {
		t.Fatalf("exit %d: %s%s", code, out, errOut)
	}
	names := []string{"banmesh"}
	for _, cmd := range commands(newConsole(nil, nil, nil, func(string) string { return "" })) {
		if !cmd.Hidden {
			names = append(names, "banmesh-"+cmd.Name)
		}
	}
	pages := manualPages(t, dir, names)
	set := func(name string) string {
		page, ok := pages[name]
		if !ok {
			t.Fatalf("%s(1) is not there", name)
		}
		return page
	}
	whole := set("banmesh")
	for _, cmd := range commands(newConsole(nil, nil, nil, func(string) string { return "" })) {
		if cmd.Hidden {
			continue
		}
		name := "banmesh-" + cmd.Name
		if !strings.Contains(whole, name+"(1)") {
			t.Errorf("banmesh(1) does not name %s(1)", name)
		}
		page := set(name)
		for _, f := range cmd.Flags {
			if !strings.Contains(page, "--"+f.Names()[0]) {
				t.Errorf("%s(1) does not name --%s", name, f.Names()[0])
			}
		}
		if !strings.Contains(page, "Example") || strings.Contains(page, "`") {
			t.Errorf("%s(1) has no example, or marks of the help:\n%s", name, page)
		}
	}
	if page := set("banmesh-allow"); !strings.Contains(page, "banmesh allow add PREFIX") || !strings.Contains(page, "ALLOW REMOVE") {
		t.Errorf("banmesh-allow(1) does not show its subcommands:\n%s", page)
	}
}

// manualPages sets the pages all at once, without lines of their own for their heads
// and ends, and gives each.
func manualPages(t *testing.T, dir string, names []string) map[string]string {
	t.Helper()
	args := []string{"-man", "-Tutf8", "-ww", "-rLL=400n", "-P-c", "-P-b", "-P-u"}
	for _, name := range names {
		args = append(args, filepath.Join(dir, name+".1"))
	}
	cmd := exec.Command("groff", args...)
	var out, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil || complaints.Len() > 0 {
		t.Fatalf("set %q: %v: %s", names, err, &complaints)
	}
	pages := make(map[string]string)
	name := ""
	for line := range strings.Lines(out.String()) {
		// A page's head is NAME(1), what it is, NAME(1).
		if words := strings.Fields(line); len(words) > 1 && words[0] == words[len(words)-1] && strings.HasSuffix(words[0], "(1)") {
			name = strings.ToLower(strings.TrimSuffix(words[0], "(1)"))
		}
		pages[name] += line
	}
	return pages
}

func TestManualExplainsTheConfiguration(t *testing.T) {
	need.Programs(t, "groff")
	dir := t.TempDir()
	if code, out, errOut := try("man", "--section", "5", dir); code != exitDone || out+errOut != "" {
		t.Fatalf("exit %d: %s%s", code, out, errOut)
	}
	out, err := exec.Command("groff", "-man", "-Tutf8", "-ww", "-P-c", "-P-b", "-P-u", filepath.Join(dir, "banmesh.yaml.5")).CombinedOutput()
	if err != nil {
		t.Fatalf("set banmesh.yaml.5: %v: %s", err, out)
	}
	for _, want := range []string{"configuration of a banmesh agent", "max_entries: 1000000", "banmesh config check FILE"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("banmesh.yaml(5) does not say %q:\n%s", want, out)
		}
	}
}
