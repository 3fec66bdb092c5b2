package store

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// guarded are the limits and the guard as a router has them.
func guarded(cfg *Config) { cfg.Limits, cfg.Guard = DefaultLimits(), DefaultGuard() }

// inForce are the prefixes that the exits block, held those that wait.
func (n *node) inForce() (force, held []string) {
	for e := range n.Effective() {
		if e.Held {
			held = append(held, e.Prefix.String())
		} else {
			force = append(force, e.Prefix.String())
		}
	}
	slices.Sort(force)
	slices.Sort(held)
	return force, held
}

// Under made-up names, four /8 each, so that no limit of a name is reached.
func TestWideBansOfOthersWaitForAWord(t *testing.T) {
	c, disk := newClock(), newMemDisk()
	a := newNode(t, "a", c, disk, guarded)
	a.ban("203.0.113.7", time.Hour)
	a.must(second2(a.Ban(t.Context(), []BanRequest{{Prefix: pfx("198.0.0.0/8"), Jail: "x", Until: c.millis() + hour, Force: true}})))
	n := 0
	for i := range 55 {
		f := newForge(fmt.Sprintf("ghost%d", i), 7)
		for k := range 4 {
			if first := 4*i + k; first != 0 && first != 127 && first != 198 {
				f.write(item{kind: KindBan, key: mustPrefixKey(fmt.Sprintf("%d.0.0.0/8", first)), start: c.millis(), until: c.millis() + 10*hour, jail: "x"})
				n++
			}
		}
		a.take(f)
	}
	a.take(newForge("honest", 1).write(item{kind: KindBan, key: mustPrefixKey("192.0.2.0/24"), start: c.millis(), until: c.millis() + 10*hour, jail: "x"}))
	look := func(when string, want string, waiting int) {
		t.Helper()
		force, held := a.inForce()
		if got := strings.Join(force, " "); got != want || len(held) != waiting {
			t.Errorf("%s: in force: %s\nwant %s; %d wait, want %d", when, got, want, len(held), waiting)
		}
	}
	look("at first", "192.0.2.0/24 198.0.0.0/8 203.0.113.7/32", n)
	if h := a.Holding(); len(h) != 55 || h[0].Wide != 4 || h[0].Mass != 0 {
		t.Errorf("holding %+v", h)
	}
	if got := a.Counts().Held; got != n {
		t.Errorf("counted %d, want %d", got, n)
	}
	if e := a.List(Query{Prefix: pfx("5.0.0.0/8")}); len(e) != 1 || !e[0].Held {
		t.Errorf("list says %+v", e)
	}
	a.must(a.Close())
	a = newNode(t, "a", c, disk, guarded)
	look("after a restart", "192.0.2.0/24 198.0.0.0/8 203.0.113.7/32", n)
	if got, err := a.ConfirmHeld(t.Context()); err != nil || got != n {
		t.Errorf("a word lets in %d, %v; want %d", got, err, n)
	}
	if force, held := a.inForce(); len(force) != n+3 || len(held) != 0 {
		t.Errorf("after the confirmation %d are in force and %d wait", len(force), len(held))
	}
	a.must(a.Close())
	a = newNode(t, "a", c, disk, guarded)
	if force, held := a.inForce(); len(force) != n+3 || len(held) != 0 {
		t.Errorf("after another restart %d are in force and %d wait", len(force), len(held))
	}
}

