package conductorsim

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// FaultKind names a fault.
type FaultKind string

// The faults. Brackets mark the fields of Fault that they use.
const (
	FaultSlowCommit      FaultKind = "slow-commit"      // each commit takes [For] longer
	FaultLockHeld        FaultKind = "lock-held"        // locks are held by session [N] (default 4711) that is nobody's here
	FaultValidateRefused FaultKind = "validate-refused" // validation finds [N] (default 2) errors
	FaultValidateBusy    FaultKind = "validate-busy"    // "A request of type validate is already in progress"
	FaultRouterOffline   FaultKind = "router-offline"   // distributed validation hangs [For] (default 90 s), then goes through
	FaultCommitFails     FaultKind = "commit-fails"     // commit answers operation-failed and changes nothing
	FaultDrop            FaultKind = "drop"             // the connection is closed [At] before, in or after operation [Op] (default commit); "in": it takes effect all the same
	FaultFreeze          FaultKind = "freeze"           // nothing is answered any more, or operation [Op] is not; locks are kept, until it is cleared
	FaultLieDropAdded    FaultKind = "lie-drop-added"   // [At] edit or commit (default): ok, but added addresses are dropped; removals happen
	FaultLieDropOne      FaultKind = "lie-drop-one"     // [At]: ok, but the first added address is dropped
	FaultLieWideOpen     FaultKind = "lie-wide-open"    // [At]: ok, but the first added address becomes 0.0.0.0/0
	FaultFirstUnanswered FaultKind = "first-unanswered" // an RPC that arrives in one read with the client's hello is never answered
	FaultChunkSize       FaultKind = "chunk-size"       // replies are sent in chunks (base:1.1) or writes (base:1.0) of [N] bytes (default 1)
	FaultWrongMessageID  FaultKind = "wrong-message-id" // replies [to Op] carry another message-id
	FaultHugeReply       FaultKind = "huge-reply"       // replies [to Op] are followed by [N] bytes (default 1 GiB) of blanks before their end
	FaultLoginRefused    FaultKind = "login-refused"    // no credential is accepted
	FaultUnreachable     FaultKind = "unreachable"      // connections are closed as soon as they are made
	FaultRESTAnswer      FaultKind = "rest-answer"      // REST calls [whose path contains Op] are answered with status [N] (default 503) and body [Body]; Retry-After [For]
	FaultRESTTruncated   FaultKind = "rest-truncated"   // REST answers end in the middle
	FaultRESTRedirect    FaultKind = "rest-redirect"    // REST calls [whose path contains Op] are redirected to [Body]
	FaultRESTDirtyFlag   FaultKind = "rest-dirty-flag"  // REST says that the candidate is dirty when it is not
	FaultRESTNoPut       FaultKind = "rest-no-put"      // REST does not take PUT
	FaultCutReply        FaultKind = "cut-reply"        // the connection is closed after [N] bytes of the reply [to Op], modulo its length
	FaultKilled          FaultKind = "killed"           // the server is killed [At] before, in or after operation [Op] (default commit), and starts again at once
	FaultStartupFails    FaultKind = "startup-fails"    // running cannot be copied to startup
	FaultRunningLags     FaultKind = "running-lags"     // a commit shows in what is read of running only after [For] (default 1 s), or when this is cleared
)

// faultKinds lists all kinds with the values of At that they take.
var faultKinds = map[FaultKind][]string{
	FaultSlowCommit: nil, FaultLockHeld: nil, FaultValidateRefused: nil, FaultValidateBusy: nil, FaultRouterOffline: nil,
	FaultCommitFails: nil, FaultDrop: {"before", "in", "after"}, FaultFreeze: nil,
	FaultLieDropAdded: {"edit", "commit"}, FaultLieDropOne: {"edit", "commit"}, FaultLieWideOpen: {"edit", "commit"},
	FaultFirstUnanswered: nil, FaultChunkSize: nil, FaultWrongMessageID: nil, FaultHugeReply: nil,
	FaultLoginRefused: nil, FaultUnreachable: nil,
	FaultRESTAnswer: nil, FaultRESTTruncated: nil, FaultRESTRedirect: nil, FaultRESTDirtyFlag: nil, FaultRESTNoPut: nil,
	FaultRunningLags: nil, FaultStartupFails: nil, FaultCutReply: nil, FaultKilled: {"before", "in", "after"},
}

// Duration is a time.Duration that JSON spells as Go does ("1.5s").
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(b []byte) error {
	v, err := time.ParseDuration(string(b))
	*d = Duration(v)
	return err
}

// Fault is something that goes wrong until it is cleared or has happened Times times.
type Fault struct {
	Kind  FaultKind `json:"kind"`
	Op    string    `json:"op,omitempty"` // a NETCONF operation; "" means any, unless the kind says otherwise
	At    string    `json:"at,omitempty"`
	For   Duration  `json:"for,omitempty"`
	N     int64     `json:"n,omitempty"`
	Body  string    `json:"body,omitempty"`
	Node  int       `json:"node,omitempty"`  // only on this node; 0 means all
	Times int       `json:"times,omitempty"` // ends after happening so often; 0 means never
}

