package commit

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/store"
)

var (
	one = netip.MustParsePrefix("192.0.2.1/32")
	two = netip.MustParsePrefix("192.0.2.2/32")
)

func always(netip.Prefix) bool  { return true }
func never(netip.Prefix) bool   { return false }
func young(store.Millis) bool   { return false }
func settled(store.Millis) bool { return true }
func tenant(ps ...netip.Prefix) conductor.Running {
	return conductor.Running{Exists: true, Member: true, Addresses: ps}
}

func usable() Config {
	c := DefaultConfig()
	c.Set, c.Leading = new(store.Store), func() bool { return true }
	return c
}

func TestTheLeastThatCanBeConfigured(t *testing.T) {
	c := usable()
	c.Window, c.MaxWait, c.MinInterval, c.MaxAddresses, c.MaxShrinkPercent, c.MaxGrowthPercent, c.GrowthFloor, c.Foreign.After = 0, 0, 0, 0, 1, 1, 0, 0
	c.tuning.Burst, c.tuning.ExpiryWait, c.tuning.StopGrace = 1, 0, 0
	if err := c.validate(); err != nil {
		t.Error(err)
	}
	c.MaxShrinkPercent = 100
	if err := c.validate(); err != nil {
		t.Error(err)
	}
}

func TestATimeThatCannotBeUsedIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*tuning){
		"lease":     func(t *tuning) { t.Lease = 0 },
		"renewal":   func(t *tuning) { t.RenewBelow = t.Lease },
		"verify":    func(t *tuning) { t.Verify = 0 },
		"probe":     func(t *tuning) { t.Probe = 0 },
		"login":     func(t *tuning) { t.LoginWait = 0 },
		"least":     func(t *tuning) { t.MinBackoff = 0 },
		"most":      func(t *tuning) { t.MaxBackoff = t.MinBackoff - 1 },
		"housekeep": func(t *tuning) { t.Housekeep = 0 },
		"stop":      func(t *tuning) { t.StopGrace = -1 },
		"expiry":    func(t *tuning) { t.ExpiryWait = -1 },
		"burst":     func(t *tuning) { t.Burst = 0 },
	} {
		c := usable()
		spoil(&c.tuning)
		if err := c.validate(); err == nil || !strings.Contains(err.Error(), "tuning") {
			t.Errorf("%s: got %v", name, err)
		}
		if got, err := New(c); err == nil || got != nil {
			t.Errorf("%s: New gives %v, %v", name, got, err)
		}
	}
}

func TestACommitterNeedsNoMoreThanASetAndALeader(t *testing.T) {
	c, err := New(Config{Set: new(store.Store), Leading: func() bool { return true }, Timeout: time.Second, MaxShrinkPercent: 50, MaxGrowthPercent: 100})
	if err != nil {
		t.Fatal(err)
	}
	if !c.cfg.Ready() || !c.cfg.ClocksAgree() || c.cfg.tuning != defaultTuning() || c.cfg.Now().IsZero() || c.cfg.StaleSessions() != nil {
		t.Errorf("not ready by default: %+v", c.cfg)
	}
	c.cfg.OnEvent(Event{})
	c.cfg.SetWork(WorkIdle, "", conductor.SessionAt{}, time.Time{})
}

func newTestAbility() ability {
	c := usable()
	c.Random = rand.NewPCG(1, 2)
	return newAbility(c)
}

// A fleet must not read the conductor in lockstep, and no member much later than it should.
func TestReadingsSpread(t *testing.T) {
	a := newTestAbility()
	least, most := time.Hour, time.Duration(0)
	for range 500 {
		a.succeeded(noon, false)
		wait := a.next.Sub(noon)
		least, most = min(least, wait), max(most, wait)
	}
	every := a.tuning.Probe
	if least < every*7/8 || most >= every*9/8 || most-least < every/5 {
		t.Errorf("readings come %v to %v later, want them spread over %v to %v", least, most, every*7/8, every*9/8)
	}
}

func TestWhatCannotBeRecordedIsNotTriedAtOnce(t *testing.T) {
	a := newTestAbility()
	a.failed(noon, fmt.Errorf("so: %w", errRecord), false)
	if !a.barred(noon.Add(a.tuning.MaxBackoff-1)) || a.barred(noon.Add(a.tuning.MaxBackoff)) || a.able {
		t.Errorf("barred until %v, want a minute", a.locked.Sub(noon))
	}
}

