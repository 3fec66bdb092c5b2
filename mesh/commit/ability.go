package commit

import (
	"errors"
	"math/rand/v2"
	"time"

	"banmesh/internal/random"
	"banmesh/mesh/conductor"
)

// ability is whether this member reaches the conductor, by its last attempt or
// reading, and when it looks again. Sessions are few and refused logins lock the
// account, so it looks rarely.
type ability struct {
	able   bool
	why    string
	next   time.Time // next reading
	okAt   time.Time // last success
	locked time.Time // not before, also on request: credentials were refused
	edits  time.Time // not before: edits fail here although the conductor can be read
	tried  bool
	login  time.Duration
	retry  backoff
	tuning tuning
	random *rand.Rand
}

func newAbility(cfg Config) ability {
	r := random.New(cfg.Random)
	return ability{why: "the conductor has not been tried yet", tuning: cfg.tuning, random: r,
		retry: backoff{least: cfg.tuning.MinBackoff, most: cfg.tuning.MaxBackoff, random: r}}
}

func (a *ability) start(now time.Time) {
	// A whole fleet may start at once, and the conductor bears few sessions.
	a.next = now.Add(random.Below(a.random, 300*time.Millisecond))
}

// succeeded notes that the conductor answered. Where edits fail, that it can be
// read makes this member no more able than it was.
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

// failed notes an error and reports whether it is this member that cannot. A
// reading can hardly fail for another reason; an edit can.
func (a *ability) failed(now time.Time, err error, reading bool) bool {
	switch {
	case errors.Is(err, conductor.ErrLogin):
		if a.login == 0 {
			a.login = a.tuning.LoginWait
		} else {
			a.login = min(2*a.login, 3*a.tuning.LoginWait)
		}
		a.locked = now.Add(a.login)
		a.next = a.locked
	case errors.Is(err, errRecord): // a reading that succeeds fixes nothing
		a.locked = now.Add(a.tuning.MaxBackoff)
		a.next = a.locked
	case reading, errors.Is(err, conductor.ErrUnreachable), errors.Is(err, conductor.ErrHostKey):
		a.retry.failed(now)
		a.next = a.retry.at
	default:
		return false
	}
	a.able, a.tried, a.why = false, true, err.Error()
	return true
}

// editFailed notes that an edit failed for a reason that lies in the conductor or
// the way to it: until then another member may try.
func (a *ability) editFailed(until time.Time) {
	a.edits = until
	if a.next.Before(until) {
		a.next = until
	}
}

// barred reports whether the conductor must not be tried now.
func (a *ability) barred(now time.Time) bool { return now.Before(a.locked) }

// soon asks for a reading where the last success is old.
func (a *ability) soon(now time.Time) {
	const fresh = time.Minute
	if a.barred(now) || (a.able && now.Sub(a.okAt) < fresh) {
		return
	}
	if at := now.Add(random.Below(a.random, 200*time.Millisecond)); at.Before(a.next) {
		a.next = at
	}
}

// backoff is the time between attempts while they fail.
type backoff struct {
	least, most time.Duration
	at          time.Time // not before; zero: at once
	wait        time.Duration
	random      *rand.Rand
}

func (b *backoff) failed(now time.Time) {
	b.wait = min(max(2*b.wait, b.least), b.most)
	// A quarter either way, so that members do not come in step.
	b.at = now.Add(min(max(b.wait*3/4+random.Below(b.random, b.wait/2), b.least), b.most))
}

// atLeast puts the next try off until t, if it comes before.
func (b *backoff) atLeast(t time.Time) {
	if b.at.Before(t) {
		b.at = t
	}
}

func (b *backoff) reset()                    { b.at, b.wait = time.Time{}, 0 }
func (b *backoff) passed(now time.Time) bool { return !now.Before(b.at) }