// Records that others bring into this member's own logs, of this run, of an earlier one or of a store before, are not its own.
func TestForgedIntoOwnLogsWaits(t *testing.T) {
	c, disk := newClock(), newMemDisk()
	a := newNode(t, "a", c, disk, guarded)
	forged := func(epoch, seq uint64, prefix string) {
		t.Helper()
		f := newForge("a", epoch)
		f.seq = seq - 1
		f.write(item{kind: KindBan, key: mustPrefixKey(prefix), start: c.millis(), until: c.millis() + 10*hour, jail: "forged"})
		if m := a.take(f); m.New != 1 {
			t.Fatalf("%s: %+v", prefix, m)
		}
	}
	look := func(when, want string) {
		t.Helper()
		force, held := a.inForce()
		if got := strings.Join(held, " "); strings.Join(force, " ") != "198.0.0.0/12 203.0.113.7/32" || got != want {
			t.Errorf("%s: in force: %v; held: %v, want %s", when, force, held, want)
		}
	}
	a.must(second2(a.Ban(t.Context(), []BanRequest{{Prefix: pfx("198.0.0.0/12"), Jail: "x", Until: c.millis() + 10*hour, Force: true}})))
	a.ban("203.0.113.7", time.Hour)
	a.ban("203.0.113.7", 2*time.Hour) // replaces number 2
	first := a.own.id.Epoch
	forged(first, 2, "5.0.0.0/12")
	forged(99, 1, "7.0.0.0/12")
	look("in the first run", "5.0.0.0/12 7.0.0.0/12")
	for run := range 2 {
		a.must(a.Close())
		a = newNode(t, "a", c, disk, guarded)
		forged(first, 50+uint64(run), fmt.Sprintf("%d.0.0.0/12", 8+run))
		look("after a restart", []string{"5.0.0.0/12 7.0.0.0/12 8.0.0.0/12", "5.0.0.0/12 7.0.0.0/12 8.0.0.0/12 9.0.0.0/12"}[run])
	}
}

func second2[T any](_ T, err error) error { return err }

// What does not count, because its origin is blocked or unlisted, takes no space from those that do.
func TestWhatDoesNotCountTakesNoSpace(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) {
		guarded(cfg)
		cfg.Members = []string{"rogue", "bob", "carol"}
		cfg.Guard.SpaceV4 = 14 // four /16
	})
	fill := func(name string, net int) {
		f := newForge(name, 1)
		for i := range 4 {
			f.write(item{kind: KindBan, key: mustPrefixKey(fmt.Sprintf("%d.%d.0.0/16", net, i)), start: c.millis(), until: c.millis() + hour, jail: "x"})
		}
		a.take(f)
	}
	look := func(when string, blocked, waiting int) {
		t.Helper()
		if force, held := a.inForce(); len(force) != blocked || len(held) != waiting {
			t.Errorf("%s: in force: %v; held: %v", when, force, held)
		}
	}
	fill("stranger", 20)
	fill("rogue", 30)
	look("the stranger does not count", 4, 0)
	fill("bob", 40)
	look("bob comes late", 4, 4)
	block := newForge("carol", 1).control(KindBlock, c, "rogue")
	a.take(block)
	a.Tick(true)
	look("rogue is blocked, and bob has the space", 4, 0)
	fill2 := newForge("rogue", 2)
	fill2.write(item{kind: KindBan, key: mustPrefixKey("50.0.0.0/16"), start: c.millis(), until: c.millis() + hour, jail: "x"})
	a.take(fill2)
	if u := a.set.guard.used[1]; u != 4<<16 || len(a.set.guard.held) != 0 {
		t.Errorf("%d are counted, and %d wait", u, len(a.set.guard.held))
	}
	a.must(a.Unblock(t.Context(), "rogue"))
	look("rogue is unblocked, and waits", 4, 5)
}

// An origin with very many records has its limits judged late, and what it bans meanwhile does not take effect before.
func TestWhatIsJudgedLateWaitsAtOnce(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) {
		guarded(cfg)
		cfg.Limits.LivePerOrigin = judgeAtOnce
	})
	f := newForge("rogue", 7)
	f.seq = 1000
	at := c.millis()
	ban := func(prefix string) {
		f.write(item{kind: KindBan, key: mustPrefixKey(prefix), start: at, until: at + hour, jail: "x"})
	}
	for i := range judgeAtOnce + 100 { // crowded
		ban(fmt.Sprintf("20.%d.%d.%d/32", i>>16, i>>8&255, i&255))
		if i%1000 == 999 || i == judgeAtOnce+99 {
			a.take(f)
			f.chunkMaker = chunkMaker{id: f.id}
			f.seq = 1001 + uint64(i)
		}
	}
	a.take(newForge("rogue", 7).write(item{kind: KindBan, key: mustPrefixKey("9.9.9.9/32"), start: at, until: at + hour, jail: "x"})) // judged just now
	early := newForge("rogue", 7)
	early.seq = 1
	early.write(item{kind: KindBan, key: mustPrefixKey("5.0.0.0/8"), start: at, until: at + hour, jail: "x"})
	a.take(early)
	if !a.set.origins["rogue"].dirty {
		t.Fatal("it was judged at once")
	}
	look := func(when string) {
		t.Helper()
		if _, held := a.inForce(); strings.Join(held, " ") != "5.0.0.0/8" {
			t.Errorf("%s: held: %v", when, held)
		}
	}
	look("before it is judged")
	c.add(time.Minute)
	a.Tick(true)
	look("judged")
	if a.set.origins["rogue"].dirty {
		t.Error("it was not judged")
	}
	c.add(time.Hour)
	a.Tick(true)
	if g := &a.set.guard; len(g.held) != 0 || g.used != [2]uint64{} {
		t.Errorf("at the end %d wait, %v is counted", len(g.held), g.used)
	}
}

