package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
)

// fakeAgent is an agent without a mesh: it keeps bans and allows, notes the calls, and says of the rest what it was told.
type fakeAgent struct {
	mu     sync.Mutex
	calls  []string
	bans   map[netip.Prefix]control.Ban
	allows []control.Allow
	// fail answers every call where it is set; hang lets every call wait until its caller goes.
	fail   error
	hang   bool
	note   string // of the answer to a hook
	took   string // what the leader says of a commit
	status control.Status
	diff   control.Diff
	left   func()
	// watched is told when a reader has got all events.
	watched chan struct{}
}

var _ server.Agent = (*fakeAgent)(nil)

func newFakeAgent() *fakeAgent {
	leader := "router2"
	return &fakeAgent{
		bans: map[netip.Prefix]control.Ban{},
		left: func() {}, watched: make(chan struct{}, 10),
		status: control.Status{
			Name: "router1", Version: "test", UptimeS: 93784, Members: control.MemberCount{Alive: 3}, Leader: &leader, Term: 4, Since: 1767225600000, Eligible: true, InSync: true, Root: "00",
			Commit: control.CommitStatus{Driver: "netconf", State: "idle", Committed: 2},
		},
		diff: control.Diff{Add: prefixes("203.0.113.7/32"), Foreign: prefixes("198.51.100.0/24")},
	}
}

