package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// system runs a program of the machine as root, with nothing to ask.
func system(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := attempt(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func attempt(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	// What make was told to run the tests with is not for a make in them.
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8", "MAKEFLAGS=", "MFLAGS=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// packages builds packages, with more settings of make, and returns their directory.
func packages(t testing.TB, version, arches string, more ...string) string {
	t.Helper()
	dist := t.TempDir()
	args := []string{"-s", "-C", "../../..", "package", "VERSION=" + version, "COMMIT=test", "ARCHES=" + arches, "DIST=" + dist, "BIN=" + t.TempDir()}
	system(t, "make", append(args, more...)...)
	return dist
}

// dpkg waits while somebody else installs on this machine.
func dpkg(t testing.TB, args ...string) string {
	t.Helper()
	var out string
	eventually(t, time.Minute, "dpkg "+strings.Join(args, " "), func() bool {
		var err error
		out, err = attempt("dpkg", args...)
		if err != nil && !strings.Contains(out, "lock") {
			t.Fatalf("dpkg %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return err == nil
	})
	return out
}

func TestPackages(t *testing.T) {
	arch := strings.TrimSpace(system(t, "dpkg", "--print-architecture"))
	dist := packages(t, "1.0.0", "amd64 arm64")
	t.Run("hold what a router needs", func(t *testing.T) { holdWhatARouterNeeds(t, dist) })
	t.Run("hold what systems without systemd need", func(t *testing.T) { holdWhatOthersNeed(t, dist) })
	t.Run("are the same when built again", func(t *testing.T) { areTheSameAgain(t, dist, arch) })
	t.Run("list what they are made of", func(t *testing.T) { listWhatTheyAreMadeOf(t, dist) })
	t.Run("are set up by hand as README says", func(t *testing.T) {
		setUpByHand(t, filepath.Join(dist, "banmesh_1.0.0-1_"+arch+".deb"))
	})
	next := packages(t, "1.1.0", arch, "PACKAGERS=deb rpm")
	t.Run("ask the right things of systemd", func(t *testing.T) { scriptsCallSystemd(t, dist, next, arch) })
	t.Run("are installed, upgraded and purged", func(t *testing.T) {
		areInstalledUpgradedAndPurged(t, filepath.Join(dist, "banmesh_1.0.0-1_"+arch+".deb"), filepath.Join(next, "banmesh_1.1.0-1_"+arch+".deb"))
	})
}

func holdWhatARouterNeeds(t *testing.T, dist string) {
	deb := func(arch string) string { return filepath.Join(dist, "banmesh_1.0.0-1_"+arch+".deb") }
	rpm := func(arch string) string { return filepath.Join(dist, "banmesh-1.0.0-1."+arch+".rpm") }
	common := []string{
		"/usr/bin/banmesh", "/usr/bin/banmesh-hook", "/etc/banmesh/banmesh.yaml", "/etc/fail2ban/action.d/banmesh.conf",
		"/usr/libexec/banmesh/banmesh-fail2ban", "/usr/lib/systemd/system/banmesh-fail2ban.socket", "/usr/lib/systemd/system/banmesh-fail2ban.service",
		"/usr/lib/systemd/system/banmesh.service", "/usr/lib/sysusers.d/banmesh.conf", "/usr/lib/tmpfiles.d/banmesh.conf",
		"/usr/share/man/man1/banmesh.1.gz", "/usr/share/man/man1/banmesh-ban.1.gz", "/usr/share/man/man5/banmesh.yaml.5.gz",
		"/usr/share/bash-completion/completions/banmesh", "/usr/share/fish/vendor_completions.d/banmesh.fish",
		"/usr/share/doc/banmesh/README.md", "/usr/share/doc/banmesh/SECURITY.md", "/usr/share/doc/banmesh/banmesh.cdx.json",
		"/usr/share/doc/banmesh/copyright", "/usr/share/doc/banmesh/changelog.gz", "/usr/share/doc/banmesh/examples/README.md",
	}
	for arch, name := range map[string]string{"amd64": "x86_64", "arm64": "aarch64"} {
		var inDeb []string
		for line := range strings.Lines(system(t, "dpkg-deb", "--contents", deb(arch))) {
			inDeb = append(inDeb, strings.TrimPrefix(strings.Fields(line)[5], "."))
		}
		inRPM := strings.Fields(system(t, "rpm", "--query", "--package", "--list", rpm(name)))
		for _, want := range append([]string{"/usr/share/zsh/vendor-completions/_banmesh"}, common...) {
			if !slices.Contains(inDeb, want) {
				t.Errorf("the .deb for %s has no %s", arch, want)
			}
		}
		for _, want := range append([]string{"/usr/share/zsh/site-functions/_banmesh"}, common...) {
			if !slices.Contains(inRPM, want) {
				t.Errorf("the .rpm for %s has no %s", arch, want)
			}
		}
		for _, got := range append(inDeb, inRPM...) {
			if strings.HasSuffix(got, ".go") || strings.Contains(got, "testdata") {
				t.Errorf("a package for %s holds %s", arch, got)
			}
		}
		if got := strings.TrimSpace(system(t, "dpkg-deb", "--field", deb(arch), "Architecture")); got != arch {
			t.Errorf("the .deb for %s is for %s", arch, got)
		}
		if got := strings.TrimSpace(system(t, "rpm", "--query", "--package", "--queryformat", "%{ARCH} %{VERSION}", rpm(name))); got != name+" 1.0.0" {
			t.Errorf("the .rpm for %s is %s", arch, got)
		}
		if got := strings.Fields(system(t, "rpm", "--query", "--package", "--configfiles", rpm(name))); len(got) != 2 {
			t.Errorf("the .rpm keeps %v, want the configuration and the action", got)
		}
	}
}

// holdWhatOthersNeed looks into the packages for systems without systemd.
func holdWhatOthersNeed(t *testing.T, dist string) {
	for _, name := range []string{"x86_64", "aarch64"} {
		ipk := filepath.Join(dist, "banmesh_1.0.0-1_"+map[string]string{"x86_64": "x86_64", "aarch64": "arm64"}[name]+".ipk")
		data := filepath.Join(t.TempDir(), "data.tar.gz")
		if err := os.WriteFile(data, []byte(system(t, "tar", "xzOf", ipk, "./data.tar.gz")), 0o600); err != nil {
			t.Fatal(err)
		}
		for path, file := range map[string]string{"apk": filepath.Join(dist, "banmesh_1.0.0-r1_"+name+".apk"), "ipk": data} {
			var got []string
			for line := range strings.Lines(system(t, "tar", "tzf", file)) {
				got = append(got, strings.TrimPrefix(strings.TrimSpace(line), "./"))
			}
			for _, want := range []string{
				"usr/bin/banmesh", "usr/bin/banmesh-hook", "etc/banmesh/banmesh.yaml", "etc/init.d/banmesh",
				"etc/fail2ban/action.d/banmesh.conf", "usr/share/doc/banmesh/copyright",
			} {
				if !slices.Contains(got, want) {
					t.Errorf("the .%s for %s has no %s", path, name, want)
				}
			}
			for _, path := range got {
				if strings.Contains(path, "systemd") {
					t.Errorf("the package %s holds %s", file, path)
				}
			}
		}
	}
}

// areTheSameAgain builds elsewhere, as somebody with other habits.
func areTheSameAgain(t *testing.T, dist, arch string) {
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	t.Setenv("TZ", "Asia/Tokyo")
	now := time.Now()
	if err := os.Chtimes("../../../.ci/package/apk-preinstall", now, now); err != nil { // as in a new checkout
		t.Fatal(err)
	}
	again := packages(t, "1.0.0", arch)
	built, err := filepath.Glob(filepath.Join(again, "banmesh*"))
	if err != nil || len(built) != 4 {
		t.Fatalf("packages %v, %v", built, err)
	}
	for _, path := range built {
		if fileText(t, path) != fileText(t, filepath.Join(dist, filepath.Base(path))) {
			t.Errorf("%s is another one when built again", filepath.Base(path))
		}
	}
}

func TestPackageOfNoReleaseIsOlderThanEveryRelease(t *testing.T) {
	version := func(described, seconds string) string {
		t.Setenv("SOURCE_DATE_EPOCH", seconds)
		return strings.TrimSpace(system(t, "../../../.ci/package/version", described))
	}
	rising := []string{
		version("6e81550-dirty", "1790000000"), version("758df0a", "1790000001"), version("dev", "1800000000"),
		version("v0.1.0", "1790000000"), version("v0.1.0-3-g6e81550", "1790000000"), version("v0.2.0", "1790000000"),
	}
	for i, v := range rising[1:] {
		if out, err := attempt("dpkg", "--compare-versions", rising[i], "lt", v); err != nil {
			t.Errorf("%s is not older than %s: %s", rising[i], v, out)
		}
	}
}

// installed is the agent of the package, run as its unit runs it.
func installed(t testing.TB) *agent {
	run := `shift; exec setpriv --reuid banmesh --regid banmesh --clear-groups --inh-caps=-all --bounding-set=-all --ambient-caps=-all --no-new-privs /usr/bin/banmesh "$@"`
	return &agent{
		t: t, name: "router1", dir: t.TempDir(), log: filepath.Join(t.TempDir(), "log"),
		config: "/etc/banmesh/banmesh.yaml", socket: "/run/banmesh/banmesh.sock", wrap: []string{"sh", "-c", run, "sh"},
	}
}

// lockPackages keeps other runs of these tests from installing meanwhile.
func lockPackages(t *testing.T) (unlock func()) {
	t.Helper()
	lock, err := os.OpenFile("/run/lock/banmesh-package-test", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatalf("%v: this test installs a package: run it as root", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	return func() { lock.Close() }
}

// areInstalledUpgradedAndPurged changes the machine it runs on and leaves it as
// it was.
func areInstalledUpgradedAndPurged(t *testing.T, first, second string) {
	defer lockPackages(t)()
	for _, path := range []string{"/usr/bin/banmesh", "/etc/banmesh", "/var/lib/banmesh/store.db", "/run/banmesh"} {
		if _, err := os.Lstat(path); err == nil {
			t.Fatalf("%s exists: banmesh is in use on this machine, and this test would purge it", path)
		}
	}
	// Commands that found no agent may have left a spool.
	if aside := fmt.Sprintf("/var/lib/banmesh.%d", os.Getpid()); os.Rename("/var/lib/banmesh", aside) == nil {
		t.Cleanup(func() { os.Rename(aside, "/var/lib/banmesh") })
	}
	_, err := user.Lookup("banmesh")
	hadUser := err == nil
	t.Cleanup(func() {
		for range 50 {
			if out, _ := attempt("dpkg", "--purge", "banmesh"); !strings.Contains(out, "lock") {
				break
			}
			time.Sleep(100 * time.Millisecond) // somebody else installs
		}
		for _, path := range []string{"/etc/banmesh", "/var/lib/banmesh", "/run/banmesh"} {
			os.RemoveAll(path)
		}
		if !hadUser {
			attempt("userdel", "banmesh")
		}
	})
	dpkg(t, "--install", first)
	for line := range strings.Lines(dpkg(t, "--verify", "banmesh")) {
		// A slim Debian leaves out what people read.
		missing := strings.HasPrefix(line, "missing") && strings.Contains(line, " /usr/share/")
		if !missing && !strings.HasSuffix(strings.TrimSpace(line), " c /etc/banmesh/banmesh.yaml") { // its name was written into it
			t.Errorf("after the installation dpkg finds changed: %s", line)
		}
	}
	for path, want := range map[string]string{
		"/etc/banmesh": "root banmesh 1770", "/etc/banmesh/banmesh.yaml": "root banmesh 640",
		"/var/lib/banmesh": "banmesh banmesh 750", "/run/banmesh": "banmesh banmesh 755",
	} {
		if got := strings.TrimSpace(system(t, "stat", "--format=%U %G %a", path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if _, err := os.Lstat("/etc/systemd/system/multi-user.target.wants/banmesh.service"); err == nil {
		t.Error("the installation has enabled the service, which has no configuration yet")
	}
	if out, err := attempt("/usr/bin/banmesh", "config", "check", "/etc/banmesh/banmesh.yaml"); err == nil || strings.TrimSpace(out) != "banmesh: /etc/banmesh/banmesh.yaml: gossip.keyring: open /etc/banmesh/keyring.json: no such file or directory" {
		t.Errorf("of the shipped configuration nothing but the key is missing: %v: %s", err, out)
	}
	system(t, "systemd-analyze", "verify", "/usr/lib/systemd/system/banmesh.service", "/usr/lib/systemd/system/banmesh-fail2ban.socket")

	// As it is shipped it must not start: without a key anybody could ban.
	out, err := attempt("setpriv", "--reuid", "banmesh", "--regid", "banmesh", "--clear-groups", "/usr/bin/banmesh", "agent")
	if err == nil || !strings.Contains(out, "/etc/banmesh/keyring.json") {
		t.Errorf("an agent without a key: %v: %s", err, out)
	}

	cond := startConductor(t)
	configurePackage(t, cond)
	mine, err := os.ReadFile("/etc/banmesh/banmesh.yaml")
	if err != nil {
		t.Fatal(err)
	}

	// fail2ban, which is root, was earlier than the agent.
	system(t, "/usr/bin/banmesh-hook", "fail2ban", "ban", "--jail=sshd", "--ip=203.0.113.1", fmt.Sprintf("--time=%d", time.Now().Unix()), "--bantime=3600", "--failures=5", "--restored=0")
	a := installed(t).start()
	eventually(t, 10*time.Second, "what waited in the spool", func() bool { return a.banned("203.0.113.1/32") != nil })
	a.must("ban", "203.0.113.2", "--for", "1h")
	eventually(t, 20*time.Second, "the conductor to get both", cond.holds(t, "203.0.113.1/32", "203.0.113.2/32"))
	key := strings.TrimSpace(system(t, "/usr/bin/banmesh", "keygen"))
	a.must("keyring", "install", key)
	if ring, err := os.ReadFile("/etc/banmesh/keyring.json"); err != nil || !strings.Contains(string(ring), key) {
		t.Errorf("the agent has not kept the key that was installed: %v", err)
	}

	dpkg(t, "--install", second)
	if now, err := os.ReadFile("/etc/banmesh/banmesh.yaml"); err != nil || !bytes.Equal(now, mine) {
		t.Errorf("the upgrade has changed the configuration: %v", err)
	}
	a.must("ban", "203.0.113.3", "--for", "1h")
	a.terminate()
	a.start()
	var status struct {
		Version string `json:"version"`
	}
	if err := json.Unmarshal([]byte(a.must("status", "--json")), &status); err != nil || status.Version != "1.1.0" {
		t.Errorf("after the upgrade runs version %q (%v), want 1.1.0", status.Version, err)
	}
	if got := a.status().Bans.Live; got != 3 {
		t.Errorf("%d bans after the upgrade, want 3", got)
	}
	a.terminate()

	dpkg(t, "--remove", "banmesh")
	if now, err := os.ReadFile("/etc/banmesh/banmesh.yaml"); err != nil || !bytes.Equal(now, mine) {
		t.Errorf("the removal has changed the configuration: %v", err)
	}
	if _, err := os.Lstat("/usr/bin/banmesh"); err == nil {
		t.Error("the program is still there after the removal")
	}
	said := dpkg(t, "--purge", "banmesh")
	for _, path := range []string{"/etc/banmesh/banmesh.yaml", "/etc/fail2ban/action.d/banmesh.conf", "/var/lib/banmesh", "/run/banmesh"} {
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%s is still there after the purge", path)
		}
	}
	if _, err := os.Lstat("/etc/banmesh/keyring.json"); err != nil || !strings.Contains(said, "keyring.json") {
		t.Errorf("the purge took the key along, or did not say that it stays (%v):\n%s", err, said)
	}
}

// configurePackage puts a router's configuration in the place of the default.
func configurePackage(t testing.TB, cond *conductor) {
	t.Helper()
	config := fmt.Sprintf(`name: router1
gossip: {bind: %q, keyring: /etc/banmesh/keyring.json}
fail2ban: {unban: false}
commit:
  driver: netconf
  conductors: [%q]
  key: /etc/banmesh/conductor_key
  known_hosts: /etc/banmesh/known_hosts
  window: 300ms
  max_wait: 1s
`, freeAddr(t), cond.addr)
	// Written, not replaced: owner and mode are the package's.
	if err := os.WriteFile("/etc/banmesh/banmesh.yaml", []byte(config), 0o640); err != nil {
		t.Fatal(err)
	}
	key := strings.TrimSpace(system(t, "/usr/bin/banmesh", "keygen"))
	for path, text := range map[string]string{
		"keyring.json":  fmt.Sprintf("[%q]\n", key),
		"conductor_key": fileText(t, filepath.Join(cond.dir, "client_key")),
		"known_hosts":   fileText(t, filepath.Join(cond.dir, "known_hosts")),
	} {
		path = filepath.Join("/etc/banmesh", path)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		system(t, "chown", "banmesh:banmesh", path)
	}
}

func fileText(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
