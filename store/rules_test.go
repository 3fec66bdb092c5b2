package store

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, pfx(p))
	}
	return out
}

func TestLiftSparesAConcurrentBan(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	b.pull(a)
	c.add(3 * time.Second)
	a.ban("192.0.2.1", time.Hour) // b has not seen this offence
	b.lift("192.0.2.1")
	converge(a, b)
	if !a.live("192.0.2.1") || !b.live("192.0.2.1") {
		t.Error("the lift took an offence that its writer had not seen")
	}
}

func TestLiftCoversAProlongationThatComesLater(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	start := c.millis()
	a.ban("192.0.2.1", time.Hour, startAt(start))
	b.pull(a)
	b.lift("192.0.2.1")
	a.ban("192.0.2.1", 8*time.Hour, startAt(start+1000)) // not seen by b, and a has not seen the lift
	converge(a, b)
	if a.live("192.0.2.1") || b.live("192.0.2.1") {
		t.Error("a prolongation of a lifted offence is live")
	}
	c.add(7 * time.Hour) // long after the lift's own until
	for _, n := range []*node{a, b} {
		n.Tick(true)
		if n.live("192.0.2.1") {
			t.Error("the lift was forgotten before what it covers")
		}
	}
	equalSets(t, a, b)
	if b = b.reopen(); b.live("192.0.2.1") { // what was written to disk says so as well
		t.Error("live after a restart")
	}
	c.add(31 * 24 * time.Hour)
	for _, n := range []*node{a, b} {
		n.Tick(true)
		if got := n.Counts(); got.Records != 0 || got.Logs > 1 {
			t.Errorf("after all is over: %+v", got)
		}
	}
}

// A lift lives as long as its offences can be prolonged, however long who prolongs them has not heard of it.
func TestLiftOutlivesALongPartition(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	start := c.millis()
	a.ban("192.0.2.1", time.Hour, startAt(start))
	b.pull(a)
	b.lift("192.0.2.1")
	a.ban("192.0.2.1", 240*time.Hour, startAt(start))
	for range 30 {
		c.add(6 * time.Hour)
		a.Tick(true)
		b.Tick(true)
	}
	a.pull(b)
	b.pull(a)
	if a.live("192.0.2.1") || b.live("192.0.2.1") {
		t.Errorf("what was lifted is live again: a %t b %t", a.live("192.0.2.1"), b.live("192.0.2.1"))
	}
	equalSets(t, a, b)
}

// Who forgot a lift of its own that others keep, for a ban that it had not seen, takes it back from them.
func TestOwnForgottenLiftComesBack(t *testing.T) {
	c := newClock()
	a, d := newNode(t, "a", c, nil), newNode(t, "d", c, nil)
	b := newNode(t, "b", c, nil, func(cfg *Config) { cfg.MaxDuration = time.Hour })
	start := c.millis()
	a.ban("192.0.2.1", time.Hour, startAt(start))
	b.pull(a)
	b.lift("192.0.2.1")
	d.pull(b)
	a.ban("192.0.2.1", 24*time.Hour, startAt(start))
	d.pull(a)
	a.pull(d)
	c.add(3*time.Hour + time.Minute)
	for _, n := range []*node{a, b, d} {
		n.Tick(true)
	}
	if b.Counts().Records != 0 {
		t.Fatal("b still holds its lift: this tests nothing")
	}
	converge(a, b, d)
	if a.live("192.0.2.1") || b.live("192.0.2.1") || d.live("192.0.2.1") {
		t.Errorf("live at a %t, b %t, d %t", a.live("192.0.2.1"), b.live("192.0.2.1"), d.live("192.0.2.1"))
	}
	equalSets(t, a, b, d)
	disk := b.disk
	b = newNode(t, "b", c, disk.clone())
	if converge(a, b); b.live("192.0.2.1") {
		t.Error("after a restart what was taken back is gone")
	}
}

// A joiner that is told of a lift before the ban it is kept for keeps it.
func TestALiftThatComesBeforeWhatItIsKeptForIsNotLost(t *testing.T) {
	c := newClock()
	a, z := newNode(t, "z", c, nil), newNode(t, "y", c, nil)
	b := newNode(t, "b", c, nil, func(cfg *Config) { cfg.MaxDuration = time.Hour })
	start := c.millis()
	a.ban("192.0.2.1", time.Hour, startAt(start))
	b.pull(a)
	b.lift("192.0.2.1")
	z.pull(b)
	a.ban("192.0.2.1", 24*time.Hour, startAt(start))
	z.pull(a)
	c.add(4 * time.Hour)
	z.Tick(true)
	joiner := newNode(t, "joiner", c, nil)
	joiner.Tick(true)
	joiner.pull(z)
	joiner.Tick(true)
	if joiner.live("192.0.2.1") {
		t.Error("a lifted ban is live at a joiner")
	}
	equalSets(t, z, joiner)
}

