package history

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
)

// Change is one address that one commit added to, or removed from, the checked tenant.
type Change struct {
	Event  Event // the commit
	Member string
	Prefix netip.Prefix // masked
}

// Checker judges a history by the rules of safe commits. Other administrators' commits, those that are not Ours, may do
// anything except ignore somebody's lock.
type Checker struct {
	// Tenant is the tenant that our commits may touch.
	Tenant string
	// Ours reports whether to judge a Running event; nil judges all that came through NETCONF or REST.
	Ours func(Event) bool
	// Came and Gone return why a change by one of our commits was not justified; nil allows all.
	Came, Gone func(Change) error
	// MustLock requires that each of our commits was made under a lock of its session.
	MustLock bool
}

// Rule names what a Violation breaks.
type Rule string

// The rules.
const (
	RuleOutside Rule = "outside" // our commit changed something outside the tenant: another administrator's mark
	RuleTenant  Rule = "tenant"  // our commit removed the tenant or a member, or holds an invalid address
	RuleCame    Rule = "came"    // an address came that nothing justified
	RuleGone    Rule = "gone"    // an address vanished that nothing justified
	RuleLock    Rule = "lock"    // two sessions inside lock and unlock, or a commit inside another one's
)

// Violation is one broken rule.
type Violation struct {
	Rule   Rule
	Event  Event
	Detail string
}

func (v Violation) Error() string {
	return fmt.Sprintf("event %d at %s, session %d of %s: %s: %s", v.Event.N, v.Event.Time.Format("15:04:05.000"),
		v.Event.Session, v.Event.User, v.Rule, v.Detail)
}

// lockKey identifies what a lock protects; Scope distinguishes candidates.
type lockKey struct{ store, scope string }

// Check replays events and returns every violation, in order.
func (c Checker) Check(events []Event) []Violation {
	var found []Violation
	locks := make(map[lockKey]uint64)
	tenant := make(map[Address]int) // masked, counted: spellings of one prefix are one address
	for _, e := range events {
		report := func(r Rule, format string, args ...any) {
			found = append(found, Violation{r, e, fmt.Sprintf(format, args...)})
		}
		key := lockKey{e.Store, e.Scope}
		switch e.Kind {
		case Start:
			clear(locks)
			clear(tenant)
			c.account(e, tenant, func(Rule, string, ...any) {})
		case Lock:
			if holder := locks[key]; holder != 0 {
				report(RuleLock, "locked %s while session %d held it", e.Store, holder)
			}
			locks[key] = e.Session
		case Unlock:
			if holder := locks[key]; holder != e.Session {
				report(RuleLock, "unlocked %s that session %d held", e.Store, holder)
			}
			delete(locks, key)
		case Running:
			c.locked(e, locks, report)
			c.commit(e, tenant, report)
		}
	}
	return found
}

// locked checks a commit against the locks held at its time.
func (c Checker) locked(e Event, locks map[lockKey]uint64, report func(Rule, string, ...any)) {
	inside := false
	for key, holder := range locks {
		if holder == e.Session && e.Session != 0 {
			inside = true
			continue
		}
		if key.store == "running" || key.scope == e.Scope {
			report(RuleLock, "committed while session %d held the lock of %s", holder, key.store)
		}
	}
	if c.MustLock && c.ours(e) && !inside {
		report(RuleLock, "committed without a lock")
	}
}

func (c Checker) ours(e Event) bool {
	if c.Ours != nil {
		return c.Ours(e)
	}
	return e.Via == "netconf" || e.Via == "rest"
}

// commit judges one change of running and applies it to tenant.
func (c Checker) commit(e Event, tenant map[Address]int, report func(Rule, string, ...any)) {
	ours := c.ours(e)
	if !ours {
		report = func(Rule, string, ...any) {}
	}
	before := maps.Clone(tenant)
	c.account(e, tenant, report)
	if !ours {
		return
	}
	for _, a := range difference(tenant, before) {
		c.judge(c.Came, RuleCame, e, a, report)
	}
	for _, a := range difference(before, tenant) {
		c.judge(c.Gone, RuleGone, e, a, report)
	}
}

func (c Checker) judge(why func(Change) error, rule Rule, e Event, a Address, report func(Rule, string, ...any)) {
	if why == nil {
		return
	}
	if err := why(Change{Event: e, Member: a.Member, Prefix: netip.MustParsePrefix(a.Text)}); err != nil {
		report(rule, "%s in member %s: %v", a.Text, a.Member, err)
	}
}

// account applies the lines of e to tenant, and reports those that our commits must not touch.
func (c Checker) account(e Event, tenant map[Address]int, report func(Rule, string, ...any)) {
	for _, part := range []struct {
		sign  int
		lines []string
	}{{1, e.Added}, {-1, e.Removed}} {
		sign := part.sign
		for _, line := range part.lines {
			if name, ok := TenantOf(line); !ok || name != c.Tenant {
				report(RuleOutside, "%s %s", verb(sign), line)
				continue
			}
			a, ok := AddressOf(line)
			if !ok {
				if sign < 0 && !replaced(line, e.Added) {
					report(RuleTenant, "took away %s", line)
				}
				continue
			}
			p, err := netip.ParsePrefix(a.Text)
			if err != nil {
				report(RuleTenant, "%s an address that is none: %s", verb(sign), line)
				continue
			}
			a.Text = p.Masked().String()
			if tenant[a] += sign; tenant[a] == 0 {
				delete(tenant, a)
			}
		}
	}
}

// replaced reports whether the leaf of a removed line got another value in the same commit (a description may change).
func replaced(line string, added []string) bool {
	leaf := leafOf(line)
	return slices.ContainsFunc(added, func(l string) bool { return leafOf(l) == leaf })
}

// leafOf returns a line without its value.
func leafOf(line string) string {
	for i := 0; i < len(line); i++ {
		switch line[i] {
		case '\'':
			_, rest, ok := unquote(line[i:])
			if !ok {
				return line
			}
			i = len(line) - len(rest) - 1
		case '=':
			return line[:i]
		}
	}
	return line
}

func verb(sign int) string {
	if sign < 0 {
		return "removed"
	}
	return "added"
}

// difference returns what a has and b lacks, in a stable order.
func difference(a, b map[Address]int) []Address {
	var out []Address
	for k := range a {
		if b[k] == 0 {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(x, y Address) int {
		px, py := netip.MustParsePrefix(x.Text), netip.MustParsePrefix(y.Text)
		if n := px.Addr().Compare(py.Addr()); n != 0 {
			return n
		}
		return px.Bits() - py.Bits()
	})
	return out
}
