package store

import (
	"strings"
	"testing"
	"time"
)

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

// A reason is taken whatever it holds, as the record counts; whoever shows it does
// not pass on what steers a terminal or forges a line.
func TestReasonsOfOthersAreShownClean(t *testing.T) {
	changes := make(chan Change, 16)
	n := newNode(t, "a", newClock(), nil, func(c *Config) {
		c.OnChange = func(c Change) { changes <- c }
	})
	w := chunkMaker{id: LogID{"rogue", 1}}
	now := n.now()
	const evil = "\x1b[2Jred\nforged: line\u2028\u202eltr"
	w.add(item{seq: 1, kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: now, until: now + 100_000, jail: "sshd", text: evil})
	w.add(item{seq: 2, kind: KindAllow, key: mustKey(pfx("192.0.2.2")), start: now, until: now + 100_000, text: evil})
	if m, err := n.Merge(w.bytes()); err != nil || m.New != 2 {
		t.Fatalf("%+v, %v", m, err)
	}
	var texts []string
	for _, e := range n.List(Query{}) {
		texts = append(texts, e.Records[0].Reason)
	}
	for _, e := range n.Allows() {
		texts = append(texts, e.Comment)
	}
	for _, f := range n.Explain(pfx("192.0.2.1")).Facts {
		texts = append(texts, f.Text)
	}
	for told := 0; told < 2; {
		select {
		case c := <-changes:
			for _, e := range c.Events {
				texts = append(texts, e.Text)
			}
			told += len(c.Events)
		case <-time.After(10 * time.Second):
			t.Fatalf("%d changes were told, want two", told)
		}
	}
	if len(texts) < 3 {
		t.Fatalf("shown: %q", texts)
	}
	for _, text := range texts {
		if strings.ContainsAny(text, "\x1b\n\u2028\u202e") {
			t.Errorf("shown: %q", text)
		}
	}
}
