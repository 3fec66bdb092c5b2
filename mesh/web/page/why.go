package page

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"banmesh/mesh/control"
)

const (
	longestQuery = 64  // bytes; an address has at most 45, a network 49
	shownRecords = 100 // of each kind
)

// answer says why an address is banned or not.
type answer struct {
	Query       string
	Trouble     string // what is wrong with the query
	Pill        pill
	Sentence    string
	AtConductor string // whether the conductor has it, without a full stop; shown where there is one
	Committed   stamp
	Further     string
	Place       string // the autonomous system and the country
	Bans        []foundBan
	Lifts       []foundLift
	Allows      []foundAllow
	NeverBans   []control.WhyNeverBan
	More        int // records beyond shownRecords
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
	At              stamp
}

type foundAllow struct {
	Address, Router, Comment string
	Since, Until             stamp
	Ignored                  string // why it does not count
}

// serveWhy serves the answer to the script's search as a part of the page.
func (p *Page) serveWhy(w http.ResponseWriter, r *http.Request) {
	v := &view{Section: overview, Answer: p.ask(r.Context(), r.URL.Query().Get("ip"))}
	p.write(w, "answer", v)
}

// ask looks up an address; nil without a query.
func (p *Page) ask(ctx context.Context, query string) *answer {
	query = strings.TrimSpace(query)
	if query == "" {
		return nil
	}
	shown := query
	// Only what is shown is cut; too long a query is refused by the parser as it is.
	if len(shown) > longestQuery {
		shown = strings.ToValidUTF8(shown[:longestQuery], "") + "…"
	}
	a := &answer{Query: shown}
	of, trouble := readQuestion(query)
	if trouble != "" {
		a.Trouble = trouble
		return a
	}
	why, err := p.agent.Why(ctx, of)
	if err != nil {
		a.Trouble = "The agent does not answer: " + err.Error()
		return a
	}
	a.fill(&why, p.now())
	return a
}

// readQuestion parses an address or a network, or says what is wrong with the query. 203.0.113.7/24 stands for its network.
func readQuestion(query string) (of netip.Prefix, trouble string) {
	of, err := control.ParsePrefix(query)
	if host := (*control.HostBitsError)(nil); errors.As(err, &host) {
		return host.Masked, ""
	}
	if err != nil {
		return of, "That is not an IP address or network. Examples: 203.0.113.7, 203.0.113.0/24 or 2001:db8::7."
	}
	return of, ""
}

// fill answers in a sentence first: the page is opened with an address to learn whether it is banned.
func (a *answer) fill(why *control.Why, now time.Time) {
	a.Query, a.Place = why.IP, why.Place.Words()
	switch {
	case why.Effective && why.Committed:
		a.Pill, a.Sentence = pill{"bad", "Banned"}, "It is banned."
		a.AtConductor = "The conductor has it"
		if why.CommittedSince != 0 {
			a.AtConductor, a.Committed = "The conductor has had it", stampAt(why.CommittedSince.Time(), now)
		}
	case why.Effective && why.WaitsForQuorum != nil:
		q := why.WaitsForQuorum
		a.Pill, a.Sentence = pill{"bad", "Banned"}, "It is banned."
		a.AtConductor = fmt.Sprintf("The conductor gets it when %d routers have seen it in jail %s; %d have", q.Needed, q.Jail, q.Seen)
	case why.Effective:
		a.Pill, a.Sentence = pill{"bad", "Banned"}, "It is banned."
		a.AtConductor = "The conductor does not have it"
	case why.Banned:
		a.Pill, a.Sentence = pill{"warn", "Banned without effect"}, "It is banned, and the ban has no effect: "+why.ReasonNotEffective+"."
	case why.Known:
		a.Pill, a.Sentence = pill{"ok", "Not banned"}, "It is not banned now. What is known of it:"
	default:
		a.Pill, a.Sentence = pill{"ok", "Not banned"}, "It is not banned, and nothing is known of it."
	}
	var further []string
	if len(why.Except) > 0 {
		further = append(further, "Exempt from that: "+some(texts(why.Except))+".")
	}
	if why.Inside > 0 {
		further = append(further, fmt.Sprintf("Inside, %s banned.", counted(why.Inside, "smaller one is", "smaller ones are")))
	}
	if why.Times > 1 {
		further = append(further, fmt.Sprintf("It was banned %s, by %s.", counted(why.Times, "time", "times"), counted(why.Origins, "router", "routers")))
	}
	a.Further = strings.Join(further, " ")
	a.records(why, now)
}

// records shows the first of each kind and counts the rest; a hostile member can make any number of them.
func (a *answer) records(why *control.Why, now time.Time) {
	bans, lifts, allows := why.Bans, why.Lifts, why.Allows
	a.More = max(0, len(bans)-shownRecords) + max(0, len(lifts)-shownRecords) + max(0, len(allows)-shownRecords)
	for _, b := range bans[:min(len(bans), shownRecords)] {
		f := foundBan{
			Address: control.Bare(b.Prefix), Router: b.Origin, Jail: b.Jail, State: b.State, Reason: b.Reason, Live: b.State == "live",
			Failures: b.Failures, Start: stampAt(b.Start.Time(), now), Until: untilStamp(b.Until, now),
		}
		if len(b.LiftedBy) > 0 {
			f.State += " by " + some(b.LiftedBy)
		}
		a.Bans = append(a.Bans, f)
	}
	for _, l := range lifts[:min(len(lifts), shownRecords)] {
		a.Lifts = append(a.Lifts, foundLift{control.Bare(l.Prefix), l.Origin, l.Offences, stampAt(l.Time.Time(), now)})
	}
	for _, x := range allows[:min(len(allows), shownRecords)] {
		a.Allows = append(a.Allows, foundAllow{control.Bare(x.Prefix), x.Origin, x.Comment, stampAt(x.Since.Time(), now), untilStamp(x.Until, now), x.Ignored})
	}
	a.NeverBans = why.NeverBans[:min(len(why.NeverBans), shownRecords)]
}
