package page

import (
	"context"
	"net/http"
	"net/netip"

	"banmesh/mesh/control"
)

// addressPage shows everything about one address or network.
type addressPage struct {
	*view
	Network  string // the network asked for or around the address; Beside lists its bans
	Link     string // to the list of all of them
	Beside   []banRow
	Total    int
	NoBeside string // why there are none to show

	Past   []pastEvent
	More   bool   // there are older ones
	NoPast string // why nothing of the past is shown
}

// pastEvent is something that once happened to the address or to a network around it.
type pastEvent struct {
	At          stamp
	Class, Word string
	Address     string
	Router, By  string
	Jail        string
	Reason      string
	Until       stamp
}

// A provider allocates at least a /24 of IPv4, and a customer of IPv6 has a /48 (RFC 6177 §2).
const (
	network4 = 24
	network6 = 48
)

// serveAddress serves the page of one address or network.
func (p *Page) serveAddress(w http.ResponseWriter, r *http.Request) {
	a := &addressPage{view: p.head(r.Context(), "Bans")}
	a.Query = r.URL.Query().Get("of")
	a.Answer = p.ask(r.Context(), a.Query)
	if a.Answer == nil {
		http.Redirect(w, r, "/bans", http.StatusSeeOther)
		return
	}
	a.Query = a.Answer.Query
	of, trouble := readQuestion(a.Query)
	if trouble == "" && a.Answer.Trouble == "" {
		network := of
		switch {
		// A network is its own neighbourhood.
		case !of.IsSingleIP():
		case of.Addr().Is4():
			network = netip.PrefixFrom(of.Addr(), network4).Masked()
		default:
			network = netip.PrefixFrom(of.Addr(), network6).Masked()
		}
		var err error
		a.Network, a.Link = network.String(), filter{Query: network.String()}.link("", "")
		a.Beside, a.Total, err = p.rows(r.Context(), control.ListQuery{Prefix: network, Sort: "start", Limit: rowsBeside})
		a.past(r.Context(), p, of)
		if err != nil {
			a.NoBeside = "The agent does not answer: " + err.Error()
		}
	}
	a.Title = a.Query + " · " + a.Title
	p.write(w, "address-page", a)
}

// past reads what the router's history holds about the address.
func (a *addressPage) past(ctx context.Context, p *Page, of netip.Prefix) {
	h, err := p.agent.History(ctx, control.HistoryQuery{Prefix: of, Limit: shownRecords})
	if err != nil {
		a.NoPast = err.Error()
		return
	}
	now := p.now()
	a.More = h.More
	for i := range h.Events {
		e := &h.Events[i]
		x := pastEvent{
			At: stampAt(e.Time.Time(), now), Address: control.Bare(e.Prefix),
			Router: e.Origin, By: e.By, Jail: e.Jail, Reason: e.Reason,
		}
		x.Class, x.Word = kindOf(e.Event)
		if e.Until != nil {
			x.Until = untilStamp(*e.Until, now)
		}
		a.Past = append(a.Past, x)
	}
}
