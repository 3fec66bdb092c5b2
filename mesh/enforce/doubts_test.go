package enforce

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"banmesh/store"
)

// TestDoubtsFindAllThatDoesNotFit: what is made right in the doubtful places alone is right everywhere.
func TestDoubtsFindAllThatDoesNotFit(t *testing.T) {
	base := addr{0, 10 << 24}
	rapid.Check(t, func(t *rapid.T) {
		now := store.At(time.UnixMilli(1_800_000_000_000))
		set := newFakeSet(func() time.Time { return time.UnixMilli(int64(now)) })
		moment := func(n store.Millis) store.Millis { return now + (n-2)*100*slack } // the first two are over
		spans := drawList(t, base, "held")
		for i := range spans {
			spans[i].until = moment(spans[i].until)
		}
		for _, s := range drawPrefixes(t, base) {
			b := batch{add: lists{v4: {s}}}
			for _, p := range b.regions() {
				set.ban(p.String(), moment(s.until))
			}
			if rapid.Bool().Draw(t, "as it should be") { // most elements fit
				spans = subtract(spans, []span{s})
				spans = merge(spans, []span{{s.from, s.to, moment(s.until)}})
			}
		}
		if rapid.Bool().Draw(t, "allow one") {
			set.allow(fmt.Sprintf("10.0.0.%d/32", rapid.IntRange(0, 255).Draw(t, "allowed")))
		}
		held := [families]list{v4: inChunks(t, spans)}
		places, over, few := doubts(set, held, now)
		if !few {
			t.Fatal("too much, or too wide, to be looked at")
		}
		del, add := changesIn(held, now, places, wantedIn(set, places), false, false)
		got := modelOf(t, base, held[v4].edit(over[v4], nil, 0).edit(del[v4], add[v4], 0).flat(), true)
		want := modelOf(t, base, wanted(set)[v4], true)
		if got != want {
			t.Fatalf("held %v\nplaces %v\nmake %v\nwant %v", spans, places, got, want)
		}
	})
}

func TestDoubtTooMuchOrTooWideIsNotLookedAtOneByOne(t *testing.T) {
	set := newFakeSet(time.Now)
	until := in(time.Hour)
	held := func() [families]list { return [families]list{v4: listOf(wanted(set)[v4]), v6: listOf(wanted(set)[v6])} }
	check := func(what string, held [families]list, places int, few bool) {
		t.Helper()
		if got, _, ok := doubts(set, held, store.At(time.Now())); ok != few || len(got) != places {
			t.Errorf("%s: %d places, few %v; want %d, %v", what, len(got), ok, places, few)
		}
	}
	for i := range mostDoubts {
		set.ban(fmt.Sprintf("10.0.%d.%d/32", i>>7, i&127<<1), until)
	}
	check("nothing is held", [families]list{}, mostDoubts, true)
	check("all is held", held(), 0, true)
	set.ban("2001:db8::/121", until)
	check("one more", [families]list{}, 0, false)
	all := held()
	set.ban("2001:db8::/121", until+10*slack)
	check("one ends later", all, 1, true)
	set.lift("2001:db8::/121")
	check("one is lifted", all, 1, true)
	set.ban("2001:db8::/119", until)
	check("a wide one", all, 0, false)
	all = held()
	set.lift("2001:db8::/119")
	check("a wide one is lifted", all, 0, false)
}