// A clock that steps back a little makes an allow live again that had just expired, and what it cuts.
func TestASmallStepBackBringsTheAllowBack(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	a.ban("192.0.2.0/24", time.Hour)
	a.must(a.Allow(context.Background(), []AllowRequest{{Prefix: pfx("192.0.2.7"), Until: c.millis() + 10*second}}))
	c.add(12 * time.Second)
	a.Tick(true)
	if a.Exemptions().Contains(pfx("192.0.2.7").Addr()) {
		t.Fatal("exempted after its end")
	}
	c.add(-4 * time.Second)
	if !a.Exemptions().Contains(pfx("192.0.2.7").Addr()) || len(a.Allows()) != 1 {
		t.Errorf("after a step back the allow is listed %d times and exempts nothing", len(a.Allows()))
	}
}

// An offence may have two records, from before and after a restart, of which one has expired.
func TestLiftFindsAnOffenceProlongedAfterARestart(t *testing.T) {
	for name, with := range map[string]func(*LiftRequest){
		"all":           func(*LiftRequest) {},
		"mine":          func(q *LiftRequest) { q.Mine = true },
		"fail2ban's":    func(q *LiftRequest) { q.Mine, q.FromFail2ban, q.Jail = true, true, "sshd" },
		"of the origin": func(q *LiftRequest) { q.Origin = "a" },
	} {
		c := newClock()
		a := newNode(t, "a", c, nil)
		start := c.millis() - 500
		since := func(q *BanRequest) { q.Start = start }
		a.ban("192.0.2.1", 20*time.Second, since)
		a = a.reopen()
		if got := a.ban("192.0.2.1", time.Hour, since); got != BanExtended {
			t.Fatalf("%s: prolonged: %v", name, got)
		}
		c.add(30 * time.Second)
		a.Tick(true)
		if got := a.lift("192.0.2.1", with); got.Offences != 1 || a.live("192.0.2.1") {
			t.Errorf("%s: %+v, live %t", name, got, a.live("192.0.2.1"))
		}
	}
}

func TestLiftIsKeptNoLongerThanWhatItCovers(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	start := c.millis()
	a.ban("192.0.2.1", time.Hour, startAt(start))
	b.pull(a)
	b.lift("192.0.2.1")
	a.ban("192.0.2.1", 8*time.Hour, startAt(start)) // b's lift covers it without naming its until
	b.pull(a)
	equalSets(t, a, newNode(t, "copy of a", c, a.disk.clone()))
	c.add(2 * time.Second)
	a.ban("192.0.2.1", time.Hour, startAt(c.millis())) // replaces it; b's lift now covers nothing that is held
	x := newNode(t, "x", c, nil)                       // hears of all this only now
	converge(a, b, x)
	equalSets(t, a, b, x)
}

func TestLiftWaitsForItsBan(t *testing.T) {
	c := newClock()
	a, b, d := newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "d", c, nil)
	a.ban("192.0.2.1", time.Hour)
	b.pull(a)
	b.lift("192.0.2.1")
	lift, _ := b.Since(0, 1200)
	ban, _ := a.Since(0, 1200)
	d.Merge(lift)
	d.Merge(ban)
	if d.live("192.0.2.1") {
		t.Error("the ban that came after its lift is live")
	}
	equalSets(t, d, b)
}

func TestLiftSelects(t *testing.T) {
	c := newClock()
	setup := func(t *testing.T) *node {
		a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
		now := c.millis()
		a.ban("192.0.2.1", time.Hour, startAt(now-10*minute))
		a.ban("192.0.2.1", time.Hour, func(q *BanRequest) { q.Jail = "web" })
		b.ban("192.0.2.1", time.Hour)
		b.ban("198.51.100.0/24", time.Hour, startAt(now-10*minute))
		b.ban("198.51.100.7", time.Hour)
		converge(a, b)
		return a
	}
	one := prefixes("192.0.2.1")
	for name, test := range map[string]struct {
		q    LiftRequest
		want []int  // offences lifted of each answer
		left string // origin/jail of what is left of 192.0.2.1
	}{
		"all of it":      {LiftRequest{Prefixes: one}, []int{3}, ""},
		"mine":           {LiftRequest{Prefixes: one, Mine: true}, []int{2}, "b/sshd"},
		"mine of a jail": {LiftRequest{Prefixes: one, Mine: true, Jail: "web"}, []int{1}, "a/sshd b/sshd"},
		"since":          {LiftRequest{Prefixes: one, Since: c.millis() - minute}, []int{2}, "a/sshd"},
		"started before": {LiftRequest{Prefixes: one, StartedBefore: c.millis() - minute}, []int{1}, "a/web b/sshd"},
		"origin":         {LiftRequest{Origin: "b"}, []int{1, 1, 1}, "a/sshd a/web"},
		"everything":     {LiftRequest{All: true}, []int{3, 1, 1}, ""},
		"not banned":     {LiftRequest{Prefixes: prefixes("192.0.2.0/24", "203.0.113.1")}, []int{0, 0}, "a/sshd a/web b/sshd"},
	} {
		t.Run(name, func(t *testing.T) {
			a := setup(t)
			got, err := a.Lift(context.Background(), test.q)
			a.must(err)
			var offences []int
			for _, l := range got {
				offences = append(offences, l.Offences)
			}
			if !slices.Equal(offences, test.want) {
				t.Errorf("lifted %+v, want %v", got, test.want)
			}
			var left []string
			for _, e := range a.List(Query{}) {
				if e.Prefix == one[0] {
					for _, r := range e.Records {
						left = append(left, r.Origin+"/"+r.Jail)
					}
				}
			}
			if got := strings.Join(left, " "); got != test.left {
				t.Errorf("left %q, want %q", got, test.left)
			}
		})
	}
	a := setup(t)
	if l := a.lift("198.51.100.7"); !slices.Equal(l.Covering, prefixes("198.51.100.0/24")) {
		t.Errorf("covering %v", l.Covering)
	}
}

