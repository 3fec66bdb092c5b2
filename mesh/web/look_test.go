package web

import (
	"io/fs"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A call to a disk that hangs never returns: status and clients do not wait for it, and are told.
func TestADiskThatHangsHoldsUpNobody(t *testing.T) {
	ca := newAuthority(t, "ca")
	files := ca.files(t.TempDir(), "one")
	path := tokens(t, goodToken, 0o600)
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, Config{TokenFile: path, TLS: files})
		back := make(chan struct{})
		hang := func(string) (fs.FileInfo, error) { <-back; return nil, fs.ErrNotExist }
		s.tokens.stat, s.certs.stat = hang, hang
		time.Sleep(lookEvery)
		within := func(d time.Duration, what string, f func()) {
			t.Helper()
			began := time.Now()
			if f(); time.Since(began) > d {
				t.Errorf("%s took %v", what, time.Since(began))
			}
		}
		within(2*lookTime, "status", func() {
			if w := s.Warnings(); len(w) != 0 {
				t.Errorf("warns at once of %q", w)
			}
		})
		time.Sleep(hangsAfter)
		within(0, "a status after it", func() {
			if w := strings.Join(s.Warnings(), "\n"); strings.Count(w, "has not answered for ") != 2 || !strings.Contains(w, path) || !strings.Contains(w, files.Cert) {
				t.Errorf("warns of %q", w)
			}
		})
		within(0, "a client", func() {
			if c, err := s.certs.forClient(nil); err != nil || len(c.Certificates) != 1 || !s.tokens.holds(goodToken) || s.tokens.holds(otherToken) {
				t.Errorf("clients are not served by what was read before: %v", err)
			}
		})
		close(back)
		synctest.Wait()
		if w := strings.Join(s.Warnings(), "\n"); strings.Contains(w, "has not answered") {
			t.Errorf("after the disk came back: %q", w)
		}
	})
}
