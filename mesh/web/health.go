package web

import "net/http"

// healthRoutes are open without a token, because a load balancer or a supervisor has none. Callers without one get a short
// reason instead of the error, which may name files.
func (s *Server) healthRoutes(m *http.ServeMux) {
	m.HandleFunc("GET /healthz", s.healthz)
	m.HandleFunc("GET /readyz", s.readyz)
}

// healthz answers 200 while the agent serves and its store accepts writes, else 503: the agent then still shares from memory
// but refuses new bans.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	if err := s.cfg.Health(); err != nil {
		text(w, http.StatusServiceUnavailable, s.unhealthy(r, err))
		return
	}
	text(w, http.StatusOK, "ok")
}

// readyz answers 200 while the agent is healthy and has heard enough of the mesh for its feeds and its page to show what the
// others hold.
func (s *Server) readyz(w http.ResponseWriter, r *http.Request) {
	if err := s.cfg.Health(); err != nil {
		text(w, http.StatusServiceUnavailable, s.unhealthy(r, err))
		return
	}
	if err := s.cfg.Ready(); err != nil {
		text(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	text(w, http.StatusOK, "ready")
}

// unhealthy tells the store's own words, which name paths, only to those who have shown a token, where there
// are tokens.
func (s *Server) unhealthy(r *http.Request, err error) string {
	const why = "the store takes no writes"
	if s.tokens != nil && !s.tokens.shown(r) {
		return why
	}
	return why + ": " + err.Error()
}
