package gossip

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestAPacketIsFreshOnce(t *testing.T) {
	now := time.Now()
	var r replays
	for _, tt := range []struct {
		counter uint64
		want    bool
	}{
		{100, true}, {100, false}, {99, true}, {102, true}, {101, true}, {101, false}, {102, false},
		{102 + windowSize, true}, {102, false}, {103, true}, {103, false}, {101, false},
		{1 << 40, true}, {102 + windowSize, false}, {1<<40 - 1, true}, {1 << 40, false},
	} {
		if got := r.fresh(2, tt.counter, "", 1<<41, now); got != tt.want {
			t.Errorf("fresh(%d) = %v, want %v", tt.counter, got, tt.want)
		}
	}
	if !r.fresh(4, 100, "", 1<<41, now) {
		t.Error("a counter of one run was taken for that of another")
	}
}

func TestAFalseCounterDeafensForMinutesOnly(t *testing.T) {
	for name, lie := range map[string]func(now time.Time) uint64{
		"the highest":           func(time.Time) uint64 { return 1<<64 - 1 },
		"beyond the time":       func(now time.Time) uint64 { return mostCounter(now) + 1 },
		"the highest of a time": mostCounter,
	} {
		var r replays
		var c packetCounter
		now := time.Unix(1_800_000_000, 0)
		said := c.next(now)
		if !r.fresh(2, said, "", mostCounter(now), now) {
			t.Fatalf("%s: the first packet is not heard", name)
		}
		r.fresh(2, lie(now), "", mostCounter(now), now)
		now = now.Add(3 * time.Minute)
		if !r.fresh(2, c.next(now), "", mostCounter(now), now) {
			t.Errorf("%s: the member is not heard three minutes after", name)
		}
		for _, old := range []uint64{said, lie(now.Add(-3 * time.Minute))} {
			if r.fresh(2, old, "", mostCounter(now), now) {
				t.Errorf("%s: %d is heard again", name, old)
			}
		}
	}
}

// A receiver whose clock was ahead took a false counter for a due one.
func TestAFalseCounterIsForgottenWithTheClockCorrected(t *testing.T) {
	var r replays
	var c packetCounter
	now := time.Unix(1_800_000_000, 0)
	wrong := now.Add(365 * 24 * time.Hour)
	said := c.next(now)
	r.fresh(2, said, "", mostCounter(wrong), wrong)
	r.fresh(2, mostCounter(wrong), "", mostCounter(wrong), wrong)
	r.fresh(2, c.next(now), "", mostCounter(now), now)
	now = now.Add(3 * time.Minute)
	if !r.fresh(2, c.next(now), "", mostCounter(now), now) {
		t.Error("the member is not heard three minutes after")
	}
	if r.fresh(2, said, "", mostCounter(now), now) {
		t.Error("a packet is heard again")
	}
}

func TestAMemberWhoseClockIsAheadIsHeardOnce(t *testing.T) {
	for _, ahead := range []time.Duration{45 * time.Second, 90 * time.Second, time.Hour, 365 * 24 * time.Hour} {
		var r replays
		var c packetCounter
		var said []uint64
		now := time.Unix(1_800_000_000, 0)
		for i := range 1000 { // over 83 minutes; the clock is set right in the middle
			now = now.Add(5 * time.Second)
			if i == 500 {
				ahead = 0
			}
			n := c.next(now.Add(ahead))
			if said = append(said, n); !r.fresh(2, n, "", mostCounter(now), now) {
				t.Fatalf("packet %d is not heard", i)
			}
			for _, old := range said {
				if r.fresh(2, old, "", mostCounter(now), now) {
					t.Fatalf("after packet %d: %d is heard again", i, old)
				}
			}
		}
	}
}

func TestWindowsAreBounded(t *testing.T) {
	now := time.Now()
	const runs = maxWindows + 500
	var r replays
	for i := range uint64(runs) {
		r.fresh(2*i+2, 1, "", 1<<41, now.Add(time.Duration(i)))
	}
	if len(r.runs) != maxWindows {
		t.Errorf("%d windows, want %d", len(r.runs), maxWindows)
	}
	if r.fresh(2*runs, 1, "", 1<<41, now) {
		t.Error("the newest run was forgotten")
	}
}

