package store

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// forge is a log that a rogue writes by hand, under whatever name.
type forge struct {
	chunkMaker
	seq uint64
}

func newForge(origin string, epoch uint64) *forge {
	return &forge{chunkMaker: chunkMaker{id: LogID{origin, epoch}}}
}

func (f *forge) write(it item) *forge {
	f.seq++
	it.seq = f.seq
	f.add(it)
	return f
}

func (f *forge) control(kind Kind, c *clock, of string) *forge {
	return f.write(item{kind: kind, key: noPrefix, start: c.millis(), until: Never, jail: of})
}

func (n *node) take(f *forge) Merged {
	n.t.Helper()
	m, err := n.Merge(f.bytes())
	n.must(err)
	return m
}

// What one member bans and allows is bounded in width, one by one and altogether, and private space is free.
func TestSpaceOfOneOriginIsBounded(t *testing.T) {
	c := newClock()
	with := func(cfg *Config) {
		cfg.Limits = Limits{WidestV4: 8, SpaceV4: 14, SpaceV6: 31, AllowWidestV4: 8, AllowWidestV6: 16}
	}
	a, b := newNode(t, "a", c, nil, with), newNode(t, "b", c, nil, with)
	var forges []*forge
	for _, p := range []string{
		"1.0.0.0/16", "2.0.0.0/16", "3.0.0.0/16", "4.0.0.0/15", "5.0.0.0/16", "6.0.0.0/16", // the first three, 5 and no 4 nor 6
		"14.0.0.0/7", "2001:1::/32", "2001:2::/32", "2001:3::/128",
	} {
		f := newForge("rogue", 7)
		f.seq = uint64(len(forges))
		forges = append(forges, f.write(item{kind: KindBan, key: mustPrefixKey(p), start: c.millis(), until: c.millis() + hour, jail: "x"}))
	}
	for _, p := range []string{"11.0.0.0/9", "12.0.0.0/9", "13.0.0.1/32", "10.0.0.0/8", "0.0.0.0/2", "2002::/16", "2003::/64", "fc00::/8"} {
		f := newForge("rogue", 7)
		f.seq = uint64(len(forges))
		forges = append(forges, f.write(item{kind: KindAllow, key: mustPrefixKey(p), start: c.millis(), until: c.millis() + hour}))
	}
	for i := range forges {
		a.take(forges[i])
		b.take(forges[len(forges)-1-i])
	}
	equalSets(t, a, b)
	for _, n := range []*node{a, b} {
		var bans, allows []string
		for _, e := range n.List(Query{}) {
			if len(e.Records) > 0 && !e.Records[0].Ignored {
				bans = append(bans, e.Prefix.String())
			}
		}
		for _, e := range n.Allows() {
			if e.Reason == "" {
				allows = append(allows, e.Prefix.String())
			}
		}
		if got, want := strings.Join(bans, " "), "1.0.0.0/16 2.0.0.0/16 3.0.0.0/16 5.0.0.0/16 2001:1::/32 2001:2::/32"; got != want {
			t.Errorf("%s: bans that count: %s\nwant %s", n.cfg.Origin, got, want)
		}
		if got, want := strings.Join(allows, " "), "10.0.0.0/8 11.0.0.0/9 12.0.0.0/9 2002::/16 fc00::/8"; got != want {
			t.Errorf("%s: allows that count: %s\nwant %s", n.cfg.Origin, got, want)
		}
		if got := n.Exceeding(); len(got) != 1 || got[0].Bans != 4 || got[0].Allows != 3 {
			t.Errorf("%s shows %+v", n.cfg.Origin, got)
		}
	}
}

func mustPrefixKey(p string) pkey {
	k, err := keyOf(pfx(p))
	if err != nil {
		panic(err)
	}
	return k
}

