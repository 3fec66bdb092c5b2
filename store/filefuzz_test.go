package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzFile damages a store file in any number of places, each two bytes of where and one of what: it is refused and left
// alone, or opens as a set that is right in itself, with all of the file or a word about what is missing.
func FuzzFile(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "store.db")
	s := open(f, Config{Path: path, Origin: "a"})
	for i := range 3 {
		if _, err := s.Ban(context.Background(), []BanRequest{{Prefix: addr(i), Until: Never}}); err != nil {
			f.Fatal(err)
		}
	}
	s.Merge(everyKindChunk())
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	used := len(bytes.TrimRight(whole, "\x00"))
	sound := open(f, Config{Path: path, Origin: "a"})
	want := sound.Counts().Records
	sound.Close()
	f.Add([]byte{})
	for at := 0; at < used; at += 509 {
		f.Add(binary.BigEndian.AppendUint16(nil, uint16(at)))
		f.Add(append(binary.BigEndian.AppendUint16(nil, uint16(at)), 0x41))
	}
	f.Fuzz(func(t *testing.T, patches []byte) {
		b := bytes.Clone(whole)
		for ; len(patches) >= 3; patches = patches[3:] {
			b[int(binary.BigEndian.Uint16(patches))%used] ^= patches[2]
		}
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Path: path, Origin: "a"})
		if err != nil {
			var d *damagedError
			if !errors.As(err, &d) && !strings.Contains(err.Error(), "has format") {
				t.Fatalf("refused with %v", err)
			}
			if now, _ := os.ReadFile(path); !bytes.Equal(now, b) {
				t.Fatal("a refused file was changed")
			}
			return
		}
		defer s.Close()
		if got := s.Counts().Records; got < want && s.Doubt() == "" {
			t.Fatalf("%d records of %d, and not a word", got, want)
		}
		(&node{Store: s, t: t, clock: newClock()}).selfCheck(t)
	})
}
