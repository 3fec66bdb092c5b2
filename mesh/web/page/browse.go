package page

import (
	"context"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"banmesh/mesh/control"
)

const (
	rowsOnPage = 100
	rowsBeside = 25 // rows of a list beside something else

	longestFilter = 255 // bytes; the longest possible name
	lastPage      = 1_000_000
)

// filter is what the reader asked for. Every combination has its own URL.
type filter struct {
	Query, Router, Jail, State, Sort string
	Page                             int // from 1
	Trouble                          string
}

// The states that a reader can ask for.
const (
	stateEffective    = "effective"
	stateNotEffective = "not-effective"
)

// readFilter parses a filter from a page's URL. Trouble says what makes no sense.
func readFilter(v url.Values) (f filter, q control.ListQuery) {
	get := func(key string) string { return asked(v, key) }
	f = filter{Query: get("q"), Router: get("router"), Jail: get("jail"), State: get("state"), Sort: get("sort"), Page: 1}
	q = control.ListQuery{Origin: f.Router, Jail: f.Jail, Sort: f.Sort, Limit: rowsOnPage}
	if f.Query != "" {
		p, err := control.ParsePrefix(f.Query)
		if err != nil {
			f.Trouble = "That is no address and no prefix. Examples: 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32."
		}
		q.Prefix = p
	}
	switch yes := f.State == stateEffective; f.State {
	case stateEffective, stateNotEffective:
		q.Effective = &yes
	default:
		// Nothing that the form does not offer may narrow the list: the reader could not see why it is short.
		f.State = ""
	}
	// An old or mistyped link still shows a list, in the usual order.
	if err := q.Validate(); err != nil {
		f.Sort, q.Sort = "", ""
	}
	if n, err := strconv.Atoi(get("page")); err == nil && n > 1 {
		// Bounded, so that the offset below cannot overflow.
		f.Page = min(n, lastPage)
	}
	q.Offset = (f.Page - 1) * rowsOnPage
	return f, q
}

// asked returns a value from a page's URL, cut to the longest possible name.
func asked(v url.Values, key string) string {
	s := strings.TrimSpace(v.Get(key))
	if len(s) > longestFilter {
		// The cut may fall inside a rune.
		s = strings.ToValidUTF8(s[:longestFilter], "")
	}
	return s
}

// link is the URL of the same list with one thing changed. Another order or filter starts on the first page.
func (f filter) link(key, value string) string {
	v := url.Values{}
	for k, s := range map[string]string{"q": f.Query, "router": f.Router, "jail": f.Jail, "state": f.State, "sort": f.Sort} {
		// Nothing that is at its default stands in a link, so that one list has one URL.
		if s != "" {
			v.Set(k, s)
		}
	}
	v.Del(key)
	if value != "" {
		v.Set(key, value)
	}
	if len(v) == 0 {
		return "/bans"
	}
	return "/bans?" + v.Encode()
}

// Any reports whether anything narrows the list.
func (f filter) Any() bool { return f.Query != "" || f.Router != "" || f.Jail != "" || f.State != "" }

// bansPage is one page of the list of all bans.
type bansPage struct {
	*view
	Filter  filter
	Heads   []columnHead
	Orders  []order // what the form offers, where a phone has no room for all heads
	Rows    []banRow
	Total   int
	From    int // the number of the first row
	To      int
	Trouble string
	Pages   []pageLink
}

// columnHead is the head of a column and the link that sorts by it, "" if the column is not sortable.
type columnHead struct {
	Text, Link string
	Sorted     string // the value of aria-sort
	Class      string
}

// order is one order of the list.
type order struct {
	Sort, Text string
	Chosen     bool
}

type pageLink struct {
	Text, Link string
}

// banRow is a banned prefix.
type banRow struct {
	Address, Network string // as shown; with its prefix length
	Routers, Jails   []string
	MoreRouters      int
	Failures         uint32
	Start, Until     stamp
	Committed        bool
	State            pill
	Why              string
}

