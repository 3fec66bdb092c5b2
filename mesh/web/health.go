package web

import "net/http"

// healthRoutes are open without a token: a load balancer or a supervisor has
// none. Without one they say in a word what is wrong, and not the error, which
// may name files.
func (s *Server) healthRoutes(m *http.ServeMux) {
	m.HandleFunc("GET /healthz", s.healthz)
	m.HandleFunc("GET /readyz", s.readyz)
}

// healthz answers 200 while the agent serves and its store takes writes, else
// 503: an agent that answers 503 still shares in memory, and refuses new bans.
func (s *Server) healthz(w http.ResponseWriter, r *http.Request) {
	if err := s.cfg.Health(); err != nil {
		text(w, http.StatusServiceUnavailable, s.unhealthy(r, err))
		return
	}
	text(w, http.StatusOK, "ok")
}

// readyz answers 200 once this router has heard enough of the mesh that its
// feeds and its page show what the others hold, and while it is healthy.
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

func (s *Server) unhealthy(r *http.Request, err error) string {
	const why = "the store takes no writes"
	if s.tokens != nil && !s.tokens.shown(r) {
		return why
	}
	return why + ": " + err.Error()
}
