package mesh

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"banmesh/mesh/control"
	"banmesh/mesh/control/server"
	"banmesh/mesh/gossip"
	"banmesh/mesh/spool"
	"banmesh/store"
)

// The agent answers the control API. Its calls are here, and in a file each where one
// needs more than a few lines: commit, forget, invite, past, status, takein, why.
var _ server.Agent = (*Agent)(nil)

// maxShown bounds the lists of prefixes in a reply to a bulk call.
// A reply of a bulk call is read by a person; the counts beside it are complete.
const maxShown = 100

// Ban stores the bans; they are on disk when it returns.
func (a *Agent) Ban(ctx context.Context, c control.BanCall) (control.BanReply, error) {
	if !c.DryRun {
		a.waiting.drainFirst(ctx)
	}
	return a.ban(ctx, c)
}

// ban translates a call into the store's terms and its answer back. Times come by this router's clock and are
// shifted to the mesh's, if the clock is known to be wrong; the answer is shifted back, so that the caller is
// told an end by the clock it looks at.
func (a *Agent) ban(ctx context.Context, c control.BanCall) (control.BanReply, error) {
	bans := c.Bans()
	prefixes := make([]netip.Prefix, len(bans))
	reqs := make([]store.BanRequest, len(bans))
	shift := store.Millis(a.clock.shift().Milliseconds())
	for i, b := range bans {
		prefixes[i] = b.Prefix
		reqs[i] = store.BanRequest{
			Prefix: b.Prefix, Jail: b.Jail, Start: store.Millis(b.Start), Until: store.Millis(b.Until),
			Failures: b.Failures, Reason: b.Reason, Restored: c.Restored, Force: c.Force,
		}
		// 0 lets the store take its own now.
		if reqs[i].Start != 0 {
			reqs[i].Start += shift
		}
		if reqs[i].Until != store.Never {
			reqs[i].Until += shift
		}
	}
	// Refused here, at the author: what is over a limit at every other member would look banned on this router only.
	if err := a.tooWide(store.KindBan, prefixes); err != nil {
		return control.BanReply{}, err
	}
	ban := a.store.Ban
	if c.DryRun {
		ban = a.store.WouldBan
	}
	banned, err := ban(ctx, reqs)
	if err != nil {
		return control.BanReply{}, refusal(err)
	}
	const rounding = 1000 // fail2ban rounds to seconds, and a second more is no news
	var reply control.BanReply
	for i, b := range banned {
		if err := a.count(&reply, b.Outcome, prefixes[i]); err != nil {
			return reply, err
		}
		if b.Until == 0 {
			continue
		}
		until := control.Until(b.Until)
		// The answer is by the caller's clock again.
		if b.Until != store.Never {
			until = control.Until(b.Until - shift)
		}
		reply.Until = max(reply.Until, until)
		// bans.max_duration has cut it. Imports (Each) carry many ends, of which one line says nothing.
		if len(c.Each) == 0 && b.Until < reqs[i].Until-rounding {
			reply.ShortenedTo = max(reply.ShortenedTo, until)
		}
	}
	return reply, nil
}

// count adds what became of one ban to a reply.
func (a *Agent) count(r *control.BanReply, o store.BanOutcome, p netip.Prefix) error {
	switch o {
	case store.BanNew:
		r.New++
	case store.BanExtended:
		r.Extended++
	case store.BanKnown:
		r.Known++
	case store.BanExpired:
		r.Expired++
	case store.BanStaysLifted:
		r.StaysLifted++
		if len(r.Lifted) < maxShown {
			r.Lifted = append(r.Lifted, p)
		}
	case store.BanOverLimit:
		return control.Errorf(control.CodeConflict,
			"ban %v: this router already holds as many records as it may: lift some, or raise limits.live_per_origin", p)
	}
	if len(r.Exempted) < maxShown && a.store.Exempts(p) {
		r.Exempted = append(r.Exempted, p)
	}
	return nil
}

// refusal gives an error of the store the code with which it travels.
func refusal(err error) error {
	var invalid *store.InvalidError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	// Unavailable tells a caller that it may try again, or spool the call.
	case errors.Is(err, store.ErrClosed):
		return &control.Error{Code: control.CodeUnavailable, Message: "the agent is stopping"}
	}
	return &control.Error{Code: control.CodeUnavailable, Message: err.Error()}
}

// Unban lifts what this agent has seen of the prefixes.
func (a *Agent) Unban(ctx context.Context, c control.UnbanCall) (control.UnbanReply, error) {
	if c.DryRun {
		c.At = 0
		lifted, err := a.lift(ctx, c)
		return unbanned(lifted), err
	}
	a.waiting.drainFirst(ctx)
	seen := c
	// c keeps its At, by which the repetition spares bans that begin later.
	seen.At = 0 // it is said now: all that is seen is meant, whatever a clock says of when it began
	reply, err := a.unban(ctx, c, seen)
	if err == nil {
		reply.Unnotified = a.peers.Unnotified()
	}
	return reply, err
}

