package page

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"banmesh/mesh/control"
)

const (
	longestQuery = 64  // bytes; an address has at most 45
	shownRecords = 100 // of each kind
)

// answer is why an address is banned, or is not.
type answer struct {
	Query     string
	Trouble   string // what is wrong with the question
	Pill      pill
	Sentence  string
	Bans      []foundBan
	Lifts     []foundLift
	Allows    []foundAllow
	NeverBans []control.WhyShield
	More      int // records beyond shownRecords
}

type foundBan struct {
	Address, Router, Jail, State, Reason string
	Live                                 bool
	Failures                             uint32
	Start, Until                         stamp
}

type foundLift struct {
	Address, Router string
	Offences        int
}

type foundAllow struct {
	Address, Router, Comment string
	Until                    stamp
	Ignored                  string // why it does not count
}

// serveWhy answers the script's search with a piece of the page.
func (p *Page) serveWhy(w http.ResponseWriter, r *http.Request) {
	v := &view{Section: overview, Answer: p.ask(r.Context(), r.URL.Query().Get("ip"))}
	p.write(w, "answer", v)
}

// ask looks an address up; nil where nothing is asked.
func (p *Page) ask(ctx context.Context, query string) *answer {
	query = strings.TrimSpace(query)
	if query == "" {
		return nil
	}
	shown := query
	if len(shown) > longestQuery {
		shown = strings.ToValidUTF8(shown[:longestQuery], "") + "…"
	}
	a := &answer{Query: shown}
	ip, trouble := address(query)
	if trouble != "" {
		a.Trouble = trouble
		return a
	}
	why, err := p.agent.Why(ctx, ip)
	if err != nil {
		a.Trouble = "The agent does not answer: " + err.Error()
		return a
	}
	a.fill(&why, p.now())
	return a
}

// address reads an address, or the prefix of one; else it says what is wrong.
func address(query string) (ip netip.Addr, trouble string) {
	if len(query) <= longestQuery {
		if ip, err := netip.ParseAddr(query); err == nil && ip.Zone() == "" {
			return ip.Unmap(), ""
		}
		if prefix, err := netip.ParsePrefix(query); err == nil {
			if prefix.IsSingleIP() {
				return prefix.Addr().Unmap(), ""
			}
			return netip.Addr{}, fmt.Sprintf("That is a network. Ask for one address of it, for example %v.", prefix.Masked().Addr())
		}
	}
	return netip.Addr{}, "That is not an IP address. Examples: 203.0.113.7 or 2001:db8::7."
}

func (a *answer) fill(why *control.Why, now time.Time) {
	a.Query = why.IP
	switch {
	case why.Effective && why.Committed:
		a.Pill, a.Sentence = pill{"bad", "Banned"}, "It is banned, and the conductor has it"
		if why.CommittedSince != 0 {
			a.Sentence += " since " + stampAt(why.CommittedSince.Time(), now).Full
		}
		a.Sentence += "."
	case why.Effective && why.WaitsForQuorum != nil:
		q := why.WaitsForQuorum
		a.Pill = pill{"bad", "Banned"}
		a.Sentence = fmt.Sprintf("It is banned. The conductor gets it when %d routers have seen it in jail %s; %d have.", q.Needed, q.Jail, q.Seen)
	case why.Effective:
		a.Pill, a.Sentence = pill{"bad", "Banned"}, "It is banned. The conductor does not have it."
	case why.Banned:
		a.Pill, a.Sentence = pill{"warn", "Banned without effect"}, "It is banned, and the ban has no effect: "+why.ReasonNotEffective+"."
	case why.Known:
		a.Pill, a.Sentence = pill{"ok", "Not banned"}, "It is not banned now. What is known of it:"
	default:
		a.Pill, a.Sentence = pill{"ok", "Not banned"}, "It is not banned, and nothing is known of it."
	}
	if why.Times > 1 {
		a.Sentence += fmt.Sprintf(" It was banned %s, by %s.", counted(why.Times, "time", "times"), counted(why.Origins, "router", "routers"))
	}
	a.records(why, now)
}

func (a *answer) records(why *control.Why, now time.Time) {
	bans, lifts, allows := why.Bans, why.Lifts, why.Allows
	a.More = max(0, len(bans)-shownRecords) + max(0, len(lifts)-shownRecords) + max(0, len(allows)-shownRecords)
	for _, b := range bans[:min(len(bans), shownRecords)] {
		f := foundBan{
			Address: bare(b.Prefix), Router: b.Origin, Jail: b.Jail, State: b.State, Reason: b.Reason, Live: b.State == "live",
			Failures: b.Failures, Start: stampAt(b.Start.Time(), now), Until: untilStamp(b.Until, now),
		}
		if len(b.LiftedBy) > 0 {
			f.State += " by " + some(b.LiftedBy)
		}
		a.Bans = append(a.Bans, f)
	}
	for _, l := range lifts[:min(len(lifts), shownRecords)] {
		a.Lifts = append(a.Lifts, foundLift{bare(l.Prefix), l.Origin, l.Offences})
	}
	for _, x := range allows[:min(len(allows), shownRecords)] {
		a.Allows = append(a.Allows, foundAllow{bare(x.Prefix), x.Origin, x.Comment, untilStamp(x.Until, now), x.Ignored})
	}
	a.NeverBans = why.NeverBans[:min(len(why.NeverBans), shownRecords)]
}
