package page

import (
	"cmp"
	"net/http"
	"slices"

	"banmesh/mesh/control"
)

// statsPage counts live and remembered bans by jail, router and network.
type statsPage struct {
	*view
	Stats   control.Stats
	From    stamp
	Repeats []repeatRow
	Trouble string
}

type repeatRow struct {
	control.Repeater
	Address string
	Last    stamp
}

// shownStats bounds the rows of each table.
const shownStats = 20

// serveStats serves the statistics.
func (p *Page) serveStats(w http.ResponseWriter, r *http.Request) {
	page := &statsPage{view: p.head(r.Context(), "Statistics")}
	stats, err := p.agent.Stats(r.Context(), control.StatsQuery{Top: shownStats})
	if err != nil {
		page.Trouble = "The agent does not answer: " + err.Error()
	}
	for _, list := range [][]control.NamedShare{stats.Jails, stats.Routers} {
		slices.SortFunc(list, func(a, b control.NamedShare) int {
			// Equal counts stand in the natural order of names, as on the other pages.
			return cmp.Or(b.Total-a.Total, control.CompareNames(a.Name, b.Name))
		})
	}
	now := p.now()
	page.Stats, page.From = stats, stampAt(stats.From.Time(), now)
	for _, x := range stats.Repeaters {
		page.Repeats = append(page.Repeats, repeatRow{x, control.Bare(x.Prefix), stampAt(x.Last.Time(), now)})
	}
	page.Title = "Statistics · " + page.Title
	p.write(w, "stats-page", page)
}
