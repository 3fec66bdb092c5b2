package commit

import (
	"errors"
	"math/rand/v2"
	"time"

	"banmesh/internal/random"
	"banmesh/mesh/conductor"
)

// ability says whether this member reaches the conductor, by its last attempt or reading, and when it tries again. Sessions are
// scarce and refused logins lock the account, so it tries rarely.
type ability struct {
	able   bool
	why    string
	next   time.Time // next reading
	okAt   time.Time // last success
	locked time.Time // not before, even on request: credentials were refused
	edits  time.Time // not before: edits fail here although the conductor can be read
	tried  bool
	login  time.Duration
	retry  backoff
	tuning tuning
	random *rand.Rand
}

// newAbility begins unable: a member may not lead before it has reached the conductor once.
func newAbility(cfg Config) ability {
	r := random.New(cfg.Random)
	return ability{why: "the conductor has not been tried yet", tuning: cfg.tuning, random: r,
		retry: backoff{least: cfg.tuning.MinBackoff, most: cfg.tuning.MaxBackoff, random: r}}
}

func (a *ability) start(now time.Time) {
	// A whole fleet may start at once, and the conductor can handle only a few sessions.
	a.next = now.Add(random.Below(a.random, 300*time.Millisecond))
}

// succeeded records that the conductor answered. If edits fail here, being able to read does not make this member able again.
func (a *ability) succeeded(now time.Time, lead bool) {
	if now.Before(a.edits) {
		a.okAt, a.next = now, a.edits
		return
	}
	every := a.tuning.Probe
	if lead {
		every = a.tuning.Verify
	}
	a.able, a.tried, a.why, a.okAt, a.login = true, true, "", now, 0
	a.locked = time.Time{}
	a.retry.reset()
	a.next = now.Add(every - every/8 + random.Below(a.random, every/4))
}

// failed records an error if this member is the one that cannot. A failed reading almost always means that; a failed edit may
// have other reasons.
func (a *ability) failed(now time.Time, err error, reading bool) {
	switch {
	case errors.Is(err, conductor.ErrLogin):
		if a.login == 0 {
			a.login = a.tuning.LoginWait
		} else {
			a.login = min(2*a.login, 3*a.tuning.LoginWait)
		}
		a.locked = now.Add(a.login)
		a.next = a.locked
	case errors.Is(err, errRecord): // a successful reading does not fix the store
		a.locked = now.Add(a.tuning.MaxBackoff)
		a.next = a.locked
	case reading, errors.Is(err, conductor.ErrUnreachable), errors.Is(err, conductor.ErrHostKey):
		a.retry.failed(now)
		a.next = a.retry.at
	default:
		return
	}
	a.able, a.tried, a.why = false, true, err.Error()
}

// editFailed records that an edit failed because of the conductor or the way to it. Until the given time another member may
// try.
func (a *ability) editFailed(until time.Time) {
	a.edits = until
	if a.next.Before(until) {
		a.next = until
	}
}

// barred reports whether the conductor must not be tried now.
func (a *ability) barred(now time.Time) bool { return now.Before(a.locked) }

// soon requests a reading if the last success is old.
func (a *ability) soon(now time.Time) {
	const fresh = time.Minute
	if a.barred(now) || (a.able && now.Sub(a.okAt) < fresh) {
		return
	}
	if at := now.Add(random.Below(a.random, 200*time.Millisecond)); at.Before(a.next) {
		a.next = at
	}
}

// backoff spaces out attempts while they fail.
type backoff struct {
	least, most time.Duration
	at          time.Time // not before; zero: at once
	wait        time.Duration
	random      *rand.Rand
}

// failed doubles the wait, between the configured bounds.
func (b *backoff) failed(now time.Time) {
	b.wait = min(max(2*b.wait, b.least), b.most)
	// A quarter either way, so that members do not retry in lockstep.
	b.at = now.Add(min(max(b.wait*3/4+random.Below(b.random, b.wait/2), b.least), b.most))
}

// atLeast postpones the next attempt to t if it would come earlier.
func (b *backoff) atLeast(t time.Time) {
	if b.at.Before(t) {
		b.at = t
	}
}

func (b *backoff) reset()                    { b.at, b.wait = time.Time{}, 0 }
func (b *backoff) passed(now time.Time) bool { return !now.Before(b.at) }
