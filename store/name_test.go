package store

import "testing"

func TestNamesThatCannotBeShownAreNotTaken(t *testing.T) {
	for _, bad := range []string{"a\x1b[31m", "a\u009b", "\u202eevil", "line\u2028", "\xff"} {
		n := newNode(t, "a", newClock(), nil)
		it := item{seq: 1, kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: 1, until: 2, jail: bad}
		w := chunkMaker{id: LogID{"r", 1}}
		w.add(it)
		if m, err := n.Merge(w.bytes()); err != nil || m.Unreadable != 1 || n.Counts().Records != 0 {
			t.Errorf("%q is taken as a jail: %+v, %v", bad, m, err)
		}
	}
}