// unban lifts what seen names, and has c repeated where it is too early to know
// that it lifted everything.
func (a *Agent) unban(ctx context.Context, c, seen control.UnbanCall) (control.UnbanReply, error) {
	// The allow first: if the lift came first, fail2ban could ban again in between.
	if c.Hold != 0 {
		err := a.allow(ctx, c.Prefixes, c.Hold, "held by unban")
		if err != nil {
			return control.UnbanReply{}, err
		}
	}
	lifted, err := a.lift(ctx, seen)
	if err != nil {
		return control.UnbanReply{}, err
	}
	if err := a.waiting.early.add(ctx, c, a.clock.raw()); err != nil {
		return control.UnbanReply{}, refusal(err)
	}
	if n := limited(lifted); n > 0 {
		return control.UnbanReply{}, a.tooManyLifts("unban", n, len(lifted), "from another router")
	}
	return unbanned(lifted), nil
}

// unbanned keeps the order of the prefixes that were asked for.
func unbanned(lifted []store.Lifted) control.UnbanReply {
	reply := control.UnbanReply{Lifted: make([]control.Lifted, len(lifted))}
	for i, l := range lifted {
		reply.Lifted[i] = control.Lifted{Prefix: l.Prefix.String(), Offences: l.Offences, Covering: l.Covering}
	}
	return reply
}

// limited counts what was not lifted because this router's lifts are as many as count.
func limited(all []store.Lifted) (n int) {
	for _, l := range all {
		if l.Limited {
			n++
		}
	}
	return n
}

// tooManyLifts says that n of all were not lifted, and what can be done instead
// of waiting.
func (a *Agent) tooManyLifts(command string, n, all int, instead string) error {
	return control.Errorf(control.CodeConflict,
		"%s: %d of %d are not lifted: a router's lifts of others' bans count up to limits.lifts_per_minute_per_origin (%d) and limits.lifts_per_origin (%d); again in a minute, or %s",
		command, n, all, a.cfg.Limits.LiftsPerMinutePerOrigin, a.cfg.Limits.LiftsPerOrigin, instead)
}

// lift spares offences that began after the call was made (At), so that an unban which waited in a spool does
// not undo a ban given meanwhile.
func (a *Agent) lift(ctx context.Context, c control.UnbanCall) ([]store.Lifted, error) {
	req := store.LiftRequest{
		Prefixes: c.Prefixes, All: c.All, Jail: c.Jail, Mine: c.Mine, Confirmed: c.Confirmed,
	}
	if c.At != 0 {
		// fail2ban rounds times to the second: an offence of the same second is what the unban was about.
		req.StartedBefore = store.Millis(c.At) + 1000 + store.Millis(a.clock.shift().Milliseconds())
	}
	lift := a.store.Lift
	if c.DryRun {
		lift = a.store.WouldLift
	}
	lifted, err := lift(ctx, req)
	return lifted, refusal(err)
}

// Allow takes prefixes out of every ban until then.
func (a *Agent) Allow(ctx context.Context, c control.AllowCall) (control.AllowReply, error) {
	a.waiting.drainFirst(ctx)
	if err := a.allow(ctx, c.Prefixes, c.Until, c.Comment); err != nil {
		return control.AllowReply{}, err
	}
	covered := 0
	for _, p := range c.Prefixes {
		covered += len(a.store.List(store.Query{Prefix: p}))
	}
	for _, e := range a.store.Allows() {
		if e.Reason != "" && e.Origin == a.cfg.Name && slices.Contains(c.Prefixes, e.Prefix) {
			return control.AllowReply{}, control.Errorf(control.CodeConflict,
				"allow %v: it is stored and does not count: %s; remove others, or raise limits.allows_per_origin and limits.widest_allow_ipv4/_ipv6 on all routers", e.Prefix, e.Reason)
		}
	}
	return control.AllowReply{Covered: covered}, nil
}

// allow refuses at its author what every other member would leave out for its width.
func (a *Agent) allow(ctx context.Context, prefixes []netip.Prefix, until control.Until, comment string) error {
	if err := a.tooWide(store.KindAllow, prefixes); err != nil {
		return err
	}
	reqs := make([]store.AllowRequest, len(prefixes))
	for i, p := range prefixes {
		reqs[i] = store.AllowRequest{Prefix: p, Until: store.Millis(until), Comment: comment}
	}
	return refusal(a.store.Allow(ctx, reqs))
}

