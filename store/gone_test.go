package store

import (
	"bytes"
	"context"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// What its author takes back leaves one record, however often, and does not come back from who has not heard of it.
func TestWithdrawnRecordsLeaveOneBehind(t *testing.T) {
	c := newClock()
	a, b, late := newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "late", c, nil)
	ctx := context.Background()
	for i := range 100 {
		c.add(time.Second)
		x := []AllowRequest{{Prefix: addr(i % 7)}}
		a.must(a.Allow(ctx, x))
		a.must(a.Freeze(ctx))
		a.must(a.Block(ctx, "r9"))
		if i == 50 {
			late.pull(a)
			a = a.reopen()
		}
		b.pull(a)
		if len(b.Allows()) != 1 || len(b.Blocked()) != 1 {
			t.Fatalf("cycle %d: %d allows, blocked %v at the other", i, len(b.Allows()), b.Blocked())
		}
		if n, err := a.DropAllow(ctx, prefixes(addr(i%7).String())); n != 1 || err != nil {
			t.Fatalf("cycle %d: %d dropped, %v", i, n, err)
		}
		a.must(a.Thaw(ctx))
		a.must(a.Unblock(ctx, "r9"))
		b.pull(a)
		frozen, _ := b.Frozen()
		if len(b.Allows()) != 0 || len(b.Blocked()) != 0 || frozen {
			t.Fatalf("cycle %d: %d allows, blocked %v, frozen %t at the other", i, len(b.Allows()), b.Blocked(), frozen)
		}
	}
	for _, n := range []*node{a, b} {
		if got := n.Counts().Records; got > 3 {
			t.Errorf("%s holds %d records of what is gone", n.cfg.Origin, got)
		}
	}
	if len(late.Allows()) != 1 {
		t.Fatal("the late one has nothing to bring back: this tests nothing")
	}
	converge(late, b) // neither hears it from the author
	if len(late.Allows()) != 0 || len(b.Allows()) != 0 {
		t.Errorf("%d and %d allows after a late member came back", len(late.Allows()), len(b.Allows()))
	}
	converge(a, b, late)
	equalSets(t, a, b, late)
	a = a.reopen()
	equalSets(t, a, b)
}

// placing has a leader put addresses into the conductor that others ban for ten minutes each, and take them out.
func placing(t *testing.T, minutes, each int, check func(minute int, leader *node)) (leader, peer *node) {
	c := newClock()
	ctx := context.Background()
	leader, peer = newNode(t, "leader", c, nil), newNode(t, "peer", c, nil)
	for m := range minutes {
		c.add(time.Minute)
		now := c.millis()
		fresh, over := make([]BanRequest, each), []BanRequest(nil)
		in := make([]BanRequest, 0, each)
		for i := range fresh {
			fresh[i] = BanRequest{Prefix: addr(m*each + i), Jail: "sshd", Until: now + 10*minute}
			in = append(in, fresh[i])
		}
		_, err := peer.Ban(ctx, fresh)
		peer.must(err)
		leader.pull(peer)
		add := addrs(in)
		leader.must(leader.Place(ctx, add, now+7*24*hour))
		if m >= 10 {
			for i := range each {
				over = append(over, BanRequest{Prefix: addr((m-10)*each + i)})
			}
			leader.must(leader.Unplace(ctx, addrs(over)))
		}
		leader.Tick(true)
		peer.Tick(true)
		if m%10 == 0 {
			peer.pull(leader)
		}
		check(m, leader)
	}
	peer.pull(leader)
	return leader, peer
}

func addrs(reqs []BanRequest) (out []netip.Prefix) {
	for _, q := range reqs {
		out = append(out, q.Prefix)
	}
	return out
}

// What is kept for the conductor is bounded by what is in it.
func TestWhatComesAndGoesAtTheConductorLeavesNothing(t *testing.T) {
	const each = 20
	leader, peer := placing(t, 240, each, func(m int, leader *node) {
		l := leader.own
		if n := len(l.recs) - l.dead; n > 11*each+3 {
			t.Fatalf("minute %d: %d records in the leader's log, at most %d are placed", m, n, 11*each)
		}
	})
	equalSets(t, leader, peer)
	// A longer one among the short ones, an eager frame holds what a withdrawal takes, and a joiner sees the same.
	for after := uint64(0); after < leader.Head().Seq; {
		chunk, last := leader.Since(after, 1200)
		if len(chunk) > 1200 {
			t.Fatalf("a frame of %d bytes", len(chunk))
		}
		after = last
	}
	joiner := newNode(t, "joiner", leader.clock, nil)
	joiner.pull(peer)
	equalSets(t, leader, joiner)
}

