package store

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// However often an address is banned and unbanned, all agree and nothing piles up.
func TestCyclesOfBanAndUnbanLeaveOneRecordAKey(t *testing.T) {
	c := newClock()
	a, b, d := newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "d", c, nil)
	push := func() { // as gossip does: b hears each record, d only now and then
		b.pull(a)
	}
	for i := range 600 {
		c.add(time.Duration(1+i%1500) * time.Millisecond)
		if got := a.ban("192.0.2.1", time.Hour); got != BanNew {
			t.Fatalf("cycle %d: %v", i, got)
		}
		push()
		if l := a.lift("192.0.2.1"); l.Offences != 1 {
			t.Fatalf("cycle %d: %+v", i, l)
		}
		push()
		if a.live("192.0.2.1") || b.live("192.0.2.1") {
			t.Fatalf("cycle %d: live after its lift", i)
		}
		if i%97 == 0 {
			d.pull(b)
		}
	}
	d.pull(b)
	for _, n := range []*node{a, b, d} {
		if got := n.Counts().Records; got > 4 || n.live("192.0.2.1") {
			t.Errorf("%s: %d records, live %t", n.cfg.Origin, got, n.live("192.0.2.1"))
		}
	}
	equalSets(t, a, b)
	equalSets(t, a, d)
	if a.ban("192.0.2.1", time.Hour) != BanNew {
		t.Error("not banned again")
	}
}

// A member that restarts ever again keeps one lease, and its freeze reaches the others.
func TestRestartsLeaveOneLease(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	for range 30 {
		c.add(time.Minute)
		a = a.reopen()
		until := c.millis() + 24*hour
		a.must(a.PublishNeverBan(context.Background(), prefixes("198.51.100.0/24"), until))
		a.must(a.Place(context.Background(), prefixes("192.0.2.9"), until))
		b.pull(a)
	}
	if got := b.Counts().Records; got != 3 || len(b.NeverBans()) != 1 || len(b.Placed()) != 1 {
		t.Errorf("%d records, %v, %v", got, b.NeverBans(), b.Placed())
	}
	equalSets(t, a, b)
	// An earlier lease that ends later does not outlive a newer one.
	a.must(a.PublishNeverBan(context.Background(), prefixes("198.51.100.0/24"), c.millis()+48*hour))
	a = a.reopen()
	a.must(a.PublishNeverBan(context.Background(), prefixes("203.0.113.0/24"), c.millis()+24*hour))
	b.pull(a)
	if got := b.NeverBans(); len(got) != 1 || got[0].Prefix != pfx("203.0.113.0/24") {
		t.Errorf("protected: %v", got)
	}
}

// What a peer would not keep is not acknowledged.
func TestBanBeyondWhatPeersKeepIsRefused(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	over := 0
	for i := range maxChain + 10 {
		jail := fmt.Sprint("jail-", i)
		if a.ban("192.0.2.1", time.Hour, func(q *BanRequest) { q.Jail = jail }) == BanOverLimit {
			over++
		}
	}
	b.pull(a)
	equalSets(t, a, b)
	if over != 10 || b.Counts().Records != maxChain {
		t.Errorf("%d refused, the peer holds %d", over, b.Counts().Records)
	}
	if got := a.ban("192.0.2.1", 2*time.Hour, func(q *BanRequest) { q.Jail = "jail-0" }); got != BanExtended {
		t.Errorf("a prolongation: %v", got)
	}
}

