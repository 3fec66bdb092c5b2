package leader

import (
	"errors"
	"fmt"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/packed"
)

// State is what the sender of a heartbeat is doing.
type State uint8

// The states that a member announces. The first four are a leader's work, the others belong to the election.
const (
	Idle       State = iota // leads, nothing to do
	Committing              // leads, an edit is under way, see Until
	Waiting                 // leads, waits for somebody else's lock or edits, see Detail
	Unable                  // gives leadership up: cannot reach the conductor, or leaves
	Asking                  // does not lead; asks who does before it claims
	Finishing               // has stepped down; ends the edit it still holds under lock
)

var stateNames = [...]string{"idle", "committing", "waiting", "unable", "asking", "finishing"}

// String returns the state as status shows it.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Heartbeat is a leader's claim and what the leader is doing.
type Heartbeat struct {
	Seq      uint64 // counts the sender's heartbeats, with a random start
	Term     uint64
	Name     string // the member that the claim is about
	Priority int
	session  Session // its open edit
	state    State
	detail   string        // for people: whom it waits for, why it is unable; at most 256 bytes
	until    time.Time     // Committing: when it gives up, by the sender's clock, to the millisecond; zero for none
	age      time.Duration // how long ago the member passing it on had heard it; 0 from the leader itself
}

// errHeartbeat is the error of decode for anything that is not a heartbeat.
var errHeartbeat = errors.New("malformed heartbeat")

const (
	heartbeatVersion = 1
	maxPayload       = 1200
	maxName          = 255
	maxDetail        = 256
	// A term grows by one with each takeover; anything above these bounds is damage or malice. Any term up to honestTerm is
	// accepted, above it only steps of termStep from the known one. So even a claim of the highest term leaves terms to claim
	// against it.
	maxTerm    = 1 << 57
	honestTerm = 1 << 56
	termStep   = 1 << 16
	maxAge     = time.Hour
)

// wireHeartbeat is the msgpack array after the version byte. Times are int64 milliseconds, because msgpack's own time loses
// the zone.
type wireHeartbeat struct {
	Seq      uint64
	Term     uint64
	Name     string
	Priority int64
	Node     string
	Session  uint64
	State    uint8
	Detail   string
	Until    int64
	Age      int64
}

const wireFields = 10

// Encode returns the heartbeat's payload, at most 1200 bytes: it cuts a longer detail.
func (h Heartbeat) Encode() ([]byte, error) {
	w := wireHeartbeat{Seq: h.Seq, Term: h.Term, Name: h.Name, Priority: int64(h.Priority), Node: excerpt.Cut(h.session.Node, maxName), Session: h.session.ID,
		State: uint8(h.state), Detail: excerpt.Cut(h.detail, maxDetail), Age: h.age.Milliseconds()}
	if !h.until.IsZero() {
		w.Until = h.until.UnixMilli()
	}
	b, err := packed.Append([]byte{heartbeatVersion}, &w)
	if err != nil {
		return nil, fmt.Errorf("encode heartbeat: %w", err)
	}
	return b, nil
}

// decode parses a payload. Anything but exactly one heartbeat of this version gives an error that wraps errHeartbeat.
func decode(payload []byte) (Heartbeat, error) {
	var w wireHeartbeat
	switch {
	case len(payload) < 2 || len(payload) > maxPayload:
		return Heartbeat{}, fmt.Errorf("%w: %d bytes", errHeartbeat, len(payload))
	case payload[0] != heartbeatVersion:
		return Heartbeat{}, fmt.Errorf("%w: version %d", errHeartbeat, payload[0])
	}
	if err := packed.Decode(payload[1:], wireFields, &w); err != nil {
		return Heartbeat{}, fmt.Errorf("%w: %v", errHeartbeat, err)
	}
	h := Heartbeat{Seq: w.Seq, Term: w.Term, Name: w.Name, Priority: int(w.Priority), session: Session{Node: w.Node, ID: w.Session},
		state: State(w.State), detail: w.Detail, age: time.Duration(w.Age) * time.Millisecond}
	if w.Until != 0 {
		h.until = time.UnixMilli(w.Until)
	}
	switch {
	case h.Name == "" || len(h.Name) > maxName:
		return Heartbeat{}, fmt.Errorf("%w: name of %d bytes", errHeartbeat, len(h.Name))
	case len(w.Node) > maxName:
		return Heartbeat{}, fmt.Errorf("%w: node of %d bytes", errHeartbeat, len(w.Node))
	case h.Term > maxTerm:
		return Heartbeat{}, fmt.Errorf("%w: term %d", errHeartbeat, h.Term)
	case int(h.state) >= len(stateNames):
		return Heartbeat{}, fmt.Errorf("%w: state %d", errHeartbeat, h.state)
	case w.Age < 0 || w.Age > maxAge.Milliseconds():
		return Heartbeat{}, fmt.Errorf("%w: age %d ms", errHeartbeat, w.Age)
	case len(h.detail) > maxDetail:
		return Heartbeat{}, fmt.Errorf("%w: detail of %d bytes", errHeartbeat, len(h.detail))
	}
	return h, nil
}
