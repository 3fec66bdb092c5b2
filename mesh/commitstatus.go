package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"banmesh/internal/ipranges"
	"banmesh/internal/shell"
	"banmesh/mesh/commit"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/leader"
	"banmesh/store"
)

// status is how the commits stand: the leader's own view on every
// router, this agent's where nobody leads.
func (l *lead) status() control.CommitStatus {
	return l.statusBy((*commit.Committer).Status)
}

// statusBy is the same by what the committer is asked for: its Status, or
// its LastStatus, which costs nothing.
func (l *lead) statusBy(ask func(*commit.Committer) commit.Status) control.CommitStatus {
	own := commit.Status{State: commit.StateOff}
	if l.committer != nil {
		own = ask(l.committer)
	}
	s := control.CommitStatus{Driver: l.Config.Commit.Driver}
	s.State, s.Detail, s.Committed, s.PendingAdd, s.PendingRemove = string(own.State), own.Detail, own.Committed, own.PendingAdd, own.PendingRemove
	s.Foreign, s.Held, s.Commits, s.Features, s.LastError = own.Foreign, own.Held, own.Commits, own.Features, text(own.LastError)
	s.LastCommit = control.At(own.LastCommit)
	if s.Unread = l.committer != nil && own.ReadAt.IsZero(); l.committer != nil && !s.Unread {
		s.ReadAt, s.ReadBy = control.At(own.ReadAt), l.Config.Name
	}
	lead := l.elector.Status()
	r, known := l.Peers.ReportOf(lead.Leader)
	// Without the leader's report this router shows what it knows itself, and status says that it was not read.
	if lead.Self || !known {
		return s
	}
	s.State, s.Detail, s.LastError, s.LastCommit = r.State, r.Detail, text(r.LastError), control.Time(r.LastCommit)
	s.Committed, s.PendingAdd, s.PendingRemove = int(r.Committed), int(r.PendingAdd), int(r.PendingRemove)
	s.Foreign, s.Held, s.Commits = int(r.Foreign), int(r.Held), r.Commits
	s.ReadAt, s.ReadBy, s.Unread = control.Time(r.Verified), lead.Leader, r.Verified == 0
	return s
}

// text makes an empty text null in JSON.
func text(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// warnings says what keeps bans from the conductor.
func (l *lead) warnings(s *control.Status, ask func(*commit.Committer) commit.Status) []string {
	if l.committer == nil {
		return nil
	}
	own := ask(l.committer)
	w := own.Warnings
	if s.Leader == nil && !own.Able && own.Why != "" {
		// Instead of what the committer says of this router alone.
		w = slices.DeleteFunc(slices.Clone(w), func(text string) bool { return strings.HasSuffix(text, ": "+own.Why) })
		w = append(w, "no router commits; this one cannot: "+own.Why)
	}
	if s.Commit.Held > 0 && !l.elector.Status().Self { // the leader's own warnings say it
		w = append(w, fmt.Sprintf("%d changes at the conductor are held until an operator confirms them, because they are too many at once or too wide: look at `banmesh diff`, then `banmesh commit --force`", s.Commit.Held))
	}
	return w
}

// warningsAlone are those that no other field of the status tells.
func (l *lead) warningsAlone() (w []string) {
	if l.committer == nil {
		return nil
	}
	lead := l.elector.Status()
	if r, known := l.Peers.ReportOf(lead.Leader); known && !lead.Self && r.ByHand != "" {
		w = append(w, fmt.Sprintf("removed from the tenant by hand, and put back later unless unbanned: %s", r.ByHand))
	}
	if text := l.stall.Warning(); text != "" {
		w = append(w, text)
	}
	if text := l.takenWarning(time.Now()); text != "" {
		w = append(w, text)
	}
	for _, name := range l.stall.PassedOver() {
		w = append(w, fmt.Sprintf("%s led and nothing has moved to the conductor: this router does not follow it for %v; `banmesh status` there says why, and `banmesh revoke --origin %s --block` takes its say from it", name, leader.BarredFor, shell.Quote(name)))
	}
	return w
}

const (
	// takenAfter is how long the word of a leader that resigns may be on its way, takenFor how long the warning stays.
	takenAfter = 2 * time.Second
	takenFor   = 2 * time.Minute
	// reachable is how long a member must have been alive for its claim not to come from a partition that has healed.
	reachable = time.Minute
)

// takenWarning says who took the lead from a member that still led.
func (l *lead) takenWarning(now time.Time) string {
	k := l.elector.Taken()
	if age := now.Sub(k.At); k.By == "" || age < takenAfter || age > takenFor || l.stall.Named(k.From) {
		return ""
	}
	for _, name := range []string{k.By, k.From} {
		if m, known := l.Mesh.Member(name); !known || m.State != gossip.Alive || k.At.Sub(m.Since) < reachable {
			return ""
		}
	}
	return fmt.Sprintf("%s took the lead from %s, which led and had not given it up: the network between the two was interrupted for seconds, or somebody who has the gossip key claims to lead; `banmesh revoke --origin %s --block` takes its say from it", k.By, k.From, shell.Quote(k.By))
}

// committedNow returns a function that says whether all of a prefix that is
// effective is in running: the leader has read it, the others go by what was
// placed until the leader last found it there, and know of nothing before it
// has told them.
func (l *lead) committedNow() func(netip.Prefix) bool {
	lead := l.elector.Status()
	if l.committer != nil && lead.Self {
		return l.committer.CommittedNow()
	}
	r, known := l.Peers.ReportOf(lead.Leader)
	if !known {
		return func(netip.Prefix) bool { return false }
	}
	var b netipx.IPSetBuilder
	for _, p := range l.Set.Placed() {
		// What was placed after the leader last looked may not be there yet.
		if p.Start <= store.Millis(r.Verified) {
			b.AddPrefix(p.Prefix)
		}
	}
	for _, p := range r.RemovedByHand() {
		b.RemovePrefix(p)
	}
	running, err := b.IPSet()
	if err != nil { // it holds valid prefixes only
		return func(netip.Prefix) bool { return false }
	}
	return commit.Within(ipranges.Of(running), l.Set.Exemptions())
}
