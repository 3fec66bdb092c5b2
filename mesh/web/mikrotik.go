package web

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// mikrotikPage is how many addresses a page holds: RouterOS reads a script into
	// memory as a whole, and its small devices have little.
	mikrotikPage = 1000

	// mikrotikLife is how long an address stays at a router that no longer asks.
	// With a time an entry is in memory alone; others wear the router's flash.
	mikrotikLife = "1d"

	// pagesFor is how long a list of which nobody asks a page is kept. Who begins
	// within pagesRest of another reads the same list: a set that changes all the time
	// would have each of many readers take the lists of the others away.
	pagesFor  = 10 * time.Minute
	pagesRest = time.Minute

	// keptEach is how many lists of a variant are kept, keptLists of all together.
	keptEach  = 3
	keptLists = 9
)

// pages gives a list in parts, each a script for RouterOS that names the next. A
// reader gets all parts of one list, whatever changes while it reads. It is safe
// for concurrent use.
type pages struct {
	mu   sync.Mutex
	kept []pagedList // the one read last at the end
}

type pagedList struct {
	variant  variant
	etag     string
	all      []string
	at, used time.Time
}

// serve answers with ?page=1, or with ?page=N&of=TAG as the page before names it.
func (p *pages) serve(w http.ResponseWriter, r *http.Request, f *feeds) {
	q := r.URL.Query()
	n, err := strconv.Atoi(q.Get("page"))
	if err != nil || n < 1 {
		text(w, http.StatusBadRequest, "want page=1; each page names the next")
		return
	}
	of := q.Get("of")
	q.Del("page")
	q.Del("of")
	var list pagedList
	if n == 1 {
		v, err := parseVariant(plain, q)
		if err != nil {
			text(w, http.StatusBadRequest, err.Error())
			return
		}
		var ok bool
		if list, ok = p.recent(v, f.now()); !ok {
			e, err := f.get(r.Context(), v, true)
			if err != nil {
				text(w, http.StatusServiceUnavailable, err.Error())
				return
			}
			list = p.keep(v, e, f.now())
		}
	} else {
		var ok bool
		if list, ok = p.named(of, f.now()); !ok {
			text(w, http.StatusGone, "that list is not kept any more: begin again with page=1")
			return
		}
	}
	most := max(1, (len(list.all)+mikrotikPage-1)/mikrotikPage)
	if n > most {
		text(w, http.StatusNotFound, fmt.Sprintf("the last page is %d", most))
		return
	}
	body := mikrotikScript(list, n, most)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
}

// keep remembers an edition of the plain feed for those who ask for its pages.
func (p *pages) keep(v variant, e edition, now time.Time) pagedList {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := pagedList{variant: v, etag: strings.Trim(e.etag, `"`), all: strings.Fields(string(e.body)), at: now, used: now}
	left := keptEach
	for i := len(p.kept) - 1; i >= 0; i-- {
		if p.kept[i].variant != v {
			continue
		}
		if left--; left <= 0 || p.kept[i].etag == list.etag {
			p.kept = slices.Delete(p.kept, i, i+1)
		}
	}
	p.kept = append(p.kept, list)
	if n := len(p.kept) - keptLists; n > 0 {
		p.kept = slices.Delete(p.kept, 0, n)
	}
	return list
}

// recent is a list that who begins now may read.
func (p *pages) recent(v variant, now time.Time) (pagedList, bool) {
	return p.take(now, func(l pagedList) bool {
		age := now.Sub(l.at)
		return l.variant == v && age >= 0 && age < pagesRest
	})
}

// named is the list that the page before has named.
func (p *pages) named(etag string, now time.Time) (pagedList, bool) {
	return p.take(now, func(l pagedList) bool { return l.etag == etag })
}

// take finds a list that is read now, and lets go those that nobody reads any more.
func (p *pages) take(now time.Time, wanted func(pagedList) bool) (pagedList, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(l pagedList) bool { return now.Sub(l.used) > pagesFor })
	for i := len(p.kept) - 1; i >= 0; i-- {
		if l := p.kept[i]; wanted(l) {
			l.used = now
			p.kept = append(slices.Delete(p.kept, i, i+1), l)
			return l, true
		}
	}
	return pagedList{}, false
}

// mikrotikScript is one page. The pages fill that one of the lists banmesh-a and
// banmesh-b that is not in force; only the last empties the other and tells, in
// the global banmeshNow, which is. So nothing is let through while a list is
// loaded, and one that was loaded in part does no harm. A line that RouterOS
// refuses, as one that is there already, is passed over.
func mikrotikScript(list pagedList, n, most int) []byte {
	part := list.all[min(len(list.all), (n-1)*mikrotikPage):min(len(list.all), n*mikrotikPage)]
	b := make([]byte, 0, 80*len(part)+1024)
	b = fmt.Appendf(b, "# banmesh, page %d of %d\n", n, most)
	b = append(b, `:global banmeshNow
:global banmeshNext
:local new "banmesh-a"
:local old "banmesh-b"
:if ($banmeshNow = "banmesh-a") do={:set new "banmesh-b"; :set old "banmesh-a"}
`...)
	each := func(command string) {
		b = fmt.Appendf(b, "/ip firewall address-list %s\n/ipv6 firewall address-list %s\n", command, command)
	}
	if n == 1 {
		each("remove [find list=$new]")
	}
	for _, address := range part {
		menu := "/ip"
		if strings.Contains(address, ":") {
			menu = "/ipv6"
		}
		b = fmt.Appendf(b, ":do {%s firewall address-list add list=$new address=%s timeout=%s} on-error={}\n", menu, address, mikrotikLife)
	}
	if n < most {
		return fmt.Appendf(b, ":set banmeshNext \"page=%d&of=%s\"\n", n+1, list.etag)
	}
	each("remove [find list=$old]")
	return append(b, ":set banmeshNow $new\n:set banmeshNext \"\"\n"...)
}