// Lifts of one member and prefix that come in any order leave the same set.
func TestReplacedLiftsAreOrderFree(t *testing.T) {
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := newClock()
		now := c.millis()
		var chunks [][]byte
		for e := range 3 {
			w := chunkMaker{id: LogID{"a", uint64(e + 1)}}
			for i := range 6 {
				body := &liftBody{confirmed: r.IntN(4) == 0}
				var spans []span
				for range 1 + r.IntN(3) {
					first := now + Millis(r.IntN(4))*1500
					spans = append(spans, span{"b", "sshd", first, first + Millis(r.IntN(2)*r.IntN(3))*1500})
				}
				body.setSpans(spans)
				w.add(item{seq: uint64(i + 1), kind: KindLift, key: mustKey(pfx("192.0.2.1")), start: now, until: now + hour + Millis(r.IntN(2)), lift: body})
				w.add(item{seq: uint64(i + 10), kind: KindNeverBan, key: noPrefix, start: now, until: now + hour + Millis(i/2+e%2)})
				one := w
				chunks = append(chunks, one.bytes())
				w = chunkMaker{id: w.id}
			}
		}
		var first *node
		for range 4 {
			r.Shuffle(len(chunks), func(i, j int) { chunks[i], chunks[j] = chunks[j], chunks[i] })
			n := newNode(t, "x", c, nil)
			for _, b := range chunks {
				if _, err := n.Merge(b); err != nil {
					t.Fatal(err)
				}
			}
			if first == nil {
				first = n
			}
			equalSets(t, first, n)
		}
	}
}

// A member's offences of two runs, the older one told last, are two offences and no range: what lies between them survives.
func TestLiftOfTwoRunsSparesWhatLiesBetween(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	now := c.millis()
	sshd := func(q *BanRequest) { q.Jail = "sshd" }
	a.ban("192.0.2.1", time.Hour, sshd, startAt(now-100*second))
	a = a.reopen()
	a.ban("192.0.2.1", 2*time.Hour, sshd, startAt(now-500*second))
	if l := a.lift("192.0.2.1"); l.Offences != 2 {
		t.Fatalf("%+v, want two offences", l)
	}
	if got := a.ban("192.0.2.1", time.Hour, sshd, startAt(now-300*second)); got != BanNew {
		t.Errorf("an offence that the lift did not see: %v", got)
	}
}

// One lift does not keep an address from being banned for ever: a range names nothing that starts long after it.
func TestARangeNamesNothingAfterItsLift(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.ban("192.0.2.1", time.Hour, startAt(c.millis()))
	f := newForge("rogue", 1).write(item{kind: KindLift, key: mustPrefixKey("192.0.2.1/32"), start: c.millis(), until: latest, lift: &liftBody{
		offences: []offence{{"a", "sshd", latest}, {"a", "sshd", 0}}}})
	a.take(f)
	b.take(f)
	if a.live("192.0.2.1") {
		t.Error("the lift does not name what was there")
	}
	for range 3 {
		c.add(2 * time.Hour)
		if got := a.ban("192.0.2.1", time.Hour, startAt(c.millis())); got != BanNew || !a.live("192.0.2.1") {
			t.Errorf("a later ban: %v, live %t", got, a.live("192.0.2.1"))
		}
		b.pull(a)
		if !b.live("192.0.2.1") {
			t.Error("a later ban is not live at another member")
		}
		a.lift("192.0.2.1")
	}
	converge(a, b)
	equalSets(t, a, b)
}

// Of two lifts of one member with the same range, the one that replaces the other names all that it named.
func TestALaterRangeReplacesAnEarlierOne(t *testing.T) {
	c := newClock()
	now := c.millis()
	lift := func(seq uint64, start Millis) []byte {
		w := chunkMaker{id: LogID{"rogue", 1}}
		w.add(item{seq: seq, kind: KindLift, key: mustPrefixKey("192.0.2.1/32"), start: start, until: now + 96*hour, lift: &liftBody{
			offences: []offence{{"a", "sshd", latest}, {"a", "sshd", 0}}}})
		return w.bytes()
	}
	early, late := lift(2, now), lift(1, now+24*hour)
	var nodes []*node
	for _, order := range [][][]byte{{early, late}, {late, early}} {
		n := newNode(t, "a", c, nil)
		for _, b := range order {
			_, err := n.Merge(b)
			n.must(err)
		}
		if got := n.ban("192.0.2.1", 48*time.Hour, startAt(now+23*hour)); got != BanStaysLifted {
			t.Errorf("what the later range names: %v", got)
		}
		nodes = append(nodes, n)
	}
	for _, n := range nodes {
		if got := n.Counts().Records; got != 1 {
			t.Errorf("%d records, want the later lift alone", got)
		}
	}
	equalSets(t, nodes...)
}

