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
	set := func(name string) string {
		cmd := exec.Command("groff", "-man", "-Tutf8", "-ww", "-rLL=400n", "-P-c", "-P-b", "-P-u", filepath.Join(dir, name+".1"))
		var out, complaints strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &complaints
		if err := cmd.Run(); err != nil || complaints.Len() > 0 {
			t.Fatalf("set %s.1: %v: %s", name, err, &complaints)
		}
		return out.String()
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
