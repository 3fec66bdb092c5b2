package page

import (
	"bytes"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"banmesh/internal/shell"
)

//go:embed templates/*.html
var templateFiles embed.FS

// parts names the templates of the parts that change. Each renders the content of the element with that data-part, which the
// script replaces.
var parts = [...]string{"summary", "warnings", "ring", "roll", "routers", "news", "newest", "most", "hour", "day", "conductor"}

// parse parses the templates. html/template escapes whatever they show; nothing is ever marked as safe.
func parse(a *assets) (*template.Template, error) {
	t := template.New("page").Funcs(template.FuncMap{
		"number":     number[int],
		"numberU":    number[uint64],
		"asset":      func(name string) string { return a.paths[name] },
		"counted":    counted,
		"wide":       wide,
		"phrases":    phrases,
		"shell":      shell.Quote,
		"pages":      pagesOf,
		"bansOf":     func(router string) string { return filter{Router: router}.link("", "") },
		"bansIn":     func(jail string) string { return filter{Jail: jail}.link("", "") },
		"bansAt":     func(prefix string) string { return filter{Query: prefix}.link("", "") },
		"about":      func(address string) string { return "/address?" + url.Values{"of": {address}}.Encode() },
		"routerPage": func(name string) string { return "/router?" + url.Values{"name": {name}}.Encode() },
	})
	t, err := t.ParseFS(templateFiles, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return t, nil
}

// pageName is an entry of the navigation.
type pageName struct{ Name, Link string }

// overview is the name of the home page, commitsSection that of the pages about commits.
const (
	overview       = "Overview"
	commitsSection = "Commits"
)

var (
	pageNames       = []pageName{{overview, "/"}, {"Bans", "/bans"}, {"Statistics", "/stats"}, {"Allow-list", "/allows"}, {"Warnings", "/warnings"}}
	withCommitPages = slices.Insert(slices.Clone(pageNames), 2, pageName{commitsSection, "/commits"})
)

// pagesOf returns the navigation; without a conductor there are no commits.
func pagesOf(withoutConductor bool) []pageName {
	if withoutConductor {
		return pageNames
	}
	return withCommitPages
}

// widest is how many characters fit into a column on a phone without a place to break.
const widest = 15

// wide returns the class of a cell whose text may break anywhere.
func wide(text string) string {
	run := 0
	for _, r := range text {
		run++
		if r == ' ' || r == '-' {
			run = 0
		}
		if run > widest {
			return "long"
		}
	}
	return ""
}

// render renders a template.
func (p *Page) render(name string, v any) (string, error) {
	var b bytes.Buffer
	if err := p.html.ExecuteTemplate(&b, name, v); err != nil {
		return "", fmt.Errorf("page: render %s: %w", name, err)
	}
	return b.String(), nil
}

// write answers with a rendered template.
func (p *Page) write(w http.ResponseWriter, name string, v any) {
	p.writeStatus(w, http.StatusOK, name, v)
}

// writeStatus renders before it writes the header: a template that fails halfway would otherwise be sent as a
// page that is all right.
func (p *Page) writeStatus(w http.ResponseWriter, status int, name string, v any) {
	text, err := p.render(name, v)
	if err != nil {
		p.log.Error("the page cannot be shown", "error", err)
		http.Error(w, "the page cannot be shown: the agent's log says why", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	w.Write([]byte(text))
}

// serveHome serves the overview; ?why=IP is the search without JavaScript.
func (p *Page) serveHome(w http.ResponseWriter, r *http.Request) {
	v := p.view(r.Context())
	v.Query = r.URL.Query().Get("why")
	v.Answer = p.ask(r.Context(), v.Query)
	if v.Answer != nil {
		v.Query = v.Answer.Query
	}
	p.write(w, "home", v)
}
