// Package web is the agent's HTTP listener: metrics, health, feeds of the effective set for other firewalls, decisions for
// CrowdSec's bouncers, and the page. It only reads. Everything but /healthz and /readyz is for clients that may read: those with
// a token if a token file is configured, else those on this machine.
//
// Changed notes what has changed in the set. Feeds and decisions are rendered on request and kept, so that the next request
// costs little; only the answers that nobody asks for any more are dropped.
//
// Serve owns three goroutines until its context ends: the HTTP server, feeds.keep and decisions.lookAgain. Each request has one
// of its own. The order of locks is decisions.mu, effective.mu, effective.noted; the other locks guard one structure each.
package web

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"banmesh/store"
)

// replicatedSet is the part of the replicated set that the feeds read. *store.Store implements it.
type replicatedSet interface {
	Effective() iter.Seq[store.EffectiveBan]
	EffectiveIn(netip.Prefix) iter.Seq[store.EffectiveBan]
}

// Config configures a Server.
type Config struct {
	Set replicatedSet

	// Health returns why the store accepts no writes, nil while it does: store.Store.Health. A nil Health means always
	// healthy.
	Health func() error

	// Ready returns in plain words why this router knows too little yet, nil once it knows enough: see gossip.Mesh.Settled. A
	// nil Ready means always ready.
	Ready func() error

	Metrics http.Handler // for /metrics; nil serves none
	Page    http.Handler // for / and all paths other than this package's; nil serves a list of the paths

	// TokenFile holds the tokens that admit a caller, one per line. "" requires none, which is allowed only on a loopback
	// address; there the Host header is checked instead.
	TokenFile string

	// TLS names the certificate; without one the listener speaks plain HTTP.
	TLS TLSFiles

	// TakenJail is the jail of bans that came from CrowdSec. /v1/decisions leaves those out on request, unless somebody else
	// banned the same. "" is none.
	TakenJail string

	Now    func() time.Time // nil is time.Now
	Logger *slog.Logger     // may be nil
}

// Server answers on one listener. The handlers in Config need not check headers, token or method: only a GET or HEAD of a
// caller that may read reaches them.
type Server struct {
	cfg    Config
	log    *slog.Logger
	tokens *tokenFile    // nil requires none
	certs  *certificates // nil: plain HTTP
	wrong  *attempts
	feeds  *feeds

	decisions *decisions
	stopped   atomic.Pointer[error] // why Serve could not go on
}

// New returns a Server that does nothing before Serve. It fails if the token file or the certificate is unusable.
func New(c Config) (*Server, error) {
	if c.Set == nil {
		return nil, errors.New("web: no set")
	}
	if c.Health == nil {
		c.Health = func() error { return nil }
	}
	if c.Ready == nil {
		c.Ready = func() error { return nil }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: c, log: c.Logger, wrong: newAttempts(c.Now, c.Logger), feeds: newFeeds(c.Set, c.Now)}
	s.decisions = newDecisions(c.Set, c.Now, c.Ready, c.TakenJail)
	if c.TokenFile != "" {
		s.tokens = &tokenFile{path: c.TokenFile, log: c.Logger}
		if err := s.tokens.load(); err != nil {
			return nil, fmt.Errorf("http.token_file: %w", err)
		}
	}
	if c.TLS != (TLSFiles{}) {
		var err error
		if s.certs, err = newCertificates(c.TLS, c.Now, c.Logger); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Listen listens at an address, IP:port; port 0 picks a free one.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	if _, err := netip.ParseAddrPort(addr); err != nil {
		return nil, fmt.Errorf("http.listen: %q is not IP:port", addr)
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http.listen %s: %w", addr, err)
	}
	return ln, nil
}

// Changed notes a change of the set, so that the feeds show it. It is cheap and does not block; it fits
// store.Config.OnChange.
func (s *Server) Changed(c store.Change) {
	s.feeds.changed(c)
	s.decisions.effective.changed(c)
}

// Warnings says what keeps clients from being served: the listener's end, and what is wrong with its files, which it reads again
// if they have changed.
func (s *Server) Warnings() (w []string) {
	if err := s.stopped.Load(); err != nil {
		w = append(w, fmt.Sprintf("the HTTP listener has stopped (%v): systemctl restart banmesh starts it again", *err))
	}
	if s.tokens != nil {
		if text := s.tokens.trouble(); text != "" {
			w = append(w, text)
		}
	}
	if s.certs != nil {
		if text := s.certs.trouble(); text != "" {
			w = append(w, text)
		}
	}
	return w
}

// Bounds of what a caller can take up.
const (
	maxConns   = 256
	maxPerHost = maxConns / 2 // of one host, which may be a proxy
	maxHeader  = 16 << 10
	readWithin = 5 * time.Second
	// writeWithin bounds a whole answer; a stream moves its own deadline.
	writeWithin = time.Minute
	idleWithin  = time.Minute
	stopWithin  = time.Second
)

// Serve answers on ln until ctx ends. It may be called once. At the end it ends every request's context, waits a second for
// answers under way and closes ln. It returns nil then, or else the reason why it could not go on.
//
// An event stream of Page must end with its request's context, and must move its own write deadline
// (http.ResponseController): otherwise an answer has one minute.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	local := localAddr(ln)
	if s.tokens == nil && s.cfg.TLS.ClientCA == "" && !local.IsLoopback() {
		ln.Close()
		return fmt.Errorf("http.listen %s is open to others: http.token_file must name a file with the token they must show, or http.client_ca_file the authorities of their certificates", ln.Addr())
	}
	server := &http.Server{
		Handler:           answered(s.handler(local)),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: readWithin,
		ReadTimeout:       readWithin,
		WriteTimeout:      writeWithin,
		IdleTimeout:       idleWithin,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),

		DisableGeneralOptionsHandler: true,
	}
	s.log.Info("http listens", "addr", ln.Addr().String(), "token", s.tokens != nil, "tls", s.certs != nil, "client_certificates", s.cfg.TLS.ClientCA != "")
	bounded := newCrowd(ln, maxConns, maxPerHost)
	server.ConnContext = bounded.connContext
	serve := func() error { return server.Serve(bounded) }
	if s.certs != nil {
		server.TLSConfig, server.TLSNextProto = s.certs.server(), map[string]func(*http.Server, *tls.Conn, http.Handler){}
		serve = func() error { return server.ServeTLS(bounded, "", "") }
	}
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		s.feeds.keep(ctx)
	}()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		s.decisions.lookAgain(ctx)
	}()
	served := make(chan error, 1)
	go func() { served <- serve() }()
	select {
	case err := <-served:
		err = fmt.Errorf("http: %w", err)
		s.stopped.Store(&err)
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	if server.Shutdown(last) != nil {
		server.Close()
	}
	<-served
	<-kept
	<-looked
	return nil
}

// localAddr returns the address that ln is bound to.
func localAddr(ln net.Listener) netip.Addr {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