// A word for a wide prefix lasts over its prolongations and ends with its last ban.
func TestAWordEndsWithItsBan(t *testing.T) {
	c, disk := newClock(), newMemDisk()
	a := newNode(t, "a", c, disk, guarded)
	f := newForge("b", 7)
	ban := func(length Millis) {
		f.write(item{kind: KindBan, key: mustPrefixKey("5.0.0.0/8"), start: c.millis(), until: c.millis() + length, jail: "x"})
		a.take(f)
		a.Tick(true)
	}
	ban(hour)
	a.must(second2(a.ConfirmHeld(t.Context())))
	c.add(time.Minute)
	ban(2 * hour)
	if _, held := a.inForce(); len(held) != 0 {
		t.Errorf("prolonged, %v waits", held)
	}
	c.add(3 * time.Hour)
	a.Tick(true)
	a.must(a.SaveMeta(t.Context(), "after", nil)) // what Tick asked for is written
	ban(hour)
	for _, when := range []string{"banned again", "after a restart"} {
		if _, held := a.inForce(); len(held) != 1 {
			t.Errorf("%s, it does not wait", when)
		}
		a.must(a.Close())
		a = newNode(t, "a", c, disk, guarded)
	}
}

// Who fills the space keeps nobody's addresses out, and a word ends the waiting, for what comes later too.
func TestAFullSpaceLetsAddressesIn(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) {
		guarded(cfg)
		cfg.Guard.SpaceV4, cfg.Guard.SpaceV6 = 14, 46 // four /16 and four /48
	})
	n := 0
	ban := func(prefix string) {
		n++
		a.take(newForge(fmt.Sprint("name", n), 1).write(item{kind: KindBan, key: mustPrefixKey(prefix), start: c.millis(), until: c.millis() + hour, jail: "x"}))
	}
	look := func(when, want string) {
		t.Helper()
		if _, held := a.inForce(); strings.Join(held, " ") != want {
			t.Errorf("%s: held: %v, want %s", when, held, want)
		}
	}
	for i := range 4 {
		ban(fmt.Sprintf("20.%d.0.0/16", i))
		ban(fmt.Sprintf("2001:db8:%x::/48", i))
	}
	ban("30.2.0.1/32")
	ban("2001:db9::/64")
	ban("2001:db9:1::1/128")
	look("addresses", "")
	ban("30.0.0.0/24")
	look("a network", "30.0.0.0/24")
	a.must(second2(a.ConfirmHeld(t.Context())))
	ban("31.0.0.0/24")
	look("one that comes after the confirmation", "")
	ban("2001:db9:2::/48")
	look("one of the other family", "2001:db9:2::/48")
	for i := range 4 {
		ban(fmt.Sprintf("40.%d.0.0/16", i))
	}
	look("another bound later", "2001:db9:2::/48 40.3.0.0/16")
}

// What is in force stays; what comes when the room is taken waits until there is room again.
func TestWhatOthersBanTogetherIsBounded(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) {
		guarded(cfg)
		cfg.Guard.SpaceV4 = 14 // four /16
	})
	forged := func(name, prefix string, ends Millis) {
		f := newForge(name, 1)
		f.write(item{kind: KindBan, key: mustPrefixKey(prefix), start: c.millis(), until: c.millis() + ends, jail: "x"})
		a.take(f)
	}
	for i := range 4 {
		forged(fmt.Sprint("first", i), fmt.Sprintf("20.%d.0.0/16", i), hour)
		forged(fmt.Sprint("again", i), fmt.Sprintf("20.%d.0.0/16", i), 2*hour) // covers nothing more
	}
	forged("late", "30.1.0.0/16", 10*hour)
	forged("later", "30.2.0.0/24", 10*hour)
	if force, held := a.inForce(); len(force) != 4 || strings.Join(held, " ") != "30.1.0.0/16 30.2.0.0/24" {
		t.Errorf("in force: %v; held: %v", force, held)
	}
	c.add(time.Hour + time.Minute) // the first go, and others carry what they covered
	a.Tick(true)
	if force, held := a.inForce(); len(force) != 4 || len(held) != 2 {
		t.Errorf("with the second ones in force: %v; held: %v", force, held)
	}
	c.add(time.Hour)
	a.Tick(true)
	if force, held := a.inForce(); strings.Join(force, " ") != "30.1.0.0/16 30.2.0.0/24" || len(held) != 0 {
		t.Errorf("at the end in force: %v; held: %v", force, held)
	}
	if u := a.set.guard.used; u != [2]uint64{0, 1<<16 + 1<<8} {
		t.Errorf("counted: %v", u)
	}
}

