package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTrustIsGivenOnlyWhenSaid: the host key and the certificate are shown; they
// are kept with --yes, and then an agent believes them.
func TestTrustIsGivenOnlyWhenSaid(t *testing.T) {
	t.Parallel()
	cond := startConductor(t, "--rest", "127.0.0.1:0")
	rest := cond.rest
	dir := shortDir(t)

	hosts := filepath.Join(dir, "known_hosts")
	r := command(t, nil, "conductor", "trust", cond.addr, "--known-hosts", hosts)
	if r.code != 2 || !strings.Contains(r.out, "SHA256:") || !strings.Contains(r.err, "--yes") {
		t.Errorf("without --yes: exit %d, %q, %q; want the fingerprint and 2", r.code, r.out, r.err)
	}
	if _, err := os.Stat(hosts); err == nil {
		t.Fatal("a key was kept that nobody believed")
	}
	if r := command(t, nil, "conductor", "trust", cond.addr, "--known-hosts", hosts, "--yes"); r.code != 0 {
		t.Fatalf("with --yes: %+v", r)
	}
	kept, err := os.ReadFile(hosts)
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(filepath.Join(cond.dir, "known_hosts"))
	if err != nil {
		t.Fatal(err)
	}
	if key := strings.Fields(string(kept)); len(key) != 3 || !strings.Contains(string(own), key[2]) {
		t.Errorf("kept %q, want the conductor's own key of %q", kept, own)
	}

	r = command(t, nil, "conductor", "trust", rest)
	pin := regexp.MustCompile(`pin_sha256: "([0-9a-f]{64})"`).FindStringSubmatch(r.out)
	if r.code != 0 || pin == nil {
		t.Fatalf("trust %s: %+v, want a line for the configuration", rest, r)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("admin\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, "router1", settings{commit: `{driver: rest, conductors: ["` + rest + `"], password_file: ` + password +
		`, pin_sha256: "` + pin[1] + `", timeout: 20s` + quick + `}`}).start()
	a.must("ban", "203.0.113.7", "--for", "1h")
	eventually(t, 20e9, "the commit over REST", cond.holds(t, "203.0.113.7/32"))

	ca := filepath.Join(dir, "ca.pem")
	if r := command(t, nil, "conductor", "trust", rest, "--ca-file", ca, "--yes"); r.code != 0 {
		t.Fatalf("trust --ca-file: %+v", r)
	}
	if text, err := os.ReadFile(ca); err != nil || !strings.HasPrefix(string(text), "-----BEGIN CERTIFICATE-----") {
		t.Errorf("the kept certificate is %q, %v", text, err)
	}
}
