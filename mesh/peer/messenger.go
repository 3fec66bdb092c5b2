// Package peer is what members tell each other beside the replicated set: how the
// leader's commits stand, that a router which does not lead wants one, by which limits
// each of them judges, and whose fail2ban cannot be told of unbans.
//
// A message is one packet and may be lost or repeated. What others must know is told
// again each minute or when it changes, a request until it is answered.
package peer

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
)

// Config is what a Messenger needs: who the others are, how they are reached, and what
// becomes of what they tell. All but Commit are called from the goroutine that receives,
// and must not block.
type Config struct {
	Name        string        // of this router
	Limits      uint64        // a short name of its limits, the same for the same limits
	MaxDuration time.Duration // its bans.max_duration, 0 for none

	Members func() []gossip.Member
	Send    func(to string, payload []byte) error
	Trouble func() string // why this router's fail2ban cannot be told, "" where it can

	Leads         func(name string) bool                                             // whether this router follows that member
	Heartbeat     func(from string, body []byte)                                     // of a member that leads or may
	Reported      func(from string, r Report, committed bool)                        // committed: since what was heard before
	MaxDurationOf func(from string, most time.Duration)                              // another member's bans.max_duration
	Commit        func(ctx context.Context, force bool) (control.CommitReply, error) // for another router

	Random rand.Source
	Logger *slog.Logger
}

// Messenger is this router's end of the talk between members. Each kind of message has
// a state and a lock of its own; no two are held at once.
type Messenger struct {
	c          Config
	reports    reports
	forwarded  forwarded
	limits     otherLimits
	unnotified unnotified
}

// New returns a Messenger that has heard nothing yet.
func New(c Config) *Messenger {
	m := &Messenger{c: c}
	m.limits.own = c.Limits
	m.forwarded.run, m.forwarded.random = m.carryOut, c.Random
	return m
}

// Receive takes a message of another member. It does not block.
func (m *Messenger) Receive(from string, payload []byte) {
	if len(payload) == 0 {
		return
	}
	kind, body := payload[0], payload[1:]
	var err error
	switch kind {
	case messageLeader:
		m.c.Heartbeat(from, body)
	case messageReport:
		var r Report
		// Any member can send one: only the leader's is about the commits.
		if err = decodeMessage(body, reportFields, &r); err == nil && m.c.Leads(from) {
			m.c.Reported(from, r, m.reports.heard(time.Now(), from, r))
		}
	case messageForward:
		var ask forwardRequest
		if err = decodeMessage(body, forwardFields, &ask); err == nil {
			m.forwarded.asked(from, ask)
		}
	case messageLimits:
		var l limitsMessage
		if err = decodeMessage(body, limitsFields, &l); err == nil {
			m.limits.heard(from, l.Sum)
		}
	case messageLife:
		var l lifeMessage
		if err = decodeMessage(body, lifeFields, &l); err == nil {
			m.c.MaxDurationOf(from, l.duration())
		}
	case messageUnnotified:
		var u unnotifiedMessage
		if err = decodeMessage(body, unnotifiedFields, &u); err == nil {
			m.unnotified.heard(from, u.Why)
		}
	case messageResult:
		var o forwardResult
		if err = decodeMessage(body, resultFields, &o); err == nil {
			m.forwarded.answered(o)
		}
	}
	if err != nil {
		m.c.Logger.Debug("message dropped", "from", from, "error", err)
	}
}

// Tick tells the others each second what is due.
func (m *Messenger) Tick(now time.Time) {
	m.tellLimits(now)
	m.tellUnnotified(now)
}

// SendHeartbeat sends a heartbeat of package leader.
func (m *Messenger) SendHeartbeat(to string, body []byte) error {
	return m.c.Send(to, append([]byte{messageLeader}, body...))
}

// Report tells the others how the commits of this router, which leads, stand at the time
// now by the mesh's clock.
func (m *Messenger) Report(now time.Time, term uint64, s commit.Status, removedByHand []netip.Prefix) {
	r := newReport(term, s, m.reports.note(now, s), removedByHand)
	m.reports.heard(time.Now(), m.c.Name, r)
	if !m.reports.due(time.Now(), r) {
		return
	}
	for _, name := range m.others() {
		m.send(name, messageReport, &r) // the next one comes in seconds
	}
}

// ReportOf returns the last report of the leader named; ok is false before one came.
func (m *Messenger) ReportOf(leader string) (r Report, ok bool) { return m.reports.of(leader) }

// Explained reports whether the leader named has said within seconds why it does not commit what waits.
func (m *Messenger) Explained(now time.Time, leader string) bool {
	return m.reports.explained(now, leader)
}

// others are the alive members but for this one.
func (m *Messenger) others() (names []string) {
	for _, other := range m.c.Members() {
		if other.State == gossip.Alive && !other.Self {
			names = append(names, other.Name)
		}
	}
	return names
}

// send sends what is sent again: a loss is no error.
func (m *Messenger) send(to string, kind byte, body any) {
	message, err := encodeMessage(kind, body)
	if err != nil { // all texts are cut before
		m.c.Logger.Error("tell another member", "kind", string(kind), "error", err)
		return
	}
	_ = m.c.Send(to, message)
}