func TestLiftOfManyOffencesFitsPackets(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	for i := range 200 {
		w := chunkMaker{id: LogID{fmt.Sprintf("router-with-a-long-name-%d", i), 1}}
		w.add(item{seq: 1, kind: KindBan, key: mustKey(pfx("192.0.2.1")), start: 5, until: Never, jail: "sshd"})
		if _, err := a.Merge(w.bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if l := a.lift("192.0.2.1"); l.Offences != 200 || a.live("192.0.2.1") {
		t.Fatalf("lifted %+v", l)
	}
	for after := uint64(0); after < a.Head().Seq; {
		chunk, last := a.Since(after, 1200)
		if len(chunk) > 1200 || last <= after {
			t.Fatalf("chunk of %d bytes, from %d to %d", len(chunk), after, last)
		}
		after = last
	}
}

func TestAllowAndNeverBanCutExactHoles(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	ctx := context.Background()
	a.ban("192.0.2.0/24", time.Hour)
	a.ban("192.0.2.7", time.Hour)
	a.ban("127.0.0.1", time.Hour)
	a.ban("fe80::1", time.Hour)
	b.must(b.Allow(ctx, []AllowRequest{{Prefix: pfx("192.0.2.6/31"), Until: c.millis() + hour/2, Comment: "office"}}))
	b.must(b.PublishNeverBan(ctx, prefixes("192.0.2.128/25"), c.millis()+hour))
	converge(a, b)
	for _, n := range []*node{a, b} {
		want := map[string]string{
			"192.0.2.0/24": "true [192.0.2.6/31 192.0.2.128/25]",
			"192.0.2.7/32": "false []", "127.0.0.1/32": "false []", "fe80::1/128": "false []",
		}
		for _, e := range n.List(Query{}) {
			if got := fmt.Sprint(e.Effective, e.Except); got != want[e.Prefix.String()] {
				t.Errorf("%s: %s, want %s", e.Prefix, got, want[e.Prefix.String()])
			}
			if !e.Effective && e.Reason == "" {
				t.Errorf("%s: no reason", e.Prefix)
			}
		}
		for e := range n.Effective() {
			for _, hole := range prefixes("192.0.2.6/31", "192.0.2.128/25") {
				for _, p := range e.Pieces {
					if p.Overlaps(hole) {
						t.Errorf("piece %s is not outside %s", p, hole)
					}
				}
			}
			if e.Prefix == pfx("192.0.2.0/24") && len(e.Pieces) != 6 {
				t.Errorf("pieces %v", e.Pieces)
			}
		}
		x := n.Explain(pfx("192.0.2.7"))
		if !x.Banned || x.Effective() || !strings.Contains(x.Exemption, "by b") || len(x.Facts) != 3 {
			t.Errorf("explanation %+v", x)
		}
		// Of a network: what exempts parts of it, and what is banned inside.
		x = n.Explain(pfx("192.0.2.0/24"))
		if !x.Banned || !x.Effective() || fmt.Sprint(x.Except) != "[192.0.2.6/31 192.0.2.128/25]" || x.Inside != 1 || len(x.Facts) != 3 {
			t.Errorf("explanation of a network %+v", x)
		}
		if x = n.Explain(pfx("192.0.0.0/16")); x.Banned || x.Inside != 2 || len(x.Facts) != 2 {
			t.Errorf("explanation of a network around bans %+v", x)
		}
		if x = n.Explain(pfx("192.0.2.128/26")); !x.Banned || x.Effective() || !strings.Contains(x.Exemption, "192.0.2.128/25") {
			t.Errorf("explanation of a network that is exempt %+v", x)
		}
		if got := n.Gone(pfx("192.0.2.7")); got.Cause != GoneAllowed {
			t.Errorf("gone: %v", got)
		}
	}
	c.add(31 * time.Minute) // the allow ends
	if !a.effective("192.0.2.7") {
		t.Error("after the allow's end the ban must be effective again")
	}
	b.must(b.Allow(ctx, []AllowRequest{{Prefix: pfx("192.0.2.7")}}))
	converge(a, b)
	if a.effective("192.0.2.7") {
		t.Error("allowed and effective")
	}
	if n, err := a.DropAllow(ctx, prefixes("192.0.2.7", "192.0.2.8")); n != 1 || err != nil {
		t.Errorf("dropped %d %v, want 1", n, err)
	}
	converge(a, b)
	if !b.effective("192.0.2.7") || len(b.Allows()) != 0 {
		t.Errorf("after the drop: %+v", b.Allows())
	}
}

func TestNeverBanIsBounded(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	ctx, until := context.Background(), a.clock.millis()+hour
	var many []netip.Prefix
	for i := range maxNeverBans + 1 {
		many = append(many, addr(i))
	}
	for name, p := range map[string][]netip.Prefix{"many": many, "wide": prefixes("10.0.0.0/7"), "wide v6": prefixes("2001::/15"), "all": {netip.MustParsePrefix("0.0.0.0/0")}} {
		if err := a.PublishNeverBan(ctx, p, until); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	w := chunkMaker{id: LogID{"rogue", 1}}
	w.add(item{seq: 1, kind: KindNeverBan, key: noPrefix, prefixes: prefixes("8.0.0.0/5", "192.0.2.0/24"), start: 1, until: until})
	_, err := a.Merge(w.bytes())
	a.must(err)
	if got := a.NeverBans(); len(got) != 1 || got[0].Prefix != pfx("192.0.2.0/24") {
		t.Errorf("of a wide and a narrow one counts %v", got)
	}
	a.must(a.PublishNeverBan(ctx, prefixes("198.51.100.1"), until))
	again := a.reopen()
	again.must(again.PublishNeverBan(ctx, prefixes("198.51.100.2"), until-minute))
	got := again.NeverBans()
	if len(got) != 2 || got[0].Prefix != pfx("198.51.100.2") {
		t.Errorf("after a restart with a shorter lease: %v", got)
	}
}

func TestNoticesOfOwnLiftedBans(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	ctx := context.Background()
	for i, p := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		a.ban(p, time.Hour, startAt(c.millis()-Millis(i)*minute))
	}
	b.ban("192.0.2.4", time.Hour)
	converge(a, b)
	b.lift("192.0.2.1")
	b.lift("192.0.2.4")
	a.lift("192.0.2.2")
	a.lift("192.0.2.3", func(q *LiftRequest) { q.FromFail2ban, q.Mine, q.Jail = true, true, "sshd" })
	converge(a, b)
	converge(a, b)
	tell := func(n *node) (out []string) {
		for _, x := range n.Notices() {
			out = append(out, fmt.Sprint(x.Kind, x.Prefix, x.Jail, x.Start))
		}
		slices.Sort(out)
		return out
	}
	want := []string{
		fmt.Sprint(NoticeUnban, pfx("192.0.2.1"), "sshd", c.millis()),
		fmt.Sprint(NoticeUnban, pfx("192.0.2.2"), "sshd", c.millis()-minute),
	}
	if got := tell(a); !slices.Equal(got, want) {
		t.Errorf("notices %v, want %v", got, want)
	}
	if got := tell(b); len(got) != 1 { // its own, which it lifted itself
		t.Errorf("b's notices %v", got)
	}
	b.must(b.Allow(ctx, []AllowRequest{{Prefix: pfx("192.0.2.9"), Until: c.millis() + hour}}))
	converge(a, b)
	a = a.reopen()
	all := a.Notices()
	if len(all) != 3 || all[2].Kind != NoticeAllow || all[2].Until != c.millis()+hour {
		t.Fatalf("after a restart %v", all)
	}
	a.must(a.DoneNotice(ctx, all[0].ID, all[2].ID, 999))
	a = a.reopen()
	if got := a.Notices(); len(got) != 1 || got[0] != all[1] {
		t.Errorf("left %v, want %v", got, all[1])
	}
}

func TestExpiryAndForgetting(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	a.ban("192.0.2.2", 24*365*time.Hour)
	must := func(_ []Banned, err error) { a.must(err) }
	must(a.Ban(context.Background(), []BanRequest{{Prefix: pfx("192.0.2.3"), Until: Never}}))
	a.lift("192.0.2.3")
	converge(a, b)
	c.add(time.Hour)
	if a.live("192.0.2.1") {
		t.Error("expired and listed, before any tick")
	}
	if got := a.Gone(pfx("192.0.2.1")); got.Cause != GoneExpired {
		t.Errorf("gone: %v", got)
	}
	c.add(2 * time.Hour)
	a.Tick(false)
	if n := a.Counts().Records; n != 4 {
		t.Errorf("%d records: something was forgotten with clocks that do not agree", n)
	}
	a.Tick(true)
	if n := a.Counts().Records; n != 3 {
		t.Errorf("%d records, want 3", n)
	}
	equalSets(t, a, b)
	if n := a.pull(b); n != 0 || a.Counts().Records != 3 {
		t.Errorf("a forgotten record came back: %d", n)
	}
	c.add(3 * 24 * 365 * time.Hour)
	a.Tick(true)
	if n := a.Counts().Records; n != 2 {
		t.Errorf("%d records, want the ban without end and its lift", n)
	}
	b.Tick(true)
	equalSets(t, a, b)
}

func TestTimeTravelLosesAndResurrectsNothing(t *testing.T) {
	for _, jump := range []time.Duration{time.Hour, -time.Hour, 24 * 365 * time.Hour, -24 * 365 * time.Hour} {
		t.Run(jump.String(), func(t *testing.T) {
			right, odd := newClock(), newClock()
			a, b, x := newNode(t, "a", right, nil), newNode(t, "b", right, nil), newNode(t, "x", odd, nil)
			a.ban("192.0.2.1", 5*time.Hour)
			a.ban("192.0.2.2", 5*time.Hour)
			x.ban("192.0.2.3", 5*time.Hour)
			converge(a, b, x)
			b.lift("192.0.2.2")
			odd.add(jump)
			for range 3 {
				x.Tick(false)
				a.Tick(true)
				b.Tick(true)
				// x asks for the minute as the peers see it, its clock corrected to theirs.
				for _, p := range [][2]*node{{a, x}, {x, a}, {b, x}, {x, b}, {a, b}, {b, a}} {
					for chunk, err := range p[0].Deltas(p[1].Digest(a.minute()), 64<<10) {
						a.must(err)
						_, err := p[1].Merge(chunk)
						a.must(err)
					}
				}
				right.add(time.Minute)
				odd.add(time.Minute)
			}
			odd.add(-jump)
			x.Tick(true)
			equalSets(t, a, b, x)
			for _, n := range []*node{a, b, x} {
				if !n.live("192.0.2.1") || n.live("192.0.2.2") || !n.live("192.0.2.3") {
					t.Errorf("%s lists %v", n.cfg.Origin, n.List(Query{}))
				}
			}
		})
	}
}

func TestEpochsNeverDiverge(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	converge(a, b)
	backup := a.disk.clone()
	a.ban("192.0.2.2", time.Hour)
	converge(a, b)

	t.Run("wiped", func(t *testing.T) {
		wiped := newNode(t, "a", c, nil)
		wiped.ban("192.0.2.3", time.Hour)
		converge(wiped, b)
		equalSets(t, wiped, b)
		if n := len(wiped.List(Query{})); n != 3 {
			t.Errorf("%d bans, want 3", n)
		}
		if got := wiped.ban("192.0.2.2", time.Hour, restored, startAt(c.millis())); got != BanKnown {
			t.Errorf("a ban of an earlier life: %v, want known", got)
		}
	})
	t.Run("restored", func(t *testing.T) {
		old := newNode(t, "a", c, backup.clone())
		old.ban("192.0.2.4", time.Hour)
		converge(old, b)
		equalSets(t, old, b)
	})
	t.Run("cloned", func(t *testing.T) {
		twin, other := newNode(t, "a", c, backup.clone()), newNode(t, "twin", c, backup.clone())
		twin.ban("192.0.2.5", time.Hour)
		other.ban("192.0.2.6", time.Hour)
		converge(twin, other, b)
		equalSets(t, twin, other, b)
	})
}

func TestLogThatLacksARecordRepairsItself(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	a.ban("192.0.2.2", time.Hour)
	w := chunkMaker{id: a.Head().Log, ranges: rangeSet{{1, 2}}} // somebody claims that both are gone
	w.buf, w.n = b.encodeFrom(a, 1), 1
	_, err := b.Merge(w.bytes())
	b.must(err)
	if !b.Holds(a.Head().Log, 2) || b.live("192.0.2.2") {
		t.Fatal("the lie was not taken")
	}
	if n := b.pull(a); n != 1 || !b.live("192.0.2.2") {
		t.Errorf("%d records fixed", n)
	}
	equalSets(t, a, b)
}

// encodeFrom returns the record of another's own log.
func (n *node) encodeFrom(from *node, seq uint64) []byte {
	return from.set.encode(nil, from.own.find(&from.set.slab, seq))
}

// An allow given again replaces this member's own one, also that of before a restart, and nobody else's.
func TestAllowGivenAgainReplacesTheEarlierOne(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	allow := func(n *node, until Millis) {
		t.Helper()
		n.must(n.Allow(context.Background(), []AllowRequest{{Prefix: pfx("203.0.113.41"), Until: until}}))
	}
	untils := func(n *node) (out []Millis) {
		for _, e := range n.Allows() {
			out = append(out, e.Until)
		}
		return out
	}
	allow(a, 0)
	a = a.reopen()
	short := c.millis() + 10*second
	allow(a, short)
	b.pull(a)
	if got := untils(b); !slices.Equal(got, []Millis{short}) {
		t.Errorf("after a restart: until %v, want %v", got, short)
	}
	allow(b, 0)
	a.pull(b)
	allow(a, short+1)
	if got := untils(a); !slices.Equal(got, []Millis{short + 1, Never}) {
		t.Errorf("beside another's: until %v", got)
	}
}

func TestFreezeThawBlockUnblock(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	ctx := context.Background()
	a.must(a.Freeze(ctx))
	a.must(a.Freeze(ctx))
	if a.Head().Seq != 1 {
		t.Error("a second freeze was written")
	}
	converge(a, b)
	if frozen, by := b.Frozen(); !frozen || by != "a" {
		t.Error("not frozen")
	}
	b.must(b.Thaw(ctx))
	converge(a, b)
	if frozen, _ := a.Frozen(); frozen {
		t.Error("still frozen")
	}

	b.ban("192.0.2.1", time.Hour)
	a.ban("192.0.2.2", time.Hour)
	converge(a, b)
	b.lift("192.0.2.2")
	b.must(b.Allow(ctx, []AllowRequest{{Prefix: pfx("192.0.2.3")}}))
	a.ban("192.0.2.3", time.Hour)
	a.must(a.Block(ctx, "b"))
	converge(a, b)
	for _, n := range []*node{a, b} {
		if n.effective("192.0.2.1") || !n.live("192.0.2.1") || !n.effective("192.0.2.2") || !n.effective("192.0.2.3") {
			t.Errorf("blocked, %s lists %+v", n.cfg.Origin, n.List(Query{}))
		}
		if got := n.Gone(pfx("192.0.2.1")); got != (Gone{GoneLifted, true}) {
			t.Errorf("gone %v", got)
		}
	}
	b.must(b.Unblock(ctx, "b")) // it cannot free itself
	converge(a, b)
	if got := a.Blocked(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("blocked %v", got)
	}
	a.must(a.Unblock(ctx, "b"))
	converge(a, b)
	if !b.effective("192.0.2.1") || b.live("192.0.2.2") || b.effective("192.0.2.3") || len(b.Blocked()) != 0 {
		t.Errorf("unblocked, b lists %+v", b.List(Query{}))
	}
}

func TestLimitsAreAFunctionOfTheSet(t *testing.T) {
	c := newClock()
	with := func(cfg *Config) {
		cfg.Limits = Limits{LivePerOrigin: 3, WidestV4: 24, LiftsPerOrigin: 1, AllowWidestV4: 24}
	}
	rogue := newNode(t, "rogue", c, nil)
	a := newNode(t, "a", c, nil, with)
	b := newNode(t, "b", c, nil, with)
	for i := range 5 {
		rogue.ban(addr(i).String(), time.Duration(i+1)*time.Hour)
	}
	rogue.ban("198.51.0.0/23", 9*time.Hour)
	a.ban("203.0.113.1", time.Hour)
	a.ban("203.0.113.2", time.Hour)
	rogue.pull(a)
	rogue.lift("203.0.113.1")
	rogue.lift("203.0.113.2")
	rogue.must(rogue.Allow(context.Background(), []AllowRequest{{Prefix: pfx("11.0.0.0/8")}}))
	var chunks [][]byte
	for s := uint64(0); s < rogue.Head().Seq; s++ {
		w := chunkMaker{id: rogue.Head().Log, ranges: rangeSet{{s + 1, s + 1}}, n: 1}
		w.buf = a.encodeFrom(rogue, s+1)
		chunks = append(chunks, w.bytes())
	}
	for i := range chunks {
		a.Merge(chunks[i])
		b.Merge(chunks[len(chunks)-1-i])
	}
	converge(a, b)
	equalSets(t, a, b)
	for _, n := range []*node{a, b} {
		if got := n.Counts(); got.OverLimit != 5 || got.Effective != 4 {
			t.Errorf("%s: %+v, want 5 over the limit and 4 effective", n.cfg.Origin, got)
		}
		if n.live("203.0.113.1") || !n.live("203.0.113.2") {
			t.Error("of two lifts the first one counts")
		}
		for _, e := range n.List(Query{Prefix: pfx("198.51.0.0/23")}) {
			if e.Effective || !strings.Contains(e.Reason, "limit of origin rogue") {
				t.Errorf("wide ban: %+v", e)
			}
		}
	}
	c.add(61 * time.Minute) // the first of them expires: the fourth comes in
	for _, n := range []*node{a, b} {
		n.Tick(true)
		if !n.effective(addr(3).String()) || n.effective(addr(4).String()) {
			t.Errorf("%s lists %+v", n.cfg.Origin, n.List(Query{}))
		}
	}
	equalSets(t, a, b)
}

func TestLimitsForgetWhatHasLeftTheRoot(t *testing.T) {
	c := newClock()
	with := func(cfg *Config) { cfg.Limits = Limits{PerMinutePerOrigin: 1} }
	rogue, a := newNode(t, "rogue", c, nil), newNode(t, "a", c, nil, with)
	rogue.ban("192.0.2.1", time.Minute)
	rogue.ban("192.0.2.2", 10*time.Hour)
	a.pull(rogue)
	if !a.effective("192.0.2.1") || a.effective("192.0.2.2") {
		t.Fatalf("of two in a minute the first counts: %+v", a.List(Query{}))
	}
	c.add(2 * time.Minute)
	a.Tick(true)
	if a.effective("192.0.2.2") {
		t.Error("the first one has expired, but both members still hold it and count it")
	}
	c.add(90 * time.Minute) // a still holds the first one, b is not sent it any more
	a.Tick(true)
	b := newNode(t, "b", c, nil, with)
	b.pull(a)
	if b.Counts().Records != 1 {
		t.Fatalf("b holds %d records", b.Counts().Records)
	}
	equalSets(t, a, b)
}

func TestAskerWhoseClockIsAheadIsSentEverything(t *testing.T) {
	right, ahead := newClock(), newClock()
	a, x := newNode(t, "a", right, nil), newNode(t, "x", ahead, nil)
	a.ban("192.0.2.1", 5*time.Hour)
	ahead.add(24 * 365 * time.Hour)
	if n := x.pull(a); n != 1 {
		t.Errorf("%d records sent: what is over by the asker's clock alone is not over", n)
	}
	ahead.add(-24 * 365 * time.Hour)
	x.Tick(true)
	equalSets(t, a, x)
}

func TestFloodIsBounded(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) { cfg.Limits = Limits{StoredPerOrigin: 1000, LivePerOrigin: 500, logs: 3} })
	refused := 0
	for i := range 40 {
		w := chunkMaker{id: LogID{"rogue", 1}}
		for j := range 100 {
			n := i*100 + j
			w.add(item{seq: uint64(n + 1), kind: KindBan, key: mustKey(addr(n)), start: c.millis(), until: Never, jail: "x"})
		}
		m, err := a.Merge(w.bytes())
		a.must(err)
		refused += m.Refused
	}
	if got := a.Counts(); refused != 3000 || got.Records != 1000 || got.Effective != 500 {
		t.Errorf("refused %d, %+v", refused, got)
	}
	if a.Holds(LogID{"rogue", 1}, 1001) {
		t.Error("what was refused is held")
	}
	for i := range 10 {
		w := chunkMaker{id: LogID{"rogue", uint64(i + 2)}}
		w.add(item{seq: 1, kind: KindFreeze, key: noPrefix, start: 1, until: Never})
		a.Merge(w.bytes())
	}
	if got := a.Counts().Logs; got > 3 {
		t.Errorf("%d logs", got)
	}
	if a.ban("192.0.2.1", time.Hour) != BanNew || !a.effective("192.0.2.1") {
		t.Error("an own ban beside the flood is not effective")
	}
}