// Where some stay for long between those that go, what names the gone still fits frames and stays in proportion.
func TestManyThatStayBetweenThoseThatGo(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	var all, go1 []netip.Prefix
	for i := range 1000 {
		all = append(all, addr(i))
		if i%2 == 0 {
			go1 = append(go1, addr(i))
		}
	}
	a.must(a.Place(ctx, all, c.millis()+24*hour))
	b.pull(a)
	for _, p := range go1 {
		a.must(a.Unplace(ctx, []netip.Prefix{p}))
	}
	b.pull(a)
	if n := a.Counts().Records; n > 500+50 || len(b.Placed()) != 500 {
		t.Errorf("%d records, %d placed at the other", n, len(b.Placed()))
	}
	equalSets(t, a, b)
	a.must(a.Unplace(ctx, all))
	b.pull(a)
	if n := b.Counts().Records; n > 20 || len(b.Placed()) != 0 {
		t.Errorf("%d records of what is gone", n)
	}
	equalSets(t, a, b)
	c.add(29 * time.Hour)
	a.Tick(true)
	b.Tick(true)
	if n := a.Counts().Records + b.Counts().Records; n != 0 {
		t.Errorf("%d records when nothing of it can come back any more", n)
	}
}

// After a change of leader the former one withdraws what the new one has seen gone, and that lets its lifts go.
func TestAChangeOfLeaderPilesUpNothing(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	var all []netip.Prefix
	for i := range 50 {
		all = append(all, addr(i))
	}
	a.must(a.Place(ctx, all, c.millis()+7*24*hour))
	b.pull(a)
	b.must(b.Unplace(ctx, all))
	a.pull(b)
	if len(a.Placed()) != 0 || len(b.Placed()) != 0 {
		t.Fatal("still placed")
	}
	written := func(n *node) { // the store's own calls have been answered when one of ours is
		n.Tick(true)
		n.must(n.SaveMeta(ctx, "x", []byte("y")))
	}
	for range 4 {
		c.add(11 * time.Minute)
		written(a)
		b.pull(a)
		written(b)
		a.pull(b)
	}
	equalSets(t, a, b)
	if n := a.Counts().Records; n > 6 || len(a.Placed()) != 0 {
		t.Errorf("%d records left, %d placed", n, len(a.Placed()))
	}
}

// Gones, and what they name, come in any order.
func TestGoneIsOrderFree(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a := newNode(t, "a", c, nil)
	var chunks [][]byte
	tell := func() {
		if chunk, _ := a.Since(a.Head().Seq-1, 1200); chunk != nil {
			chunks = append(chunks, bytes.Clone(chunk))
		}
	}
	for i := range 12 {
		c.add(time.Second)
		a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(i % 3)}}))
		tell()
		if i%2 == 1 {
			_, err := a.DropAllow(ctx, prefixes(addr(i%3).String()))
			a.must(err)
			tell()
		}
		if i == 6 {
			a = a.reopen()
		}
	}
	for range 6 {
		n := newNode(t, "x", c, nil)
		for i := range chunks {
			j := (i*7 + 3) % len(chunks)
			if _, err := n.Merge(bytes.Clone(chunks[j])); err != nil {
				t.Fatal(err)
			}
		}
		slices.Reverse(chunks)
		n.pull(a)
		equalSets(t, a, n)
	}
}

// Only what is the author's own is taken out, and nothing that is still to come.
func TestAGoneTakesOutItsAuthorsOwnAlone(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.must(a.Allow(context.Background(), []AllowRequest{{Prefix: addr(1)}}))
	a.ban("192.0.2.77", time.Hour)
	a.must(a.PublishNeverBan(context.Background(), prefixes("198.51.100.0/24"), c.millis()+hour))
	b.pull(a)
	f := newForge("rogue", 1)
	f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: Never, gone: []goneRange{{1, seqRange{1, maxSeq}, Never}, {a.Head().Log.Epoch, seqRange{1, maxSeq}, Never}}})
	b.take(f)
	if len(b.Allows()) != 1 || !b.live("192.0.2.77") || len(b.NeverBans()) != 1 {
		t.Error("another's records were taken out")
	}
	f.control(KindFreeze, c, "")
	b.take(f)
	if frozen, _ := b.Frozen(); !frozen {
		t.Error("what its author wrote later was taken out")
	}
	g := newForge("a", 2)
	g.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: Never, gone: []goneRange{{a.Head().Log.Epoch, seqRange{1, maxSeq}, Never}}})
	b.take(g)
	if len(b.Allows()) != 0 || !b.live("192.0.2.77") || len(b.NeverBans()) != 1 {
		t.Error("a Gone takes out more than what can be withdrawn, or less")
	}
}

