package netconfclient

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// FuzzKnownHosts reads anything as a file of host keys: it is refused with a word that names it, or no key is believed
// that does not stand in it.
func FuzzKnownHosts(f *testing.F) {
	const line = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8w4hJ1mXwKQ3k1m3bF3o4v0k8w1u8bX6b0b0b0b0b0"
	for _, s := range []string{
		"192.0.2.1 " + line, "[192.0.2.1]:830 " + line + " comment\n# comment\n", "@revoked * " + line, "@cert-authority *.example " + line,
		"|1|AAAA|BBBB " + line, "*,!192.0.2.1 " + line, "192.0.2.1 ssh-rsa AAAA", "", "\x00", strings.Repeat("[", 1000),
	} {
		f.Add(s)
	}
	file := filepath.Join(f.TempDir(), "known_hosts")
	const offered = "AAAAC3NzaC1lZDI1NTE5AAAAIAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8g"
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte("ssh-ed25519 " + offered))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		const address = "192.0.2.1:830"
		h, err := loadHostKeys(address, file)
		if err != nil {
			if !errors.Is(err, ErrHostKey) || !strings.Contains(err.Error(), file) {
				t.Fatalf("%v is no word about the file", err)
			}
			return
		}
		h.algorithms(nil)
		err = h.callback(address, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 830}, key)
		if err == nil && !strings.Contains(text, offered) {
			t.Fatal("a key is believed that is not in the file")
		}
		if err != nil && !errors.Is(err, ErrHostKey) {
			t.Fatalf("refused with %v", err)
		}
	})
}