// tooWide refuses what would be stored and count nowhere.
func (a *Agent) tooWide(kind store.Kind, prefixes []netip.Prefix) error {
	key := "widest"
	if kind == store.KindAllow {
		key = "widest_allow"
	}
	limits := a.cfg.Limits.Store()
	for _, p := range prefixes {
		if why := limits.TooWide(kind, p); why != "" {
			family := "ipv4"
			if p.Addr().Is6() {
				family = "ipv6"
			}
			return control.Errorf(control.CodeInvalid, "%s %v: %s: see limits.%s_%s", kind, p, why, key, family)
		}
	}
	return nil
}

// DropAllow ends allows, from whichever router they came.
func (a *Agent) DropAllow(ctx context.Context, c control.DropAllowCall) (control.DropAllowReply, error) {
	held := make(map[netip.Prefix]bool)
	for _, e := range a.store.Allows() {
		held[e.Prefix] = true
	}
	var reply control.DropAllowReply
	for _, p := range c.Prefixes {
		if !held[p] {
			reply.Missing = append(reply.Missing, p)
		}
	}
	dropped, err := a.store.DropAllow(ctx, c.Prefixes)
	reply.Dropped = dropped
	// Partly done is reported as done with a rest: an error would have the operator repeat what has happened.
	if errors.Is(err, store.ErrLimited) && dropped > 0 {
		reply.Limited = len(c.Prefixes) - len(reply.Missing) - dropped
		return reply, nil
	}
	return reply, refusal(err)
}

// NeverBans are the prefixes that members protect, with who does.
func (a *Agent) NeverBans(context.Context) ([]control.WhyNeverBan, error) {
	var out []control.WhyNeverBan
	for _, e := range a.store.NeverBans() {
		out = append(out, control.WhyNeverBan{Prefix: e.Prefix.String(), Origin: e.Origin})
	}
	return out, nil
}

// Allows returns the live entries of the allow-list.
func (a *Agent) Allows(context.Context) ([]control.Allow, error) {
	var out []control.Allow
	for _, e := range a.store.Allows() {
		out = append(out, control.Allow{
			Prefix: e.Prefix.String(), Since: control.Time(e.Start), Until: control.Until(e.Until), Comment: e.Comment, Origin: e.Origin, Ignored: e.Reason,
		})
	}
	return out, nil
}

// Fail2ban gives a hook of the fail2ban action its meaning.
func (a *Agent) Fail2ban(ctx context.Context, c control.HookCall) (control.HookReply, error) {
	return a.waiting.hookOn(ctx, c)
}

// applySpooled does what a call says that no agent took in time.
func (a *Agent) applySpooled(ctx context.Context, e spool.Entry) error {
	var err error
	switch {
	case e.Ban != nil:
		_, err = a.ban(ctx, *e.Ban)
	case e.Unban != nil:
		_, err = a.unban(ctx, *e.Unban, *e.Unban)
	case e.Hook != nil:
		_, err = a.fail2ban.hook(ctx, *e.Hook)
	}
	var refused *control.Error
	// Only what can never be applied is set aside. Anything else stays in the spool and is tried again.
	if errors.As(err, &refused) && refused.Code != control.CodeUnavailable && refused.Code != control.CodeInternal {
		return fmt.Errorf("%w: %w", spool.ErrRefused, err)
	}
	return err
}

// orders are those of control.ListSorts.
var orders = map[string]store.Sort{
	"": store.ByPrefix, "prefix": store.ByPrefix, "until": store.ByUntil, "start": store.ByStart, "routers": store.ByRouters,
	"failures": store.ByFailures, "origin": store.ByOrigin, "jail": store.ByJail,
}

// List yields the live bans that a query selects, and how many there are without its Offset and Limit.
func (a *Agent) List(_ context.Context, q control.ListQuery) (bans iter.Seq[control.Ban], total int, err error) {
	if err := q.Validate(); err != nil {
		return nil, 0, control.Errorf(control.CodeInvalid, "%v", err)
	}
	entries, total := a.store.Find(store.Query{
		Prefix: q.Prefix, Jail: q.Jail, Origin: q.Origin, Since: store.Millis(q.Since), Until: store.Millis(q.Until),
		Effective: q.Effective, Sort: orders[q.Sort], Offset: q.Offset, Limit: q.Limit,
	})
	committed, alive := a.lead.committedNow(), a.lead.quorum.Alive()
	return func(yield func(control.Ban) bool) {
		for i := range entries {
			b := listed(&entries[i], committed(entries[i].Prefix))
			if !b.Committed {
				b.WaitsForQuorum = a.lead.quorum.Wait(&entries[i], alive)
			}
			if !yield(b) {
				return
			}
		}
	}, total, nil
}