// What was placed before a restart and again after it does not come back when it is gone, from who has heard of the first alone.
func TestPlacedOfAnEarlierRunStaysGone(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b, late := newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "late", c, nil)
	until := c.millis() + 24*hour
	a.must(a.Place(ctx, prefixes("192.0.2.1"), until))
	b.pull(a)
	late.pull(a)
	a = a.reopen()
	a.must(a.Place(ctx, prefixes("192.0.2.1"), until))
	b.pull(a)
	a.must(a.Unplace(ctx, prefixes("192.0.2.1")))
	b.pull(a)
	converge(late, b)
	if len(late.Placed())+len(b.Placed()) != 0 {
		t.Errorf("placed: %v, %v", late.Placed(), b.Placed())
	}
	converge(a, b, late)
	equalSets(t, a, b, late)
}

// A withdrawal is on disk before what it withdraws is deleted there. A crash between the two brings nothing back.
func TestWhatWasWithdrawnStaysGoneAfterACrash(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a := newNode(t, "a", c, nil)
	a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(1)}}))
	a.must(a.Freeze(ctx))
	a.must(a.Block(ctx, "r9"))
	a.must(a.Place(ctx, prefixes("192.0.2.1"), c.millis()+hour))
	before := a.disk.clone()
	_, err := a.DropAllow(ctx, []netip.Prefix{addr(1)})
	a.must(err)
	a.must(a.Thaw(ctx))
	a.must(a.Unblock(ctx, "r9"))
	a.must(a.Unplace(ctx, prefixes("192.0.2.1")))
	a.must(a.SaveMeta(ctx, "x", []byte("y")))
	after := a.disk.clone()
	for log, records := range before.records { // their deletion is what the crash kept from the disk
		if after.records[log] == nil {
			after.records[log] = make(map[uint64][]byte)
		}
		maps.Copy(after.records[log], records)
	}
	r := newNode(t, "a", c, after)
	if frozen, _ := r.Frozen(); len(r.Allows())+len(r.Blocked())+len(r.Placed()) != 0 || frozen {
		t.Errorf("allows %v, blocked %v, placed %v, frozen %t", r.Allows(), r.Blocked(), r.Placed(), frozen)
	}
	if n := len(r.contents(r.minute())); n != len(a.contents(a.minute())) {
		t.Errorf("%d records, %d before the crash", n, len(a.contents(a.minute())))
	}
}

// What a Gone names is taken out whether it came in an earlier chunk, in the same one, or comes in a later one.
func TestAGoneTakesOutWhatComesInItsOwnChunk(t *testing.T) {
	c := newClock()
	allow := item{seq: 1, kind: KindAllow, key: mustPrefixKey("192.0.2.1/32"), start: c.millis(), until: c.millis() + hour}
	gone := item{seq: 2, kind: KindGone, key: noPrefix, start: c.millis(), until: c.millis() + hour, gone: []goneRange{{1, seqRange{1, 1}, c.millis() + hour}}}
	var nodes []*node
	for _, chunks := range [][][]item{{{allow, gone}}, {{allow}, {gone}}, {{gone}, {allow}}} {
		n := newNode(t, "a", c, nil)
		for _, items := range chunks {
			w := chunkMaker{id: LogID{"b", 1}}
			for _, it := range items {
				w.add(it)
			}
			_, err := n.Merge(w.bytes())
			n.must(err)
		}
		if got := n.Allows(); len(got) != 0 {
			t.Errorf("%d chunks: %v", len(chunks), got)
		}
		nodes = append(nodes, n)
	}
	equalSets(t, nodes...)
}

// A member that lost its disk gets back its own log before the others'. Its lifts of what it does not hold yet stay.
func TestLiftsStayWhileTheirTargetsAreOnTheirWay(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	b.must(b.Allow(ctx, []AllowRequest{{Prefix: addr(1)}}))
	a.pull(b)
	_, err := a.DropAllow(ctx, []netip.Prefix{addr(1)})
	a.must(err)
	b.pull(a)
	if len(b.Allows()) != 0 {
		t.Fatal("the allow was not lifted: this tests nothing")
	}
	old := a.Head().Log
	a.must(a.Close())
	c.add(20 * time.Minute) // more than tidyAfter
	refilled := newNode(t, "a", c, nil)
	for chunk, err := range b.Deltas(refilled.DigestOf(refilled.minute(), old), 64<<10) {
		refilled.must(err)
		_, err := refilled.Merge(chunk)
		refilled.must(err)
	}
	tidied := func() {
		c.add(time.Minute)
		refilled.Tick(true)
		refilled.must(refilled.SaveMeta(ctx, "x", []byte("y"))) // the store's own calls have been answered when this is
	}
	tidied()
	converge(refilled, b)
	tidied()
	converge(refilled, b)
	if n := len(refilled.Allows()) + len(b.Allows()); n != 0 {
		t.Errorf("%d allows came back", n)
	}
}

