package store

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestALiftOutlivesTheBansOfWhoLetsThemLiveLonger: who lifts a ban of a member whose bans.max_duration is longer than its own
// keeps the lift for as long as that member may prolong, also when it has restarted since it was told.
func TestALiftOutlivesTheBansOfWhoLetsThemLiveLonger(t *testing.T) {
	c := newClock()
	capped := func(d time.Duration) func(*Config) { return func(cfg *Config) { cfg.MaxDuration = d } }
	a := newNode(t, "a", c, nil, capped(240*time.Hour))
	b := newNode(t, "b", c, nil, capped(4*time.Hour))
	start := c.millis() / second * second
	given := func(q *BanRequest) { q.Start = start }
	a.ban("192.0.2.1", time.Hour, given)
	b.pull(a)
	b.HeardMaxDuration("a", 240*time.Hour)
	b.HeardMaxDuration("c", time.Hour)
	b.must(b.SaveMeta(context.Background(), "x", nil))
	b.must(b.Close())
	b = newNode(t, "b", c, b.disk, capped(4*time.Hour))
	b.lift("192.0.2.1")

	c.add(9 * time.Hour) // a does not hear of it
	a.Tick(true)
	b.Tick(true)
	if out := a.ban("192.0.2.1", 24*time.Hour, given); out != BanNew && out != BanExtended {
		t.Fatalf("the prolongation is %v", out)
	}
	converge(a, b)
	if a.live("192.0.2.1") || b.live("192.0.2.1") {
		t.Errorf("what was lifted is back: at a %t, at b %t", a.live("192.0.2.1"), b.live("192.0.2.1"))
	}
	if b.HeardMaxDuration("a", 1<<62); b.life() != maxToldLife {
		t.Errorf("told of a life without end it keeps lifts for %v", time.Duration(b.life())*time.Millisecond)
	}
}

// TestWhatWasToldOfALifeEnds: lifts are not kept longer for ever because one member said so once.
func TestWhatWasToldOfALifeEnds(t *testing.T) {
	const own, told = 4 * time.Hour, 9600 * time.Hour
	capped := func(cfg *Config) { cfg.MaxDuration = own }
	for name, x := range map[string]struct {
		then func(a *node)
		want time.Duration
	}{
		"it is repeated": {func(a *node) {
			a.clock.add(29 * 24 * time.Hour)
			a.HeardMaxDuration("b", told)
			a.clock.add(29 * 24 * time.Hour)
		}, told},
		"it is not for a month":   {func(a *node) { a.clock.add(30 * 24 * time.Hour) }, own},
		"another length is told":  {func(a *node) { a.HeardMaxDuration("b", 5*time.Hour) }, 5 * time.Hour},
		"one is told of two":      {func(a *node) { a.HeardMaxDuration("c", 6*time.Hour); a.HeardMaxDuration("b", time.Hour) }, 6 * time.Hour},
		"it is blocked":           {func(a *node) { a.must(a.Block(context.Background(), "b")) }, own},
		"many tell a shorter one": {func(a *node) { tellLives(a, 5*time.Hour) }, told},
		"many tell a longer one":  {func(a *node) { tellLives(a, told+time.Hour) }, told},
	} {
		t.Run(name, func(t *testing.T) {
			a := newNode(t, "a", newClock(), nil, capped)
			a.HeardMaxDuration("b", told)
			x.then(a)
			for range 2 {
				if got := time.Duration(a.life()) * time.Millisecond; got != x.want {
					t.Errorf("lifts are kept for %v, want %v", got, x.want)
				}
				if len(a.lives) > maxLives {
					t.Errorf("%d words are remembered", len(a.lives))
				}
				a.must(a.SaveMeta(context.Background(), "x", nil))
				a = a.reopenWith(capped)
			}
		})
	}
}

func tellLives(a *node, d time.Duration) {
	for i := range 3 * maxLives {
		a.HeardMaxDuration(fmt.Sprint("m", i), d)
	}
}

// TestALiftDatedFarAheadIsRefused: its ranges would name what is given until then. It is taken when its time has come.
func TestALiftDatedFarAheadIsRefused(t *testing.T) {
	for name, begin := range map[string]func(*node) *node{
		"the clock agrees":   func(a *node) *node { a.Tick(true); return a },
		"the clock does not": func(a *node) *node { a.Tick(false); return a },
		"after a start":      func(a *node) *node { a.Tick(true); return a.reopen() },
	} {
		t.Run(name, func(t *testing.T) { refuseALiftFarAhead(t, begin) })
	}
}

// refuseALiftFarAhead brings lifts of the future to a member that begin has made ready.
func refuseALiftFarAhead(t *testing.T, begin func(*node) *node) {
	c := newClock()
	a := begin(newNode(t, "a", c, nil))
	f := newForge("rogue", 1)
	ahead := c.millis() + 10*365*24*hour
	f.write(item{kind: KindLift, key: mustKey(addr(1)), start: ahead, until: ahead, lift: &liftBody{offences: []offence{{"a", "sshd", ahead}, {"a", "sshd", 0}}}})
	f.write(item{kind: KindLift, key: mustKey(addr(2)), start: ahead, until: ahead, lift: &liftBody{offences: []offence{{"a", "sshd", c.millis()}}}})
	f.write(item{kind: KindLift, key: mustKey(addr(3)), start: c.millis() + 23*hour, until: ahead, lift: &liftBody{offences: []offence{{"a", "sshd", ahead}, {"a", "sshd", 0}}}})
	if m, err := a.Merge(f.bytes()); err != nil || m.Refused != 1 || m.New != 2 {
		t.Errorf("merged %+v: %v", m, err)
	}
	if out := a.ban(addr(1).String(), time.Hour); out != BanNew {
		t.Errorf("the ban is %v", out)
	}
	c.add(10 * 365 * 24 * time.Hour)
	a.Tick(true)
	if m, err := a.Merge(f.bytes()); err != nil || m.Refused != 0 {
		t.Errorf("in time: merged %+v: %v", m, err)
	}
}

// TestAClockThatStepsBackALittleKeepsTheLimits: what had expired is live again, and what had taken its place counts no more.
func TestAClockThatStepsBackALittleKeepsTheLimits(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) { cfg.Limits = Limits{LivePerOrigin: 1} })
	a.ban("192.0.2.1", 10*time.Second)
	a.ban("192.0.2.2", time.Hour)
	c.add(12 * time.Second)
	a.Tick(true)
	if a.live("192.0.2.1") || !a.effective("192.0.2.2") {
		t.Fatal("the second one does not count")
	}
	c.add(-4 * time.Second)
	a.Tick(true)
	if !a.effective("192.0.2.1") || a.effective("192.0.2.2") {
		t.Errorf("the first counts: %t, the second: %t", a.effective("192.0.2.1"), a.effective("192.0.2.2"))
	}
	c.add(4 * time.Second)
	a.Tick(true)
	if a.live("192.0.2.1") || !a.effective("192.0.2.2") {
		t.Error("it does not expire again")
	}
}
