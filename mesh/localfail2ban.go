package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

// localFail2ban is this router's own fail2ban, as the agent hears it and tells it.
type localFail2ban struct {
	client   *fail2ban.Client
	hooks    *fail2ban.Hooks
	notifier *fail2ban.Notifier

	least time.Duration // a shorter ban stays on this router
	clock *clock
	set   *store.Store
	log   *slog.Logger
}

// shift is what must be added to the start that fail2ban noted for a ban. fail2ban keeps it over restarts, and the router's
// clock may have been set meanwhile. With today's shift a known offence would become another one, which no lift covers.
func (l *localFail2ban) shift(jail string, p netip.Prefix, start control.Time) (shift time.Duration, known bool) {
	return l.clock.shiftOf(func(shift time.Duration) bool {
		return l.set.HasOffence(jail, p, store.At(start.Time().Add(shift)))
	})
}

// soon is how long after its start fail2ban tells of a new ban, and more than a clock that drifts is corrected by meanwhile.
const soon = 5 * time.Second

// shiftOfNew is the shift of a ban that fail2ban tells of as it begins. The clock has not been set since, so a ban that began earlier by
// as much as the clock was once off is another one.
func (l *localFail2ban) shiftOfNew(jail string, p netip.Prefix, start control.Time) (shift time.Duration, known bool) {
	today := l.clock.shift()
	if shift, known = l.shift(jail, p, start); (shift - today).Abs() <= soon {
		return shift, known
	}
	return today, false
}

// ahead reports whether a start lies in the future, so that the router's clock was set back since, nobody knows how far. fail2ban
// itself bans by log lines that are up to a minute ahead.
func (l *localFail2ban) ahead(start time.Time) bool {
	return start.After(l.clock.local().Add(time.Minute))
}

// bounds are what the local fail2ban may be told from afar.
func bounds(f *config.Fail2ban) fail2ban.Bounds {
	return fail2ban.Bounds{WidestIPv4: f.WidestIgnoreIPv4, WidestIPv6: f.WidestIgnoreIPv6, PerMinute: f.ToldPerMinute}
}

// hook does what a hook means.
func (l *localFail2ban) hook(ctx context.Context, c control.HookCall) (note string, err error) {
	call := fail2ban.Call{
		Event: fail2ban.Event(c.Event), Jail: c.Jail, Failures: c.Failures, Restored: c.Restored, Called: c.At.Time(),
	}
	if len(c.Prefixes) > 0 {
		call.Prefix = c.Prefixes[0]
	}
	today := l.clock.shift()
	shift := today
	if c.Start != 0 {
		shiftOf := l.shift
		if call.Event == fail2ban.EventBan && !c.Restored && c.At.Time().Sub(c.Start.Time()).Abs() <= soon {
			shiftOf = l.shiftOfNew
		}
		var known bool
		shift, known = shiftOf(c.Jail, call.Prefix, c.Start)
		call.Start = c.Start.Time().Add(shift)
		call.Ahead = !known && l.ahead(call.Start)
	}
	if !call.Called.IsZero() {
		call.Called = call.Called.Add(shift) // like Start: fail2ban compares the two, and ends a ban by its clock
	}
	switch {
	case c.Until == control.Never:
		// fail2ban's own value for a ban without end.
		call.BanTime = -1
	case c.Until != 0:
		until := c.Until.Time().Add(shift)
		if call.Event == fail2ban.EventProlong { // reckoned now, by today's clock
			until = c.Until.Time().Add(today)
		}
		call.BanTime = max(0, until.Sub(call.Start)) // a negative one would be without end
	}
	if call.Event == fail2ban.EventBan && call.BanTime >= 0 && call.BanTime < l.least {
		return "", nil // stays on this router; a prolongation that makes it long enough comes as its own call
	}
	note, err = l.hooks.Handle(ctx, call)
	if errors.Is(err, fail2ban.ErrBadCall) {
		return "", &control.Error{Code: control.CodeInvalid, Message: err.Error()}
	}
	if note != "" {
		l.log.Warn("a ban of fail2ban does not count", "prefix", call.Prefix, "jail", c.Jail, "why", note)
	}
	return note, refusal(err)
}
