package spool_test

import (
	"bytes"
	"testing"

	"banmesh/mesh/spool"
)

func FuzzEntry(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"version":1,"time":"2026-01-02T03:04:05Z","unban":{"prefixes":[],"all":true,"at":"2026-01-02T03:04:05Z"}}`))
	f.Add([]byte(`{"version":1,"time":"2026-01-02T03:04:05Z","hook":{"event":"ban","jail":"sshd","prefixes":["2001:db8::1"],"until":null,"at":"2026-01-02T03:04:05Z"}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := spool.Decode(b)
		if err != nil {
			return
		}
		once, err := spool.Encode(e)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := spool.Decode(once)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, once)
		}
		twice, err := spool.Encode(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("not the same again (%v):\n%s%s", err, once, twice)
		}
	})
}