// A withdrawal also names the numbers of lifts that a newer one has replaced. Before the newer one arrives the older one stays in
// force on a member that holds what it lifts, whichever of lift and withdrawal came first, and over a restart.
func TestAGoneLeavesALiftThatIsStillNeeded(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	b.must(b.Freeze(ctx))
	b.must(b.Block(ctx, "r9"))
	frozen, _ := b.Since(0, 4096)
	a.pull(b)
	var chunks [][]byte
	tell := func(err error) {
		t.Helper()
		a.must(err)
		chunk, _ := a.Since(a.Head().Seq-1, 4096)
		chunks = append(chunks, bytes.Clone(chunk))
	}
	tell(a.Place(ctx, []netip.Prefix{addr(1)}, c.millis()+hour))
	tell(a.Thaw(ctx))
	tell(a.Unblock(ctx, "r9")) // replaces the thaw and says it as well
	tell(a.Unplace(ctx, []netip.Prefix{addr(1)}))
	placed, thaw, both, gone := chunks[0], chunks[1], chunks[2], chunks[3]

	for name, order := range map[string][][]byte{
		"in order": {frozen, placed, thaw, gone}, "thaw first": {thaw, frozen, placed, gone},
		"gone before the thaw": {frozen, gone, placed, thaw}, "gone first": {gone, frozen, thaw, placed},
		"gone, thaw, frozen": {gone, placed, thaw, frozen}, "thaw, gone, frozen": {placed, thaw, gone, frozen},
	} {
		n := newNode(t, "x", c, nil)
		for _, chunk := range order {
			_, err := n.Merge(bytes.Clone(chunk))
			n.must(err)
		}
		n.tick(true)
		for _, after := range []string{"merged", "loaded"} {
			if is, by := n.Frozen(); is || len(n.Placed()) != 0 {
				t.Errorf("%s, %s: frozen %t by %q, placed %v", name, after, is, by, n.Placed())
			}
			n = n.reopen()
		}
		_, err := n.Merge(bytes.Clone(both))
		n.must(err)
		if is, by := n.Frozen(); is || len(n.Blocked()) != 0 {
			t.Errorf("%s: frozen %t by %q, blocked %v in the end", name, is, by, n.Blocked())
		}
		equalSets(t, a, n)
	}

	// What the lift is kept for goes: so does the lift.
	n := newNode(t, "x", c, nil)
	for _, chunk := range [][]byte{frozen, placed, thaw, gone} {
		_, err := n.Merge(bytes.Clone(chunk))
		n.must(err)
	}
	b.must(b.Thaw(ctx))
	n.pull(b)
	if kept := len(n.set.lifts); kept != 0 {
		t.Errorf("%d lifts of what is gone", kept)
	}
}

// Which of too many lifts wait does not depend on the order in which they came.
func TestMembersKeepTheSameOfTooManyLiftsThatWait(t *testing.T) {
	const many = maxAwaiting + 44
	c := newClock()
	var chunks [][]byte
	for n := range uint64(many) {
		f := newForge("rogue", 1)
		f.seq = n
		dots := []dotRange{{LogID{"x", 9}, seqRange{n + 1, n + 1}}}
		f.write(item{kind: KindLift, key: mustKey(addr(int(n))), start: c.millis(), until: c.millis() + hour, lift: &liftBody{dots: dots}})
		chunks = append(chunks, bytes.Clone(f.bytes()))
	}
	f := newForge("rogue", 1)
	f.seq = many
	f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: c.millis() + 2*hour, gone: []goneRange{{1, seqRange{1, many}, c.millis() + 2*hour}}})
	gone := bytes.Clone(f.bytes())

	backwards := slices.Clone(chunks)
	slices.Reverse(backwards)
	var nodes []*node
	for _, order := range [][][]byte{append(slices.Clone(chunks), gone), append(slices.Clone(backwards), gone), append([][]byte{gone}, backwards...), append([][]byte{gone}, chunks...)} {
		n := newNode(t, "n", c, nil)
		for _, chunk := range order {
			_, err := n.Merge(bytes.Clone(chunk))
			n.must(err)
		}
		nodes = append(nodes, n.reopen())
	}
	if kept := len(nodes[0].set.lifts); kept != maxAwaiting {
		t.Errorf("%d lifts wait, want %d", kept, maxAwaiting)
	}
	equalSets(t, nodes...)
}

