package store

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestBanIsListedAndReachesAnother(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	if got := a.ban("192.0.2.1", time.Hour); got != BanNew {
		t.Fatalf("outcome %v, want new", got)
	}
	converge(a, b)
	for _, n := range []*node{a, b} {
		l := n.List(Query{})
		if len(l) != 1 || l[0].Prefix != pfx("192.0.2.1") || !l[0].Effective || l[0].Records[0].Origin != "a" || l[0].Records[0].Jail != "sshd" {
			t.Fatalf("list %+v", l)
		}
	}
}

func TestARepeatNeverShortens(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	start := a.clock.millis()
	a.ban("192.0.2.1", 2*time.Hour, startAt(start))
	if got := a.ban("192.0.2.1", time.Hour, startAt(start)); got != BanKnown {
		t.Errorf("shorter repeat of the same offence: %v, want known", got)
	}
	if got := a.ban("192.0.2.1", time.Hour, startAt(start+5000)); got != BanExtended {
		t.Errorf("newer offence: %v, want extended", got)
	}
	if got, want := a.List(Query{})[0].Until, start+2*hour; got != want {
		t.Errorf("until %d, want %d", got, want)
	}
	if got := a.ban("192.0.2.1", 3*time.Hour, startAt(start+5000)); got != BanExtended {
		t.Errorf("prolongation: %v, want extended", got)
	}
	if l := a.List(Query{}); len(l[0].Records) != 1 || l[0].Until != start+3*hour {
		t.Errorf("after prolongation %+v", l)
	}
}

func TestPlanningSeesTheSameCall(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	q := a.request("192.0.2.1", time.Hour)
	q.Start = a.clock.millis()
	longer := q
	longer.Until += hour
	out, err := a.Ban(context.Background(), []BanRequest{q, q, longer, q})
	a.must(err)
	want := []BanOutcome{BanNew, BanKnown, BanExtended, BanKnown}
	for i := range want {
		if out[i].Outcome != want[i] {
			t.Errorf("outcome %d: %v, want %v", i, out[i], want[i])
		}
	}
	if n := a.Counts().Records; n != 1 {
		t.Errorf("%d records, want the last alone", n)
	}
}

func TestReplayOfALiftedOffenceStaysLifted(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	start := c.millis()
	a.ban("192.0.2.1", time.Hour, startAt(start))
	converge(a, b)
	if got := b.lift("192.0.2.1"); got.Offences != 1 {
		t.Fatalf("lifted %+v", got)
	}
	converge(a, b)
	for name, with := range map[string]func(*BanRequest){"replay": restored, "repeat": func(*BanRequest) {}} {
		if got := a.ban("192.0.2.1", time.Hour, startAt(start+900), with); got != BanStaysLifted {
			t.Errorf("%s: %v, want stays lifted", name, got)
		}
	}
	if a.live("192.0.2.1") || b.live("192.0.2.1") {
		t.Error("lifted ban is live")
	}
	if got := a.ban("192.0.2.1", time.Hour, startAt(start+2000)); got != BanNew {
		t.Errorf("new offence: %v, want new", got)
	}
	a = a.reopen()
	if got := a.ban("192.0.2.1", time.Hour, startAt(start), restored); got != BanStaysLifted {
		t.Errorf("replay after a restart: %v, want stays lifted", got)
	}
}

func TestReplayOfAKnownBanChangesNothing(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	start := a.clock.millis() - 10*minute
	a.ban("192.0.2.1", time.Hour, startAt(start))
	before := a.Root(a.minute())
	a = a.reopen()
	if got := a.ban("192.0.2.1", time.Hour, startAt(start-700), restored); got != BanKnown {
		t.Errorf("replay: %v, want known", got)
	}
	if a.Root(a.minute()) != before {
		t.Error("the replay changed the set")
	}
}

func TestBanAfterLiftWithoutAStartIsMeant(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	for range 3 {
		if got := a.ban("192.0.2.1", time.Hour); got != BanNew {
			t.Fatalf("ban: %v, want new", got)
		}
		a.lift("192.0.2.1")
		if a.live("192.0.2.1") {
			t.Fatal("lifted ban is live")
		}
	}
}