// A lease protects what is narrow first, and never more of the Internet than is any router's own.
func TestALeaseExemptsNoMoreThanItsShare(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	var all []netip.Prefix
	for i := range 200 {
		all = append(all, netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i), 0, 0, 0}), 8))
	}
	all = append(all, pfx("192.0.2.7"), pfx("10.0.0.0/8"), pfx("2400::/16"), pfx("2600::/16"), pfx("2001:db8::7"))
	a.take(newForge("rogue", 1).write(item{kind: KindNeverBan, key: noPrefix, start: c.millis(), until: c.millis() + hour, prefixes: all}))
	for _, p := range []string{"192.0.2.7", "10.1.2.3", "2001:db8::7", "20.0.0.1", "99.0.0.1", "2400::1", "2600::1"} {
		a.ban(p, time.Hour)
	}
	var effective []string
	for e := range a.Effective() {
		effective = append(effective, e.Prefix.String())
	}
	slices.Sort(effective)
	if got, want := strings.Join(effective, " "), "2600::1/128 99.0.0.1/32"; got != want {
		t.Errorf("effective: %s\nwant %s", got, want)
	}
	if got := a.Exceeding(); len(got) != 1 || got[0].Origin != "rogue" || got[0].NeverBans != 200 {
		t.Errorf("shown: %+v", got)
	}
	if f := a.Explain(netip.MustParsePrefix("99.0.0.1/32")); !slices.ContainsFunc(f.Facts, func(f Fact) bool { return f.Kind == KindNeverBan && f.State == FactIgnored }) {
		t.Errorf("why does not show the never-ban that does not count: %+v", f.Facts)
	}
}

// A member that blocks the others is out as soon as one of them says so.
func TestAMemberThatBlocksTheOthersLosesThem(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	b.ban("192.0.2.2", time.Hour)
	rogue := newForge("rogue", 1).control(KindBlock, c, "b").control(KindBlock, c, "c").control(KindFreeze, c, "")
	a.take(rogue)
	b.take(rogue)
	converge(a, b)
	if got := a.Blocked(); !slices.Equal(got, []string{"b", "c"}) {
		t.Fatalf("blocked %v", got)
	}
	a.must(a.Block(context.Background(), "rogue"))
	converge(a, b)
	for _, n := range []*node{a, b} {
		if got := n.Blocked(); !slices.Equal(got, []string{"rogue"}) {
			t.Errorf("%s: blocked %v, want the rogue alone", n.cfg.Origin, got)
		}
		if frozen, _ := n.Frozen(); frozen {
			t.Errorf("%s: the rogue's freeze still counts", n.cfg.Origin)
		}
		if !n.effective("192.0.2.1") || !n.effective("192.0.2.2") {
			t.Errorf("%s: the others' bans do not count", n.cfg.Origin)
		}
	}
	equalSets(t, a, b)
}

// Of two that block each other both are out, until a third one decides.
func TestAThirdMemberDecidesBetweenTwo(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	rogue := newForge("rogue", 1).control(KindBlock, c, "a")
	a.take(rogue)
	a.must(a.Block(context.Background(), "rogue"))
	converge(a, b)
	if got := b.Blocked(); !slices.Equal(got, []string{"a", "rogue"}) {
		t.Fatalf("blocked %v", got)
	}
	b.must(b.Block(context.Background(), "rogue"))
	converge(a, b)
	if got := a.Blocked(); !slices.Equal(got, []string{"rogue"}) {
		t.Errorf("blocked %v, want the rogue alone", got)
	}
	equalSets(t, a, b)
}