// A store takes the logs of the store before it for its own in its first hour; what was written since is nobody's but
// somebody else's.
func TestWhoWritesInAnothersNameIsToldInTheFirstHour(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	before := newForge("a", 5)
	before.write(item{kind: KindBan, key: mustPrefixKey("192.0.2.1/32"), start: c.millis() - hour, until: c.millis() + hour, jail: "x"})
	a.take(before)
	c.add(time.Minute)
	if logs, _ := a.Namesakes(); logs != 0 {
		t.Errorf("%d logs, although they are those of the store before", logs)
	}
	f := newForge("a", 6)
	f.write(item{kind: KindBan, key: mustPrefixKey("192.0.2.2/32"), start: c.millis(), until: c.millis() + hour, jail: "x"})
	a.take(f)
	if logs, records := a.Namesakes(); logs != 1 || records != 1 {
		t.Errorf("%d logs with %d records, want 1 with 1", logs, records)
	}
}

func TestWhoBlockedAndFrozeIsNamed(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	a.take(newForge("rogue", 1).control(KindBlock, c, "bob").control(KindFreeze, c, ""))
	at := c.millis()
	c.add(time.Second)
	a.take(newForge("carol", 1).control(KindBlock, c, "bob"))
	if got, want := a.Blockers("bob"), []Said{{"rogue", at}, {"carol", at + second}}; !slices.Equal(got, want) {
		t.Errorf("bob is blocked by %v, want %v", got, want)
	}
	if got, want := a.Freezers(), []Said{{"rogue", at}}; !slices.Equal(got, want) {
		t.Errorf("frozen by %v, want %v", got, want)
	}
}

// Room that becomes free goes to the narrowest first, and to no more at once than a tick has time for.
func TestRoomThatBecomesFree(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) {
		guarded(cfg)
		cfg.Guard.SpaceV4 = 11 // 32 /16
	})
	const narrow = guardAtOnce + 500
	take := func(name string, n int, length Millis, prefix func(i int) string) {
		f := newForge(name, 1)
		for i := range n {
			f.write(item{kind: KindBan, key: mustPrefixKey(prefix(i)), start: c.millis(), until: c.millis() + length, jail: "x"})
			if i%1000 == 999 || i == n-1 {
				a.take(f)
				f.chunkMaker = chunkMaker{id: f.id}
			}
		}
	}
	take("first", 32, hour, func(i int) string { return fmt.Sprintf("20.%d.0.0/16", i) })
	take("wide", 32, 10*hour, func(i int) string { return fmt.Sprintf("30.%d.0.0/16", i) })
	take("narrow", narrow, 10*hour, func(i int) string { return fmt.Sprintf("40.%d.%d.0/24", i>>8, i&255) })
	look := func(when string, force, waiting int) {
		t.Helper()
		if f, held := a.inForce(); len(f) != force || len(held) != waiting {
			t.Errorf("%s: %d in force, %d wait; want %d and %d", when, len(f), len(held), force, waiting)
		}
	}
	look("at first", 32, 32+narrow)
	c.add(2 * time.Hour)
	a.Tick(false)
	look("after a tick", guardAtOnce, 32+narrow-guardAtOnce)
	a.Tick(false)
	fit := (1<<21 - narrow<<8) >> 16 // /16 beside the /24
	look("after another", narrow+fit, 32-fit)
	for range 3 {
		a.Tick(false)
	}
	look("later", narrow+fit, 32-fit)
}
