package web

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The archive is unpacked by the tar of this machine, as a firewall's would be.
func TestFeedSRXUnpacks(t *testing.T) {
	h := newServer(t, Config{Set: mixed()}).handler(loopback)
	for target, want := range map[string]string{
		"/feed/srx":                         "10.0.0.9 192.0.2.0 192.0.2.2/31 198.51.100.6 198.51.100.7 2001:db8::/48 2001:db8:1::1",
		"/feed/srx.tgz":                     "10.0.0.9 192.0.2.0 192.0.2.2/31 198.51.100.6 198.51.100.7 2001:db8::/48 2001:db8:1::1",
		"/feed/srx?family=4&aggregate=1":    "10.0.0.9 192.0.2.0 192.0.2.2/31 198.51.100.6/31",
		"/feed/srx.tgz?family=6&cidr=1":     "2001:db8::/48 2001:db8:1::1/128",
		"/feed/srx?family=6&aggregate=1":    "2001:db8::/48 2001:db8:1::1",
		"/feed/srx.tgz?cidr=1&family=4":     "10.0.0.9/32 192.0.2.0/32 192.0.2.2/31 198.51.100.6/32 198.51.100.7/32",
		"/feed/srx?aggregate=0&family=6":    "2001:db8::/48 2001:db8:1::1",
		"/feed/srx.tgz?aggregate=1&cidr=1&": "10.0.0.9/32 192.0.2.0/32 192.0.2.2/31 198.51.100.6/31 2001:db8::/48 2001:db8:1::1/128",
	} {
		a := ask(t, h, "GET", target, "Accept-Encoding", "gzip")
		if a.status != 200 || a.header.Get("Content-Type") != "application/gzip" || a.header.Get("Content-Encoding") != "" {
			t.Fatalf("%s: %d, %v", target, a.status, a.header)
		}
		dir := t.TempDir()
		tgz := filepath.Join(dir, "feed.tgz")
		if err := os.WriteFile(tgz, []byte(a.body), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("tar", "-xzvf", tgz, "-C", dir).CombinedOutput()
		if err != nil {
			t.Fatalf("tar: %v\n%s", err, out)
		}
		if got, want := string(out), "banmesh/\nbanmesh/bans\n"; got != want {
			t.Errorf("%s: tar says %q, want %q", target, got, want)
		}
		got, err := os.ReadFile(filepath.Join(dir, "banmesh", "bans"))
		if err != nil {
			t.Fatal(err)
		}
		if want := strings.ReplaceAll(want, " ", "\n") + "\n"; string(got) != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestFeedSRXIsTheSameBytesWhereTheSetIs(t *testing.T) {
	one := ask(t, newServer(t, Config{Set: mixed(), Now: newClock().now}).handler(loopback), "GET", "/feed/srx")
	other := ask(t, newServer(t, Config{Set: mixed()}).handler(loopback), "GET", "/feed/srx")
	if one.body != other.body || one.header.Get("ETag") != other.header.Get("ETag") {
		t.Error("two servers of one set give different archives")
	}
}