// A machine put back to an earlier state of its memory goes on with its clock set
// right: the others must not take all it says for a replay.
func TestCountersOutrunTheirOwnPast(t *testing.T) {
	now := time.Now()
	var c packetCounter
	before := c.next(now)
	past := c.last
	for range 1000 {
		before = c.next(now)
	}
	c.last = past
	if got := c.next(now.Add(2 * time.Minute)); got <= before {
		t.Errorf("counter %d after it was put back, want more than %d", got, before)
	}
	if got := c.next(now.Add(-time.Hour)); got <= before {
		t.Errorf("counter %d with the clock set back, want more than %d", got, before)
	}
}

// TestARecordedMessageIsHeardOnce: somebody without the key records what a member
// says, and sends it again: while it is alive, from an earlier run, and after its
// death.
func TestARecordedMessageIsHeardOnce(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		victim, speaker := fl.nodes[0], fl.nodes[1]
		replayer, err := fl.net.Attach(hostAddr(70))
		if err != nil {
			t.Fatal(err)
		}
		// sends in the speaker's name what its wire would have sent, and keeps it.
		record := func(text string) []byte {
			b := speaker.mesh.wire.envelope(encode(kindMessage, messageMsg{From: speaker.name, Payload: []byte(text)})).to(victim.addr.String())
			return slices.Clone(b)
		}
		play := func(b []byte) {
			if _, err := replayer.WriteTo(b, victim.addr.String()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		times := func(text string) (n int) {
			for _, g := range victim.got.all() {
				if g == speaker.name+": "+text {
					n++
				}
			}
			return n
		}
		first := record("of the first run")
		for range 3 {
			play(first)
		}
		if n := times("of the first run"); n != 1 {
			t.Errorf("a message that was recorded was heard %d times, want once", n)
		}
		if victim.mesh.Stats().Dropped["replayed packet"] < 2 {
			t.Errorf("replays are not counted: %v", victim.mesh.Stats().Dropped)
		}

		unheard := record("recorded and held back")
		fl.stop(speaker)
		if err := fl.start(speaker, nil); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Minute, "the speaker to be back", func() bool {
			run := uint64(0)
			victim.mesh.table.with(speaker.name, func(p *peer) { run = p.meta.Run })
			return run == speaker.mesh.run && fl.whole()
		})
		play(unheard)
		if n := times("recorded and held back"); n != 0 {
			t.Errorf("a message of an earlier run was heard %d times", n)
		}
		if err := speaker.mesh.Send(victim.name, []byte("of the second run")); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Second, "a message of the present run", func() bool { return times("of the second run") == 1 })

		last := record("said while dying")
		fl.stop(speaker)
		fl.wait(time.Minute, "the speaker's death", func() bool { return victim.mesh.table.alive() == 2 })
		play(last)
		if n := times("said while dying"); n != 0 {
			t.Errorf("a dead member was heard %d times", n)
		}
	})
}

// One packet with the highest counter there is, in a member's name, made all others
// deaf to it until it restarted.
func TestAMemberIsHeardAgainAfterAFalseCounter(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		r, victim, other := newRogue(fl), fl.nodes[1], fl.nodes[0]
		r.packet(chanFrames|chanCounted, append(countedHeader(victim.mesh.run, 1<<63), encode(kindMessage, messageMsg{From: victim.name, Payload: []byte("forged")})...))
		fl.wait(time.Second, "the false counter", func() bool { return slices.Contains(other.got.all(), victim.name+": forged") })
		time.Sleep(3 * time.Minute)
		if err := victim.mesh.Send(other.name, []byte("true")); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Second, "the member to be heard", func() bool { return slices.Contains(other.got.all(), victim.name+": true") })
	})
}

