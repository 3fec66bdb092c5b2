package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
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

// packages builds packages in dist, with more settings of make.
func packages(dist, version, arches string, more ...string) (string, error) {
	bin, err := os.MkdirTemp(filepath.Dir(banmesh), "packages-")
	if err != nil {
		return "", err
	}
	args := []string{"-s", "-C", "../../..", "package", "VERSION=" + version, "COMMIT=test", "ARCHES=" + arches, "DIST=" + dist, "BIN=" + bin}
	if out, err := attempt("make", append(args, more...)...); err != nil {
		return "", fmt.Errorf("make package: %w\n%s", err, out)
	}
	return dist, nil
}

// What several tests look at is built once.
var (
	release = sync.OnceValues(func() (string, error) {
		return packages(filepath.Join(filepath.Dir(banmesh), "release"), "1.0.0", "amd64 arm64")
	})
	nextRelease = sync.OnceValues(func() (string, error) {
		return packages(filepath.Join(filepath.Dir(banmesh), "next"), "1.1.0", runtime.GOARCH, "PACKAGERS=deb rpm")
	})
)

// built is the directory of packages that release or nextRelease built.
func built(t testing.TB, build func() (string, error)) string {
	t.Helper()
	dist, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return dist
}

func deb(dist, version string) string {
	return filepath.Join(dist, "banmesh_"+version+"-1_"+runtime.GOARCH+".deb")
}

