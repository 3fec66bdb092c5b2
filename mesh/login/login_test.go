package login

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
)

// record writes one struct utmp.
func record(l layout, kind uint16, user, line, host string, addr [16]byte) []byte {
	b := make([]byte, l.size)
	binary.NativeEndian.PutUint16(b, kind)
	copy(b[lineAt:lineAt+lineLen], line)
	copy(b[userAt:userAt+userLen], user)
	copy(b[hostAt:hostAt+hostLen], host)
	copy(b[l.addr:], addr[:])
	return b
}

func four(s string) (b [16]byte) {
	a := netip.MustParseAddr(s).As4()
	copy(b[:], a[:])
	return b
}

func TestSessionsAreThoseFromElsewhere(t *testing.T) {
	l := layoutOf(runtime.GOARCH)
	raw := slices.Concat(
		record(l, 2, "reboot", "~", "6.1.0", [16]byte{}),
		record(l, userProcess, "ann", "pts/0", "client.example", four("198.51.100.9")),
		record(l, userProcess, "bob", "pts/1", "", netip.MustParseAddr("2001:db8::7").As16()),
		record(l, userProcess, "local", "tty1", "", [16]byte{}),
		record(l, userProcess, "cay", "pts/2", "203.0.113.4", [16]byte{}),
		record(l, 8, "gone", "pts/3", "203.0.113.5", four("203.0.113.5")),
		record(l, userProcess, "tun", "pts/4", "", netip.MustParseAddr("::ffff:192.0.2.1").As16()),
		record(l, userProcess, "ev\x1bil", "pts/5", "", four("192.0.2.2")),
		record(l, userProcess, "torn", "pts/9", "", four("192.0.2.9"))[:l.size-1],
	)
	path := filepath.Join(t.TempDir(), "utmp")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Sessions(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []Session{
		{"ann", "pts/0", netip.MustParseAddr("198.51.100.9")}, {"bob", "pts/1", netip.MustParseAddr("2001:db8::7")},
		{"cay", "pts/2", netip.MustParseAddr("203.0.113.4")}, {"tun", "pts/4", netip.MustParseAddr("192.0.2.1")},
		{"ev?il", "pts/5", netip.MustParseAddr("192.0.2.2")},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAMachineWithoutLoginsHasNone(t *testing.T) {
	if got, err := Sessions(filepath.Join(t.TempDir(), "none")); got != nil || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
}

func TestShellIsTheAddressThatSSHTells(t *testing.T) {
	for _, c := range []struct {
		connection, client string
		want               string
	}{
		{"198.51.100.9 50000 192.0.2.1 22", "203.0.113.1 1 22", "198.51.100.9"},
		{"", "203.0.113.1 1 22", "203.0.113.1"},
		{"::ffff:198.51.100.9 50000 ::1 22", "", "198.51.100.9"},
		{"fe80::1%eth0 50000 fe80::2%eth0 22", "", "fe80::1"},
		{"127.0.0.1 50000 127.0.0.1 22", "", ""},
		{"nonsense", "", ""}, {"", "", ""},
	} {
		env := map[string]string{"SSH_CONNECTION": c.connection, "SSH_CLIENT": c.client}
		got := Shell(func(k string) string { return env[k] })
		if c.want == "" && got.IsValid() || c.want != "" && got.String() != c.want {
			t.Errorf("%q, %q: %v, want %s", c.connection, c.client, got, c.want)
		}
	}
}

func FuzzUtmp(f *testing.F) {
	f.Add(record(layoutOf("amd64"), userProcess, "ann", "pts/0", "h", four("192.0.2.1")))
	f.Add(make([]byte, 800))
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, arch := range []string{"amd64", "arm64"} {
			for _, s := range decode(raw, layoutOf(arch)) {
				if !s.From.IsValid() || s.From.IsUnspecified() {
					t.Errorf("session from %v", s.From)
				}
			}
		}
	})
}
