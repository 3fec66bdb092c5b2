package page

import (
	"context"
	"sync"
	"time"

	"banmesh/mesh/control"
)

const (
	// framePace is the least time between two frames.
	// Four frames a second look alive; more would cost the agent and the browser for nothing.
	framePace = 250 * time.Millisecond

	// fillMost is the number of live bans up to which the page reads all of them when it begins to watch. Beyond that it
	// shows only what it has seen itself. An entry takes a few hundred bytes while it is read.
	fillMost = 100_000

	// fillPace is the least time between two readings of all bans.
	// A reader so slow that it keeps losing events must not have a hundred thousand bans read all the time.
	fillPace = time.Minute
)

// Run watches the agent's events until ctx ends, then ends all streams and returns nil. It may be called once.
func (p *Page) Run(ctx context.Context) error {
	// Streams end with Run: the server waits for open requests when it stops.
	defer p.running.Do(func() { close(p.stopping) })
	var rooms sync.WaitGroup
	defer rooms.Wait()
	rooms.Go(func() { p.pace(ctx) })
	rooms.Go(func() { p.fillWhenLost(ctx) })
	for ctx.Err() == nil {
		err := p.agent.Events(ctx, func(e control.Event) error { p.apply(e); return nil })
		if err == nil || ctx.Err() != nil {
			break
		}
		// The agent dropped a slow reader: read what was missed from the list.
		p.log.Warn("the page has missed events", "error", err)
		p.timeline.lost()
	}
	<-ctx.Done()
	return nil
}

// apply handles one event.
func (p *Page) apply(e control.Event) {
	p.timeline.apply(e, p.now())
	switch e.Event {
	case "leader", "join", "leave", "failed", "commit", "freeze", "thaw", "block", "unblock":
		p.outdate()
	}
	// Only the status says how many addresses another router's commit left, and the next commit replaces that number.
	if p.viewers.Load() > 0 || e.Event == "commit" {
		p.poke()
	}
}

// poke asks for a frame soon. It never blocks, since the events' reader calls it.
func (p *Page) poke() {
	select {
	case p.poked <- struct{}{}:
	default:
	}
}

// pace builds frames while somebody watches, and otherwise samples the counts each minute.
func (p *Page) pace(ctx context.Context) {
	for {
		// On the minute, since the plots count in whole minutes.
		wait := time.Minute - time.Duration(p.now().UnixNano())%time.Minute
		if p.viewers.Load() > 0 {
			wait = p.lookAge()
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-p.poked:
		case <-timer.C:
		}
		timer.Stop()
		if p.viewers.Load() == 0 {
			// Nobody watches: the look is for the plots, whose line of live bans would have gaps.
			p.see(ctx)
			continue
		}
		p.buildFrame(ctx)
		pause := time.NewTimer(framePace)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// fillWhenLost reads all bans at the start, and again after events were lost.
func (p *Page) fillWhenLost(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.timeline.wanted:
		}
		if err := p.fill(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("the page cannot read the bans", "error", err)
		}
		pause := time.NewTimer(fillPace)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// fill reads all live bans once, for the time before the page watched; with too many of them the page shows
// only what it sees.
func (p *Page) fill(ctx context.Context) error {
	if l := p.see(ctx); l.err != nil || l.status.Bans.Live > fillMost {
		return l.err
	}
	return p.timeline.fill(p.now(), func(take func(*control.Ban)) error {
		bans, _, err := p.agent.List(ctx, control.ListQuery{})
		if err != nil {
			return err
		}
		for b := range bans {
			take(&b)
		}
		return nil
	})
}