// listed is the shape of `list --json`; its fields are documented in docs/interfaces.md.
func listed(e *store.Entry, committed bool) control.Ban {
	b := control.Ban{
		Prefix: e.Prefix.String(), Effective: e.Effective, ReasonNotEffective: e.Reason, Except: e.Except,
		Until: control.Until(e.Until), Committed: committed, Held: e.Held, Records: make([]control.Record, len(e.Records)),
	}
	for i, r := range e.Records {
		b.Records[i] = control.Record{
			Origin: r.Origin, Jail: r.Jail, Start: control.Time(r.Start), Until: control.Until(r.Until),
			Failures: r.Failures, Reason: r.Reason,
		}
	}
	return b
}

// Events calls yield with each event from now on.
func (a *Agent) Events(ctx context.Context, yield func(control.Event) error) error {
	return a.watchers.events.Read(ctx, yield)
}

// Join adds members; it is remembered over restarts.
func (a *Agent) Join(ctx context.Context, c control.JoinCall) (control.JoinReply, error) {
	joined, err := a.mesh.Join(ctx, c.Addrs)
	reply := control.JoinReply{Joined: joined}
	if err != nil {
		if joined == 0 {
			return reply, &control.Error{Code: control.CodeUnavailable, Message: err.Error()}
		}
		reply.Failed = []string{err.Error()}
	}
	return reply, nil
}

// Leave tells the others, takes the bans off this router and starts the clean stop,
// whether or not the caller waits for that: once begun, nobody else would do it.
func (a *Agent) Leave(ctx context.Context) error {
	// The caller may be gone already: `banmesh leave` stopped by a user must not leave bans that nobody ends.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), takeOffWithin)
	defer cancel()
	a.life.forGood.Store(true)
	err := errors.Join(a.life.announce(ctx, a.mesh.Leave), a.life.takeOff(ctx, a.enforcement))
	a.life.stop()
	return err
}

// Freeze stops additions at the conductor and in local enforcement, mesh-wide.
func (a *Agent) Freeze(ctx context.Context) error { return refusal(a.store.Freeze(ctx)) }

// Thaw lifts every freeze that this agent has seen.
func (a *Agent) Thaw(ctx context.Context) error { return refusal(a.store.Thaw(ctx)) }

// Revoke lifts what one router made, and blocks it where asked.
func (a *Agent) Revoke(ctx context.Context, c control.RevokeCall) (control.RevokeReply, error) {
	if c.DryRun {
		lifted, err := a.store.WouldLift(ctx, store.LiftRequest{Origin: c.Origin, Since: store.Millis(c.Since)})
		return control.RevokeReply{Lifted: len(lifted)}, refusal(err)
	}
	if c.Unblock {
		return control.RevokeReply{}, refusal(a.store.Unblock(ctx, c.Origin))
	}
	if c.Block {
		if err := a.store.Block(ctx, c.Origin); err != nil {
			return control.RevokeReply{}, refusal(err)
		}
	}
	lifted, err := a.store.Lift(ctx, store.LiftRequest{Origin: c.Origin, Since: store.Millis(c.Since), Confirmed: c.Confirmed})
	n := limited(lifted)
	// Two members that block each other: whose block counts is decided by others, so that a compromised one cannot win by
	// being faster.
	if err == nil && c.Block && c.Origin != a.cfg.Name && a.store.Ignores(a.cfg.Name) {
		return control.RevokeReply{}, control.Errorf(control.CodeConflict,
			"revoke: %s is blocked, but it has blocked this router as well: give the same command at another router, which decides between the two", c.Origin)
	}
	if err == nil && n > 0 && !c.Block { // what is blocked counts for nothing, lifted or not
		return control.RevokeReply{}, a.tooManyLifts("revoke", n, len(lifted), "with --block, which has no limit")
	}
	return control.RevokeReply{Lifted: len(lifted) - n}, refusal(err)
}

// Keyring lists or changes the gossip keys of the whole mesh.
func (a *Agent) Keyring(ctx context.Context, c control.KeyringCall) (control.KeyringReply, error) {
	var err error
	switch c.Op {
	case "install":
		err = a.mesh.InstallKey(ctx, c.Key)
	case "use":
		err = a.mesh.UseKey(ctx, c.Key, c.Force)
	case "remove":
		err = a.mesh.RemoveKey(ctx, c.Key, c.Force)
	}
	if err != nil {
		return control.KeyringReply{}, &control.Error{Code: control.CodeConflict, Message: err.Error()}
	}
	keys, err := a.mesh.ListKeys(ctx)
	var reply control.KeyringReply
	for _, m := range a.mesh.Members() {
		if m.State == gossip.Alive {
			reply.Members++
		}
	}
	for _, k := range keys {
		reply.Keys = append(reply.Keys, control.KeyState{Key: k.Key, Holders: len(k.Members), Primary: len(k.Using)})
	}
	if err != nil {
		reply.Failed = []string{err.Error()}
		if len(keys) == 0 {
			return reply, &control.Error{Code: control.CodeConflict, Message: err.Error()}
		}
	}
	return reply, nil
}
