package page

import (
	"context"
	"slices"
	"time"

	"banmesh/mesh/control"
)

const (
	// lookPace is the age up to which viewers are shown the agent's last status, lookSoon the same after an event that
	// changes it.
	lookPace = time.Second
	lookSoon = framePace

	// lookShare bounds the share of time spent on the status: counting a million bans takes a while, and none can be added
	// meanwhile.
	lookShare = 20
)

// look is the agent's last status, shared by all viewers.
type look struct {
	status  control.Status // the last one received
	members []control.Member
	known   bool          // one was received
	err     error         // why the last request failed
	at      time.Time     // zero before the first one
	took    time.Duration // by the last request; it sets the pace of the next
	outdate time.Time     // since when it is known to be outdated
}

// due returns when to ask the agent again.
func (l *look) due() time.Time {
	pace := lookPace
	if !l.outdate.IsZero() {
		pace = lookSoon
	}
	return l.at.Add(max(pace, lookShare*l.took))
}

// lookAge returns for how long the last status may still be shown.
func (p *Page) lookAge() time.Duration { return max(0, p.look.Load().due().Sub(p.now())) }

// outdate makes the page ask the agent sooner.
func (p *Page) outdate() {
	for {
		l := p.look.Load()
		if !l.outdate.IsZero() || l.at.IsZero() {
			return
		}
		next := *l
		next.outdate = p.now()
		// Another event or an answer may have come in between; it is looked at again then.
		if p.look.CompareAndSwap(l, &next) {
			return
		}
	}
}

// see returns the agent's status, and asks again if that is due.
func (p *Page) see(ctx context.Context) *look {
	p.looking.Lock()
	defer p.looking.Unlock()
	if l := p.look.Load(); !l.at.IsZero() && p.now().Before(l.due()) {
		return l
	}
	next := *p.look.Load()
	// The time is that of the question. An event during the request is forgotten by the Store below; the next
	// look, at the usual pace, shows it.
	next.at, next.outdate = p.now(), time.Time{}
	status, err := p.agent.Status(ctx)
	var members []control.Member
	if err == nil {
		members, err = p.agent.Members(ctx)
	}
	next.err, next.took = err, p.now().Sub(next.at)
	switch {
	case err == nil:
		slices.SortFunc(members, func(a, b control.Member) int { return control.CompareNames(a.Name, b.Name) })
		next.status, next.members, next.known = status, members, true
		p.timeline.sample(&status, p.now())
	case ctx.Err() != nil:
		// Not stored: this caller has gone, and its error would be shown to all other viewers.
		return &next
	}
	p.look.Store(&next)
	return &next
}
