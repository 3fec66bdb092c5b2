// Package page shows people what goes on in the mesh, in a browser. It renders the page on the server, complete without
// JavaScript; with it the page follows a stream of changes. It only reads.
//
// Run watches the agent's events and collects in timeline what they tell. A request renders that together with the agent's
// status, which all requests share for about a second. While somebody watches, Run also renders frames, and sends every
// viewer the parts that have changed.
//
// Run owns three goroutines: it reads the events, pace builds frames, and fillWhenLost reads all bans again after events were
// lost. The order of locks is building, looking, timeline.order, timeline.mu; frames.mu is a leaf.
package page

import (
	"context"
	"errors"
	"html/template"
	"iter"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/mesh/control"
)

// agent is what the page needs of the agent; *mesh.Agent implements it.
type agent interface {
	Status(ctx context.Context) (control.Status, error)
	Members(ctx context.Context) ([]control.Member, error)
	// List yields the live bans that a query selects, and their number without its Offset and Limit. The page reads all of
	// them only when it begins to watch and after lost events, never for a request.
	List(ctx context.Context, q control.ListQuery) (bans iter.Seq[control.Ban], total int, err error)
	Why(ctx context.Context, p netip.Prefix) (control.Why, error)
	History(ctx context.Context, q control.HistoryQuery) (control.History, error)
	Stats(ctx context.Context, q control.StatsQuery) (control.Stats, error)
	Allows(ctx context.Context) ([]control.Allow, error)
	// NeverBans returns the prefixes that routers protect, without those that no router ever bans.
	NeverBans(ctx context.Context) ([]control.WhyNeverBan, error)
	// Diff asks the conductor what the next commit would change.
	Diff(ctx context.Context) (control.Diff, error)
	// Events calls yield with each event from now on, until ctx ends.
	Events(ctx context.Context, yield func(control.Event) error) error
}

// Config configures a Page.
type Config struct {
	Agent  agent
	Logger *slog.Logger
	Now    func() time.Time // nil is time.Now
	Most   int              // live bans that count of one router, 0: all
}

// Page answers GET and HEAD of "/", of the pages "/bans", "/address", "/router", "/stats", "/allows", "/warnings",
// "/commits", "/commit" and "/diff", and of
// "/assets/…", "/live", "/state" and "/why". The server decides who may ask.
type Page struct {
	agent  agent
	log    *slog.Logger
	now    func() time.Time
	most   int
	html   *template.Template
	assets *assets
	routes http.Handler

	timeline timeline
	next     nextCommit

	looking sync.Mutex // held while asking the agent
	look    atomic.Pointer[look]

	building sync.Mutex // held while building a frame
	frames   frames
	viewers  atomic.Int32
	poked    chan struct{} // holds one: something has changed, or a viewer came
	stopping chan struct{} // closed when Run ends
	running  sync.Once
}

// New returns a page; Run keeps it up to date.
func New(cfg Config) (*Page, error) {
	if cfg.Agent == nil || cfg.Logger == nil {
		return nil, errors.New("page: it needs an agent and a logger")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Page{
		agent: cfg.Agent, log: cfg.Logger, now: cfg.Now, most: cfg.Most,
		poked: make(chan struct{}, 1), stopping: make(chan struct{}),
	}
	p.timeline.begin(p.now())
	// Empty, so that Load never returns nil.
	p.look.Store(&look{})
	var err error
	if p.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if p.html, err = parse(p.assets); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	// GET stands for HEAD as well; every other method is refused by the mux with 405. Nothing here changes
	// anything.
	mux.HandleFunc("GET /{$}", p.serveHome)
	mux.HandleFunc("GET /bans", p.serveBans)
	mux.HandleFunc("GET /address", p.serveAddress)
	mux.HandleFunc("GET /router", p.serveRouter)
	mux.HandleFunc("GET /stats", p.serveStats)
	mux.HandleFunc("GET /allows", p.serveAllows)
	mux.HandleFunc("GET /warnings", p.serveWarnings)
	mux.HandleFunc("GET /commits", p.serveCommits)
	mux.HandleFunc("GET /commit", p.serveCommit)
	mux.HandleFunc("GET /diff", p.serveDiff)
	mux.HandleFunc("GET /why", p.serveWhy)
	mux.HandleFunc("GET /state", p.serveState)
	mux.HandleFunc("GET /live", p.serveLive)
	mux.Handle("GET /assets/", p.assets)
	p.routes = mux
	return p, nil
}

// ServeHTTP answers a request.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	protect(w.Header())
	p.routes.ServeHTTP(w, r)
}

// policy lets the page load its own files and talk to its own server. It allows no inline scripts or styles and no frame
// around the page.
// The page shows texts that other members choose. They are escaped, and if that failed once, no script of theirs would run.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// protect keeps scripts of others out (reasons and names come from other routers) and the page out of caches
// and referrers.
func protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}