// One pass over two sorted Lifts finds what each pair of their entries says.
func TestALiftIncludesWhatItsEntriesDo(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() *liftBody {
		b := &liftBody{}
		for range r.IntN(24) {
			b.offences = append(b.offences, offence{[]string{"a", "b"}[r.IntN(2)], []string{"x", "y"}[r.IntN(2)], Millis(r.IntN(6))})
		}
		for range r.IntN(4) {
			first := uint64(1 + r.IntN(4))
			b.dots = append(b.dots, dotRange{LogID{[]string{"a", "b"}[r.IntN(2)], uint64(r.IntN(2))}, seqRange{first, first + uint64(r.IntN(4))}})
		}
		b.enter(Millis(r.IntN(10)))
		return b
	}
	pairwise := func(b, o *liftBody) bool {
		for theirs := range o.spans {
			if !slices.ContainsFunc(slices.Collect(b.spans), func(ours span) bool {
				return ours == theirs || ours.sameKey(theirs) && ours.first != ours.last && ours.first <= theirs.first && theirs.last <= ours.last
			}) {
				return false
			}
		}
		for _, d := range o.dots {
			if !slices.ContainsFunc(b.dots, func(e dotRange) bool { return e.Log == d.Log && e.First <= d.First && d.Last <= e.Last }) {
				return false
			}
		}
		return true
	}
	included := 0
	for range 20000 {
		b, o := random(), random()
		if r.IntN(2) == 0 { // a part of the other
			o = &liftBody{}
			for s := range b.spans {
				if r.IntN(3) == 0 {
					o.offences = append(o.offences, offence{s.origin, s.jail, s.last})
				}
			}
			o.dots = b.dots[:r.IntN(len(b.dots)+1)]
		}
		want := pairwise(b, o)
		if want {
			included++
		}
		if got := b.includes(o); got != want {
			t.Fatalf("%+v includes %+v: %t, want %t", b.offences, o.offences, got, want)
		}
	}
	if included < 1000 || included > 19000 {
		t.Errorf("%d included: this tests little", included)
	}
}

// Large lifts of one prefix that name each something else are cheap to compare: all of them take a small multiple of what as many
// of different prefixes take, which are not compared.
func TestFiguresManyLargeLiftsOfAPrefix(t *testing.T) {
	c := newClock()
	merge := func(prefix func(i int) netip.Prefix) time.Duration {
		a := newNode(t, "a", c, nil)
		f := newForge("rogue", 1)
		for n := range 250 {
			var offences []offence
			for i := range maxOffences - 1 {
				offences = append(offences, offence{"a", "j", Millis(i + 1)})
			}
			offences = append(offences, offence{"a", "j", Millis(1000 + n)})
			f.write(item{kind: KindLift, key: mustKey(prefix(n)), start: c.millis(), until: c.millis() + minute, lift: &liftBody{offences: offences}})
		}
		b := f.bytes()
		began := time.Now()
		m, err := a.Merge(b)
		if err != nil || m.New != 250 {
			t.Fatalf("%+v, %v", m, err)
		}
		return time.Since(began)
	}
	ratio := math.Inf(1)
	for range 3 { // the machine may do other work during one of them
		apart, together := merge(addr), merge(func(int) netip.Prefix { return addr(0) })
		t.Logf("250 lifts of a prefix each: %v, of one prefix: %v", apart, together)
		ratio = min(ratio, together.Seconds()/apart.Seconds())
	}
	if ratio > 250 {
		t.Errorf("250 lifts of one prefix take %.0f times as long as of 250", ratio)
	}
}