// sortable lists the columns that can order the list, and how the table marks them.
var sortable = []struct{ text, sort, order, sorted, class string }{
	{"Address", "prefix", "by address", "ascending", ""},
	{"Routers", "routers", "most routers first", "descending", ""},
	{"Jails", "jail", "by jail", "ascending", ""},
	{"Failures", "failures", "most failures first", "descending", "right spare"},
	{"Banned", "start", "newest first", "descending", "spare"},
	{"Ends", "until", "first to end", "ascending", "spare"},
	{"State", "", "", "", "spare"},
}

// serveBans serves one page of the list of bans.
func (p *Page) serveBans(w http.ResponseWriter, r *http.Request) {
	f, q := readFilter(r.URL.Query())
	b := &bansPage{view: p.head(r.Context(), "Bans"), Filter: f, Trouble: f.Trouble}
	for _, c := range sortable {
		h := columnHead{Text: c.text, Class: c.class}
		if c.sort != "" {
			h.Link = f.link("sort", c.sort)
			if f.Sort == c.sort || f.Sort == "" && c.sort == "prefix" {
				h.Sorted = c.sorted
			}
			b.Orders = append(b.Orders, order{c.sort, c.order, h.Sorted != ""})
		}
		b.Heads = append(b.Heads, h)
	}
	if b.Trouble == "" {
		b.fill(r.Context(), p, q)
	}
	p.write(w, "bans-page", b)
}

// fill works without JavaScript: pages are links. One that no longer exists, because bans ended meanwhile,
// still leads back.
func (b *bansPage) fill(ctx context.Context, p *Page, q control.ListQuery) {
	var err error
	if b.Rows, b.Total, err = p.rows(ctx, q); err != nil {
		b.Trouble = "The agent does not answer: " + err.Error()
		return
	}
	b.From, b.To = min(q.Offset+1, b.Total), min(q.Offset+len(b.Rows), b.Total)
	last := (b.Total + rowsOnPage - 1) / rowsOnPage
	page := func(text string, n int) {
		link := b.Filter.link("page", strconv.Itoa(n))
		b.Pages = append(b.Pages, pageLink{text, link})
	}
	now := b.Filter.Page
	if now > last { // the page no longer exists
		now = last + 1
	}
	if now > 1 {
		page("First", 1)
		page("Previous", now-1)
	}
	if now < last {
		page("Next", now+1)
		page("Last", last)
	}
}

// rows lists bans as rows of the table.
func (p *Page) rows(ctx context.Context, q control.ListQuery) (rows []banRow, total int, err error) {
	bans, total, err := p.agent.List(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	now := p.now()
	for b := range bans {
		rows = append(rows, newBanRow(&b, now))
	}
	return rows, total, nil
}

const namesInRow = 3

// newBanRow shows one row for a prefix, however many routers and jails have banned it: the latest start, the
// most failures.
func newBanRow(b *control.Ban, now time.Time) banRow {
	row := banRow{Address: control.Bare(b.Prefix), Network: b.Prefix, Until: untilStamp(b.Until, now), Committed: b.Committed}
	var last control.Time
	var routers, jails []string
	for i := range b.Records {
		r := &b.Records[i]
		last, row.Failures = max(last, r.Start), max(row.Failures, r.Failures)
		routers, jails = append(routers, r.Origin), append(jails, r.Jail)
	}
	routers, row.Jails = distinct(routers), distinct(jails)
	row.MoreRouters = max(0, len(routers)-namesInRow)
	row.Routers = routers[:len(routers)-row.MoreRouters]
	row.Start = stampAt(last.Time(), now)
	switch {
	case !b.Effective:
		row.State, row.Why = pill{"warn", "not effective"}, b.ReasonNotEffective
	case len(b.Except) > 0:
		row.State, row.Why = pill{"ok", "effective"}, "except "+some(texts(b.Except))
	default:
		row.State = pill{"ok", "effective"}
	}
	return row
}

func texts(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = control.Bare(p.String())
	}
	return out
}
