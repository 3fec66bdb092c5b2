package examples

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryFileSaysWhereItGoes: what is copied from here is read again years
// later, far from its README.
func TestEveryFileSaysWhereItGoes(t *testing.T) {
	place := regexp.MustCompile(`(?i)install (it )?as /|/etc/banmesh/banmesh\.yaml|conductor's command line|as the <config> of an|release 5\.3 or later`)
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			if d != nil && (d.Name() == "testdata" || d.Name() == "ansible") { // the role stays together, where Ansible runs
				return fs.SkipDir
			}
			return err
		}
		switch filepath.Ext(path) {
		case ".go", ".md", ".json": // the last has no comments
			return nil
		}
		switch path {
		case "conductor/tenant.txt", "conductor/service.txt": // typed, not installed; README.md says where
			return nil
		}
		text := read(t, path)
		top := strings.Join(strings.Fields(strings.ReplaceAll(text[:min(len(text), 600)], "\n#", " ")), " ")
		if !place.MatchString(top) {
			t.Errorf("%s does not say at its top where it goes", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// OpenRC starts the agent as its own user, with a package that knows root alone.
func TestOpenRCGivesTheAgentItsConfiguration(t *testing.T) {
	out, err := run(t, "sh", "-euc", `checkpath() { echo "$*"; }; . openrc/banmesh; command=true; start_pre`)
	if err != nil {
		t.Errorf("start_pre: %v", err)
	}
	for _, want := range []string{
		"--owner root:banmesh --mode 1770 /etc/banmesh\n", "--owner root:banmesh --mode 0640 /etc/banmesh/banmesh.yaml\n",
		"--owner banmesh:banmesh --mode 0750 /run/banmesh /var/lib/banmesh\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("start_pre does not say %q, but\n%s", want, out)
		}
	}
	if out, err := run(t, "sh", "-c", `checkpath() { echo "$*"; }; . openrc/banmesh; command=false; start_pre`); err == nil || out != "" {
		t.Errorf("a configuration that is refused is started with: %v, %s", err, out)
	}
}

func TestBlocklistUnitsAreValid(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"banmesh-blocklist.service", "banmesh-blocklist.timer"} {
		text := strings.ReplaceAll(read(t, "systemd/"+name), "/usr/local/sbin/banmesh-blocklist", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	service := filepath.Join(dir, "banmesh-blocklist.service")
	if out, err := run(t, "systemd-analyze", "verify", service, filepath.Join(dir, "banmesh-blocklist.timer")); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
	if out, err := run(t, "systemd-analyze", "security", "--offline=true", "--threshold=25", service); err != nil {
		t.Errorf("the sandbox is weaker than 2.5: %v: %s", err, out)
	}
	when := regexp.MustCompile(`OnCalendar=(.*)`).FindStringSubmatch(read(t, "systemd/banmesh-blocklist.timer"))[1]
	if out, err := run(t, "systemd-analyze", "calendar", when); err != nil {
		t.Errorf("systemd-analyze calendar %s: %v: %s", when, err, out)
	}
}

// TestUserAndDirectoriesAreMade makes them below a root of its own.
func TestUserAndDirectoriesAreMade(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"etc/banmesh", "var/lib", "run"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "etc/banmesh/banmesh.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"systemd/sysusers.d/banmesh.conf", "systemd/tmpfiles.d/banmesh.conf"} {
		if err := os.WriteFile(filepath.Join(root, filepath.Base(filepath.Dir(name))), []byte(read(t, name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := run(t, "systemd-sysusers", "--root", root, filepath.Join(root, "sysusers.d")); err != nil {
		t.Fatalf("systemd-sysusers: %v: %s", err, out)
	}
	if out, err := run(t, "systemd-tmpfiles", "--root", root, "--create", filepath.Join(root, "tmpfiles.d")); err != nil {
		t.Fatalf("systemd-tmpfiles: %v: %s", err, out)
	}
	passwd := read(t, filepath.Join(root, "etc/passwd"))
	if !regexp.MustCompile(`(?m)^banmesh:[^:]*:\d+:\d+:banmesh agent:/var/lib/banmesh:/usr/sbin/nologin$`).MatchString(passwd) {
		t.Errorf("no such user as wanted in %q", passwd)
	}
	for path, want := range map[string]fs.FileMode{
		"etc/banmesh":              fs.ModeDir | fs.ModeSticky | 0o770,
		"etc/banmesh/banmesh.yaml": 0o640,
		"var/lib/banmesh":          fs.ModeDir | 0o750,
		"run/banmesh":              fs.ModeDir | 0o755,
	} {
		info, err := os.Stat(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
		} else if info.Mode() != want {
			t.Errorf("%s has mode %v, want %v", path, info.Mode(), want)
		}
	}
}

// The README's way without the packages, below a root that has what Debian has and no directory more.
func TestInstallingWithoutThePackagesMakesItsDirectories(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "etc/systemd/system", "etc/fail2ban/action.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, program := range []string{"banmesh", "banmesh-hook", "banmesh-fail2ban"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, "bin"), 0o755), os.WriteFile(filepath.Join(root, "bin", program), nil, 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	_, text, _ := strings.Cut(read(t, "../README.md"), "\n## Without the packages\n")
	text, _, _ = strings.Cut(text, "\n## ")
	lines := regexp.MustCompile(`(?m)^ +install .*$`).FindAllString(text, -1)
	if len(lines) < 4 {
		t.Fatalf("the README installs with %q only", lines)
	}
	for _, line := range lines {
		words := strings.Fields(line)
		for i, word := range words {
			switch {
			case strings.HasPrefix(word, "/"):
				words[i] = root + word
			case strings.HasPrefix(word, "bin/"):
				words[i] = filepath.Join(root, word)
			default:
				words[i] = strings.ReplaceAll(word, "examples/", "./")
			}
		}
		if out, err := run(t, "sh", "-c", strings.Join(words, " ")); err != nil {
			t.Errorf("%s: %v: %s", strings.TrimSpace(line), err, out)
		}
	}
}

func TestSSHServiceKeepsTheSourceAndDeniesTheTenant(t *testing.T) {
	text := read(t, "conductor/ssh.txt")
	_, block, _ := strings.Cut(text, "\nconfig\n")
	block, _, ok := strings.Cut(block, "\nexit\n")
	if !ok {
		t.Fatal("ssh.txt has no block of configuration")
	}
	words := strings.Join(strings.Fields(block), " ")
	for _, want := range []string{
		"host-service ssh service-type ssh enabled false",
		"access-policy blacklist-fail2ban source blacklist-fail2ban permission deny",
		"service-name ssh-outside", "name ssh-outside", "scope public", "start-port 22",
	} {
		if !strings.Contains(words, want) {
			t.Errorf("ssh.txt does not say %q", want)
		}
	}
	wantClosed(t, "ssh.txt", "config\n"+block+"\nexit\n")
}