// What one member withdraws is bounded, whatever a made-up log says, and costs little in any order and when it ends.
func TestGonesOfOneOriginAreBounded(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	f := newForge("rogue", 1)
	begun := cpu(t)
	send := func(count int) (m Merged) {
		for range count {
			ranges := make([]goneRange, 0, maxGone)
			for i := range uint64(maxGone) {
				first := 1 + (f.seq*7919)%2000 + i*4000
				ranges = append(ranges, goneRange{7, seqRange{first, first}, c.millis() + hour})
			}
			f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: c.millis() + hour, gone: ranges})
			if f.n == 50 {
				one := a.take(f)
				m.New, m.Refused = m.New+one.New, m.Refused+one.Refused
				f.chunkMaker = chunkMaker{id: f.id}
			}
		}
		return m
	}
	first := send(100)
	hundred := cpu(t) - begun
	rest := send(500)
	if kept, refused := first.New+rest.New, first.Refused+rest.Refused; kept != maxGones || refused != 600-maxGones {
		t.Errorf("%d kept, %d refused", kept, refused)
	}
	c.add(4 * time.Hour)
	a.tick(true)
	if n := a.Counts().Records; n != 0 {
		t.Errorf("%d records left", n)
	}
	took := cpu(t) - begun
	t.Logf("the first hundred %v, six hundred and their end %v", hundred, took)
	if took > 100*hundred+time.Second {
		t.Errorf("the first hundred took %v, six hundred and their end %v", hundred, took)
	}
	other := newForge("b", 1).write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: c.millis() + hour, gone: []goneRange{{7, seqRange{1, 1}, c.millis() + hour}}})
	if m := a.take(other); m.New != 1 {
		t.Errorf("another member's withdrawal: %+v", m)
	}
}

// Gones that end together cost as little when records that have lifts end between them.
func TestFiguresGonesEndAmongOtherRecords(t *testing.T) {
	end := func(between bool) time.Duration {
		c := newClock()
		a := newNode(t, "a", c, nil)
		f := newForge("rogue", 1)
		until := c.millis() + hour
		for n := range maxGones {
			ranges := make([]goneRange, 0, maxGone)
			for i := range uint64(maxGone) {
				first := 1 + uint64(n*7919)%2000 + i*4000
				ranges = append(ranges, goneRange{7, seqRange{first, first}, until})
			}
			f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: until, gone: ranges})
			if between {
				f.write(item{kind: KindAllow, key: mustKey(addr(n)), start: c.millis(), until: until})
				f.write(item{kind: KindLift, key: mustKey(addr(n)), start: c.millis(), until: until + hour, lift: &liftBody{offences: []offence{{"a", "j", 1}}}})
			}
			if f.n >= 50 || n == maxGones-1 {
				a.take(f)
				f.chunkMaker = chunkMaker{id: f.id}
			}
		}
		if kept := len(a.set.gones); kept != maxGones {
			t.Fatalf("%d withdrawals kept, want %d", kept, maxGones)
		}
		c.add(3*time.Hour + 30*time.Minute)
		began := time.Now()
		a.tick(true)
		took := time.Since(began)
		if kept := len(a.set.gones); kept != 0 {
			t.Fatalf("%d withdrawals left", kept)
		}
		return took
	}
	alone, among := end(false), end(true)
	t.Logf("alone %v, among others %v", alone, among)
	if among > 20*alone+5*time.Second {
		t.Errorf("the end of %d withdrawals took %v, among other records %v", maxGones, alone, among)
	}
}

