package page

import "net/http"

// warningsPage shows the current warnings and the past ones since the page began to watch.
type warningsPage struct {
	*view
	Past []pastRow
}

type pastRow struct {
	Text        string
	First, Last stamp
	Ended       bool
}

// serveWarnings serves the current and past warnings.
func (p *Page) serveWarnings(w http.ResponseWriter, r *http.Request) {
	page := &warningsPage{view: p.head(r.Context(), "Warnings")}
	now := p.now()
	for _, x := range p.timeline.pastWarnings() {
		page.Past = append(page.Past, pastRow{x.Text, stampAt(x.First, now), stampAt(x.Last, now), x.Ended})
	}
	page.Title = "Warnings · " + page.Title
	p.write(w, "warnings-page", page)
}
