package page

import "net/http"

// warningsPage is what the status warns of, and what it warned of since the page began to watch.
type warningsPage struct {
	*view
	Past []pastRow
}

type pastRow struct {
	Text        string
	First, Last stamp
	Ended       bool
}

// serveWarnings answers with the warnings, also those of the past.
func (p *Page) serveWarnings(w http.ResponseWriter, r *http.Request) {
	page := &warningsPage{view: p.head(r.Context(), "Warnings")}
	now := p.now()
	for _, x := range p.feed.pastWarnings() {
		page.Past = append(page.Past, pastRow{x.Text, stampAt(x.First, now), stampAt(x.Last, now), x.Ended})
	}
	page.Title = "Warnings · " + page.Title
	p.write(w, "warnings-page", page)
}
