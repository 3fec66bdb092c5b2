package page

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"banmesh/mesh/control"
)

// commitsPage lists the commits since the page began to watch.
type commitsPage struct {
	*view
	Commits []commitRow
}

// serveCommits serves the list of commits.
func (p *Page) serveCommits(w http.ResponseWriter, r *http.Request) {
	page := &commitsPage{view: p.head(r.Context(), commitsSection)}
	now := p.now()
	for _, c := range p.timeline.pastCommits() {
		page.Commits = append(page.Commits, commitLine(&c, now))
	}
	page.Title = "Commits · " + page.Title
	p.write(w, "commits-page", page)
}

// commitPage shows one commit and what was in it.
type commitPage struct {
	*view
	One     *commitRow // nil if it is not known (any more)
	Exact   bool       // what it changed is known here
	Changes []change
}

// change is one part of a commit or of the next one.
type change struct {
	Sign, Class, Title string
	Count              int
	Addresses          []string
	More               int // left out of Addresses
}

// shownChanges bounds the addresses of one change on the page.
const shownChanges = control.MaxNamed

// newChange keeps the true count beside the few addresses that are shown.
func newChange(sign, class, title string, ps []netip.Prefix, count int) change {
	c := change{Sign: sign, Class: class, Title: title, Count: count}
	for _, q := range ps[:min(len(ps), shownChanges)] {
		c.Addresses = append(c.Addresses, control.Bare(q.String()))
	}
	c.More = count - len(c.Addresses)
	return c
}

// nonempty leaves out empty changes.
func nonempty(all ...change) []change {
	return slices.DeleteFunc(all, func(c change) bool { return c.Count == 0 })
}

// serveCommit serves the page of one commit.
func (p *Page) serveCommit(w http.ResponseWriter, r *http.Request) {
	page := &commitPage{view: p.head(r.Context(), commitsSection)}
	q := r.URL.Query()
	// What is no number finds no commit: 404, as for one that is no longer kept.
	at, _ := strconv.ParseInt(asked(q, "at"), 10, 64)
	status := http.StatusNotFound
	for _, c := range p.timeline.pastCommits() {
		// As the link names it: one time may be that of two routers' commits.
		if c.At == control.Time(at) && c.By == asked(q, "by") {
			row := commitLine(&c, p.now())
			page.One, page.Exact, status = &row, c.Exact, http.StatusOK
			page.Changes = nonempty(
				newChange("+", "add", "Added", c.Added, c.Add),
				newChange("−", "remove", "Removed", c.Removed, c.Remove))
		}
	}
	page.Title = "Commit · " + page.Title
	p.writeStatus(w, status, "commit-page", page)
}

const (
	// diffPace is how long a difference is shown without asking the conductor again, whatever the number of viewers.
	diffPace = 10 * time.Second
	// diffWithin is how long a viewer waits for the conductor.
	diffWithin = 20 * time.Second
)

// nextCommit is the last difference that the conductor was asked for, shared by all viewers.
type nextCommit struct {
	mu   sync.Mutex // held while asking
	diff control.Diff
	err  error
	at   time.Time // of the answer
}

// diffPage shows what the next commit would change.
type diffPage struct {
	*view
	Answered stamp // when the conductor did
	Changes  []change
	NoDiff   string
}

// serveDiff serves what the next commit would change.
func (p *Page) serveDiff(w http.ResponseWriter, r *http.Request) {
	page := &diffPage{view: p.head(r.Context(), commitsSection)}
	if !page.Commit.Off {
		d, at, err := p.next.ask(r.Context(), p.agent, p.now)
		if err != nil {
			page.NoDiff = err.Error()
		}
		page.Answered = stampAt(at, p.now())
		page.Changes = nonempty(
			newChange("+", "add", "To add", d.Add, len(d.Add)),
			newChange("−", "remove", "To remove", d.Remove, len(d.Remove)),
			newChange("−", "held", "Removals held back for `banmesh commit --force`", d.Held, len(d.Held)),
			newChange("+", "held", "Additions held back for `banmesh commit --force`", d.HeldAdd, len(d.HeldAdd)),
			newChange("!", "held", "Left out, because `commit.max_addresses` is reached", d.Capped, len(d.Capped)),
			newChange("?", "foreign", "In the tenant, and not put there by banmesh", d.Foreign, len(d.Foreign)))
	}
	page.Title = "The next commit · " + page.Title
	p.write(w, "diff-page", page)
}

// ask returns the difference, and when the conductor answered.
func (n *nextCommit) ask(ctx context.Context, a agent, now func() time.Time) (control.Diff, time.Time, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	// An age below 0 is that of a clock set back, which must not keep an old answer. An error is kept like an
	// answer: a conductor in trouble is not asked more often because many watch.
	if age := now().Sub(n.at); n.at.IsZero() || age < 0 || age >= diffPace {
		// The answer is for all who wait, so it does not end with the first one's request.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diffWithin)
		defer cancel()
		n.diff, n.err = a.Diff(ctx)
		n.at = now() // those who waited meanwhile take this answer, however long it took
	}
	return n.diff, n.at, n.err
}
