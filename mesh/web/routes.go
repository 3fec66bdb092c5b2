package web

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
)

// handler returns what a listener at an address serves.
func (s *Server) handler(local netip.Addr) http.Handler {
	open := http.NewServeMux() // to everybody who can connect
	s.healthRoutes(open)
	closed := http.NewServeMux()
	closed.Handle("GET /feed/{format}", s.settled(s.feeds))
	closed.HandleFunc("GET /v1/decisions", s.decisions.bounded(s.decisions.lookup))
	closed.HandleFunc("GET /v1/decisions/stream", s.decisions.bounded(s.decisions.stream))
	if s.cfg.Metrics != nil {
		closed.Handle("GET /metrics", s.cfg.Metrics)
	}
	if s.cfg.Page != nil {
		closed.Handle("GET /", s.cfg.Page)
	} else {
		closed.HandleFunc("GET /{$}", s.index)
	}
	open.Handle("/", s.guard(closed))
	var h http.Handler = open
	if s.tokens == nil && s.cfg.TLS.ClientCA == "" {
		h = checkHost(local, h)
	}
	return commonHeaders(h)
}

// settled answers 503 while this router may know too little: a firewall that polls keeps its last list after an error, but
// would replace it by an empty one after a 200.
func (s *Server) settled(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.cfg.Ready(); err != nil {
			w.Header().Set("Retry-After", "5")
			text(w, http.StatusServiceUnavailable, err.Error())
			return
		}
		next.ServeHTTP(w, r)
	})
}

// commonHeaders sets the headers of every answer. The page replaces the policy by its own.
func commonHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// index answers / if there is no page.
func (s *Server) index(w http.ResponseWriter, _ *http.Request) {
	paths := []string{"/healthz", "/readyz", "/feed/plain", "/feed/json", "/feed/srx", "/feed/nft", "/feed/ipset", "/feed/mikrotik?page=1", "/v1/decisions/stream"}
	if s.cfg.Metrics != nil {
		paths = append(paths, "/metrics")
	}
	text(w, http.StatusOK, strings.Join(paths, "\n"))
}

// text answers with plain text of one or more lines.
func text(w http.ResponseWriter, status int, body string) {
	body += "\n"
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}
