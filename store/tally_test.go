package store

import (
	"bytes"
	"context"
	"errors"
	"os"
	"testing"

	"go.etcd.io/bbolt"
)

// filled is a store file with so many bans, as bytes too.
func filled(t *testing.T, bans int) (path string, whole []byte) {
	t.Helper()
	path = storePath(t)
	s := open(t, Config{Path: path, Origin: "a"})
	for i := range bans {
		if _, err := s.Ban(context.Background(), []BanRequest{{Prefix: addr(i), Until: Never}}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, whole
}

// A page that counts one element less looks whole, and each of its values has the right checksum.
func TestAPageThatHasLostAnElementIsFound(t *testing.T) {
	path, whole := filled(t, 40)
	tried := 0
	for at := 2 * 4096; at+4096 <= len(whole); at += 4096 {
		if native.Uint16(whole[at+8:]) != pageLeaf || native.Uint16(whole[at+10:]) < 2 {
			continue
		}
		tried++
		b := bytes.Clone(whole)
		native.PutUint16(b[at+10:], native.Uint16(b[at+10:])-1)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(Config{Path: path, Origin: "a"})
		var d *damagedError
		switch {
		case err == nil:
			if n := len(s.List(Query{})); n != 40 {
				t.Errorf("page %d: opened with %d bans of 40, and not a word", at/4096, n)
			}
			s.Close()
		case !errors.As(err, &d):
			t.Errorf("page %d: %v", at/4096, err)
		}
	}
	if tried < 2 {
		t.Fatalf("only %d pages could be tried", tried)
	}
}

func TestAFileOfFormat1BecomesOneOfFormat2(t *testing.T) {
	path, _ := filled(t, 3)
	format := func(set []byte) (got []byte) {
		t.Helper()
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		err = db.Update(func(tx *bbolt.Tx) error {
			info := tx.Bucket(bucketInfo)
			got = bytes.Clone(info.Get(keyFormat))
			if set == nil {
				return nil
			}
			return info.Put(keyFormat, set)
		})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	want := format([]byte{1})
	s := openReal(t, path, "a", nil)
	if n := len(s.List(Query{})); n != 3 || s.Doubt() != "" {
		t.Fatalf("%d bans, and it says %q", n, s.Doubt())
	}
	if _, err := s.Ban(context.Background(), []BanRequest{{Prefix: addr(9), Until: Never}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	if got := format(nil); len(got) != len(want) || got[0] != fileFormat {
		t.Errorf("its format is %x", got)
	}
	s = openReal(t, path, "a", nil)
	if n := len(s.List(Query{})); n != 4 {
		t.Errorf("%d bans, want 4", n)
	}
	s.Close()
	format([]byte{9})
	var d *damagedError
	if _, err := Open(Config{Path: path, Origin: "a"}); err == nil || errors.As(err, &d) {
		t.Errorf("a format that is not known: %v", err)
	}
}