// With the members named, made-up names have no say in anything.
func TestNothingOfAStrangerCounts(t *testing.T) {
	c := newClock()
	with := func(cfg *Config) { cfg.Members = []string{"a", "b"} }
	a, b := newNode(t, "a", c, nil, with), newNode(t, "b", c, nil, with)
	a.ban("192.0.2.1", time.Hour, startAt(c.millis()))
	b.must(b.Block(context.Background(), "somebody"))
	block := b.Head()
	converge(a, b)
	x := newForge("x1", 1).
		control(KindBlock, c, "a").control(KindFreeze, c, "").
		write(item{kind: KindBan, key: mustPrefixKey("192.0.2.9/32"), start: c.millis(), until: Never, jail: "x"}).
		write(item{kind: KindAllow, key: mustPrefixKey("192.0.2.1/32"), start: c.millis(), until: Never}).
		write(item{kind: KindNeverBan, key: noPrefix, start: c.millis(), until: Never, prefixes: prefixes("192.0.2.0/24")}).
		write(item{kind: KindLift, key: mustPrefixKey("192.0.2.1/32"), start: c.millis(), until: Never, lift: &liftBody{retain: Never, offences: []offence{{"a", ManualJail, c.millis()}}}}).
		write(item{kind: KindLift, key: noPrefix, start: c.millis(), until: Never, lift: &liftBody{retain: Never, dots: []dotRange{{block.Log, seqRange{1, 100}}}}})
	a.take(x)
	b.take(x)
	for _, n := range []*node{a, b} {
		if got := n.Blocked(); !slices.Equal(got, []string{"somebody"}) {
			t.Errorf("%s: blocked %v", n.cfg.Origin, got)
		}
		if frozen, _ := n.Frozen(); frozen || !n.effective("192.0.2.1") || n.effective("192.0.2.9") {
			t.Errorf("%s: frozen %v, lists %+v", n.cfg.Origin, frozen, n.List(Query{}))
		}
		if got := n.Exceeding(); len(got) != 1 || !got[0].Strange || got[0].Origin != "x1" {
			t.Errorf("%s shows %+v", n.cfg.Origin, got)
		}
	}
	equalSets(t, a, b)
}

// Names and logs that somebody makes up take no room from the members that are there, nor from their next start.
func TestMadeUpNamesAndLogsAreBounded(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) { cfg.Limits = Limits{origins: 10, logs: 100, Stored: 1000} })
	ban := func(f *forge, i int) *forge {
		return f.write(item{kind: KindBan, key: mustKey(addr(i)), start: c.millis(), until: Never, jail: "x"})
	}
	a.take(ban(newForge("honest", 1), 1))
	for i := range 100 {
		a.take(ban(newForge(fmt.Sprint("x", i), 1), i))
	}
	for i := range 1000 {
		a.take(ban(newForge("x1", uint64(i+2)), i))
	}
	if n := a.Counts(); n.Logs > 110 || len(a.set.origins) > 10 {
		t.Errorf("%d logs of %d origins", n.Logs, len(a.set.origins))
	}
	f := newForge("x2", 1)
	for i := range 3000 {
		ban(f, i)
	}
	a.take(f)
	if n := a.set.size; n > 1000+10*100 {
		t.Errorf("%d units kept", n)
	}
	if m := a.take(ban(newForge("honest", 2), 5000)); m.New != 1 {
		t.Errorf("a ban of a member that has started again: %+v", m)
	}
	if a.ban("192.0.2.1", time.Hour) != BanNew || !a.effective("192.0.2.1") {
		t.Error("an own ban beside the flood is not effective")
	}
}

// A few large records count as what they are.
func TestLargeRecordsTakeTheRoomOfMany(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil, func(cfg *Config) { cfg.Limits = Limits{StoredPerOrigin: 1000} })
	name := func(i int) string { return fmt.Sprintf("%0255d", i) }
	kept := 0
	for i := range 100 {
		var body liftBody
		for j := range maxOffences {
			body.offences = append(body.offences, offence{name(i), name(i*1000 + j), c.millis()})
		}
		body.retain = Never
		f := newForge("rogue", 1)
		f.seq = uint64(i)
		kept += a.take(f.write(item{kind: KindLift, key: mustKey(addr(i)), start: c.millis(), until: Never, lift: &body})).New
	}
	if kept > 5 || kept == 0 {
		t.Errorf("%d records of 65 KB each taken where there is room for 1000 of %d bytes", kept, unitBytes)
	}
}

