package invite

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// version is the version of the messages. A side that needs more than the other knows answers with a Refusal.
const version = 1

// Bounds of the messages in bytes.
const (
	maxRequest = 16 << 10
	maxWelcome = 1 << 20
)

// Request is what the new machine asks for.
type Request struct {
	Version int      `json:"version"`
	Name    string   `json:"name"`           // that it wants in the mesh
	Machine string   `json:"machine"`        // random, and the same when it asks again
	Program string   `json:"program"`        // version of banmesh
	Keys    []string `json:"keys,omitempty"` // names of the gossip keys that it already has
	// Identity is reserved: a key of the machine's own, with proof that it holds it.
	Identity json.RawMessage `json:"identity,omitempty"`
}

// Welcome is the answer: either Refused, or all the rest.
type Welcome struct {
	Version  int            `json:"version"`
	Refused  *Refusal       `json:"refused,omitempty"`
	Inviter  string         `json:"inviter,omitempty"`  // name of the answering member
	Name     string         `json:"name,omitempty"`     // that the new machine takes
	Keyring  []string       `json:"keyring,omitempty"`  // base64, the primary key first
	Settings map[string]any `json:"settings,omitempty"` // by dotted keys of the configuration
	Join     []string       `json:"join,omitempty"`     // host:port of members
	// KnownHosts are the conductor's host keys, for commit.driver netconf. Its login is never sent.
	KnownHosts string `json:"known_hosts,omitempty"`
	// Admission is reserved: the mesh's confirmation that the new machine's identity is a member.
	Admission json.RawMessage `json:"admission,omitempty"`
}

// RefusalCode says why a machine with a token is refused.
type RefusalCode string

// The codes.
const (
	CodeExpired   RefusalCode = "expired"    // the token has expired
	CodeUsed      RefusalCode = "used"       // by another machine
	CodeNameTaken RefusalCode = "name-taken" // a member has the name
	CodeOtherMesh RefusalCode = "other-mesh" // the machine has keys of another mesh
	CodeMalformed RefusalCode = "malformed"  // the request is malformed
	CodeFailed    RefusalCode = "failed"     // the inviter failed
)

// Refusal is an error that travels. Only a machine that has proved to know the secret receives one.
type Refusal struct {
	Code    RefusalCode `json:"code"`
	Message string      `json:"message"`
}

func (r *Refusal) Error() string { return r.Message }

func refuse(code RefusalCode, format string, args ...any) *Refusal {
	return &Refusal{Code: code, Message: fmt.Sprintf(format, args...)}
}

// readMessage reads one JSON object, which ends when the other side closes its half of the stream.
func readMessage(r io.Reader, most int64, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return err
	}
	if int64(len(b)) > most {
		return errors.New("the message is too long")
	}
	return json.Unmarshal(b, into)
}