func TestABulkChangeIsToldWholeToOneThatWantsIt(t *testing.T) {
	const bans = maxEvents + 500
	for _, rest := range []bool{false, true} {
		got := make(chan Change, 100)
		n := newNode(t, "a", newClock(), nil, func(cfg *Config) {
			cfg.KeepRest = rest
			cfg.OnChange = func(c Change) { got <- c }
		})
		var reqs []BanRequest
		for i := range bans {
			reqs = append(reqs, BanRequest{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}), 32), Until: Never, Reason: "why"})
		}
		if _, err := n.Ban(t.Context(), reqs); err != nil {
			t.Fatal(err)
		}
		c := <-got
		want := 0
		if rest {
			want = 500
		}
		if len(c.Events) != maxEvents || c.More != 500 || len(c.Rest) != want || c.Events[0].Text != "why" {
			t.Errorf("KeepRest %v: %d events, %d more, %d of them told; want %d, 500, %d", rest, len(c.Events), c.More, len(c.Rest), maxEvents, want)
		}
	}
}

func TestEventsComeInOrderAndAfterTheFact(t *testing.T) {
	c := newClock()
	var n *node
	got := make(chan string, 100)
	n = newNode(t, "a", c, nil, func(cfg *Config) {
		cfg.OnChange = func(ch Change) {
			for _, e := range ch.Events {
				got <- fmt.Sprint(e.Kind, " ", e.Prefix, " ", e.By)
			}
		}
	})
	n.ban("192.0.2.1", time.Hour, startAt(c.millis()))
	n.ban("192.0.2.1", 2*time.Hour, startAt(c.millis()))
	n.ban("192.0.2.2", time.Hour)
	n.lift("192.0.2.1")
	n.must(n.Allow(context.Background(), []AllowRequest{{Prefix: pfx("192.0.2.3")}}))
	c.add(time.Hour)
	n.Tick(true)
	for _, want := range []string{"ban 192.0.2.1/32 ", "extend 192.0.2.1/32 ", "ban 192.0.2.2/32 ", "lift 192.0.2.1/32 a", "allow 192.0.2.3/32 ", "expire 192.0.2.2/32 "} {
		select {
		case g := <-got:
			if g != want {
				t.Errorf("event %q, want %q", g, want)
			}
		case <-time.After(5 * time.Second):
			t.Fatalf("no event %q", want)
		}
	}
}

