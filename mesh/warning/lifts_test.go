package warning

import (
	"strings"
	"testing"
	"time"

	"banmesh/store"
)

func TestWhoLiftsManyBansIsNamed(t *testing.T) {
	var b Lifts
	now := time.Now()
	lift := func(origin, by string, n int, at time.Time) {
		var c store.Change
		for range n {
			c.Events = append(c.Events, store.Event{Kind: store.EventLift, Origin: origin, By: by})
		}
		b.Note("self", c, at)
	}
	lift("self", "operator", manyLifts, now)
	lift("self", "self", 100, now)
	lift("other", "rogue", 100, now)
	if w := b.Warnings(now, 1000); len(w) != 0 {
		t.Errorf("warns of %q", w)
	}
	lift("self", "rogue", manyLifts, now)
	lift("self", "rogue", 30, now.Add(20*time.Minute))
	if w := b.Warnings(now.Add(30*time.Minute), 1000); len(w) != 1 || !strings.Contains(w[0], "40 of this router's bans were lifted by rogue") {
		t.Errorf("after half an hour: %q", w)
	}
	if w := b.Warnings(now.Add(70*time.Minute), 1000); len(w) != 1 || !strings.Contains(w[0], "30 of") {
		t.Errorf("after 70 minutes: %q", w)
	}
	if w := b.Warnings(now.Add(2*time.Hour), 1000); len(w) != 0 || len(b.of) != 0 {
		t.Errorf("after two hours: %q, %d names kept", w, len(b.of))
	}
	for i := range 3 * maxLifters {
		lift("self", strings.Repeat("x", i+1), 1, now)
	}
	if len(b.of) > maxLifters {
		t.Errorf("%d names are kept", len(b.of))
	}
	if w := b.Warnings(now, 1000); len(w) != 1 || !strings.Contains(w[0], "192 of this router's bans were lifted in the last hour by others, a few each") {
		t.Errorf("of many names that lift one ban each: %q", w)
	}
	if w := b.Warnings(now.Add(2*time.Hour), 1000); len(w) != 0 || len(b.small) != 0 {
		t.Errorf("two hours later: %q, %d minutes kept", w, len(b.small))
	}
}

func TestWhoRemovesAllowsIsNamed(t *testing.T) {
	var b Lifts
	now := time.Now()
	remove := func(by string) {
		b.Note("self", store.Change{Events: []store.Event{{Kind: store.EventDisallow, Origin: "self", By: by}}}, now)
	}
	remove("self")
	remove("") // it has ended
	if w := b.Warnings(now, 1000); len(w) != 0 {
		t.Errorf("warns of %q", w)
	}
	remove("rogue")
	if w := b.Warnings(now, 1000); len(w) != 1 || !strings.Contains(w[0], "1 of this router's allow entries were removed by rogue") {
		t.Errorf("of an allow that another removed: %q", w)
	}
	for i := range 2 * maxLifters {
		remove(strings.Repeat("x", i+1))
	}
	if w := b.Warnings(now, 1000); len(w) != 1 || !strings.Contains(w[0], "129 of this router's allow entries were removed by rogue, x, xx and others") || len(b.of) != maxLifters {
		t.Errorf("of %d names: %q, %d names kept", 2*maxLifters+1, w, len(b.of))
	}
}

// TestWhoLiftsMostOfAFewBansIsNamed: a router with few bans must not lose all of them without a word.
func TestWhoLiftsMostOfAFewBansIsNamed(t *testing.T) {
	now := time.Now()
	lifted := func(by ...string) *Lifts {
		var b Lifts
		var c store.Change
		for _, name := range by {
			c.Events = append(c.Events, store.Event{Kind: store.EventLift, Origin: "self", By: name})
		}
		b.Note("self", c, now)
		return &b
	}
	for _, c := range []struct {
		by   []string
		left int
		want string
	}{
		{[]string{"rogue", "rogue", "rogue"}, 0, "3 of this router's bans were lifted by rogue"},
		{[]string{"rogue", "rogue", "rogue"}, 3, ""},
		{[]string{"operator", "operator"}, 0, ""},
		{[]string{"x1", "x2", "x3"}, 1, "3 of this router's bans were lifted in the last hour by others, a few each"},
	} {
		b := lifted(c.by...)
		if w := strings.Join(b.Warnings(now, c.left), "; "); !strings.HasPrefix(w, c.want) || c.want == "" && w != "" {
			t.Errorf("lifted by %q, %d left: warns of %q, want %q", c.by, c.left, w, c.want)
		}
	}
}