// Who writes ever more records of one prefix, over many logs, does not make each look at it slow.
func TestTheRecordsOfAPrefixAreBounded(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	for e := range 100 {
		f := newForge("rogue", uint64(e+1))
		for i := range 100 {
			f.write(item{kind: KindBan, key: mustKey(addr(1)), start: c.millis(), until: Never, jail: fmt.Sprint(i)})
		}
		a.take(f)
	}
	for e := range 200 {
		f := newForge("rogue", uint64(e+1000))
		for range 30 {
			f.control(KindFreeze, c, "")
		}
		a.take(f)
	}
	if n := a.Counts().Records; n > maxChain+maxChainNoPrefix {
		t.Errorf("%d records taken", n)
	}
	if m := a.take(newForge("honest", 1).control(KindFreeze, c, "").write(item{kind: KindBan, key: mustKey(addr(1)), start: c.millis(), until: Never, jail: "x"})); m.New != 2 {
		t.Errorf("beside it another member's: %+v", m)
	}
}

// Sent in the worst order there is, a flood costs no more than a few times what it costs in order.
func TestARogueCannotMakeLimitsCostly(t *testing.T) {
	const n = 40000
	flood := func(worst bool) time.Duration {
		c := newClock()
		a := newNode(t, "a", c, nil, func(cfg *Config) { cfg.Limits = Limits{LivePerOrigin: 100} })
		var chunks [][]byte
		for i := range n / 20 {
			f := newForge("rogue", 1)
			f.seq = uint64(i * 20)
			for range 20 {
				f.write(item{kind: KindBan, key: mustKey(addr(int(f.seq))), start: c.millis(), until: Never, jail: "x"})
			}
			chunks = append(chunks, f.bytes())
		}
		if worst {
			slices.Reverse(chunks)
		}
		began := cpu(t)
		for _, b := range chunks {
			_, err := a.Merge(b)
			a.must(err)
		}
		took := cpu(t) - began
		c.add(time.Minute)
		a.Tick(true)
		if got := a.Counts().Effective; got != 100 {
			t.Errorf("%d effective, want 100", got)
		}
		if !a.effective(addr(0).String()) {
			t.Error("the first one does not count")
		}
		return took
	}
	good, bad := flood(false), flood(true)
	t.Logf("%d records: %v in order, %v in reverse", n, good, bad)
	if bad > 50*good+2*time.Second {
		t.Errorf("%v in reverse, %v in order", bad, good)
	}
}

// What a member protects is taken back by itself alone, and lifts of others' allows are limited like those of bans.
func TestNobodyElseLiftsALease(t *testing.T) {
	c := newClock()
	with := func(cfg *Config) { cfg.Limits = Limits{LiftsPerMinute: 3} }
	a, b := newNode(t, "a", c, nil, with), newNode(t, "b", c, nil, with)
	a.must(a.PublishNeverBan(context.Background(), prefixes("198.51.100.0/24"), c.millis()+24*hour))
	for i := range 5 {
		a.must(a.Allow(context.Background(), []AllowRequest{{Prefix: addr(i)}}))
	}
	f := newForge("rogue", 1)
	f.write(item{kind: KindLift, key: noPrefix, start: c.millis(), until: Never, lift: &liftBody{dots: []dotRange{{a.Head().Log, seqRange{1, maxSeq}}}}})
	for i := range 5 {
		f.write(item{kind: KindLift, key: mustKey(addr(i)), start: c.millis(), until: Never, lift: &liftBody{dots: []dotRange{{a.Head().Log, seqRange{1, maxSeq}}}}})
	}
	a.take(f)
	b.pull(a)
	for _, n := range []*node{a, b} {
		if len(n.NeverBans()) != 1 || len(n.Allows()) != 3 {
			t.Errorf("%s: %d prefixes protected, %d allows left, want 1 and 3", n.cfg.Origin, len(n.NeverBans()), len(n.Allows()))
		}
	}
	equalSets(t, a, b)
	c.add(time.Minute)
	for i := range 5 {
		b.must(b.Allow(context.Background(), []AllowRequest{{Prefix: addr(10 + i)}}))
	}
	a.pull(b)
	var all []netip.Prefix
	for i := range 5 {
		all = append(all, addr(10+i))
	}
	// As many as the limit lets count, and the rest a minute later.
	if n, err := a.DropAllow(context.Background(), all); n != 3 || !errors.Is(err, ErrLimited) || len(a.Allows()) != 5 {
		t.Errorf("%d dropped, %d allows left: %v", n, len(a.Allows()), err)
	}
	b.pull(a)
	equalSets(t, a, b)
	c.add(time.Minute)
	if n, err := a.DropAllow(context.Background(), all); n != 2 || err != nil || len(a.Allows()) != 3 {
		t.Errorf("a minute later: %d dropped, %d allows left: %v", n, len(a.Allows()), err)
	}
}