// A ban given again right after an unban is another offence that starts when it is given, however often and however short.
func TestBanGivenAgainIsReadable(t *testing.T) {
	c := newClock()
	disk := newMemDisk()
	a, b := newNode(t, "a", c, disk), newNode(t, "b", c, nil)
	for i := range 40 {
		if got := a.ban("192.0.2.1", 500*time.Millisecond); got != BanNew {
			t.Fatalf("ban %d: %v, want new", i, got)
		}
		if e := a.List(Query{}); len(e) != 1 || e[0].Records[0].Start > c.millis() || e[0].Records[0].Start < c.millis()-2*second {
			t.Fatalf("ban %d at %d is listed as %+v", i, c.millis(), e)
		}
		if b.pull(a); !b.live("192.0.2.1") {
			t.Fatalf("ban %d did not reach the other", i)
		}
		a.lift("192.0.2.1")
		if b.pull(a); a.live("192.0.2.1") || b.live("192.0.2.1") {
			t.Fatalf("ban %d is live after its lift", i)
		}
		c.add(time.Duration(i%3) * 7 * time.Millisecond)
	}
	if got := a.ban("192.0.2.1", time.Hour); got != BanNew {
		t.Fatalf("last ban: %v, want new", got)
	}
	a.must(a.Close())
	if a = newNode(t, "a", c, disk); !a.live("192.0.2.1") {
		t.Error("an acknowledged ban is gone after a restart")
	}
}

// What the reader would refuse is refused before it is acknowledged, and nothing of its call is written.
func TestNothingUnreadableIsAcknowledged(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	now := a.clock.millis()
	err := a.do(context.Background(), func(p *plan) error {
		p.write(item{kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: now, until: now + hour, jail: "j"})
		p.write(item{kind: KindBan, key: mustKey(pfx("192.0.2.2")), start: now + 2, until: now + 1, jail: "j"})
		return nil
	})
	var invalid *InvalidError
	if !errors.As(err, &invalid) || invalid.prefix != pfx("192.0.2.2") || a.Head().Seq != 0 || len(a.List(Query{})) != 0 {
		t.Errorf("%v, head %d", err, a.Head().Seq)
	}
	if a.ban("192.0.2.1", time.Hour) != BanNew || a.Head().Seq != 1 {
		t.Errorf("after it: head %d", a.Head().Seq)
	}
}

func TestMaxDurationCountsFromTheStart(t *testing.T) {
	a := newNode(t, "a", newClock(), nil, func(c *Config) { c.MaxDuration = 24 * time.Hour })
	now := a.clock.millis()
	q := BanRequest{Prefix: pfx("192.0.2.1"), Start: now - 20*hour, Until: Never}
	_, err := a.Ban(context.Background(), []BanRequest{q})
	a.must(err)
	if got, want := a.List(Query{})[0].Until, now+4*hour; got != want {
		t.Errorf("until %d, want %d", got, want)
	}
	q.Prefix, q.Start = pfx("192.0.2.2"), now-25*hour
	out, err := a.Ban(context.Background(), []BanRequest{q})
	a.must(err)
	if out[0].Outcome != BanExpired {
		t.Errorf("over before it came: %v, want expired", out[0])
	}
	q.Force = true
	out, err = a.Ban(context.Background(), []BanRequest{q})
	a.must(err)
	if out[0].Outcome != BanNew || a.List(Query{Prefix: q.Prefix})[0].Until != Never {
		t.Errorf("forced: %v %v", out[0], a.List(Query{Prefix: q.Prefix}))
	}
	if a.List(Query{Prefix: q.Prefix})[0].Records[0].Jail != "manual" {
		t.Error("no jail is not jail manual")
	}
}

// TestTheAnswerSaysWhatHolds: what was asked for may be less, or more.
func TestTheAnswerSaysWhatHolds(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(c *Config) { c.MaxDuration = 24 * time.Hour })
	now := c.millis()
	for _, step := range []struct {
		what        string
		start       Millis
		length      time.Duration
		want        BanOutcome
		from, until Millis
	}{
		{"a new ban", now - hour, 10 * time.Hour, BanNew, now - hour, now + 10*hour},
		{"the same, shorter", now - hour, 5 * time.Minute, BanKnown, now - hour, now + 10*hour},
		{"a newer offence, shorter", now, 5 * time.Minute, BanExtended, now, now + 10*hour},
		{"an older offence, shorter", now - 2*hour, 5 * time.Minute, BanKnown, now, now + 10*hour},
		{"longer than it may be", now, 100 * time.Hour, BanExtended, now, now + 24*hour},
		{"an older offence, longer than it may be", now - 20*hour, 100 * time.Hour, BanKnown, now, now + 24*hour},
		{"over", now, -time.Hour, BanExpired, 0, 0},
	} {
		got := a.banned("192.0.2.1", step.length, startAt(step.start))
		if got != (Banned{step.want, step.from, step.until}) {
			t.Errorf("%s: %v from %+d s until %+d s, want %v from %+d s until %+d s", step.what, got.Outcome, (got.start-now)/second, (got.Until-now)/second,
				step.want, (step.from-now)/second, (step.until-now)/second)
		}
		if r := a.List(Query{})[0].Records; step.until > 0 && (len(r) != 1 || r[0].Start != step.from || r[0].Until != step.until) {
			t.Errorf("%s: the record is %+v", step.what, r)
		}
	}
	a.lift("192.0.2.1")
	if got := a.banned("192.0.2.1", time.Hour, startAt(now)); got != (Banned{Outcome: BanStaysLifted}) {
		t.Errorf("lifted: %+v", got)
	}
}