// Whatever Gones somebody writes under a router's name, and for however long, the router still withdraws what it wrote.
func TestForgedGonesKeepNobodyFromWithdrawing(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b, late := newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "late", c, nil)
	f := newForge("a", 7)
	full := liftBytes / goneSize
	for n := range uint64(maxGones) {
		ranges := make([]goneRange, full)
		for i := range ranges {
			first := 1 + (n+uint64(i)*maxGones)*3
			ranges[i] = goneRange{5, seqRange{first, first}, Never}
		}
		f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: Never, gone: ranges})
	}
	if m := a.take(f); m.New != maxGones {
		t.Fatalf("%+v", m)
	}
	b.pull(a)
	allowed := []AllowRequest{{Prefix: addr(1)}, {Prefix: addr(2)}}
	a.must(a.Allow(ctx, allowed))
	a.must(a.Freeze(ctx))
	a.must(a.Block(ctx, "r9"))
	a.must(a.Place(ctx, []netip.Prefix{addr(1)}, c.millis()+hour))
	b.pull(a)
	late.pull(b)
	if n, err := a.DropAllow(ctx, []netip.Prefix{addr(1)}); n != 1 || err != nil {
		t.Errorf("%d dropped, %v", n, err)
	}
	a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(2), Until: c.millis() + minute}})) // in the place of one without end
	a.must(a.Thaw(ctx))
	a.must(a.Unblock(ctx, "r9"))
	a.must(a.Unplace(ctx, []netip.Prefix{addr(1)}))
	c.add(2 * time.Minute)
	a = a.reopen()
	b.pull(a)
	converge(b, late)
	for _, n := range []*node{a, b, late} {
		n.tick(true)
		if frozen, _ := n.Frozen(); len(n.Allows())+len(n.Blocked())+len(n.Placed()) != 0 || frozen {
			t.Errorf("%s: allows %v, blocked %v, placed %v, frozen %t", n.cfg.Origin, n.Allows(), n.Blocked(), n.Placed(), frozen)
		}
	}
	equalSets(t, a, b, late)
}

// A member that was full of forged Gones when an honest one came takes it no more, but what it keeps can be ended there.
func TestAnotherMemberEndsWhatForgedGonesKeep(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(1)}}))
	a.must(a.Freeze(ctx))
	a.must(a.Block(ctx, "r9"))
	b.pull(a)
	f := newForge("a", 7)
	for n := range uint64(maxGones) {
		f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: Never, gone: []goneRange{{5, seqRange{1 + 3*n, 1 + 3*n}, Never}}})
	}
	b.take(f)
	n, err := a.DropAllow(ctx, []netip.Prefix{addr(1)})
	a.must(err)
	a.must(a.Thaw(ctx))
	a.must(a.Unblock(ctx, "r9"))
	a.pull(b)
	b.pull(a)
	if n != 1 || len(a.Allows()) != 0 || len(b.Allows()) != 1 {
		t.Fatalf("%d dropped; allows %v and %v: this tests nothing", n, a.Allows(), b.Allows())
	}
	if n, err := b.DropAllow(ctx, []netip.Prefix{addr(1)}); n != 1 || err != nil {
		t.Errorf("%d dropped, %v", n, err)
	}
	b.must(b.Thaw(ctx))
	b.must(b.Unblock(ctx, "r9"))
	a.pull(b)
	for _, n := range []*node{a, b} {
		if frozen, by := n.Frozen(); len(n.Allows())+len(n.Blocked()) != 0 || frozen {
			t.Errorf("%s: allows %v, blocked %v, frozen %t by %q", n.cfg.Origin, n.Allows(), n.Blocked(), frozen, by)
		}
	}
}

// Nor do Gones that would fit into the next one but that it cannot replace, or would be ignored with.
func TestForgedGonesSpoilNoWithdrawal(t *testing.T) {
	ctx := context.Background()
	for name, forge := range map[string]func(c *clock, f *forge, running uint64){
		"expired in part": func(c *clock, f *forge, _ uint64) {
			for n := range uint64(maxGones) {
				f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: c.millis() + hour, gone: []goneRange{
					{5, seqRange{1 + 6*n, 1 + 6*n}, c.millis() + minute}, {5, seqRange{4 + 6*n, 4 + 6*n}, c.millis() + hour},
				}})
			}
		},
		"longer than what they name": func(c *clock, f *forge, _ uint64) {
			for n := range uint64(maxGones) {
				f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: Never, gone: []goneRange{{5, seqRange{1 + 3*n, 1 + 3*n}, c.millis() + hour}}})
			}
		},
		"of what is to come": func(c *clock, f *forge, running uint64) {
			f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: Never, gone: []goneRange{{running, seqRange{1, maxSeq}, Never}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := newClock()
			a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
			a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(1), Until: c.millis() + 30*minute}}))
			a = a.reopen()
			f := newForge("a", 7)
			forge(c, f, a.Head().Log.Epoch)
			a.take(f)
			b.pull(a)
			c.add(2 * time.Minute)
			if n, err := a.DropAllow(ctx, []netip.Prefix{addr(1)}); n != 1 || err != nil {
				t.Errorf("%d dropped, %v", n, err)
			}
			b.pull(a)
			if len(a.Allows())+len(b.Allows()) != 0 {
				t.Errorf("allows %v, at the other %v", a.Allows(), b.Allows())
			}
			equalSets(t, a, b)
		})
	}
}

