// Package helper lets the agent, which runs as a user of its own, tell the local fail2ban what was unbanned or allowed
// elsewhere. Anyone who can write to fail2ban's socket can run any command as root; so the agent may not. A small program
// of root's (cmd/banmesh-fail2ban, started by systemd at the first call) takes requests on a socket of its own, from the
// agent's user and root only, checks that each is one of the few that it knows, and runs fail2ban-client with it.
//
// A request is one JSON array of words in a line, as fail2ban-client would take them; the answer is one Reply in a line.
// A connection carries one request.
package helper

// DefaultSocket is where the packages' units put the helper's socket.
const DefaultSocket = "/run/banmesh-fail2ban.sock"

// Reply is what became of a request: fail2ban-client's output, or why there is none, in its own words. Code is set where
// fail2ban-client said nothing.
type Reply struct {
	Out   string `json:"out,omitempty"`
	Error string `json:"error,omitempty"`
	Code  string `json:"code,omitempty"`
}

// The codes of a Reply.
const (
	CodeRefused  = "refused"   // the helper does not do that
	CodeNoClient = "no-client" // fail2ban-client is not installed
)