// TestNoBanGetsPastMaxDuration: whatever is said in whatever order, no record lasts longer than it may.
func TestNoBanGetsPastMaxDuration(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(c *Config) { c.MaxDuration = time.Hour })
	base := c.millis()
	for i, start := range []Millis{0, -30 * minute, 0, 1000, 900, -59 * minute, 30 * minute, 2000, 3000, 4000, 20 * minute} {
		a.ban("192.0.2.1", 48*time.Hour, startAt(base+start))
		if i%4 == 3 {
			a = a.reopenWith(func(c *Config) { c.MaxDuration = time.Hour })
		}
		for _, r := range a.List(Query{})[0].Records {
			if r.Until > r.Start+hour {
				t.Errorf("step %d, start %+d s: a record lasts %d s", i, start/second, (r.Until-r.Start)/second)
			}
		}
	}
}

func TestInvalidBansRefuseTheWholeCall(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	good := a.request("192.0.2.1", time.Hour)
	for name, bad := range map[string]BanRequest{
		"no prefix":      {Until: good.Until},
		"all of IPv4":    {Prefix: netip.MustParsePrefix("0.0.0.0/0"), Until: good.Until, Force: true},
		"all of IPv6":    {Prefix: netip.MustParsePrefix("::/0"), Until: good.Until, Force: true},
		"all, mapped":    {Prefix: netip.MustParsePrefix("::ffff:0.0.0.0/96"), Until: good.Until, Force: true},
		"host bits":      {Prefix: netip.MustParsePrefix("192.0.2.1/24"), Until: good.Until},
		"wide":           {Prefix: netip.MustParsePrefix("10.0.0.0/15"), Until: good.Until},
		"wide v6":        {Prefix: netip.MustParsePrefix("2001::/31"), Until: good.Until},
		"future":         {Prefix: good.Prefix, Start: a.clock.millis() + 25*hour, Until: Never},
		"negative start": {Prefix: good.Prefix, Start: -1, Until: good.Until},
		"absurd until":   {Prefix: good.Prefix, Until: latest + 1},
		"least":          {Prefix: good.Prefix, Until: math.MinInt64},
		"ends first":     {Prefix: good.Prefix, Start: good.Until + hour, Until: good.Until},
		"jail":           {Prefix: good.Prefix, Jail: "a\nb", Until: good.Until},
		"long jail":      {Prefix: good.Prefix, Jail: strings.Repeat("j", 256), Until: good.Until},
	} {
		_, err := a.Ban(context.Background(), []BanRequest{good, bad})
		var invalid *InvalidError
		if !errors.As(err, &invalid) || invalid.index != 1 || invalid.reason == "" {
			t.Errorf("%s: %v, want it refused as request 1", name, err)
		}
	}
	if n := a.Counts().Records; n != 0 {
		t.Errorf("%d records of refused calls", n)
	}
}

func TestMappedPrefixIsIPv4(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	a.ban("::ffff:192.0.2.1", time.Hour)
	if !a.live("192.0.2.1") {
		t.Errorf("list %+v", a.List(Query{}))
	}
}

func TestReasonIsCutAtARune(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	a.ban("192.0.2.1", time.Hour, func(q *BanRequest) { q.Reason = strings.Repeat("é", 5000) })
	if got := a.List(Query{})[0].Records[0].Reason; got != strings.Repeat("é", keepText/2) {
		t.Errorf("reason of %d bytes", len(got))
	}
	chunk, _ := a.Since(0, 1<<20)
	if len(chunk) > maxRecord {
		t.Errorf("record of %d bytes", len(chunk))
	}
}

func TestFloorRefusesTheReplacedOneThatComesLate(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	start := c.millis()
	a.ban("192.0.2.1", 10*time.Hour, startAt(start))
	late, _ := a.Since(0, 1200)
	a.lift("192.0.2.1")
	c.add(2 * time.Second)
	a.ban("192.0.2.1", time.Hour)
	converge(a, b)
	c.add(5 * time.Hour) // the newer ban and two hours are over; the one it replaced would still be live
	for _, n := range []*node{a, b} {
		n.Tick(true)
	}
	m, err := b.Merge(late)
	b.must(err)
	if m.superseded != 1 || b.live("192.0.2.1") {
		t.Errorf("late record: %+v, live %v", m, b.live("192.0.2.1"))
	}
	if !sameRoots(a, b) {
		t.Error("roots differ")
	}
}