// A file of a version that knew no bound opens with all that is in it, and nothing that was withdrawn comes back. What a limit
// leaves out is logged.
func TestAFileWithMoreGonesThanAreKeptOpensWhole(t *testing.T) {
	const gones = maxGones + 20
	c := newClock()
	late := newNode(t, "late", c, nil)
	written := newForge("a", 7)
	d, b := newMemDisk(), &batch{}
	for n := range uint64(gones) {
		written.write(item{kind: KindAllow, key: mustKey(addr(int(n))), start: c.millis(), until: Never})
		gone := item{seq: n + 1, kind: KindGone, key: noPrefix, start: c.millis(), until: Never, gone: []goneRange{{7, seqRange{n + 1, n + 1}, Never}}}
		b.ops = append(b.ops, recordOp{1, gone.seq, gone.append(nil)})
	}
	late.take(written)
	b.heads = []logHeader{{1, LogID{"a", 8}, rangeSet{{1, gones}}}}
	if err := d.commit(b); err != nil {
		t.Fatal(err)
	}
	a := newNode(t, "a", c, d)
	for range 2 {
		a.pull(late)
		if n, allowed := len(a.set.gones), len(a.Allows()); n != gones || allowed != 0 {
			t.Errorf("%d of %d withdrawals, %d allows came back", n, gones, allowed)
		}
		a = a.reopen()
	}

	var log bytes.Buffer
	a.reopenWith(func(cfg *Config) {
		cfg.Limits.StoredPerOrigin = 10
		cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	if !strings.Contains(log.String(), "exceed a limit") {
		t.Errorf("nothing is said of what is left out: %s", log.String())
	}
}

// An allow in the place of one that was to last longer is forgotten before that could come back: so it does not hide it, and
// the withdrawal alone ends it.
func TestAShorterAllowHidesNoLongerOne(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	a, b, c1, late := newNode(t, "a", c, nil), newNode(t, "b", c, nil), newNode(t, "c", c, nil), newNode(t, "late", c, nil)
	a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(1)}}))
	b.pull(a)
	late.pull(a)
	_, err := a.DropAllow(ctx, []netip.Prefix{addr(1)})
	a.must(err)
	c1.pull(a)
	before := a.Head().Seq
	a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(1), Until: c.millis() + 10*minute}}))
	chunk, _ := a.Since(before, 4096)
	for _, n := range []*node{b, c1} { // b never hears of the withdrawal
		_, err = n.Merge(bytes.Clone(chunk))
		n.must(err)
	}
	until := func(n *node) (until Millis) {
		for _, e := range n.Allows() {
			until = max(until, e.Until)
		}
		return until
	}
	if got := until(b); got != Never {
		t.Errorf("before it hears of the withdrawal, b allows until %v", got)
	}
	if got, want := until(c1), c.millis()+10*minute; got != want {
		t.Errorf("c allows until %v, want %v", got, want)
	}
	c.add(121 * time.Hour)
	for _, n := range []*node{b, c1, late} {
		n.tick(true)
	}
	converge(b, late) // the author is away
	if until(b) != until(late) {
		t.Errorf("b allows until %v, late until %v", until(b), until(late))
	}
	converge(b, c1, late)
	for _, n := range []*node{b, c1, late} {
		if got := n.Allows(); len(got) != 0 {
			t.Errorf("%s: allows %v", n.cfg.Origin, got)
		}
	}
}

// An allow that is shortened is no disallow to those who watch.
func TestAShortenedAllowIsNotToldAsEnded(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	var mu sync.Mutex
	var seen []EventKind
	a := newNode(t, "a", c, nil, func(cfg *Config) {
		cfg.OnChange = func(ch Change) {
			mu.Lock()
			defer mu.Unlock()
			for _, e := range ch.Events {
				seen = append(seen, e.Kind)
			}
		}
	})
	a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(1)}}))
	a.must(a.Allow(ctx, []AllowRequest{{Prefix: addr(1), Until: c.millis() + hour}}))
	if got := a.Allows(); len(got) != 1 || got[0].Until != c.millis()+hour {
		t.Errorf("allows %v", got)
	}
	a.must(a.Close())
	mu.Lock()
	defer mu.Unlock()
	if slices.Contains(seen, EventDisallow) {
		t.Errorf("events %v", seen)
	}
}