// What this member protects on itself changes what is effective at once, so it is an event like any other such change.
func TestAChangeOfWhatIsProtectedIsTold(t *testing.T) {
	c := newClock()
	changed := make(chan Change, 100)
	n := newNode(t, "a", c, nil, func(cfg *Config) {
		cfg.OnChange = func(ch Change) { changed <- ch }
	})
	n.Protect(prefixes("192.0.2.1"))
	n.Protect(prefixes("192.0.2.1")) // the same: no event
	n.Protect(nil)
	for told := 0; told < 2; {
		select {
		case ch := <-changed:
			for _, e := range ch.Events {
				if e.Kind != EventNeverBan || e.Origin != "a" {
					t.Errorf("event %+v", e)
				}
				told++
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%d events, want 2", told)
		}
	}
}

// A ban that a limit has kept out comes into force when another one goes, which an event tells: nobody looks at it otherwise.
func TestABanThatComesWithinItsLimitIsTold(t *testing.T) {
	c := newClock()
	got := make(chan string, 100)
	n := newNode(t, "a", c, nil, func(cfg *Config) {
		cfg.Limits = Limits{LivePerOrigin: 1}
		cfg.OnChange = func(ch Change) {
			for _, e := range ch.Events {
				got <- fmt.Sprint(e.Kind, " ", e.Prefix)
			}
		}
	})
	n.ban("192.0.2.1", time.Hour)
	n.ban("192.0.2.2", 2*time.Hour)
	n.ban("192.0.2.3", 3*time.Hour)
	n.lift("192.0.2.1")
	c.add(2 * time.Hour)
	n.Tick(true)
	for _, want := range []string{"ban 192.0.2.1/32", "ban 192.0.2.2/32", "ban 192.0.2.3/32", "lift 192.0.2.1/32", "extend 192.0.2.2/32", "expire 192.0.2.2/32", "extend 192.0.2.3/32"} {
		select {
		case g := <-got:
			if g != want {
				t.Errorf("event %q, want %q", g, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no event %q", want)
		}
	}
}

func TestListFindsWhatCoversAndWhatIsInside(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	for _, p := range []string{"10.0.0.0/16", "10.0.1.0/24", "10.0.1.5", "10.1.0.0/16", "2001:db8::/32", "2001:db8::1", "0.0.0.9"} {
		a.ban(p, time.Hour)
	}
	for query, want := range map[string]string{
		"":              "0.0.0.9/32 10.0.0.0/16 10.0.1.0/24 10.0.1.5/32 10.1.0.0/16 2001:db8::/32 2001:db8::1/128",
		"10.0.1.0/24":   "10.0.0.0/16 10.0.1.0/24 10.0.1.5/32",
		"10.0.1.5":      "10.0.0.0/16 10.0.1.0/24 10.0.1.5/32",
		"10.0.2.1":      "10.0.0.0/16",
		"10.0.0.0/8":    "10.0.0.0/16 10.0.1.0/24 10.0.1.5/32 10.1.0.0/16",
		"2001:db8::/64": "2001:db8::/32 2001:db8::1/128",
		"::/0":          "2001:db8::/32 2001:db8::1/128",
	} {
		var q Query
		if query != "" {
			q.Prefix = pfx(query)
		}
		var got []string
		for _, e := range a.List(q) {
			got = append(got, e.Prefix.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %v, want %s", query, got, want)
		}
	}
}

func TestPlacedIsALease(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	ctx := context.Background()
	a.must(a.Place(ctx, prefixes("192.0.2.1", "192.0.2.2"), c.millis()+hour))
	converge(a, b)
	b.must(b.Place(ctx, prefixes("192.0.2.1"), c.millis()+2*hour))
	b.must(b.Unplace(ctx, prefixes("192.0.2.2")))
	converge(a, b)
	if got := a.Placed(); len(got) != 1 || got[0].Prefix != pfx("192.0.2.1") || got[0].Until != c.millis()+2*hour {
		t.Errorf("placed %v", got)
	}
	a.must(a.Place(ctx, prefixes("192.0.2.1"), c.millis()+3*hour))
	// Two prefixes of a's, one of b's with a lift, and what is left of the replaced one: renewed again it is still one.
	for until := Millis(4); until < 9; until++ {
		a.must(a.Place(ctx, prefixes("192.0.2.1"), c.millis()+until*hour))
		if got := a.Counts().Records; got != 5 {
			t.Errorf("%d records: a renewal must replace", got)
		}
	}
	if got := a.Gone(pfx("192.0.2.1")); got.Cause != GoneUnknown {
		t.Errorf("gone %v", got)
	}
}

func TestUnplaceOwnLeavesWhatOthersPlaced(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	ctx := context.Background()
	a.must(a.Place(ctx, prefixes("192.0.2.1", "192.0.2.2"), c.millis()+2*hour))
	b.must(b.Place(ctx, prefixes("192.0.2.1"), c.millis()+hour))
	converge(a, b)
	a.must(a.UnplaceOwn(ctx, prefixes("192.0.2.1", "192.0.2.2", "192.0.2.3")))
	converge(a, b)
	for _, n := range []*node{a, b} {
		if got := n.Placed(); len(got) != 1 || got[0].Prefix != pfx("192.0.2.1") || got[0].Until != c.millis()+hour {
			t.Errorf("placed %v", got)
		}
	}
}

// TestLimitsJudgeAgainWhatAWrongClockHadLeftOut: what has left the root by a clock that is ahead is in no count. Once the clock
// is right the lowest number comes first, as everywhere, also where it arrives last.
func TestLimitsJudgeAgainWhatAWrongClockHadLeftOut(t *testing.T) {
	one := func(c *Config) { c.Limits = Limits{LivePerOrigin: 1} }
	right := newClock()
	b := newNode(t, "b", right, nil, one)
	b.ban("192.0.2.1", 3*time.Hour)
	b.ban("192.0.2.2", 5*time.Minute)
	first, _ := b.Since(0, 1<<20)
	second, _ := b.Since(1, 1<<20)

	ahead := newClock()
	ahead.set(right.Now().Add(2*time.Hour + 5*time.Minute))
	c := newNode(t, "c", ahead, nil, one)
	if _, err := c.Merge(second); err != nil {
		t.Fatal(err)
	}
	c.Tick(false)
	ahead.set(right.Now())
	c.Tick(true)
	if _, err := c.Merge(first); err != nil {
		t.Fatal(err)
	}
	for _, n := range []*node{b, c} {
		for _, e := range n.List(Query{}) {
			if want := e.Prefix == pfx("192.0.2.1"); e.Effective != want {
				t.Errorf("%s: %v is effective: %v, want %v", n.Head().Log.Origin, e.Prefix, e.Effective, want)
			}
		}
	}
}