// A member that keeps to the limits writes no lift that would not count, and says so.
func TestALiftBeyondTheLimitIsNotWritten(t *testing.T) {
	c := newClock()
	with := func(cfg *Config) { cfg.Limits = Limits{LiftsPerMinute: 10, LiftsPerOrigin: 15} }
	a, b := newNode(t, "a", c, nil, with), newNode(t, "b", c, nil, with)
	for i := range 40 {
		b.ban(addr(i).String(), time.Hour)
	}
	converge(a, b)
	a.ban("203.0.113.1", time.Hour)
	lift := func() (lifted, limited int) {
		all, err := a.Lift(context.Background(), LiftRequest{All: true})
		a.must(err)
		for _, l := range all {
			if l.Limited {
				limited++
			} else {
				lifted++
			}
		}
		return lifted, limited
	}
	if lifted, limited := lift(); lifted != 11 || limited != 30 {
		t.Errorf("%d lifted, %d not, want 10 of the other's, the own one, and 30 left", lifted, limited)
	}
	c.add(time.Minute)
	if lifted, limited := lift(); lifted != 5 || limited != 25 {
		t.Errorf("a minute later %d lifted, %d not, want 5 until the limit of all", lifted, limited)
	}
	converge(a, b)
	equalSets(t, a, b)
	if n := b.Counts(); n.OverLimit != 0 || n.Effective != 25 {
		t.Errorf("%+v, want nothing over the limit and 25 effective", n)
	}
}

// Lifts beyond the rate count in the minutes after it, on all members alike.
func TestLiftsBeyondTheRateCountLater(t *testing.T) {
	c := newClock()
	c.add(time.Minute - time.Duration(c.millis()%minute)*time.Millisecond)
	with := func(cfg *Config) { cfg.Limits = Limits{LiftsPerMinute: 10} }
	a, b, rogue := newNode(t, "a", c, nil, with), newNode(t, "b", c, nil, with), newNode(t, "rogue", c, nil)
	for i := range 35 {
		a.ban(addr(i).String(), time.Hour)
	}
	converge(a, b, rogue)
	_, err := rogue.Lift(context.Background(), LiftRequest{All: true})
	rogue.must(err)
	converge(a, b, rogue)
	for _, want := range []int{25, 15, 5, 0, 0} {
		late := newNode(t, "late", c, nil, with)
		late.pull(a)
		for _, n := range []*node{a, b, late} {
			n.tick(true)
			if got := n.Counts(); got.Effective != want || got.OverLimit != want {
				t.Errorf("%s: %d effective, %d over the limit, want %d", n.cfg.Origin, got.Effective, got.OverLimit, want)
			}
		}
		c.add(time.Minute)
	}
	equalSets(t, a, b)
}

// What was lifted under a higher limit stays lifted under a lower one.
func TestALowerLimitOnLiftsBringsNothingBack(t *testing.T) {
	c := newClock()
	limit := func(n int) func(*Config) {
		return func(cfg *Config) { cfg.Limits = Limits{LiftsPerMinute: n} }
	}
	a, b := newNode(t, "a", c, nil, limit(100)), newNode(t, "b", c, nil, limit(100))
	for i := range 95 {
		a.ban(addr(i).String(), 24*time.Hour)
	}
	converge(a, b)
	_, err := b.Lift(context.Background(), LiftRequest{All: true})
	b.must(err)
	converge(a, b)
	c.add(10 * time.Minute)
	a, b = a.reopenWith(limit(10)), b.reopenWith(limit(10))
	late := newNode(t, "late", c, nil, limit(10))
	late.pull(b)
	for _, n := range []*node{a, b, late} {
		n.tick(true)
		if got := n.Counts(); got.Effective != 0 || got.OverLimit != 0 {
			t.Errorf("%s: %d effective again, %d lifts over the limit", n.cfg.Origin, got.Effective, got.OverLimit)
		}
	}
}

