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
	// mikrotikPage is how many addresses a page holds: RouterOS reads a whole script into memory, and its small devices have
	// little.
	mikrotikPage = 1000

	// mikrotikLife is how long an address stays on a router that stops asking. Entries with a timeout live in memory only;
	// others wear the router's flash.
	mikrotikLife = "1d"

	// pagesFor is how long a list is kept after the last request for one of its pages. Readers that begin within pagesRest of
	// each other share a list: otherwise, while the set keeps changing, many readers would push out each other's lists.
	pagesFor  = 10 * time.Minute
	pagesRest = time.Minute

	// keptEach bounds the lists kept per variant, keptLists those of all variants together.
	keptEach  = 3
	keptLists = 9
)

// pages serves a list in parts, each a script for RouterOS that names the next. A reader gets all parts of one list, whatever
// changes meanwhile. It is safe for concurrent use.
type pages struct {
	mu   sync.Mutex
	kept []pagedList // least recently read first
}

// pagedList is a list that its reader fetches page by page. It is kept unchanged meanwhile: pages of two
// lists would leave addresses out.
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

// keep keeps an edition of the plain feed for the readers of its pages.
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

// recent returns the list that a new reader may share.
func (p *pages) recent(v variant, now time.Time) (pagedList, bool) {
	return p.take(now, func(l pagedList) bool {
		age := now.Sub(l.at)
		return l.variant == v && age >= 0 && age < pagesRest
	})
}

// named returns the list that the previous page has named.
func (p *pages) named(etag string, now time.Time) (pagedList, bool) {
	return p.take(now, func(l pagedList) bool { return l.etag == etag })
}

// take finds a list in use, and drops those that nobody reads any more.
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

// mikrotikScript renders one page. The pages fill the one of the lists banmesh-a and banmesh-b that is not in force. Only the
// last page switches: it names the new list in the global banmeshNow and empties the other. So nothing gets through while a
// list loads, and a partly loaded list does no harm. Lines that RouterOS refuses, such as entries that exist already, are
// skipped.
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
