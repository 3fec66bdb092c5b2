package page

import (
	"net/http"
	"slices"

	"banmesh/mesh/control"
)

// routerPage shows one router: its state and its bans.
type routerPage struct {
	*view
	Router  *router // nil if no member has that name
	Asked   string
	Blocked bool
	Bans    []banRow
	Total   int
	Link    string // to the list of all of them
	Most    int    // live bans that a router may make, 0: any number

	Idle     int // those without effect, which a limit or an allow keeps from it
	IdleLink string
	Trouble  string
}

// serveRouter serves the page of one router. A router that has left may still have bans.
func (p *Page) serveRouter(w http.ResponseWriter, r *http.Request) {
	v := p.head(r.Context(), "Routers")
	page := &routerPage{view: v, Asked: asked(r.URL.Query(), "name"), Most: p.most}
	for i := range v.Routers {
		if v.Routers[i].Name == page.Asked {
			page.Router = &v.Routers[i]
		}
	}
	page.Blocked = slices.Contains(v.Blocked, page.Asked)
	page.Link = filter{Router: page.Asked}.link("", "")
	page.IdleLink = filter{Router: page.Asked}.link("state", stateNotEffective)
	if page.Asked != "" {
		var err error
		page.Bans, page.Total, err = p.rows(r.Context(), control.ListQuery{Origin: page.Asked, Sort: "start", Limit: rowsBeside})
		if err == nil {
			effective := false
			// Only the total is wanted, and a limit of 0 would list all.
			_, page.Idle, err = p.agent.List(r.Context(), control.ListQuery{Origin: page.Asked, Effective: &effective, Limit: 1})
		}
		if err != nil {
			page.Trouble = "The agent does not answer: " + err.Error()
		}
	}
	page.Title = page.Asked + " · " + page.Title
	status := http.StatusOK
	// No member, and no bans of one that was: the name is wrong.
	if page.Router == nil && page.Total == 0 && page.Trouble == "" {
		status = http.StatusNotFound
	}
	p.writeStatus(w, status, "router-page", page)
}
