package page

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
)

// emptyTimeline is a timeline that has been filled with nothing.
func emptyTimeline(now time.Time) *timeline {
	f := &timeline{}
	f.begin(now)
	<-f.wanted
	return f
}

func (f *timeline) prefixes() (out []string) {
	for _, b := range f.newest {
		out = append(out, control.Bare(b.Prefix))
	}
	return out
}

func TestTheNewestAreTheLatestToBeginAndLiveStill(t *testing.T) {
	now := time.Now()
	f := emptyTimeline(now)
	a := banAt("203.0.113.1/32", "router1", "sshd", now.Add(-3*time.Second))
	b := banAt("203.0.113.2/32", "router2", "sshd", now.Add(-2*time.Second))
	late := banAt("203.0.113.3/32", "router3", "sshd", now.Add(-time.Hour)) // of a router that was cut off
	for _, e := range []control.Event{a, b, late, b} {
		f.apply(e, now)
	}
	if got, want := fmt.Sprint(f.prefixes()), "[203.0.113.2 203.0.113.1 203.0.113.3]"; got != want {
		t.Errorf("newest %v, want %v", got, want)
	}
	f.apply(liftOf(b), now)
	if got, want := fmt.Sprint(f.prefixes()), "[203.0.113.1 203.0.113.3]"; got != want {
		t.Errorf("after a lift %v, want %v", got, want)
	}
	expired := a
	expired.Event = "expire"
	f.apply(expired, now)
	if got, want := fmt.Sprint(f.prefixes()), "[203.0.113.3]"; got != want {
		t.Errorf("after an end %v, want %v", got, want)
	}
}

func TestTheListsStayBounded(t *testing.T) {
	now := time.Now()
	f := emptyTimeline(now)
	for i := range keptSightings + 1000 {
		f.apply(banAt(fmt.Sprintf("2001:db8::%x/128", i), "router1", "sshd", now.Add(time.Duration(i)*time.Millisecond)), now)
	}
	twice := banAt("2001:db8::7/128", "router2", "sshd", now)
	f.apply(twice, now)
	if len(f.newest) != keptNewest || len(f.news) != keptNews || len(f.moves) != keptMoves || len(f.seen.of) > keptSightings {
		t.Errorf("%d newest, %d news, %d moves, %d sightings: more than are kept", len(f.newest), len(f.news), len(f.moves), len(f.seen.of))
	}
	if want := fmt.Sprintf("2001:db8::%x/128", keptSightings+999); f.newest[0].Prefix != want {
		t.Errorf("the newest is %s, want %s", f.newest[0].Prefix, want)
	}
}

func TestTheMostSeenComeFirst(t *testing.T) {
	now := time.Now()
	var s sightings
	add := func(prefix, origin, jail string) {
		s.add(ban{Prefix: prefix, Origin: origin, Jail: jail, Start: control.At(now)})
	}
	add("198.51.100.1/32", "router1", "sshd") // one router
	for _, r := range []string{"router1", "router2", "router3"} {
		add("198.51.100.3/32", r, "sshd")
	}
	add("198.51.100.2/32", "router1", "sshd")
	add("198.51.100.2/32", "router2", "sshd")
	add("198.51.100.9/32", "router1", "sshd")
	add("198.51.100.9/32", "router1", "recidive") // one router, two jails
	add("198.51.100.9/32", "router1", "recidive") // known
	var got []string
	for _, x := range s.most(10) {
		got = append(got, fmt.Sprint(control.Bare(x.prefix), " ", x.origins(), "/", len(x.bans)))
	}
	if want := "[198.51.100.3 3/3 198.51.100.2 2/2 198.51.100.9 1/2]"; fmt.Sprint(got) != want {
		t.Errorf("most seen %v, want %v", got, want)
	}
	s.drop(ban{Prefix: "198.51.100.2/32", Origin: "router2", Jail: "sshd"})
	if len(s.most(10)) != 2 {
		t.Error("an address is seen by a router whose ban has ended")
	}
	for _, r := range []string{"router1", "router2", "router3"} {
		s.drop(ban{Prefix: "198.51.100.3/32", Origin: r, Jail: "sshd"})
	}
	if s.of["198.51.100.3/32"] != nil {
		t.Error("an address without bans is remembered")
	}
}

func TestWhatSheddingForgetsWasSeenByTheFewest(t *testing.T) {
	var s sightings
	for _, r := range []string{"router1", "router2"} {
		s.add(ban{Prefix: "198.51.100.1/32", Origin: r, Jail: "sshd", Start: 1}) // old, but seen twice
	}
	for i := range keptSightings * 2 {
		s.add(ban{Prefix: fmt.Sprintf("2001:db8::%x/128", i), Origin: "router1", Jail: "sshd", Start: control.Time(1000 + i)})
	}
	if s.of["198.51.100.1/32"] == nil || s.of["2001:db8::1/128"] != nil || s.of[fmt.Sprintf("2001:db8::%x/128", keptSightings*2-1)] == nil {
		t.Error("what was seen twice or last is forgotten, or what was seen once long ago is not")
	}
}