// An account is locked after a few refused logins.
func TestRefusedLoginsAreTriedMoreAndMoreRarely(t *testing.T) {
	a := newTestAbility()
	var waits []time.Duration
	for range 4 {
		a.failed(noon, conductor.ErrLogin, true)
		waits = append(waits, a.next.Sub(noon))
	}
	if fmt.Sprint(waits) != "[5m0s 10m0s 15m0s 15m0s]" {
		t.Errorf("waits %v", waits)
	}
	if a.failed(noon, errors.New("an edit's"), false); a.next.Sub(noon) != 15*time.Minute {
		t.Error("the failure of an edit alone changes when to try")
	}
}

func TestABackoffDoublesBetweenItsBounds(t *testing.T) {
	b := backoff{least: time.Second, most: time.Minute, random: rand.New(rand.NewPCG(1, 2))}
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		b.failed(noon)
		want *= time.Second
		if got := b.at.Sub(noon); b.wait != want || got < max(want*3/4, time.Second) || got > min(want*5/4, time.Minute) {
			t.Errorf("failure %d: waits %v, tries after %v; want about %v", i+1, b.wait, got, want)
		}
	}
}

// What was in the tenant and is no longer there is nobody's own any more, whoever puts it there next.
func TestWhatIsGoneIsNotOurs(t *testing.T) {
	m := newMemory()
	m.look(noon, tenant(one, two), leases(one, two), always, settled, time.Minute, 50)
	if len(m.ours) != 2 {
		t.Fatalf("ours: %v, want both", m.ours)
	}
	m.look(noon, tenant(two), leases(one, two), always, settled, time.Minute, 50)
	if _, ok := m.ours[one]; ok || len(m.ours) != 1 {
		t.Errorf("ours: %v, want only %s", m.ours, two)
	}
}

func TestWhatIsBannedAgainOrThereIsNotUnused(t *testing.T) {
	m := newMemory()
	unused := func() bool { _, ok := m.unused[one]; return ok }
	m.look(noon, tenant(), leases(one), never, settled, time.Minute, 50)
	if !unused() {
		t.Fatal("placed, absent and not banned: it should be unused")
	}
	m.look(noon, tenant(), leases(one), always, settled, time.Minute, 50)
	if unused() {
		t.Error("banned again, and unused")
	}
	m.look(noon, tenant(), leases(one), never, settled, time.Minute, 50)
	m.look(noon, tenant(one), leases(one), never, settled, time.Minute, 50)
	if unused() {
		t.Error("there, and unused")
	}
}

// A reset put what it took back without anybody's word.
func TestWhatAResetTookNeedsNoWord(t *testing.T) {
	m := newMemory()
	m.look(noon, tenant(one), leases(one), always, settled, time.Minute, 50)
	n := m.look(noon, conductor.Running{}, leases(one), always, settled, time.Minute, 50)
	if _, ok := m.confirmed[one]; !ok || len(n.reset) != 1 || len(n.byHand) != 0 {
		t.Errorf("got %+v, confirmed %v", n, m.confirmed)
	}
}