// withDefaults sets unset fields to the kind's defaults, and refuses unknown kinds and values.
func (f Fault) withDefaults() (Fault, error) {
	points, known := faultKinds[f.Kind]
	if !known {
		return f, fmt.Errorf("fault kind %q is not known", f.Kind)
	}
	if f.At == "" && len(points) > 0 {
		f.At = points[len(points)-1]
	}
	if f.At != "" && !slices.Contains(points, f.At) {
		return f, fmt.Errorf("fault %s: at %q, want one of %q", f.Kind, f.At, points)
	}
	if f.For < 0 || f.N < 0 || f.Times < 0 || f.Node < 0 {
		return f, fmt.Errorf("fault %s: for, n, times and node cannot be negative", f.Kind)
	}
	switch {
	case f.Kind == FaultDrop && f.Op == "":
		f.Op = "commit"
	case f.Kind == FaultRunningLags && f.For == 0:
		f.For = Duration(time.Second)
	case f.Kind == FaultRouterOffline && f.For == 0:
		f.For = Duration(90 * time.Second)
	}
	if f.N == 0 {
		f.N = map[FaultKind]int64{FaultLockHeld: 4711, FaultValidateRefused: 2, FaultChunkSize: 1,
			FaultHugeReply: 1 << 30, FaultRESTAnswer: 503}[f.Kind]
	}
	return f, nil
}

// faultSet holds the faults in force. Its lock is taken last, and matchers called under it take none.
type faultSet struct {
	mu     sync.Mutex
	faults []Fault
	thawed chan struct{} // closed and replaced whenever freezing is cleared
}

func newFaultSet() *faultSet { return &faultSet{thawed: make(chan struct{})} }

// inject puts f in force; it replaces one of the same kind, operation, point and node.
func (s *faultSet) inject(f Fault) error {
	f, err := f.withDefaults()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = slices.DeleteFunc(s.faults, func(g Fault) bool {
		return g.Kind == f.Kind && g.Op == f.Op && g.At == f.At && g.Node == f.Node
	})
	s.faults = append(s.faults, f)
	return nil
}

// clear ends faults of the given kinds, all with none given.
func (s *faultSet) clear(kinds ...FaultKind) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = slices.DeleteFunc(s.faults, func(f Fault) bool { return len(kinds) == 0 || slices.Contains(kinds, f.Kind) })
	if len(kinds) == 0 || slices.Contains(kinds, FaultFreeze) {
		close(s.thawed)
		s.thawed = make(chan struct{})
	}
}

func (s *faultSet) list() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.faults)
}

// fires reports whether a fault happens now on node, and counts it.
func (s *faultSet) fires(kind FaultKind, node int, match ...func(Fault) bool) (Fault, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, f := range s.faults {
		if f.Kind != kind || f.Node != 0 && f.Node != node {
			continue
		}
		if slices.ContainsFunc(match, func(m func(Fault) bool) bool { return !m(f) }) {
			continue
		}
		if f.Times > 0 {
			if s.faults[i].Times--; s.faults[i].Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return f, true
	}
	return Fault{}, false
}

// inForce reports whether a fault of that kind is in force, without counting it.
func (s *faultSet) inForce(kind FaultKind) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.faults, func(f Fault) bool { return f.Kind == kind })
}

// forOp matches faults for that operation or any.
func forOp(op string) func(Fault) bool { return func(f Fault) bool { return f.Op == "" || f.Op == op } }

// at matches faults at that point.
func at(point string) func(Fault) bool { return func(f Fault) bool { return f.At == point } }

// frozen reports whether operation op on node freezes now, and returns a channel that is closed when the freeze ends. A
// frozen operation stays frozen until then, even if the fault has meanwhile happened often enough to end for others.
func (s *faultSet) frozen(node int, op string) (bool, <-chan struct{}) {
	s.mu.Lock()
	thawed := s.thawed
	s.mu.Unlock()
	_, frozen := s.fires(FaultFreeze, node, forOp(op))
	return frozen, thawed
}

// ParseFault parses a fault as written on a command line: its kind, then fields by their JSON names, as in
// "slow-commit,for=5s,times=2".
func ParseFault(text string) (Fault, error) {
	kind, rest, _ := strings.Cut(text, ",")
	f := Fault{Kind: FaultKind(kind)}
	for rest != "" {
		var field string
		field, rest, _ = strings.Cut(rest, ",")
		name, value, _ := strings.Cut(field, "=")
		var err error
		switch name {
		case "op":
			f.Op = value
		case "at":
			f.At = value
		case "for":
			err = f.For.UnmarshalText([]byte(value))
		case "n":
			f.N, err = strconv.ParseInt(value, 10, 64)
		case "body":
			f.Body = value
		case "node":
			f.Node, err = strconv.Atoi(value)
		case "times":
			f.Times, err = strconv.Atoi(value)
		default:
			err = errors.New("there is no such field")
		}
		if err != nil {
			return f, fmt.Errorf("fault %q: %s: %w", clip(text), clip(name), err)
		}
	}
	return f.withDefaults()
}