// What somebody writes in a member's name is told on that member.
func TestWhoWritesInAnothersNameIsTold(t *testing.T) {
	c := newClock()
	disk := newMemDisk()
	a, b := newNode(t, "a", c, disk), newNode(t, "b", c, nil)
	none := func(when string) {
		t.Helper()
		if logs, records := a.Namesakes(); logs != 0 || records != 0 {
			t.Errorf("%s: %d logs with %d records of somebody else", when, logs, records)
		}
	}
	a.ban("192.0.2.1", 1000*time.Hour)
	converge(a, b)
	a.must(a.Close())
	a = newNode(t, "a", c, disk)
	a.ban("192.0.2.2", 1000*time.Hour)
	converge(a, b)
	none("after a restart")
	a.must(a.Close())
	disk = newMemDisk()
	a = newNode(t, "a", c, disk)
	a.ban("192.0.2.3", 1000*time.Hour)
	converge(a, b)
	none("after its disk was lost")
	c.add(2 * time.Hour)
	a.must(a.Close())
	a = newNode(t, "a", c, disk)
	none("after one more restart")
	f := newForge("a", 666)
	for i := range 3 {
		f.write(item{kind: KindBan, key: mustKey(addr(i)), start: c.millis(), until: Never, jail: "x"})
	}
	b.take(f)
	converge(a, b)
	if logs, records := a.Namesakes(); logs != 1 || records != 3 {
		t.Errorf("%d logs with %d records of somebody else, want 1 with 3", logs, records)
	}
	if logs, _ := b.Namesakes(); logs != 0 {
		t.Error("it is told on another member")
	}
}

// Who is told that a member's next records are gone gets them all the same.
func TestAFalseWordThatRecordsAreGoneHeals(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour)
	converge(a, b)
	lie := chunkMaker{id: a.Head().Log, ranges: rangeSet{{1, maxSeq}}}
	_, err := b.Merge(lie.bytes())
	b.must(err)
	a.ban("192.0.2.2", time.Hour)
	if !b.Holds(a.Head().Log, 2) || b.pull(a) != 0 {
		t.Fatal("the lie was not believed: the test proves nothing")
	}
	got := 0
	for chunk, err := range a.Thorough(b.Digest(Minute(c.Now())), 1<<20) {
		b.must(err)
		m, err := b.Merge(chunk)
		b.must(err)
		got += m.New
	}
	if got != 1 || !b.effective("192.0.2.2") {
		t.Errorf("%d records, want the one that was said to be gone", got)
	}
	equalSets(t, a, b)
}

// What comes of the running own log from others is bounded as all that comes is, and what this member did not write is counted.
func TestForgedRecordsInTheRunningLogAreBoundedAndCounted(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	const n = maxChain + 50
	for i := range n {
		a.ban("192.0.2.1", time.Hour+time.Duration(i)*2*time.Second) // each replaces the one before
	}
	f := &forge{chunkMaker: chunkMaker{id: a.Head().Log}}
	for i := range n - 1 {
		f.write(item{kind: KindBan, key: mustPrefixKey("203.0.113.1/32"), start: c.millis(), until: c.millis() + hour, jail: fmt.Sprint("j", i)})
	}
	for _, at := range []*node{b, a} {
		if m := at.take(f); m.New != maxChain || m.Refused != n-1-maxChain {
			t.Errorf("%s takes %d, refuses %d of %d", at.cfg.Origin, m.New, m.Refused, n-1)
		}
	}
	if logs, records := a.Namesakes(); logs != 1 || records != maxChain {
		t.Errorf("%d records in %d logs are told, want %d in its own", records, logs, maxChain)
	}
	if got := a.ban("192.0.2.1", 3*time.Hour); got != BanExtended {
		t.Errorf("an own ban after that: %v", got)
	}
}
