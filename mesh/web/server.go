// Package web is the agent's HTTP listener: metrics, health, a feed of what is
// banned for other firewalls, and a page to look at. It only reads.
package web

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"banmesh/store"
)

// Set is the part of the replicated set that the feeds read. *store.Store is one.
type Set interface {
	Effective() iter.Seq[store.EffectiveBan]
}

// Config is what a Server is made of.
type Config struct {
	Set Set

	// Health returns why the store takes no writes, nil while it does:
	// store.Store.Health.
	Health func() error

	// Ready returns why this router is not to be relied on yet, nil once it is:
	// not settled, see gossip.Mesh.Settled.
	Ready func() error

	Metrics http.Handler // of /metrics; nil: there is none
	Page    http.Handler // of / and all paths that are not this package's; nil: a list of the paths

	// TokenFile holds the tokens that a caller must show one of, one a line. ""
	// asks for none: only for a loopback address, where the Host header is
	// checked instead.
	TokenFile string

	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // may be nil
}

// Server answers on one listener. The handlers given in Config need not look
// after the common headers, the token or the methods: a request that reaches
// them is a GET or HEAD of somebody who may read.
type Server struct {
	cfg Config
	log *slog.Logger
}

// New returns a Server. An error says what is wrong with the token file.
func New(c Config) (*Server, error) {
	if c.Set == nil {
		return nil, errors.New("web: no set")
	}
	return &Server{cfg: c, log: c.Logger}, nil
}

// Listen takes an address, IP:port; port 0 takes a free one.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("http.listen %q is not IP:port", addr)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http.listen %s: %w", addr, err)
	}
	return ln, nil
}

// Changed tells of a change of the set, so that the feeds show it. It is cheap
// and does not block: made for store.Config.OnChange.
func (s *Server) Changed(c store.Change) {}

// Serve answers on ln, once in a Server's life, until ctx ends, then ends every
// request's context, waits a second for answers under way and closes ln. It
// returns nil then, else why it could not go on.
//
// An event stream of Page must end when its request's context does, and must
// move its own write deadline on (http.ResponseController): without that an
// answer has a minute.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	<-ctx.Done()
	return ln.Close()
}
