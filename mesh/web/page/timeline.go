package page

import (
	"slices"
	"sync"
	"time"

	"banmesh/mesh/control"
)

const (
	keptNewest = 200 // live bans; more than are shown, so that the list stays full when some are lifted
	keptNews   = 40
	keptMoves  = 24 // arrivals that one frame shows individually
)

// timeline collects what the stream of events has told so far.
type timeline struct {
	order  sync.Mutex    // held while changing the rest, and taken before mu: events and fill must not mix
	wanted chan struct{} // holds one: all bans are to be read

	mu      sync.Mutex
	since   time.Time // when the watch began
	filled  control.Time
	newest  []ban // by their start, newest first
	seen    sightings
	news    []control.Event // newest first
	history history
	commits commits
	warned  warnings
	moves   []move // ban arrivals since the last frame, at most keptMoves
	moved   int    // all arrivals since the last frame
}

// ban is one router's live ban of an address.
type ban struct {
	Prefix, Origin, Jail string
	Start                control.Time
	Until                control.Until
}

func (b *ban) same(prefix, origin, jail string) bool {
	return b.Prefix == prefix && b.Origin == origin && b.Jail == jail
}

// move is a ban that arrived over the mesh, for the picture.
type move struct {
	Prefix string `json:"prefix"`
	Origin string `json:"origin"`
	Jail   string `json:"jail"`
}

// begin has the loop fill the timeline at once: wanted holds one request.
func (f *timeline) begin(now time.Time) {
	f.since = now
	f.wanted = make(chan struct{}, 1)
	f.wanted <- struct{}{}
}

// lost requests that all bans are read again.
func (f *timeline) lost() {
	select {
	case f.wanted <- struct{}{}:
	default:
	}
}

// apply handles one event.
func (f *timeline) apply(e control.Event, now time.Time) {
	f.order.Lock()
	defer f.order.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	b := ban{e.Prefix, e.Origin, e.Jail, e.Start, e.Until}
	switch e.Event {
	case "ban":
		f.add(b)
		f.seen.add(b)
		// What the reading of all bans has counted is not counted again.
		if e.Time >= f.filled {
			f.history.count(b.Start.Time(), now)
		}
		f.moved++
		// Beyond that only their number goes up: a burst of thousands must not fill the frame.
		if len(f.moves) < keptMoves {
			f.moves = append(f.moves, move{e.Prefix, e.Origin, e.Jail})
		}
	case "extend":
		f.add(b)
		f.seen.add(b)
	case "lift", "expire":
		f.drop(b)
		f.seen.drop(b)
	case "commit":
		f.commits.told(e)
	}
	// Bans may be among them, so all are read again.
	if e.Lost > 0 {
		f.lost()
	}
	f.tell(e)
}

// tell adds to the news. Expiries are left out: there are as many as bans.
func (f *timeline) tell(e control.Event) {
	if e.Event == "expire" {
		return
	}
	if len(f.news) < keptNews {
		f.news = append(f.news, control.Event{})
	}
	copy(f.news[1:], f.news)
	f.news[0] = e
}

// add keeps the newest first, by start; a ban older than all that are kept is left out once there are enough.
func (f *timeline) add(b ban) {
	// A prolongation has the same start, and takes the place of the ban that it prolongs.
	f.drop(b)
	i := slices.IndexFunc(f.newest, func(o ban) bool { return o.Start <= b.Start })
	if i < 0 {
		i = len(f.newest)
	}
	if i < keptNewest {
		f.newest = slices.Insert(f.newest, i, b)
		f.newest = f.newest[:min(len(f.newest), keptNewest)]
	}
}

func (f *timeline) drop(b ban) {
	f.newest = slices.DeleteFunc(f.newest, func(o ban) bool { return o.same(b.Prefix, b.Origin, b.Jail) })
}

// fill replaces what is known about live bans by what list yields. Events that arrive meanwhile wait.
func (f *timeline) fill(now time.Time, list func(take func(*control.Ban)) error) error {
	f.order.Lock()
	defer f.order.Unlock()
	begun := control.At(now)
	var newest []ban
	var seen sightings
	var past history
	newer := func(a, b ban) int { return int(b.Start - a.Start) }
	err := list(func(listed *control.Ban) {
		for i := range listed.Records {
			r := &listed.Records[i]
			b := ban{listed.Prefix, r.Origin, r.Jail, r.Start, r.Until}
			past.count(b.Start.Time(), now)
			seen.add(b)
			// Sorting now and then keeps the memory small while a hundred thousand bans pass.
			if newest = append(newest, b); len(newest) == 20*keptNewest {
				slices.SortStableFunc(newest, newer)
				newest = newest[:keptNewest]
			}
		}
	})
	if err != nil {
		return err
	}
	slices.SortStableFunc(newest, newer)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.newest, f.seen, f.filled = newest[:min(len(newest), keptNewest)], seen, begun
	f.history.atLeast(&past)
	return nil
}

// sample records the counts of a status.
func (f *timeline) sample(s *control.Status, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.history.sample(s.Bans.Live, now)
	f.commits.heard(s)
	f.warned.heard(s.Warnings, now)
}

// pastWarnings returns the current and past warnings, newest first.
func (f *timeline) pastWarnings() []past {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.warned.all)
}

// pastCommits returns the commits, newest first.
func (f *timeline) pastCommits() []committed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.commits.last)
}

// takeMoves returns the arrivals since the last call, at most keptMoves of them, and their total number.
func (f *timeline) takeMoves() ([]move, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	moves, moved := f.moves, f.moved
	f.moves, f.moved = nil, 0
	return moves, moved
}
