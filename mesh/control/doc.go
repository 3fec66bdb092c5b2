// Package control is the conversation between the agent and the commands on its own machine: HTTP with JSON over a
// unix socket. It holds what is said (the calls and replies), the server that asks an Agent, and the client.
package control

// Paths of the API. Reads are GET, changes are POST with a JSON body.
const (
	pathBan         = "/v1/ban"
	pathUnban       = "/v1/unban"
	pathAllow       = "/v1/allow"
	pathAllowRemove = "/v1/allow/remove"
	pathBans        = "/v1/bans"
	pathWhy         = "/v1/why"
	pathMembers     = "/v1/members"
	pathStatus      = "/v1/status"
	pathDiff        = "/v1/diff"
	pathCommit      = "/v1/commit"
	pathJoin        = "/v1/join"
	pathLeave       = "/v1/leave"
	pathFail2ban    = "/v1/fail2ban"
	pathTakeIn      = "/v1/fail2ban/import"
	pathFreeze      = "/v1/freeze"
	pathThaw        = "/v1/thaw"
	pathRevoke      = "/v1/revoke"
	pathEvents      = "/v1/events"
	pathKeyring     = "/v1/keyring"
)

// DefaultSocket is where an agent listens unless its configuration says otherwise.
const DefaultSocket = "/run/banmesh/banmesh.sock"