// Only what this member saw there under the lease that still holds tells a reset from a removal by hand.
func TestAResetIsJudgedByWhatWasSeen(t *testing.T) {
	ps := many(20)
	for _, c := range []struct {
		name  string
		there int
		twist func(m *memory, placed map[netip.Prefix]store.Millis)
		want  bool
	}{
		{"nine of twenty left", 9, nil, true},
		{"ten of twenty left", 10, nil, false},
		{"under other leases", 9, func(_ *memory, placed map[netip.Prefix]store.Millis) {
			for p := range placed {
				placed[p]++
			}
		}, false},
		{"no record left", 9, func(_ *memory, placed map[netip.Prefix]store.Millis) { clear(placed) }, false},
		{"removed by hand before", 9, func(m *memory, placed map[netip.Prefix]store.Millis) {
			for p := range placed {
				m.byHand[p] = handRemoval{notBefore: noon}
			}
		}, false},
	} {
		m, placed := newMemory(), leases(ps...)
		m.look(noon, tenant(ps...), placed, always, settled, time.Minute, 50)
		if c.twist != nil {
			c.twist(&m, placed)
		}
		m.present = make(map[netip.Prefix]struct{})
		for _, p := range ps[:c.there] {
			m.present[p] = struct{}{}
		}
		if got := m.reset(tenant(ps[:c.there]...), placed, 50); got != c.want {
			t.Errorf("%s: a reset: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestAnAddressOfOursIsNotForeignOnceSent(t *testing.T) {
	m := newMemory()
	m.look(noon, tenant(one), nil, always, young, time.Minute, 50)
	if _, foreign := m.foreign[one]; !foreign {
		t.Fatal("not foreign: the test proves nothing")
	}
	placed := leases(one)
	m.sent([]netip.Prefix{one}, placed)
	if _, foreign := m.foreign[one]; foreign || m.ours[one] != placed[one] {
		t.Errorf("foreign: %v, ours: %v", foreign, m.ours)
	}
}

// A firm foreign address that this member was about to add stays foreign when it comes back; one that is not firm is ours.
func TestWhatWasAboutToBeAddedAndIsBack(t *testing.T) {
	for _, c := range []struct {
		name string
		mine bool
		firm bool
		seen bool
	}{{"foreign for good", true, true, false}, {"new", true, false, true}, {"not added by this member", false, true, true}} {
		m, placed := newMemory(), leases(one)
		if c.mine {
			m.mine[one] = placed[one]
		}
		m.foreign[one] = sighting{since: noon, firm: c.firm}
		m.look(noon, tenant(one), placed, always, young, time.Minute, 50)
		if _, seen := m.seen[one]; seen != c.seen {
			t.Errorf("%s: seen as placed: %v, want %v", c.name, seen, c.seen)
		}
		if _, mine := m.mine[one]; mine {
			t.Errorf("%s: still about to be added", c.name)
		}
	}
}

func TestACommitIsKnownWithoutAReading(t *testing.T) {
	m, placed := newMemory(), leases(one, two)
	m.look(noon, tenant(one), leases(one), always, settled, time.Minute, 50)
	m.committed(noon, Plan{Add: []netip.Prefix{two}, Remove: []netip.Prefix{one}}, placed)
	if !m.shows([]netip.Prefix{two}) || m.shows([]netip.Prefix{one}) || m.shows([]netip.Prefix{one, two}) || m.shows(nil) {
		t.Errorf("running is %v, present %v; want %s", m.running, m.present, two)
	}
	if !slices.Equal(m.running, []netip.Prefix{two}) || m.ours[two] != placed[two] || len(m.ours) != 1 {
		t.Errorf("running is %v, ours %v", m.running, m.ours)
	}
}

// A reading tells what is there only as long as nobody has placed more since.
func TestAReadingTellsUntilMoreIsPlaced(t *testing.T) {
	m, placed := newMemory(), leases(one, two)
	if m.tells(nil) {
		t.Error("it tells before there was a reading")
	}
	m.look(noon, tenant(one), placed, always, settled, time.Minute, 50)
	if !m.tells(placed) {
		t.Error("it does not tell of what it has just looked for")
	}
	if m.tells(leases(one, two, netip.MustParsePrefix("192.0.2.3/32"))) {
		t.Error("it tells of what was placed since")
	}
	again := leases(one, two)
	again[two]++
	if m.tells(again) {
		t.Error("it tells of what was placed again since")
	}
	if m.tells(leases(two)) {
		t.Error("it tells although the record of what is there was lifted")
	}
}

func TestAContradictionIsMoreThanTheShareThatMayShrink(t *testing.T) {
	m, ps := newMemory(), many(40)
	for _, p := range ps[:20] {
		m.seen[p] = 1
	}
	for _, c := range []struct {
		name  string
		added []netip.Prefix
		want  bool
	}{{"half of what was seen", ps[:10], false}, {"more than half", ps[:11], true}, {"what was never seen", ps[20:], false}} {
		if got := m.contradicts(c.added, 50); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	delete(m.seen, ps[0])
	if m.contradicts(ps[1:20], 50) {
		t.Error("a tenant of 19 may lose any share")
	}
}

func TestTheSizeOfAnHourAgoIsKept(t *testing.T) {
	m := newMemory()
	if m.sizeBefore() >= 0 {
		t.Error("a size before anybody looked")
	}
	for i := range 180 {
		m.grew(noon.Add(time.Duration(i)*30*time.Second), i)
	}
	// Half a minute is too soon for another one; the last is of 89 minutes.
	if got := m.sizeBefore(); got != 58 {
		t.Errorf("an hour before minute 89 it held %d, want 58, that of minute 29", got)
	}
	if len(m.sizes) > 62 {
		t.Errorf("%d sizes kept", len(m.sizes))
	}
}

func TestNoBanCountsTwice(t *testing.T) {
	twice := bans(one, one)
	for wanted := range 3 {
		f := base()
		f.bans = slices.Clone(twice)
		f.bans[0].wanted, f.bans[1].wanted = wanted == 0, wanted == 1
		want := "nothing"
		if wanted < 2 {
			want = "add[192.0.2.1/32]"
		}
		if got := text(makePlan(f)); got != want {
			t.Errorf("wanted by %d: %s, want %s", wanted, got, want)
		}
	}
}

func TestEachThingThatKeepsBansFromTheConductorIsSaid(t *testing.T) {
	if got := (estimate{}).warnings(ability{able: true, tried: true}, usable()); len(got) != 0 {
		t.Errorf("nothing is wrong, and it warns %q", got)
	}
	if got := (estimate{}).warnings(ability{why: "not tried"}, usable()); len(got) != 0 {
		t.Errorf("nothing was tried, and it warns %q", got)
	}
	for _, c := range []struct {
		e    estimate
		a    ability
		want string
	}{
		{estimate{}, ability{tried: true, why: "login refused"}, "this member cannot commit: login refused"},
		{estimate{held: 1}, ability{able: true}, "1 removals"},
		{estimate{heldAdd: 1}, ability{able: true}, "1 bans are kept"},
		{estimate{capped: 1}, ability{able: true}, "1 prefixes are not committed"},
		{estimate{hand: 1}, ability{able: true}, "1 prefixes were removed"},
		{estimate{deferred: 1}, ability{able: true}, "1 ended bans stay"},
	} {
		if got := c.e.warnings(c.a, usable()); len(got) != 1 || !strings.HasPrefix(got[0], c.want) {
			t.Errorf("%+v: warns %q, want one that begins %q", c.e, got, c.want)
		}
	}
}

func TestWhenThePlanShownIsMadeAnew(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		e    estimate
		want bool
	}{
		"none yet":                    {estimate{}, true},
		"none yet, whatever it costs": {estimate{pause: 1 << 62}, true},
		"old":                         {estimate{at: now.Add(-time.Hour)}, true},
		"younger than its pause":      {estimate{at: now.Add(-time.Hour), pause: 2 * time.Hour}, false},
		"the same, and out of date":   {estimate{at: now.Add(-time.Hour), pause: 2 * time.Hour, stale: true}, false},
		"older than its pause":        {estimate{at: now.Add(-3 * time.Hour), pause: 2 * time.Hour}, true},
		"out of date":                 {estimate{at: now, stale: true}, true},
		"of the future":               {estimate{at: now.Add(time.Hour), pause: 2 * time.Hour}, true},
	} {
		if got := (&Committer{estimate: c.e}).estimateDue(); got != c.want {
			t.Errorf("%s: due: %v, want %v", name, got, c.want)
		}
	}
}

// A ban that too few have reported stays in the tenant while it lives, whatever else is banned.
func TestAPartWithoutAQuorumStays(t *testing.T) {
	for _, swap := range []bool{false, true} {
		f := base()
		f.bans = bans(pfx("198.51.100.1", "192.0.2.1")...)
		f.bans[1].wanted = false
		if swap {
			slices.Reverse(f.bans)
		}
		f.running = pfx("192.0.2.0/31")
		f.placed = leases(f.running...)
		if got, want := text(makePlan(f)), "add[192.0.2.1/32 198.51.100.1/32] remove[192.0.2.0/31]"; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestTheNewestStaysUnderTheCapBesideOneThatWaits(t *testing.T) {
	f := base()
	f.maxAddresses = 1
	f.bans = bans(pfx("10.0.0.0/8", "192.0.2.1", "192.0.2.2")...)
	f.bans[2].newest = store.At(noon)
	p := makePlan(f)
	if !slices.Equal(p.Add, pfx("192.0.2.2")) || !slices.Equal(p.HeldAdd, pfx("10.0.0.0/8")) {
		t.Errorf("%s; want the newest, and that the wide one waits", text(p))
	}
}
