package page

import (
	"context"
	"slices"
	"time"

	"banmesh/mesh/control"
)

const (
	// lookPace is how old the agent's status may be that viewers are shown, and
	// lookSoon after an event that changes it.
	lookPace = time.Second
	lookSoon = framePace

	// lookShare bounds what the status costs the agent: counting a million bans
	// takes a while, during which none can be added.
	lookShare = 20
)

// look is what the agent said of itself, shared by all viewers.
type look struct {
	status  control.Status // the last that was told
	members []control.Member
	known   bool      // one was told
	err     error     // why the last was not
	at      time.Time // zero before the first one
	took    time.Duration
	outdate time.Time // since when it is known to be out of date
}

// due is when the agent is to be asked again.
func (l *look) due() time.Time {
	pace := lookPace
	if !l.outdate.IsZero() {
		pace = lookSoon
	}
	return l.at.Add(max(pace, lookShare*l.took))
}

// lookAge is how long what was asked last may still be shown.
func (p *Page) lookAge() time.Duration { return max(0, p.look.Load().due().Sub(p.now())) }

// outdate has the agent asked sooner.
func (p *Page) outdate() {
	for {
		l := p.look.Load()
		if !l.outdate.IsZero() || l.at.IsZero() {
			return
		}
		next := *l
		next.outdate = p.now()
		if p.look.CompareAndSwap(l, &next) {
			return
		}
	}
}

// see returns how the agent is, asked again where that is due.
func (p *Page) see(ctx context.Context) *look {
	p.looking.Lock()
	defer p.looking.Unlock()
	if l := p.look.Load(); !l.at.IsZero() && p.now().Before(l.due()) {
		return l
	}
	next := *p.look.Load()
	next.at, next.outdate = p.now(), time.Time{}
	status, err := p.agent.Status(ctx)
	var members []control.Member
	if err == nil {
		members, err = p.agent.Members(ctx)
	}
	next.err, next.took = err, p.now().Sub(next.at)
	switch {
	case err == nil:
		slices.SortFunc(members, func(a, b control.Member) int { return naturally(a.Name, b.Name) })
		next.status, next.members, next.known = status, members, true
		p.feed.sample(&status, p.now())
	case ctx.Err() != nil:
		return &next // this caller has gone; the next one asks for itself
	}
	p.look.Store(&next)
	return &next
}
