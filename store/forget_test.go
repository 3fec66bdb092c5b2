package store

import (
	"context"
	"testing"
	"time"
)

// A Forget reaches the others, ends after a week, and is nobody's who is blocked.
func TestForgetIsToldToAll(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	ctx := context.Background()
	at := c.millis()
	a.must(a.Forget(ctx, "dead"))
	if err := a.Forget(ctx, "no\nname"); err == nil {
		t.Error("a name with a line break is taken")
	}
	chunk, _ := a.Since(0, 1200)
	if _, err := b.Merge(chunk); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{a, b} {
		if got := n.Forgotten(); len(got) != 1 || got["dead"] != at {
			t.Errorf("%v, want dead at %v", got, at)
		}
	}
	b.must(b.Block(ctx, "a"))
	if got := b.Forgotten(); len(got) != 0 {
		t.Errorf("of a blocked member: %v", got)
	}
	early := newForge("rogue", 1)
	for name, at := range map[string]Millis{"soon": c.millis() + minute, "later": c.millis() + 2*minute, "never": c.millis() + 1000*24*hour} {
		early.write(item{kind: KindForget, key: noPrefix, start: at, jail: name})
	}
	a.take(early)
	if got := a.Forgotten(); len(got) != 2 || got["soon"] == 0 {
		t.Errorf("with what is said to be of the future: %v", got)
	}
	c.add(8 * 24 * time.Hour)
	a.Tick(true)
	if got := a.Forgotten(); len(got) != 0 {
		t.Errorf("after eight days: %v", got)
	}
}

// TestAnOriginWithoutLogsIsJudged: a member that is only spoken of has written nothing, and is judged again like all others
// when the clock steps back.
func TestAnOriginWithoutLogsIsJudged(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) { cfg.Limits = Limits{LivePerOrigin: 1} })
	defer a.Close()
	a.must(a.Block(t.Context(), "b"))
	_, err := a.Ban(t.Context(), []BanRequest{{Prefix: pfx("192.0.2.1"), Jail: "sshd", Until: c.millis() + 3*hour}})
	a.must(err)
	c.add(-time.Hour)
	a.tick(true)
	if n := len(a.List(Query{})); n != 1 {
		t.Errorf("%d bans after the step, want 1", n)
	}
}
