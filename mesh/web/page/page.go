// Package page is the agent's page: what goes on in the mesh, for people, in a
// browser. It is rendered here, complete without JavaScript; with it the page
// follows the agent's stream of events. It shows and changes nothing.
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

// agent is what the page asks of the agent; *mesh.Agent is one.
type agent interface {
	Status(ctx context.Context) (control.Status, error)
	Members(ctx context.Context) ([]control.Member, error)
	// List yields the live bans that a query selects, and how many there are without
	// its Offset and Limit. All of them are asked for when the page begins to watch and
	// when events were lost, and never for a request.
	List(ctx context.Context, q control.ListQuery) (bans iter.Seq[control.Ban], total int, err error)
	Why(ctx context.Context, p netip.Prefix) (control.Why, error)
	History(ctx context.Context, q control.HistoryQuery) (control.History, error)
	Stats(ctx context.Context, q control.StatsQuery) (control.Stats, error)
	Allows(ctx context.Context) ([]control.Allow, error)
	// NeverBans are the prefixes that routers protect; what no router ever bans is not
	// among them.
	NeverBans(ctx context.Context) ([]control.WhyNeverBan, error)
	// Events calls yield with each event from now on until ctx ends.
	Events(ctx context.Context, yield func(control.Event) error) error
}

// Config is what a page is made from.
type Config struct {
	Agent  agent
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Page answers GET and HEAD of "/", of the pages "/bans", "/address", "/router",
// "/stats", "/allows" and "/warnings", and of "/assets/…", "/live", "/state" and "/why".
// Who may ask is the server's business.
type Page struct {
	agent  agent
	log    *slog.Logger
	now    func() time.Time
	html   *template.Template
	assets *assets
	routes http.Handler

	feed feed

	looking sync.Mutex // held while the agent is asked
	look    atomic.Pointer[look]

	building sync.Mutex // held while a frame is made
	frames   frames
	viewers  atomic.Int32
	poked    chan struct{} // of one: something has changed, or somebody came
	stopping chan struct{} // closed when Run ends
	running  sync.Once
}

// New makes a page; Run keeps it up to date.
func New(cfg Config) (*Page, error) {
	if cfg.Agent == nil || cfg.Logger == nil {
		return nil, errors.New("page: it needs an agent and a logger")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	p := &Page{
		agent: cfg.Agent, log: cfg.Logger, now: cfg.Now,
		poked: make(chan struct{}, 1), stopping: make(chan struct{}),
	}
	p.feed.begin(p.now())
	p.look.Store(&look{})
	var err error
	if p.assets, err = loadAssets(); err != nil {
		return nil, err
	}
	if p.html, err = parse(p.assets); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.serveHome)
	mux.HandleFunc("GET /bans", p.serveBans)
	mux.HandleFunc("GET /address", p.serveAddress)
	mux.HandleFunc("GET /router", p.serveRouter)
	mux.HandleFunc("GET /stats", p.serveStats)
	mux.HandleFunc("GET /allows", p.serveAllows)
	mux.HandleFunc("GET /warnings", p.serveWarnings)
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

// policy lets the page load its own files and talk to its own server, and
// nothing else: no script or style in the text, no frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

func protect(h http.Header) {
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
}
