// Package web is the agent's HTTP listener: metrics, health, feeds of what is
// banned for other firewalls, and a page to look at. It only reads.
//
// Everything but /healthz and /readyz is for clients that may read: those with a token
// where a token file is configured, else those on this machine.
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
	"time"

	"golang.org/x/net/netutil"

	"banmesh/store"
)

// replicatedSet is the part of the replicated set that the feeds read. *store.Store is one.
type replicatedSet interface {
	Effective() iter.Seq[store.EffectiveBan]
	EffectiveIn(netip.Prefix) iter.Seq[store.EffectiveBan]
}

// Config is what a Server is made of.
type Config struct {
	Set replicatedSet

	// Health returns why the store takes no writes, nil while it does:
	// store.Store.Health. nil is always healthy.
	Health func() error

	// Ready returns in plain words why this router is not to be relied on yet, nil
	// once it is: see gossip.Mesh.Settled. nil is always ready.
	Ready func() error

	Metrics http.Handler // of /metrics; nil: there is none
	Page    http.Handler // of / and all paths that are not this package's; nil: a list of the paths

	// TokenFile holds the tokens that a caller must show one of, one a line. ""
	// asks for none: only for a loopback address, where the Host header is
	// checked instead.
	TokenFile string

	// TLS is where the certificate comes from; without one the listener speaks plain HTTP.
	TLS TLSFiles

	// TakenJail is the jail of bans that came from CrowdSec. /v1/decisions leaves them
	// out where nobody else made them too, unless they are asked for. "" is none.
	TakenJail string

	Now    func() time.Time // default time.Now
	Logger *slog.Logger     // may be nil
}

// Server answers on one listener. The handlers given in Config need not look
// after the common headers, the token or the methods: a request that reaches
// them is a GET or HEAD of somebody who may read.
type Server struct {
	cfg    Config
	log    *slog.Logger
	tokens *tokenFile    // nil: none is asked for
	certs  *certificates // nil: plain HTTP
	wrong  *attempts
	feeds  *feeds

	decisions *decisions
}

// New returns a Server that does nothing before Serve. An error says what is
// wrong with the token file.
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

// Listen takes an address, IP:port; port 0 takes a free one.
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

// Changed tells of a change of the set, so that the feeds show it. It is cheap
// and does not block: made for store.Config.OnChange.
func (s *Server) Changed(c store.Change) {
	s.feeds.changed(c)
	s.decisions.effective.changed(c)
}

// Bounds of what a caller can take up.
const (
	maxConns   = 256
	maxPerHost = maxConns / 2 // of one host, which may be a proxy
	maxHeader  = 16 << 10
	readWithin = 5 * time.Second
	// writeWithin is for a whole answer: a stream moves its own deadline on.
	writeWithin = time.Minute
	idleWithin  = time.Minute
	stopWithin  = time.Second
)

// Serve answers on ln, once in a Server's life, until ctx ends, then ends every
// request's context, waits a second for answers under way and closes ln. It
// returns nil then, else why it could not go on.
//
// An event stream of Page must end when its request's context does, and must
// move its own write deadline on (http.ResponseController): without that an
// answer has a minute.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	local := localAddr(ln)
	if s.tokens == nil && s.cfg.TLS.ClientCA == "" && !local.IsLoopback() {
		ln.Close()
		return fmt.Errorf("http.listen %s is open to others: http.token_file must name a file with the token they must show, or http.client_ca_file the authorities of their certificates", ln.Addr())
	}
	server := &http.Server{
		Handler:           s.handler(local),
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
	bounded := netutil.LimitListener(newPerHost(ln, maxPerHost), maxConns)
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
		return fmt.Errorf("http: %w", err)
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

// localAddr is the address that ln was bound to.
func localAddr(ln net.Listener) netip.Addr {
	if a, ok := ln.Addr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