func prefixes(s ...string) control.Prefixes {
	var out control.Prefixes
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// enter notes a call, and fails or hangs as told.
func (a *fakeAgent) enter(ctx context.Context, name string, call any) error {
	b, _ := json.Marshal(call)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.hang {
		a.mu.Unlock()
		<-ctx.Done()
		a.mu.Lock()
		return ctx.Err()
	}
	a.calls = append(a.calls, name+" "+string(b))
	return a.fail
}

func (a *fakeAgent) Ban(ctx context.Context, c control.BanCall) (control.BanReply, error) {
	var r control.BanReply
	if err := a.enter(ctx, "ban", c); err != nil {
		return r, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if c.DryRun {
		r.New = len(c.Bans())
		return r, nil
	}
	for _, o := range c.Bans() {
		p, jail := o.Prefix, cmp.Or(o.Jail, "manual")
		b, found := a.bans[p]
		i := slices.IndexFunc(b.Records, func(r control.Record) bool { return r.Jail == jail })
		rec := control.Record{Origin: "router1", Jail: jail, Start: o.Start, Until: o.Until, Failures: o.Failures, Reason: o.Reason}
		switch {
		case i < 0:
			r.New++
			b.Records = append(b.Records, rec)
		case b.Records[i].Until < o.Until:
			r.Extended++
			b.Records[i] = rec
		default:
			r.Known++
		}
		if !found {
			b.Prefix, b.Effective = p.String(), true
		}
		if p.Addr().IsPrivate() {
			r.Exempted = append(r.Exempted, p)
			b.Effective, b.ReasonNotEffective = false, "never-ban 10.0.0.0/8"
		}
		b.Until = max(b.Until, o.Until)
		a.bans[p] = b
	}
	return r, nil
}

func (a *fakeAgent) Unban(ctx context.Context, c control.UnbanCall) (control.UnbanReply, error) {
	r := control.UnbanReply{Lifted: []control.Lifted{}}
	if err := a.enter(ctx, "unban", c); err != nil {
		return r, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	ps := c.Prefixes
	if c.All {
		ps = a.sorted()
	}
	for _, p := range ps {
		l := control.Lifted{Prefix: p.String(), Offences: len(a.bans[p].Records)}
		if !c.DryRun {
			delete(a.bans, p)
		}
		for _, q := range a.sorted() {
			if q.Bits() < p.Bits() && q.Contains(p.Addr()) {
				l.Covering = append(l.Covering, q)
			}
		}
		r.Lifted = append(r.Lifted, l)
	}
	return r, nil
}

func (a *fakeAgent) sorted() control.Prefixes {
	var out control.Prefixes
	for p := range a.bans {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}

func (a *fakeAgent) Allow(ctx context.Context, c control.AllowCall) (control.AllowReply, error) {
	if err := a.enter(ctx, "allow", c); err != nil {
		return control.AllowReply{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range c.Prefixes {
		a.allows = append(a.allows, control.Allow{Prefix: p.String(), Since: control.Time(1767225600000), Until: c.Until, Comment: c.Comment, Origin: "router1"})
	}
	return control.AllowReply{Covered: 1}, nil
}

func (a *fakeAgent) DropAllow(ctx context.Context, c control.DropAllowCall) (control.DropAllowReply, error) {
	var r control.DropAllowReply
	if err := a.enter(ctx, "drop-allow", c); err != nil {
		return r, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range c.Prefixes {
		i := slices.IndexFunc(a.allows, func(w control.Allow) bool { return w.Prefix == p.String() })
		if i < 0 {
			r.Missing = append(r.Missing, p)
			continue
		}
		a.allows = slices.Delete(a.allows, i, i+1)
		r.Dropped++
	}
	return r, nil
}

func (a *fakeAgent) Allows(ctx context.Context) ([]control.Allow, error) {
	err := a.enter(ctx, "allows", nil)
	return a.allows, err
}

func (a *fakeAgent) Fail2ban(ctx context.Context, c control.HookCall) (control.HookReply, error) {
	err := a.enter(ctx, "fail2ban", c)
	a.mu.Lock()
	defer a.mu.Unlock()
	return control.HookReply{Note: a.note}, err
}

func (a *fakeAgent) TakeIn(ctx context.Context, c control.TakeInCall) (control.TakeInReply, error) {
	var r control.TakeInReply
	for _, b := range c.Bans {
		one, err := a.Ban(ctx, control.BanCall{Prefixes: control.Prefixes{b.Prefix}, Jail: b.Jail, Start: b.Start, Until: b.Until, Restored: true})
		if err != nil {
			return r, err
		}
		r.New, r.Known = r.New+one.New, r.Known+one.Known
	}
	return r, nil
}

func (a *fakeAgent) List(ctx context.Context, q control.ListQuery) (iter.Seq[control.Ban], int, error) {
	if err := a.enter(ctx, "list", q.Prefix); err != nil {
		return nil, 0, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []control.Ban
	for _, p := range a.sorted() {
		b := a.bans[p]
		if (!q.Prefix.IsValid() || q.Prefix.Overlaps(p)) && (q.Effective == nil || *q.Effective == b.Effective) &&
			slices.ContainsFunc(b.Records, func(r control.Record) bool {
				return (q.Jail == "" || q.Jail == r.Jail) && (q.Origin == "" || q.Origin == r.Origin) && r.Start >= q.Since && (q.Until == 0 || r.Start < q.Until)
			}) {
			out = append(out, b)
		}
	}
	if q.Sort == "failures" {
		slices.SortStableFunc(out, func(x, y control.Ban) int { return int(y.Records[0].Failures) - int(x.Records[0].Failures) })
	}
	total := len(out)
	if q.Limit > 0 {
		out = out[:min(q.Limit, total)]
	}
	return slices.Values(out), total, nil
}

func (a *fakeAgent) History(ctx context.Context, q control.HistoryQuery) (control.History, error) {
	h := control.History{Events: []control.Past{}, Entries: 2, From: 1767225600000}
	if err := a.enter(ctx, "history", q); err != nil {
		return h, err
	}
	until := control.Until(1767229200000)
	for _, p := range []control.Past{
		{Time: 1767225660000, Event: "lift", Prefix: "203.0.113.7/32", Origin: "router1", Jail: "sshd", By: "router2", Start: 1767225600000, Until: &until},
		{Time: 1767225600123, Event: "ban", Prefix: "203.0.113.7/32", Origin: "router1", Jail: "sshd", Start: 1767225600000, Until: &until, Failures: 5, Reason: "tries"},
	} {
		if q.Since > p.Time || q.Prefix.IsValid() && !q.Prefix.Contains(netip.MustParsePrefix(p.Prefix).Addr()) || len(q.Kinds) > 0 && !slices.Contains(q.Kinds, p.Event) {
			continue
		}
		if len(h.Events) == q.Limit && q.Limit > 0 {
			h.More = true
			break
		}
		h.Events = append(h.Events, p)
	}
	return h, nil
}

func (a *fakeAgent) Stats(ctx context.Context, q control.StatsQuery) (control.Stats, error) {
	share := control.Share{Live: 1, Past: 2, Total: 3}
	return control.Stats{
		Time: 1767225600000, From: 1767139200000, Bans: share, Lifts: 1, Expired: 1, Distinct: 1,
		Jails: []control.NamedShare{{Name: "sshd", Share: share}}, Routers: []control.NamedShare{{Name: "router1", Share: share}},
		Networks:  []control.NetShare{{Prefix: "203.0.113.0/24", Share: share, Place: control.Place{ASN: 64500, ASName: "Example", Country: "DE"}}},
		Repeaters: []control.Repeater{{Prefix: "203.0.113.7/32", Times: 3, Live: true, Last: 1767225600000}},
		Days:      []control.DayCount{{Day: "2025-12-31", Bans: 2, Lifts: 1, Expired: 1}, {Day: "2026-01-01", Bans: 1}},
		ASNs:      []control.ASNShare{{ASN: 64500, Name: "Example", Share: share}},
	}, a.enter(ctx, "stats", q)
}

func (a *fakeAgent) Why(ctx context.Context, of netip.Prefix) (control.Why, error) {
	ip := of.Addr()
	y := control.Why{IP: control.Bare(of.String())}
	if err := a.enter(ctx, "why", ip); err != nil {
		return y, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, b := range a.bans {
		if of.Contains(p.Addr()) && of.Bits() < p.Bits() {
			y.Known = true
			y.Inside++
		}
		if !p.Contains(ip) || p.Bits() > of.Bits() {
			continue
		}
		y.Known, y.Banned, y.Effective, y.ReasonNotEffective = true, true, b.Effective, b.ReasonNotEffective
		for _, r := range b.Records {
			y.Bans = append(y.Bans, control.WhyBan{Prefix: b.Prefix, Record: r, State: "live"})
		}
		y.Origins, y.Times = 1, len(b.Records)
	}
	return y, nil
}

func (a *fakeAgent) Members(ctx context.Context) ([]control.Member, error) {
	return []control.Member{
		{Name: "router1", Addr: "192.0.2.1:7946", State: "alive", Self: true, InSync: true, Version: "test"},
		{Name: "router2", Addr: "192.0.2.2:7946", State: "alive", Leader: true, InSync: false, SkewMS: -1500, Version: "test"},
		{Name: "router-with-a-long-name", Addr: "[2001:db8::3]:7946", State: "failed", SkewMS: 90000, Version: "old"},
	}, a.enter(ctx, "members", nil)
}

func (a *fakeAgent) Status(ctx context.Context) (control.Status, error) {
	err := a.enter(ctx, "status", nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	s.Bans = control.BanCount{Live: len(a.bans), Effective: len(a.bans), Own: len(a.bans)}
	return s, err
}

func (a *fakeAgent) Diff(ctx context.Context) (control.Diff, error) {
	err := a.enter(ctx, "diff", nil)
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.diff, err
}

func (a *fakeAgent) Events(ctx context.Context, yield func(control.Event) error) error {
	for i, kind := range []string{"ban", "lift", "commit", "failed"} {
		e := control.Event{Time: control.Time(1767225600000 + int64(i)), Event: kind}
		switch kind {
		case "ban":
			e.Prefix, e.Origin, e.Jail, e.Until = "203.0.113.7/32", "router2", "sshd", control.Never
		case "lift":
			e.Prefix, e.By = "203.0.113.7/32", "router1"
		case "commit":
			e.Add, e.Remove = 2, 1
		case "failed":
			e.Name = "router3"
		}
		if err := yield(e); err != nil {
			return err
		}
	}
	a.watched <- struct{}{}
	<-ctx.Done()
	return nil
}

func (a *fakeAgent) Commit(ctx context.Context, c control.CommitCall) (control.CommitReply, error) {
	err := a.enter(ctx, "commit", c)
	a.mu.Lock()
	defer a.mu.Unlock()
	if !c.DryRun {
		a.status.Commit.LastCommit = control.At(time.Now())
	}
	return control.CommitReply{Diff: a.diff, Committed: !c.DryRun, Leader: "router2", Detail: a.took}, err
}

func (a *fakeAgent) Join(ctx context.Context, c control.JoinCall) (control.JoinReply, error) {
	var r control.JoinReply
	err := a.enter(ctx, "join", c)
	for _, addr := range c.Addrs {
		if addr == "nobody:7946" {
			r.Failed = append(r.Failed, "nobody:7946: connection refused")
			continue
		}
		r.Joined++
	}
	return r, err
}

func (a *fakeAgent) Leave(ctx context.Context) error {
	err := a.enter(ctx, "leave", nil)
	if err == nil {
		a.left()
	}
	return err
}

func (a *fakeAgent) Freeze(ctx context.Context) error { return a.enter(ctx, "freeze", nil) }
func (a *fakeAgent) Forget(ctx context.Context, c control.ForgetCall) error {
	return a.enter(ctx, "forget", c)
}
func (a *fakeAgent) Thaw(ctx context.Context) error { return a.enter(ctx, "thaw", nil) }

func (a *fakeAgent) Revoke(ctx context.Context, c control.RevokeCall) (control.RevokeReply, error) {
	if c.Origin == "ruoter3" {
		return control.RevokeReply{}, a.enter(ctx, "revoke", c)
	}
	return control.RevokeReply{Lifted: 3}, a.enter(ctx, "revoke", c)
}

func (a *fakeAgent) Invite(ctx context.Context, c control.InviteCall) (control.InviteReply, error) {
	return control.InviteReply{Token: "banmesh1-AAAA", Addrs: []string{"192.0.2.1:7946"}}, a.enter(ctx, "invite", c)
}

func (a *fakeAgent) Invitations(ctx context.Context) ([]control.Invitation, error) {
	return []control.Invitation{
		{ID: "a1b2c3d4", Name: "mail2", Made: 1767225600000, Until: 1767226500000}, {ID: "e5f6a7b8", Made: 1767225600000, Until: 1767226500000},
	}, a.enter(ctx, "invitations", nil)
}

func (a *fakeAgent) Uninvite(ctx context.Context, c control.UninviteCall) (control.UninviteReply, error) {
	return control.UninviteReply{Cancelled: []control.Invitation{{ID: "a1b2c3d4", Name: "mail2"}}}, a.enter(ctx, "uninvite", c)
}

func (a *fakeAgent) Keyring(ctx context.Context, c control.KeyringCall) (control.KeyringReply, error) {
	return control.KeyringReply{Members: 3, Keys: []control.KeyState{{Key: "SHA256:bm90YXJlYWxuYW1l", Holders: 3, Primary: 3}}}, a.enter(ctx, "keyring", c)
}

// mode makes the agent behave in a way.
func (a *fakeAgent) mode(name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fail, a.hang, a.note = nil, false, ""
	switch name {
	case "well":
	case "hangs":
		a.hang = true
	case "stays-lifted":
		a.note = "stays unbanned: it was lifted"
	case "starting":
		a.fail = control.Errorf(control.CodeUnavailable, "the agent is starting")
	case "failing":
		a.fail = errors.New("write the store: no space left on device")
	case "refusing":
		a.fail = control.Errorf(control.CodeInvalid, "ban 203.0.113.7: refused by the store")
	case "in-trouble":
		reason := "lock the candidate: the conductor is busy\nsession 7 holds it"
		a.status.Eligible, a.status.Why = false, "the conductor refuses the login"
		a.status.Leader, a.status.InSync, a.status.SkewMS, a.status.Spooled = nil, false, -90000, 3
		a.status.Members.Failed, a.status.Frozen, a.status.FrozenBy, a.status.Blocked = 1, true, "router3", []string{"router9"}
		a.status.Commit = control.CommitStatus{Driver: "netconf", State: "waiting", Detail: "for admin's uncommitted edits (session 7)", PendingAdd: 2, Held: 12, LastError: &reason}
		a.status.Warnings = []string{"router3 is gone since 5 min: start its agent, or banmesh leave there"}
	case "tells-how-long":
		a.took = "1 added, 0 removed in 350ms"
	case "nothing-to-commit":
		a.diff = control.Diff{}
	case "without-conductor":
		a.status.Commit = control.CommitStatus{Driver: "none", State: "off"}
	default:
		return fmt.Errorf("no mode %q", name)
	}
	return nil
}
