// Package control is how the commands on a machine talk to its agent: HTTP with JSON over a unix socket. It holds the calls
// and replies, the checks and conversions that both ends share, and the client. The agent's end is package server.
//
// Every command loads this package, and fail2ban starts one for each ban and waits for it. So it stays small to load: the
// client speaks HTTP/1.0 without net/http, lists are written and parsed without reflection, and regular expressions are
// avoided.
//
// A Client has no state: each call has its own connection, and its context's deadline bounds it. The package starts no
// goroutines.
package control

// Paths of the API. Reads are GET, changes are POST with a JSON body.
const (
	PathBan         = "/v1/ban"
	PathUnban       = "/v1/unban"
	PathAllow       = "/v1/allow"
	PathAllowRemove = "/v1/allow/remove"
	PathBans        = "/v1/bans"
	PathWhy         = "/v1/why"
	PathMembers     = "/v1/members"
	PathStatus      = "/v1/status"
	PathDiff        = "/v1/diff"
	PathCommit      = "/v1/commit"
	PathJoin        = "/v1/join"
	PathInvite      = "/v1/invite"
	PathUninvite    = "/v1/invite/cancel"
	PathLeave       = "/v1/leave"
	PathFail2ban    = "/v1/fail2ban"
	PathTakeIn      = "/v1/fail2ban/import"
	PathForget      = "/v1/forget"
	PathFreeze      = "/v1/freeze"
	PathThaw        = "/v1/thaw"
	PathRevoke      = "/v1/revoke"
	PathEvents      = "/v1/events"
	PathHistory     = "/v1/history"
	PathStats       = "/v1/stats"
	PathKeyring     = "/v1/keyring"
)

// DefaultSocket is where an agent listens unless its configuration says otherwise.
const DefaultSocket = "/run/banmesh/banmesh.sock"
