// Package page is the agent's page: what goes on in the mesh, for people, in a
// browser. It is rendered here, complete without JavaScript; with it the page
// follows the agent's stream of events. It shows and changes nothing.
package page

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"banmesh/mesh/control"
)

// Agent is what the page asks of the agent; *mesh.Agent is one.
type Agent interface {
	Status(ctx context.Context) (control.Status, error)
	Members(ctx context.Context) ([]control.Member, error)
	// List yields the live bans; it is asked for all of them when the page starts
	// to watch, and again when events were lost, never for a request.
	List(ctx context.Context, prefix netip.Prefix) (iter.Seq[control.Ban], error)
	Why(ctx context.Context, ip netip.Addr) (control.Why, error)
	// Events calls yield with each event from now on until ctx ends.
	Events(ctx context.Context, yield func(control.Event) error) error
}

// Config is what a page is made from.
type Config struct {
	Agent  Agent
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Page answers GET and HEAD of "/", "/assets/…", "/live", "/state" and "/why".
// Who may ask is the server's business.
type Page struct {
	agent Agent
	log   *slog.Logger
	now   func() time.Time
}

// New makes a page; Run keeps it up to date.
func New(cfg Config) (*Page, error) {
	if cfg.Agent == nil || cfg.Logger == nil {
		return nil, errors.New("page: it needs an agent and a logger")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Page{agent: cfg.Agent, log: cfg.Logger, now: cfg.Now}, nil
}

// ServeHTTP answers a request.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// Run watches the agent's events until ctx ends and returns nil then.
func (p *Page) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}