// A false counter counts against packets of the address that it came from: whoever
// cannot send from a member's own address cannot make others deaf to it.
func TestAFalseCounterFromElsewhereDeafensNobody(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		r, victim, other := newRogue(fl), fl.nodes[1], fl.nodes[0]
		time.Sleep(5 * time.Second)
		for i, false := range []uint64{counterAt(time.Now()) + windowSize<<10, mostCounter(time.Now()), 1 << 63} {
			forged, said := fmt.Sprint("forged ", i), fmt.Sprint("true ", i)
			r.packet(chanFrames|chanCounted, append(countedHeader(victim.mesh.run, false), encode(kindMessage, messageMsg{From: victim.name, Payload: []byte(forged)})...))
			fl.wait(time.Second, "the false counter", func() bool { return slices.Contains(other.got.all(), victim.name+": "+forged) })
			if err := victim.mesh.Send(other.name, []byte(said)); err != nil {
				t.Fatal(err)
			}
			fl.wait(time.Second, "the member to be heard", func() bool { return slices.Contains(other.got.all(), victim.name+": "+said) })
		}
	})
}

// The counters of the minute to come are no secret. Whoever sends them first, from an address of its own or as a member of its
// own that has the same run, does not have the member's taken for played back.
func TestCountersSentBeforeTheirTimeDeafenNobody(t *testing.T) {
	for name, guest := range map[string]bool{"from elsewhere": false, "as another member": true} {
		t.Run(name, func(t *testing.T) {
			simulate(t, 2, lan(), func(fl *fleet) {
				r, victim, other := newRogue(fl), fl.nodes[1], fl.nodes[0]
				if guest {
					meta := nodeMeta{Version: "evil", Run: victim.mesh.run}.encode()
					r.packet(chanMembers, ml(t, mlAlive, mlAliveMsg{1, "guest", hostAddr(77).Addr().AsSlice(), hostAddr(77).Port(), meta, goodVsn}))
					fl.wait(time.Second, "the made-up member to be known", func() bool { return other.mesh.table.lives(hostAddr(77).String(), victim.mesh.run) })
				}
				minute := time.Now().Truncate(time.Minute).Add(time.Minute)
				time.Sleep(time.Until(minute) - 2*time.Second)
				forged := encode(kindMessage, messageMsg{From: victim.name, Payload: []byte("forged")})
				for n := range uint64(windowSize / 16) {
					r.packet(chanFrames|chanCounted, append(countedHeader(victim.mesh.run, counterAt(minute)+n), forged...))
				}
				time.Sleep(time.Until(minute) + time.Second)
				before := other.mesh.Stats().Dropped["replayed packet"]
				for i := range 5 {
					said := fmt.Sprint("true ", i)
					if err := victim.mesh.Send(other.name, []byte(said)); err != nil {
						t.Fatal(err)
					}
					fl.wait(time.Second, "the member to be heard", func() bool { return slices.Contains(other.got.all(), victim.name+": "+said) })
				}
				if n := other.mesh.Stats().Dropped["replayed packet"] - before; n > 0 {
					t.Errorf("%d packets pass for played back", n)
				}
			})
		})
	}
}

// What came home is not fresh elsewhere, and what was heard before a member was
// known to live there is not fresh there. What is heard elsewhere later is, when it comes home.
func TestAPacketIsFreshOnceWhereverItComesFrom(t *testing.T) {
	now := time.Now()
	var r replays
	for i, tt := range []struct {
		counter uint64
		home    string
		want    bool
	}{
		{100, "", true}, {101, "h", true}, {100, "h", false}, {99, "h", false}, {101, "", false}, {102, "", true}, {102, "", false},
		{102, "h", true}, {102, "h", false}, {102, "", false}, {103, "h", true}, {1 << 40, "", true}, {104, "h", true}, {104, "", false},
		{1<<41 + 5, "", true}, {105, "h", true}, {106 + windowSize, "h", true}, {105, "", false}, {106, "", false},
		{107 + windowSize, "i", true}, {106 + windowSize, "i", false}, {108 + windowSize, "h", true}, {107 + windowSize, "", false},
		{109 + windowSize, "j", true}, {110 + windowSize, "k", false}, {110 + windowSize, "h", true},
	} {
		if got := r.fresh(2, tt.counter, tt.home, 1<<41, now); got != tt.want {
			t.Errorf("%d: fresh(%d, %q) = %v, want %v", i, tt.counter, tt.home, got, tt.want)
		}
	}
}

