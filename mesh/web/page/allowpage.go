package page

import (
	"cmp"
	"net/http"
	"slices"

	"banmesh/mesh/control"
)

// allowPage lists what no ban takes effect on: the allow-list and the never-bans.
type allowPage struct {
	*view
	Entries []foundAllow
	More    int // beyond shownAllows
	Never   []neverRow
	Trouble string
}

// shownAllows bounds the rows of each table.
const shownAllows = 500

// neverRow is a prefix that is never banned, and the routers that protect it.
type neverRow struct {
	Address string
	Routers []string
	More    int
}

// serveAllows serves the allow-list and the never-bans.
func (p *Page) serveAllows(w http.ResponseWriter, r *http.Request) {
	a := &allowPage{view: p.head(r.Context(), "Allow-list")}
	allows, err := p.agent.Allows(r.Context())
	var never []control.WhyNeverBan
	if err == nil {
		never, err = p.agent.NeverBans(r.Context())
	}
	if err != nil {
		a.Trouble = "The agent does not answer: " + err.Error()
	}
	now := p.now()
	// A member can make up any number of allows, and the page must not grow with them.
	a.More = max(0, len(allows)-shownAllows)
	for _, x := range allows[:len(allows)-a.More] {
		a.Entries = append(a.Entries, foundAllow{Address: control.Bare(x.Prefix), Router: x.Origin, Comment: x.Comment, Until: untilStamp(x.Until, now), Ignored: x.Ignored})
	}
	a.Never = neverRows(never)
	a.Title = "Allow-list · " + a.Title
	p.write(w, "allow-page", a)
}

// neverRows makes one row of each prefix, those that most routers protect first.
func neverRows(never []control.WhyNeverBan) []neverRow {
	by := make(map[string][]string)
	for _, n := range never {
		by[n.Prefix] = append(by[n.Prefix], n.Origin)
	}
	rows := make([]neverRow, 0, len(by))
	for prefix, routers := range by {
		row := neverRow{Address: control.Bare(prefix), Routers: distinct(routers)}
		row.More = max(0, len(row.Routers)-namesInRow)
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b neverRow) int {
		return cmp.Or(cmp.Compare(len(b.Routers), len(a.Routers)), control.CompareNames(a.Address, b.Address))
	})
	rows = rows[:min(len(rows), shownAllows)]
	for i := range rows {
		rows[i].Routers = rows[i].Routers[:len(rows[i].Routers)-rows[i].More]
	}
	return rows
}
