package server

// BoundAll bounds what root and the agent's own user take up as well: tests are one of them.
func (s *Server) BoundAll() { s.users.exempt = func(uint32) bool { return false } }

// The bounds of one user.
const (
	ConnsPerUser = connsPerUser
	CallsPerUser = callsPerUser
)

// Users is of how many users something is kept.
func (s *Server) Users() int {
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	return len(s.users.of)
}