// The ranges of a Gone are in order and share no number, so that two Gones are compared in one pass.
func TestRangesOfAGoneAreInOrder(t *testing.T) {
	r := func(epoch, first, last uint64) goneRange { return goneRange{epoch, seqRange{first, last}, 10} }
	for _, tc := range []struct {
		ranges []goneRange
		ok     bool
	}{
		{[]goneRange{r(1, 1, 3), r(1, 4, 4), r(1, 9, 9), r(2, 1, 1)}, true},
		{[]goneRange{r(2, 1, 1), r(1, 1, 1)}, false},
		{[]goneRange{r(1, 5, 5), r(1, 1, 1)}, false},
		{[]goneRange{r(1, 1, 5), r(1, 5, 6)}, false},
		{[]goneRange{r(1, 1, 1), r(1, 1, 1)}, false},
	} {
		it := item{kind: KindGone, key: noPrefix, start: 1, until: 10, gone: tc.ranges}
		if got := it.invalid(); (got == "") != tc.ok {
			t.Errorf("%v: %q", tc.ranges, got)
		}
	}
}

func TestAGoneIncludesAnother(t *testing.T) {
	r := func(epoch, first, last uint64, until Millis) goneRange {
		return goneRange{epoch, seqRange{first, last}, until}
	}
	a := []goneRange{r(1, 1, 3, 10), r(1, 5, 9, 10), r(3, 1, 9, 20)}
	for _, tc := range []struct {
		b    []goneRange
		want bool
	}{
		{nil, true},
		{a, true},
		{[]goneRange{r(1, 1, 1, 10), r(1, 3, 3, 9), r(3, 2, 9, 20)}, true},
		{[]goneRange{r(3, 9, 9, 20)}, true},
		{[]goneRange{r(1, 1, 4, 10)}, false},
		{[]goneRange{r(1, 1, 3, 11)}, false},
		{[]goneRange{r(1, 4, 4, 1)}, false},
		{[]goneRange{r(2, 1, 1, 1)}, false},
		{[]goneRange{r(3, 1, 9, 20), r(3, 10, 10, 20)}, false},
	} {
		if got := includesGone(a, tc.b); got != tc.want {
			t.Errorf("includes %v: %t", tc.b, got)
		}
	}
}

// A member whose clock disagrees forgets nothing: it still holds an allow of which the others have forgotten that it was removed.
func TestARemovedAllowGoesWithItsLift(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	ctx := context.Background()
	for _, long := range []Millis{2 * minute, minute} { // the second lift takes the place of the first, and lasts longer than its allow
		b.must(b.Allow(ctx, []AllowRequest{{Prefix: pfx("192.0.2.1"), Until: c.millis() + long}}))
		converge(a, b)
		_, err := a.DropAllow(ctx, prefixes("192.0.2.1"))
		a.must(err)
		converge(a, b)
	}
	c.add(2*time.Hour + time.Minute)
	a.tick(true)
	b.tick(false)
	converge(a, b)
	equalSets(t, a, b)
	c.add(-2*time.Hour - time.Minute) // the clock of b is set
	if allows := b.reopen().Allows(); len(allows) > 0 {
		t.Errorf("%v was removed, and is in force again after a restart", allows)
	}
}

// Large Gones that say each something else are cheap to compare: fifty beside 250 take little more than their share beside fifty.
func TestFiguresManyLargeGones(t *testing.T) {
	c := newClock()
	a := newNode(t, "a", c, nil)
	f := newForge("rogue", 1)
	var took []time.Duration
	for n := range uint64(300) {
		ranges := make([]goneRange, 0, maxGone)
		for i := range uint64(maxGone - 1) {
			ranges = append(ranges, goneRange{7, seqRange{2*i + 1, 2*i + 1}, c.millis() + minute})
		}
		ranges = append(ranges, goneRange{8, seqRange{2*n + 1, 2*n + 1}, c.millis() + minute})
		f.write(item{kind: KindGone, key: noPrefix, start: c.millis(), until: c.millis() + minute, gone: ranges})
		if n%50 == 49 {
			began := time.Now()
			a.take(f)
			took = append(took, time.Since(began))
			f.chunkMaker = chunkMaker{id: f.id}
		}
	}
	t.Logf("50 Gones after 50, 100 …: %v", took)
	if last := took[len(took)-1]; last > 100*took[0]+time.Second {
		t.Errorf("50 Gones alone took %v, beside 250 %v", took[0], last)
	}
}
