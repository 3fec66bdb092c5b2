package peer

import (
	"net/netip"
	"strings"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/commit"
)

// reportEvery is how often the leader tells how its commits stand while
// nothing changes.
const reportEvery = 5 * time.Second

// Report is how the leader's commits stand, for `status` and `list` on the
// other routers. It is the body of a message.
type Report struct {
	Term          uint64
	State         string
	Detail        string
	Committed     int64
	PendingAdd    int64
	PendingRemove int64
	Foreign       int64
	Held          int64
	Commits       uint64
	LastCommit    int64 // Unix ms by the mesh's clock, 0 for none
	Verified      int64 // likewise: what was placed until then is in running
	LastError     string
	ByHand        string // what somebody removed from the tenant, as far as it fits, with blanks between
}

const reportFields = 13

// maxReportText keeps the texts of a report within a packet.
const maxReportText = 250

// joined writes prefixes with blanks between, as many as fit maxReportText.
func joined(prefixes []netip.Prefix) string {
	var b strings.Builder
	for _, p := range prefixes {
		text := p.String()
		if b.Len()+1+len(text) > maxReportText {
			break
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(text)
	}
	return b.String()
}

// RemovedByHand reads ByHand; what another member sent may be anything.
func (r Report) RemovedByHand() []netip.Prefix {
	var out []netip.Prefix
	for _, text := range strings.Fields(r.ByHand) {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p.Masked())
		}
	}
	return out
}

// newReport is what the leader tells the others of its commits. Texts are cut, because the report must fit a
// packet.
func newReport(term uint64, s commit.Status, verified time.Time, byHand []netip.Prefix) Report {
	r := Report{
		Term: term, State: string(s.State), Detail: excerpt.Cut(s.Detail, maxReportText), Committed: int64(s.Committed),
		PendingAdd: int64(s.PendingAdd), PendingRemove: int64(s.PendingRemove), Foreign: int64(s.Foreign), Held: int64(s.Held),
		Commits: s.Commits, LastError: excerpt.Cut(s.LastError, maxReportText), ByHand: joined(byHand),
	}
	if !s.LastCommit.IsZero() {
		r.LastCommit = s.LastCommit.UnixMilli()
	}
	if !verified.IsZero() {
		r.Verified = verified.UnixMilli()
	}
	return r
}

// reports holds what the leader said last, and what this agent, leading, said
// last itself.
type reports struct {
	mu   sync.Mutex
	from string
	last Report
	came time.Time // when last did
	sent Report
	at   time.Time // of sent

	newest int64 // LastCommit of all that were heard, once one was
	told   bool

	verified time.Time // when what this agent had placed was last seen in running
}

// note takes over what the leader knows of running at the time now: while an
// edit is under way or has failed, some of what is placed may not be there.
func (r *reports) note(now time.Time, s commit.Status) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch s.State {
	case commit.StateIdle, commit.StatePending, commit.StateFrozen:
		if s.LastError == "" && s.Features != "" {
			r.verified = now
		}
	}
	return r.verified
}

// heard takes in what a member that leads says. committed reports whether it has
// committed since what was heard before, from whomever.
func (r *reports) heard(now time.Time, from string, got Report) (committed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if from == r.from && got.Term < r.last.Term {
		return false // overtaken on the way
	}
	r.from, r.last, r.came = from, got, now
	committed = r.told && got.LastCommit > r.newest
	r.newest, r.told = max(r.newest, got.LastCommit), true
	return committed
}

// of returns the last report of the leader named; ok is false before one came.
func (r *reports) of(leader string) (Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, leader != "" && r.from == leader
}

// explained reports whether the leader named has just said why it does not commit what waits: in words that status shows, or
// because it is committing.
func (r *reports) explained(now time.Time, leader string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.from != leader || now.Sub(r.came) > 2*reportEvery {
		return false
	}
	switch commit.State(r.last.State) {
	case commit.StateCommitting, commit.StateWaiting, commit.StateFailing:
		return true
	}
	return r.last.Held > 0
}

// due says whether the others must be told now, and takes it as told.
func (r *reports) due(now time.Time, next Report) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	same := next
	same.Verified = r.sent.Verified // it moves each time
	if same == r.sent && now.Sub(r.at) < reportEvery {
		return false
	}
	r.sent, r.at = next, now
	return true
}
