package mesh

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/internal/shell"
	"banmesh/mesh/commit"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/warning"
	"banmesh/store"
)

// Members returns the members of the mesh, this one among them, by name.
func (a *Agent) Members(context.Context) ([]control.Member, error) {
	lead := a.lead.elector.Status()
	members := a.mesh.Members()
	out := make([]control.Member, len(members))
	for i, m := range members {
		out[i] = control.Member{
			Name: m.Name, Addr: m.Addr, State: m.State.String(), Self: m.Self, Leader: m.Name == lead.Leader,
			InSync: m.Agrees == gossip.Agrees, Unknown: m.State == gossip.Alive && m.Agrees == gossip.Unknown, Mute: m.Mute.String(), NoTCP: reason(m.NoStream), Stuck: reason(m.Stuck),
			SkewMS: m.Skew.Milliseconds(), Version: m.Version, Seen: control.At(m.Seen),
		}
	}
	return out, nil
}

// reason is an error's text, "" of none.
func reason(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Status returns the agent on one screen.
func (a *Agent) Status(context.Context) (control.Status, error) {
	// Only this call shows the root; metrics and warnings need not pay for it.
	s := a.statusBy((*commit.Committer).Status)
	root := a.store.Root(store.Minute(a.clock.now()))
	s.Root = hex.EncodeToString(root[:])
	return s, nil
}

// statusBy is all of it but the root, by what the committer is asked for: its
// Status, or its LastStatus, which costs nothing.
func (a *Agent) statusBy(ask func(*commit.Committer) commit.Status) control.Status {
	counts := a.store.Counts()
	lead := a.lead.elector.Status()
	frozen, by := a.store.Frozen()
	offset, _ := a.mesh.Offset()
	members := a.mesh.Members()
	s := control.Status{
		Name: a.cfg.Name, Version: a.build.version, UptimeS: int64(a.clock.raw().Sub(a.build.started).Seconds()),
		Term: lead.Term, InSync: a.mesh.InSync(), SkewMS: -offset.Milliseconds(),
		Bans: control.BanCount{
			Live: counts.Live, Effective: counts.Effective, Own: counts.Own, OverLimit: counts.OverLimit, Held: counts.Held,
		},
		Allows: counts.Allows, Frozen: frozen, FrozenBy: by, Blocked: a.store.Blocked(), Commit: a.lead.statusBy(ask),
		Replicate: &control.ReplicateNow{Counters: counters(a.mesh.Stats())},
	}
	if lead.Leader != "" {
		s.Leader = &lead.Leader
	}
	if !lead.Since.IsZero() {
		s.Since = control.At(lead.Since)
	}
	s.Eligible, s.Why = lead.Eligible, lead.Why
	s.Members = countMembers(members)
	for _, m := range members {
		// Failed members are counted as failed, not as unknown.
		if m.State == gossip.Alive && !m.Self && m.Agrees == gossip.Unknown {
			s.Unknown++
		}
	}
	s.Enforce = a.enforcement.status()
	s.Spooled = a.waiting.calls()
	s.Unnotified = a.peers.Unnotified()
	for _, d := range a.mesh.Doubts() {
		s.Doubts = append(s.Doubts, control.Doubt(d))
	}
	s.Store = &control.StoreStatus{Healthy: true}
	if err := a.store.Health(); err != nil {
		s.Store = &control.StoreStatus{Error: err.Error(), Silent: silent(err)}
	}
	s.Warnings, s.Further = a.warnings(&s, members, ask)
	return s
}

// silent says whether an error of the store is that its disk does not answer.
func silent(err error) bool {
	var s *store.SilentError
	return errors.As(err, &s)
}

func countMembers(members []gossip.Member) (n control.MemberCount) {
	for _, m := range members {
		switch m.State {
		case gossip.Alive:
			n.Alive++
		case gossip.Failed:
			n.Failed++
		case gossip.Left:
			n.Left++
		}
	}
	return n
}

// warnings says in plain words what is wrong, and what to do about it: all of it, and
// what no other field of the status tells.
// The latter are what a script has to read beside the fields.
func (a *Agent) warnings(s *control.Status, members []gossip.Member, ask func(*commit.Committer) commit.Status) (all, alone []string) {
	all = warning.Members(a.cfg.Gossip.Bind, members, time.Now())
	all = append(all, warning.Unnotified(a.cfg.Name, s.Unnotified)...)
	var doubts []string
	for _, d := range s.Doubts {
		doubts = append(doubts, d.What+": "+d.Fix)
	}
	all = append(all, warning.Few(doubts, "addresses of members are odd: `banmesh doctor` says which")...)
	if s.Store.Silent {
		all = append(all, fmt.Sprintf("%s: new bans wait in memory, and this router does not lead, until it does; look at the disk of %s (dmesg, a frozen or lost volume)", s.Store.Error, a.cfg.DataDir))
	} else if !s.Store.Healthy {
		all = append(all, fmt.Sprintf("the store cannot be written (%v): new bans are refused until %s is writable again", s.Store.Error, a.cfg.DataDir))
	}
	if text := a.lead.probe.warning(); text != "" {
		all = append(all, text)
	}
	if s.Frozen {
		all = append(all, fmt.Sprintf("frozen by %s: nothing new is committed or enforced; resume with `banmesh thaw`", cmp.Or(saidBy(a.store.Freezers()), s.FrozenBy)))
	}
	all = append(all, a.lead.warnings(s, ask)...)
	all = append(all, enforceWarnings(s.Enforce)...)
	alone = append(a.warningsAlone(s, members), a.lead.warningsAlone()...)
	slices.Sort(alone)
	alone = slices.Compact(alone)
	all = append(all, alone...)
	// Sorted, so that a status that shows the same troubles twice looks the same twice.
	slices.Sort(all)
	return append([]string{}, slices.Compact(all)...), alone
}

// warningsAlone are those that no other field tells.
func (a *Agent) warningsAlone(s *control.Status, members []gossip.Member) (w []string) {
	warn := func(format string, args ...any) { w = append(w, fmt.Sprintf(format, args...)) }
	w = append(w, a.fail2ban.notifier.Held()...)
	if text := a.heldWarning(); text != "" {
		w = append(w, text)
	}
	w = append(w, a.trouble.lifts.Warnings(time.Now(), s.Bans.Own)...)
	if a.crowdsec != nil {
		if text := a.crowdsec.Trouble(); text != "" {
			w = append(w, text)
		}
	}
	if a.watchers.web != nil {
		w = append(w, a.watchers.web.Warnings()...)
	}
	w = append(w, a.mesh.Unanswered()...)
	w = append(w, a.mesh.Knocks()...)
	w = append(w, a.mesh.Floods()...)
	if text := a.mesh.KeyNews(); text != "" {
		w = append(w, text)
	}
	if at := a.mesh.Squatter(); at != "" {
		warn("somebody at %s said at the start that it is %s, and the other members did not confirm it: look at who has the gossip key there", at, a.cfg.Name)
	}
	if a.mesh.NeverMet() {
		alone := ""
		if a.lead.conductor != nil {
			alone = ": what it commits, it commits alone"
		}
		warn("this router has met none of those that it joins%s", alone)
	}
	if doubt := a.store.Doubt(); doubt != "" {
		warn("%s; the others send again what they have, and a restart ends this warning", doubt)
	}
	if a.trouble.table != "" {
		warn("%s", a.trouble.table)
	}
	w = append(w, a.trouble.jails.Warnings()...)
	if a.trouble.former != "" {
		warn("this store was written as %s, and this router is %s now: fail2ban's unbans lift nothing of what %[1]s has banned; put `name: %[1]s` into the configuration and restart the agent, or lift its bans with `banmesh revoke --origin %[3]s`", a.trouble.former, a.cfg.Name, shell.Quote(a.trouble.former))
	}
	// A moment after a burst this is normal; while it stays, the disk hangs.
	if s.Spooled > 0 {
		warn("%d calls wait in the spool %s: they are applied as soon as the store takes them", s.Spooled, a.cfg.SpoolDir())
	}
	var blocked []string
	for _, origin := range s.Blocked {
		if origin == a.cfg.Name {
			warn("nothing of this router counts: it is blocked by %s; undo at another router with `banmesh revoke --origin %s --unblock`, or block there who did it", saidBy(a.store.Blockers(origin)), shell.Quote(origin))
			continue
		}
		blocked = append(blocked, fmt.Sprintf("nothing of %s counts: it is blocked by %s; undo with `banmesh revoke --origin %s --unblock`", origin, saidBy(a.store.Blockers(origin)), shell.Quote(origin)))
	}
	w = append(w, warning.Few(blocked, "names are blocked: `banmesh status --json` lists them")...)
	w = append(w, warning.Exceeding(a.store.Exceeding())...)
	w = append(w, warning.WideAllows(a.store.Allows())...)
	w = append(w, warning.Full(a.cfg.Name, a.store.Full())...)
	w = append(w, warning.Unreadable(a.cfg.Name, a.store.Unreadable())...)
	if logs, records := a.store.Namesakes(); logs > 0 {
		warn("%d records bear this router's name and are not its own: its store was restored from an old copy, a copy of it runs elsewhere, or somebody who has the gossip key writes in its name; if neither of the first two, change the key on all routers; until these records expire the others may not be in sync with this one", records)
	}
	w = append(w, a.peers.LimitWarnings(members)...)
	if text := a.lead.quorum.Warning(s.Members.Alive + s.Members.Failed); a.lead.committer != nil && text != "" {
		w = append(w, text)
	}
	w = append(w, a.past.warnings()...)
	return append(w, a.trouble.reloaded.warnings()...)
}

// saidBy names who has said something and since when, the first few.
func saidBy(all []store.Said) string {
	names := make([]string, len(all))
	for i, x := range all {
		names[i] = fmt.Sprintf("%s since %s", x.By, x.At.Time().UTC().Format("2006-01-02 15:04:05 UTC"))
	}
	return excerpt.First(names, 3)
}

// counters are the replication's, by the names of the JSON.
func counters(s gossip.Stats) map[string]uint64 {
	c := map[string]uint64{
		"packets_sent": s.PacketsSent, "packets_received": s.PacketsReceived,
		"bytes_sent": s.BytesSent, "bytes_received": s.BytesReceived,
		"streams_opened": s.StreamsOpened, "streams_taken": s.StreamsTaken,
		"stream_bytes_sent": s.StreamBytesSent, "stream_bytes_received": s.StreamBytesReceived,
		"pushes": s.Pushes, "relays": s.Relays, "pulls": s.Pulls,
		"exchanges": s.Exchanges, "exchanges_served": s.ExchangesServed, "records_merged": s.RecordsMerged,
	}
	// Reasons are constants of package gossip, so the set of names is bounded.
	for reason, n := range s.Dropped {
		c["dropped_"+strings.ReplaceAll(reason, " ", "_")] = n
	}
	return c
}