func TestPackagesHoldWhatARouterNeeds(t *testing.T) {
	t.Parallel()
	dist := built(t, release)
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

// TestPackagesHoldWhatOthersNeed looks into those for systems without systemd.
func TestPackagesHoldWhatOthersNeed(t *testing.T) {
	t.Parallel()
	dist := built(t, release)
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

// TestPackagesAreTheSameAgain builds elsewhere, as somebody with other habits.
func TestPackagesAreTheSameAgain(t *testing.T) {
	t.Parallel()
	dist := built(t, release) // before the time of a script changes that goes into it
	now := time.Now()
	if err := os.Chtimes("../../../.ci/package/apk-preinstall", now, now); err != nil { // as in a new checkout
		t.Fatal(err)
	}
	again := t.TempDir()
	system(t, "sh", "-c", `umask 077; TZ=Asia/Tokyo exec make -s -C ../../.. package VERSION=1.0.0 COMMIT=test ARCHES="$1" DIST="$2" BIN="$3"`, "sh", runtime.GOARCH, again, t.TempDir())
	files, err := filepath.Glob(filepath.Join(again, "banmesh*"))
	if err != nil || len(files) != 4 {
		t.Fatalf("packages %v, %v", files, err)
	}
	for _, path := range files {
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

// TestPackageIsInstalledUpgradedAndPurged leads a whole life of the package on a bare host.
func TestPackageIsInstalledUpgradedAndPurged(t *testing.T) {
	t.Parallel()
	first, second := deb(built(t, release), "1.0.0"), deb(built(t, nextRelease), "1.1.0")
	l := newLab(t, 1)
	b := l.bare(0, first, second)
	b.must("dpkg --install /root/" + filepath.Base(first))
	for line := range strings.Lines(b.sh("dpkg --verify banmesh").out) {
		if !strings.HasSuffix(strings.TrimSpace(line), " c /etc/banmesh/banmesh.yaml") { // its name was written into it
			t.Errorf("after the installation dpkg finds changed: %s", line)
		}
	}
	for path, want := range map[string]string{
		"/etc/banmesh": "root banmesh 1770", "/etc/banmesh/banmesh.yaml": "root banmesh 640",
		"/var/lib/banmesh": "banmesh banmesh 750", "/run/banmesh": "banmesh banmesh 755",
	} {
		if got := strings.TrimSpace(b.must("stat --format='%U %G %a' " + path)); got != want {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if r := b.sh("systemctl is-enabled banmesh"); r.code == 0 {
		t.Error("the installation has enabled the service, which has no configuration yet")
	}
	if r := b.sh("banmesh config check /etc/banmesh/banmesh.yaml"); r.code == 0 || strings.TrimSpace(r.err) != "banmesh: /etc/banmesh/banmesh.yaml: gossip.keyring: open /etc/banmesh/keyring.json: no such file or directory" {
		t.Errorf("of the shipped configuration nothing but the key is missing: %+v", r)
	}
	b.must("systemd-analyze verify /usr/lib/systemd/system/banmesh.service /usr/lib/systemd/system/banmesh-fail2ban.socket")

	// As it is shipped it must not start: without a key anybody could ban.
	if r := b.sh("setpriv --reuid banmesh --regid banmesh --clear-groups banmesh agent"); r.code == 0 || !strings.Contains(r.err, "/etc/banmesh/keyring.json") {
		t.Errorf("an agent without a key: %+v", r)
	}

	cond := startConductorAt(t, l.inside(0), "127.0.0.1:0")
	configurePackage(b, cond)
	mine := b.read("/etc/banmesh/banmesh.yaml")

	// fail2ban, which is root, was earlier than the agent.
	b.must("banmesh-hook fail2ban ban --jail=sshd --ip=203.0.113.1 --time=$(date +%s) --bantime=3600 --failures=5 --restored=0")
	b.must("systemctl start banmesh")
	eventually(t, 20*time.Second, "what waited in the spool", func() bool { return strings.Contains(b.sh("banmesh list -o plain").out, "203.0.113.1\n") })
	b.must("banmesh ban 203.0.113.2 --for 1h")
	eventually(t, 20*time.Second, "the conductor to get both", cond.holds(t, "203.0.113.1/32", "203.0.113.2/32"))
	key := strings.TrimSpace(b.must("banmesh keygen"))
	b.must("banmesh keyring install " + key)
	if ring := b.read("/etc/banmesh/keyring.json"); !strings.Contains(ring, key) {
		t.Errorf("the agent has not kept the key that was installed: %s", ring)
	}

	b.must("dpkg --install /root/" + filepath.Base(second))
	if now := b.read("/etc/banmesh/banmesh.yaml"); now != mine {
		t.Errorf("the upgrade has changed the configuration:\n%s", now)
	}
	b.must("systemctl restart banmesh") // as the package would, where systemd runs it
	var status struct {
		Version string `json:"version"`
		Bans    struct {
			Live int `json:"live"`
		} `json:"bans"`
	}
	eventually(t, 20*time.Second, "the agent to answer after the upgrade", func() bool {
		r := b.sh("banmesh status --json")
		return r.code == 0 && json.Unmarshal([]byte(r.out), &status) == nil
	})
	if status.Version != "1.1.0" || status.Bans.Live != 2 {
		t.Errorf("after the upgrade runs version %q with %d bans, want 1.1.0 with 2", status.Version, status.Bans.Live)
	}

	b.must("systemctl stop banmesh")
	// As agents that dropped leave them: one in a namespace, and before it one without.
	b.must("nft add table inet banmesh; ip netns add firewall && ip netns exec firewall nft add table inet banmesh")
	b.must("echo 'enforce: {driver: nftables, netns: firewall}' >> /etc/banmesh/banmesh.yaml")
	mine = b.read("/etc/banmesh/banmesh.yaml")
	b.must("dpkg --remove banmesh")
	for _, where := range []string{"", "ip netns exec firewall "} {
		if r := b.sh(where + "nft list table inet banmesh"); r.code == 0 {
			t.Errorf("after the removal the kernel still drops, and nobody lifts it:\n%s", r.out)
		}
	}
	if now := b.read("/etc/banmesh/banmesh.yaml"); now != mine {
		t.Errorf("the removal has changed the configuration:\n%s", now)
	}
	if b.sh("test -e /usr/bin/banmesh").code == 0 {
		t.Error("the program is still there after the removal")
	}
	said := b.must("dpkg --purge banmesh")
	for _, path := range []string{"/etc/banmesh/banmesh.yaml", "/etc/fail2ban/action.d/banmesh.conf", "/var/lib/banmesh", "/run/banmesh"} {
		if b.sh("test -e "+path).code == 0 {
			t.Errorf("%s is still there after the purge", path)
		}
	}
	if b.sh("test -e /etc/banmesh/keyring.json").code != 0 || !strings.Contains(said, "keyring.json") {
		t.Errorf("the purge took the key along, or did not say that it stays:\n%s", said)
	}
}

// configurePackage puts a router's configuration in the place of the default.
func configurePackage(b *bare, cond *conductor) {
	b.l.t.Helper()
	// Written, not replaced: owner and mode are the package's.
	b.must(fmt.Sprintf(`cat > /etc/banmesh/banmesh.yaml <<'END'
name: router1
gossip: {bind: "127.0.0.1:7946", keyring: /etc/banmesh/keyring.json}
fail2ban: {unban: false}
commit:
  driver: netconf
  conductors: [%q]
  key: /etc/banmesh/conductor_key
  known_hosts: /etc/banmesh/known_hosts
  window: 300ms
  max_wait: 1s
END
`, cond.addr))
	for name, text := range map[string]string{
		"keyring.json":  fmt.Sprintf("[%q]\n", strings.TrimSpace(b.must("banmesh keygen"))),
		"conductor_key": fileText(b.l.t, filepath.Join(cond.dir, "client_key")),
		"known_hosts":   fileText(b.l.t, filepath.Join(cond.dir, "known_hosts")),
	} {
		b.must("install -T -o banmesh -g banmesh -m 0600 /dev/stdin /etc/banmesh/" + name + " <<'END'\n" + text + "END\n")
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
