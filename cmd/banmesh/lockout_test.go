package main

import (
	"bytes"
	"context"
	encoding "encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// utmpOf is a file that says that root is logged in from these addresses, on
// pts/100 and on.
func utmpOf(t *testing.T, addrs ...string) string {
	t.Helper()
	size, at := 384, 348
	if runtime.GOARCH == "arm64" {
		size, at = 400, 360
	}
	var raw []byte
	for i, text := range addrs {
		rec := make([]byte, size)
		encoding.NativeEndian.PutUint16(rec, 7)
		copy(rec[8:], "pts/10"+string(rune('0'+i)))
		copy(rec[44:], "root")
		if a := netip.MustParseAddr(text); a.Is4() {
			four := a.As4()
			copy(rec[at:], four[:])
		} else {
			b := a.As16()
			copy(rec[at:], b[:])
		}
		raw = append(raw, rec...)
	}
	path := filepath.Join(t.TempDir(), "utmp")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestNobodyBansWhereHeIsLoggedInFrom(t *testing.T) {
	dir := t.TempDir()
	list := filepath.Join(dir, "list")
	if err := os.WriteFile(list, []byte("203.0.113.0/24\n198.51.100.9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	utmp := utmpOf(t, "198.51.100.9", "198.51.100.20", "2001:db8::20")
	for _, c := range []struct {
		name string
		args []string
		ssh  string
		code int
		says string // "" is nothing
	}{
		{"his own address", []string{"ban", "198.51.100.9"}, "198.51.100.9 5000 192.0.2.1 22", exitUsage, "where you are logged in from: "},
		{"a network around it", []string{"ban", "198.51.100.0/24"}, "198.51.100.9 5000 192.0.2.1 22", exitUsage, "and in 198.51.100.0/24"},
		{"IPv6", []string{"ban", "2001:db8::/64"}, "2001:db8::5 5000 ::1 22", exitUsage, "where you are logged in from, and in"},
		{"in a list", []string{"ban", "--file", list}, "198.51.100.9 5000 192.0.2.1 22", exitUsage, "where you are logged in from"},
		{"in a list that is imported", []string{"import", list}, "198.51.100.9 5000 192.0.2.1 22", exitUsage, "where you are logged in from"},
		{"forced", []string{"ban", "198.51.100.9", "--force"}, "198.51.100.9 5000 192.0.2.1 22", exitDone, ""},
		{"a colleague's", []string{"ban", "198.51.100.20"}, "198.51.100.9 5000 192.0.2.1 22", exitDone, "root is logged in from 198.51.100.20: "},
		{"a colleague's network", []string{"ban", "2001:db8::/64"}, "", exitDone, "from 2001:db8::20, and in 2001:db8::/64"},
		{"a colleague's, forced", []string{"ban", "198.51.100.20", "--force"}, "", exitDone, ""},
		{"nobody's", []string{"ban", "203.0.113.7"}, "198.51.100.9 5000 192.0.2.1 22", exitDone, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out, errOut bytes.Buffer
			spool := filepath.Join(t.TempDir(), "spool")
			env := map[string]string{"BANMESH_SOCKET": filepath.Join(dir, "none"), "BANMESH_SPOOL": spool, "SSH_CONNECTION": c.ssh}
			con := newConsole(strings.NewReader(""), &out, &errOut, func(k string) string { return env[k] })
			con.utmp = utmp
			err := con.execute(context.Background(), c.args)
			code := exitDone
			if err != nil {
				code = exitCode(err)
				errOut.WriteString(err.Error())
			}
			said := errOut.String()
			if code != c.code || c.says != "" && !strings.Contains(said, c.says) || c.says == "" && strings.Contains(said, "logged in") {
				t.Errorf("exit %d, stderr %q; want %d, %q", code, said, c.code, c.says)
			}
			if spooled, _ := os.ReadDir(spool); (len(spooled) == 0) != (code == exitUsage) {
				t.Errorf("%d calls in the spool after exit %d", len(spooled), code)
			}
		})
	}
}

// A hook of fail2ban must not be held up or refused by who is logged in: what
// is not to be banned is never-ban's to say.
func TestHooksAskNotWhoIsLoggedIn(t *testing.T) {
	var out, errOut bytes.Buffer
	spool := filepath.Join(t.TempDir(), "spool")
	env := map[string]string{"BANMESH_SOCKET": spool + "none", "BANMESH_SPOOL": spool, "SSH_CONNECTION": "198.51.100.9 5000 192.0.2.1 22"}
	c := newConsole(strings.NewReader(""), &out, &errOut, func(k string) string { return env[k] })
	c.utmp = t.TempDir() // reading it would fail, and say so
	err := c.execute(context.Background(), []string{"fail2ban", "ban", "--jail=sshd", "--ip=198.51.100.9", "--time=1767225600", "--bantime=600"})
	if err != nil || errOut.Len() > 0 {
		t.Errorf("%v, stderr %q", err, errOut.String())
	}
}