// Without its counter nothing is a message of a member that counts.
func TestAMessageCannotBeStrippedOfItsCounter(t *testing.T) {
	simulate(t, 2, lan(), func(fl *fleet) {
		r := newRogue(fl)
		r.packet(chanFrames, encode(kindMessage, messageMsg{From: "r001", Payload: []byte("forged")}))
		r.packet(chanFrames, encode(kindMessage, messageMsg{From: "nobody", Payload: []byte("forged")}))
		time.Sleep(time.Second)
		if got := fl.nodes[0].got.all(); len(got) != 0 {
			t.Errorf("heard %q", got)
		}
		for _, reason := range []string{"message of another run", "message of nobody alive"} {
			if fl.nodes[0].mesh.Stats().Dropped[reason] == 0 {
				t.Errorf("not counted as %q: %v", reason, fl.nodes[0].mesh.Stats().Dropped)
			}
		}
	})
}

// TestMembersOfTheVersionBeforeAreHeard: they draw an odd run and count nothing;
// what they would be sent counted, they could not read.
func TestMembersOfTheVersionBeforeAreHeard(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		old := fl.nodes[2]
		fl.stop(old)
		if err := fl.start(old, func(c *Config) { c.tuning.run = 77 }); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Minute, "all alive, one of the version before", func() bool {
			known := fl.whole()
			for _, nd := range fl.nodes[:2] {
				nd.mesh.table.with(old.name, func(p *peer) { known = known && p.meta.Run == old.mesh.run })
			}
			return known
		})
		time.Sleep(100 * time.Millisecond) // what was on its way to its predecessor
		before := old.mesh.Stats().Dropped["unknown channel"]
		for i, nd := range fl.nodes {
			nd.ban(fmt.Sprint("of ", i))
		}
		fl.wait(5*time.Second, "bans both ways", fl.all(3))
		for _, pair := range [][2]*node{{old, fl.nodes[0]}, {fl.nodes[0], old}} {
			if err := pair[0].mesh.Send(pair[1].name, []byte("hello")); err != nil {
				t.Fatal(err)
			}
			fl.wait(time.Second, "a message from "+pair[0].name, func() bool {
				return slices.Contains(pair[1].got.all(), pair[0].name+": hello")
			})
		}
		if n := old.mesh.Stats().Dropped["unknown channel"] - before; n > 0 {
			t.Errorf("the older member was sent %d packets that it cannot read", n)
		}
	})
}

// TestAMemberOutbidsWhatIsSaidInItsName: somebody with the key says a member alive
// with the highest incarnation that is believed, and other member data.
func TestAMemberOutbidsWhatIsSaidInItsName(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		r := newRogue(fl)
		nd := fl.nodes[1]
		evil := nodeMeta{Version: "evil", Priority: 99, Run: nd.mesh.run}.encode()
		r.packet(chanMembers, ml(t, mlAlive, mlAliveMsg{maxIncarnation, nd.name, nd.addr.Addr().AsSlice(), nd.addr.Port(), evil, goodVsn}))
		fl.wait(time.Second, "the lie to be believed for a moment", func() bool { return nd.mesh.Stats().PacketsReceived > 0 })
		fl.wait(10*time.Second, "the member's own word to count again", func() bool {
			for _, other := range fl.nodes {
				if other == nd {
					continue
				}
				var meta nodeMeta
				other.mesh.table.with(nd.name, func(p *peer) { meta = p.meta })
				if meta.Version == "evil" {
					return false
				}
			}
			return true
		})
		r.packet(chanMembers, ml(t, mlAlive, mlAliveMsg{maxIncarnation + 9, nd.name, nd.addr.Addr().AsSlice(), nd.addr.Port(), evil, goodVsn}))
		time.Sleep(time.Second)
		var meta nodeMeta
		fl.nodes[0].mesh.table.with(nd.name, func(p *peer) { meta = p.meta })
		if meta.Version == "evil" {
			t.Error("a lie above the bound is believed")
		}
	})
}

func TestCountedHeaderIsNotLeftToTheFrame(t *testing.T) {
	ring, err := newKeyring([][]byte{testKey})
	if err != nil {
		t.Fatal(err)
	}
	w := newWire(nowhere{}, ring, "", nil, &counters{})
	w.run = 2
	if _, _, _, reason := w.uncount(chanFrames|chanCounted, bytes.Repeat([]byte{1}, countedHead-1), ""); reason != "truncated packet" {
		t.Errorf("a header cut short: %q", reason)
	}
}