func TestFillingTakesWhatIsThereAndWhatComesMeanwhile(t *testing.T) {
	now := time.Now()
	f := emptyTimeline(now)
	f.apply(banAt("192.0.2.1/32", "router1", "sshd", now), now) // gone by the time of the list
	var event sync.WaitGroup
	err := f.fill(now, func(take func(*control.Ban)) error {
		event.Go(func() { f.apply(banAt("192.0.2.2/32", "router2", "sshd", now.Add(time.Millisecond)), now) })
		for i := range 3 * keptNewest {
			take(&control.Ban{Prefix: fmt.Sprintf("198.18.%d.%d/32", i>>8, i&255), Records: []control.Record{
				{Origin: "router1", Jail: "sshd", Start: control.At(now.Add(-time.Duration(i) * time.Second))},
			}})
		}
		return nil
	})
	event.Wait()
	if got := f.prefixes(); err != nil || len(got) != keptNewest || got[0] != "192.0.2.2" || got[1] != "198.18.0.0" {
		t.Fatalf("error %v, %d newest, first %v", err, len(got), got[:2])
	}
	if f.seen.of["192.0.2.1/32"] != nil {
		t.Error("what the list does not hold is remembered")
	}
	if got, want := total(f.history.spans(60, 1, now)), 3*keptNewest+1; got != want {
		t.Errorf("%d bans in the last hour, want %d: those of the list and the one that came", got, want)
	}
}

func total(spans []span) (n int) {
	for _, s := range spans {
		n += s.bans
	}
	return n
}

func TestLostEventsHaveAllBansReadAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.status.Bans.Live = 1
		newPage(t, f)
		synctest.Wait()
		if _, listed := f.counts(); listed != 1 {
			t.Fatalf("all bans were read %d times at the start, want once", listed)
		}
		for range 5 {
			f.events <- control.Event{Event: "error", Lost: 7}
		}
		time.Sleep(fillPace + time.Second)
		synctest.Wait()
		if _, listed := f.counts(); listed != 2 {
			t.Errorf("all bans were read %d times after losses, want once more", listed)
		}
	})
}

func TestAMillionBansAreNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.status.Bans.Live = 1_000_000
		p := newPage(t, f)
		synctest.Wait()
		if _, listed := f.counts(); listed != 0 {
			t.Error("a million bans were read")
		}
		wants(t, "the page", text(t, p, "/"), "1,000,000", "None since")
	})
}

func TestBansAreCountedInTheMinuteInWhichTheyBegan(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 30, 30, 0, time.UTC)
	var h history
	for _, ago := range []time.Duration{0, 10 * time.Second, time.Minute, 59 * time.Minute, 61 * time.Minute, 23 * time.Hour, 25 * time.Hour, -time.Hour} {
		h.count(now.Add(-ago), now)
	}
	h.sample(40, now.Add(-time.Minute))
	hour, day := h.spans(60, 1, now), h.spans(24, 60, now)
	if hour[59].bans != 3 || hour[58].bans != 1 || hour[0].bans != 1 || total(hour) != 5 {
		t.Errorf("the last hour: %d in this minute, %d in the one before, %d in the first, %d in all, want 3, 1, 1 and 5", hour[59].bans, hour[58].bans, hour[0].bans, total(hour))
	}
	if total(day) != 7 || day[23].from.Minute() != 0 || !day[23].from.Equal(now.Truncate(time.Hour)) {
		t.Errorf("the last day: %d in all, the last hour from %v, want 7 from 12:00", total(day), day[23].from)
	}
	if !hour[58].sampled || hour[58].live != 40 || hour[57].sampled || !day[23].sampled {
		t.Error("the sample is not where it was taken")
	}
	if later := now.Add(24 * time.Hour); total(h.spans(24, 60, later)) != 0 {
		t.Error("a minute of yesterday counts for today")
	}
}

func TestCommitsAreToldOnce(t *testing.T) {
	at := func(s int) control.Time { return control.At(time.Unix(1_800_000_000+int64(s), 0)) }
	leader := "router2"
	status := func(s, addresses int) *control.Status {
		return &control.Status{Leader: &leader, Commit: control.CommitStatus{LastCommit: at(s), Committed: addresses}}
	}
	var c commits
	c.heard(status(0, 10)) // before
	c.heard(status(0, 10))
	c.heard(status(30, 14)) // of the other leader
	c.heard(status(20, 14)) // a new leader's own last one
	leader = "router1"
	c.told(control.Event{Time: at(60), Name: "router1", Add: 3, Remove: 1})
	c.heard(status(61, 16)) // the same one
	c.heard(status(90, 12))
	c.told(control.Event{Time: at(91), Name: "router1", Add: 0, Remove: 4}) // heard of first
	var got []string
	for i := range c.last {
		row := commitLine(&c.last[i], at(100).Time())
		got = append(got, row.By+" "+row.Change)
	}
	want := []string{"router1 0 added, 4 removed", "router1 3 added, 1 removed", "router2 4 addresses more", "router2 before the watch began"}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("commits %q, want %q", got, want)
	}
	for i := range 3 * keptCommits {
		c.heard(status(1000+30*i, i))
	}
	if len(c.last) != keptCommits {
		t.Errorf("%d commits are kept, want %d", len(c.last), keptCommits)
	}
}
