package page

import (
	"context"
	"fmt"
	"strings"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// Lengths of the lists on the page.
const (
	shownNewest = 12
	shownMost   = 12
	shownNews   = 10
)

// view holds everything that the page shows at one moment.
type view struct {
	At       stamp
	Title    string
	Name     string
	Version  string
	Uptime   string
	Known    bool   // the agent's status is known
	Trouble  string // why the last request for it failed
	Health   pill
	Warnings []string

	Bans    control.BanCount
	Allows  int
	Members control.MemberCount
	Leader  string
	Commit  conductor

	Ring    ring
	Routers []router
	News    []happening
	Newest  []listed
	Most    []listed
	Since   stamp
	Hour    plot
	Day     plot

	Section string   // which page it is
	Blocked []string // routers whose bans do not count

	Query  string  // of the search
	Answer *answer // nil without a query
}

// pill is a state in one or two words; Class is ok, busy, warn, bad or off.
type pill struct{ Class, Text string }

// view combines the agent's status with what the stream has told.
func (p *Page) view(ctx context.Context) *view {
	v := p.head(ctx, overview)
	p.timeline.show(v, p.now())
	// Otherwise every ban counts, and no question has to be asked of each.
	if v.Bans.Live != v.Bans.Effective {
		p.withoutEffect(ctx, v.Newest)
	}
	return v
}

// withoutEffect says for each ineffective ban why it blocks nothing.
func (p *Page) withoutEffect(ctx context.Context, bans []listed) {
	// For the few that are shown: each is a question to the agent.
	for i := range bans {
		prefix, err := control.ParsePrefix(bans[i].Address)
		if err != nil {
			continue
		}
		if why, err := p.agent.Why(ctx, prefix); err == nil && why.Banned && !why.Effective {
			bans[i].NoEffect = why.ReasonNotEffective
		}
	}
}

// head returns what every page shows: the state of the agent and the mesh.
func (p *Page) head(ctx context.Context, section string) *view {
	l := p.see(ctx)
	now := p.now()
	v := &view{At: stampAt(now, now), Section: section, Since: stampAt(p.timeline.since, now)}
	if l.err != nil {
		v.Trouble = l.err.Error()
	}
	// After a request that failed it is the last one that came, with Trouble beside it.
	s := &l.status
	v.Known = l.known
	v.Name, v.Version, v.Uptime = s.Name, s.Version, long(time.Duration(s.UptimeS)*time.Second)
	v.Warnings, v.Bans, v.Allows, v.Members = s.Warnings, s.Bans, s.Allows, s.Members
	if s.Leader != nil {
		v.Leader = *s.Leader
	}
	v.Health = health(v, s)
	v.Title = v.Health.Text + " · " + v.Name + " · banmesh"
	v.Blocked = s.Blocked
	v.Ring = drawRing(l.members, v.Leader)
	v.Routers = routers(l.members, now)
	v.Commit = newConductor(s)
	return v
}

// health sums up the state in one pill.
func health(v *view, s *control.Status) pill {
	switch {
	// In order of weight: the first that holds is what a glance has to see.
	case v.Trouble != "":
		return pill{"bad", "No answer from the agent"}
	case s.Frozen:
		return pill{"warn", "Frozen"}
	case len(v.Warnings) == 1:
		return pill{"warn", "1 warning"}
	case len(v.Warnings) > 1:
		return pill{"warn", fmt.Sprintf("%d warnings", len(v.Warnings))}
	case s.Unknown > 0:
		return pill{"busy", "Not all heard of"}
	case !s.InSync && s.Members.Alive == 1:
		return pill{"busy", "Nobody else answers"}
	case !s.InSync:
		return pill{"busy", "Catching up"}
	}
	return pill{"ok", "In sync"}
}

// show adds what the timeline knows.
func (f *timeline) show(v *view, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.newest[:min(len(f.newest), shownNewest)] {
		b := &f.newest[i]
		v.Newest = append(v.Newest, listed{
			Key: b.Prefix + " " + b.Origin + " " + b.Jail, Address: control.Bare(b.Prefix), Router: b.Origin, Jail: b.Jail,
			Start: stampAt(b.Start.Time(), now), Until: untilStamp(b.Until, now),
		})
	}
	for _, x := range f.seen.most(shownMost) {
		v.Most = append(v.Most, listed{
			Key: x.prefix, Address: control.Bare(x.prefix), Routers: x.origins(),
			Router: some(x.names(func(b *ban) string { return b.Origin })), Jail: some(x.names(func(b *ban) string { return b.Jail })),
			Start: stampAt(x.last.Time(), now),
		})
	}
	for i := range f.news[:min(len(f.news), shownNews)] {
		v.News = append(v.News, happened(&f.news[i], now))
	}
	v.Hour = drawPlot(f.history.spans(60, 1, now), hourScale, f.since)
	v.Day = drawPlot(f.history.spans(24, 60, now), dayScale, f.since)
	for _, c := range f.commits.last[:min(len(f.commits.last), shownCommits)] {
		v.Commit.Last = append(v.Commit.Last, commitLine(&c, now))
	}
}

// listed is a row of the newest or the most widely banned addresses.
type listed struct {
	Key, Address, Router, Jail string
	NoEffect                   string // why the ban blocks nothing
	Routers                    int
	Start, Until               stamp
}

// some lists a few of many names.
func some(names []string) string { return excerpt.First(names, 3) }

// router is a row of the table of routers.
type router struct {
	Name, Addr, Version string
	Self, Leader        bool
	State               pill
	Skew                string
	Late                bool  // its clock differs too much from ours
	Seen                stamp // if it does not answer: when it last did
	Heard               stamp // how old what is said of it is; not of this router
}

// skewShown is the clock difference, in milliseconds, from which the page points it out; the status warns from the same.
const skewShown = 2000

// routers leaves out clock and last sign of life where they say nothing: a router's own, and the clock of one
// that is gone.
func routers(members []control.Member, now time.Time) []router {
	out := make([]router, len(members))
	for i := range members {
		m := &members[i]
		out[i] = router{
			Name: m.Name, Addr: m.Addr, Version: m.Version, Self: m.Self, Leader: m.Leader, State: memberState(m),
		}
		if !m.Self {
			out[i].Heard = stampAt(m.Seen.Time(), now)
		}
		if m.State != "alive" {
			out[i].Seen = stampAt(m.Seen.Time(), now)
		}
		if m.State == "alive" && !m.Self {
			out[i].Skew, out[i].Late = skew(m.SkewMS), m.SkewMS >= skewShown || m.SkewMS <= -skewShown
		}
	}
	return out
}

// memberState never shows agreement that nobody has confirmed lately.
func memberState(m *control.Member) pill {
	switch {
	case m.State == "failed":
		return pill{"bad", "no answer"}
	case m.State == "left":
		return pill{"off", "has left"}
	case m.State != "alive":
		return pill{"off", m.State}
	case m.Unknown:
		return pill{"busy", "not heard of lately"}
	case !m.InSync && !m.Self:
		return pill{"busy", "catching up"}
	}
	return pill{"ok", "in sync"}
}

// happening is a line of the news.
type happening struct {
	Key     string
	At      stamp
	Kind    string // the event's name, for the style
	Word    string
	Address string
	Text    string
}

// words are the names of events on the page.
var words = map[string]string{
	"ban": "Ban", "extend": "Extended", "lift": "Unban", "expire": "Ran out", "allow": "Allow", "disallow": "Allow ends", "freeze": "Freeze", "thaw": "Thaw",
	"block": "Block", "unblock": "Unblock", "join": "Joined", "leave": "Left", "failed": "No answer", "leader": "Leader",
	"commit": "Commit", "error": "Notice",
}

// kindOf returns an event's style class and name.
func kindOf(event string) (class, word string) {
	if word := words[event]; word != "" {
		return event, word
	}
	return "other", event
}

// happened words an event for the page; Key lets the browser recognise one that it shows already.
func happened(e *control.Event, now time.Time) happening {
	h := happening{At: stampAt(e.Time.Time(), now), Address: control.Bare(e.Prefix)}
	h.Kind, h.Word = kindOf(e.Event)
	var text []string
	say := func(format string, args ...any) { text = append(text, fmt.Sprintf(format, args...)) }
	switch {
	case e.Event == "lift" && e.By != "":
		say("by %s", e.By)
	case e.Origin != "":
		say("%s", e.Origin)
	}
	if e.Jail != "" {
		say("%s", e.Jail)
	}
	if e.Name != "" {
		say("%s", e.Name)
	}
	if e.Event == "leader" && e.Term != 0 {
		say("term %d", e.Term)
	}
	if e.Event == "commit" && e.Add+e.Remove > 0 {
		say("%s added, %s removed", number(e.Add), number(e.Remove))
	}
	if e.Lost > 0 {
		say("%s events not listed", number(e.Lost))
	}
	for _, s := range []string{e.Error, e.Detail} {
		if s != "" {
			say("%s", s)
		}
	}
	h.Text = strings.Join(text, " · ")
	h.Key = fmt.Sprint(int64(e.Time), e.Event, e.Prefix, e.Origin, e.Jail, e.Name)
	return h
}
