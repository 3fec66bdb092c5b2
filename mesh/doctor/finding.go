// Package doctor looks at a router and its mesh for what keeps bans from
// working, and says of each finding why it matters and what fixes it.
//
// Examine takes a Patient, which holds what can be looked at, and goes the way of a ban: the files, the agent and its
// members, the clock, the store, what must stay reachable, the commits, enforcement, the conductor, fail2ban and its logs.
// It runs in the command and not in the agent, with the caller's rights, since it must also say why an agent does not
// start. It changes nothing and keeps nothing. A finding says what is wrong, what that means for bans, and what to do, as
// a command where there is one. Paths and names are quoted where a command takes them, since others choose names. An
// agent, a conductor or a file that could not be looked at is a finding too.
package doctor

import (
	"fmt"

	"banmesh/internal/excerpt"
	"banmesh/mesh/fail2ban"
)

// Severity says how much a Finding matters. The checks of the local fail2ban use the same ones.
type Severity = fail2ban.Severity

// The severities. Serious: bans are lost, not shared or not enforced, or somebody may be locked out.
const (
	Serious = fail2ban.Serious
	Warning = fail2ban.Warning
	Note    = fail2ban.Note
	OK      = Severity("ok") // examined and found in order
)

// Finding is the result of one check.
type Finding = fail2ban.Finding

// AnySerious says whether one of the findings is.
func AnySerious(findings []Finding) bool {
	for _, f := range findings {
		if f.Severity == Serious {
			return true
		}
	}
	return false
}

// report collects findings.
type report struct{ findings []Finding }

func (r *report) add(s Severity, what, why, fix string) {
	r.findings = append(r.findings, Finding{Severity: s, What: what, Why: why, Fix: fix})
}

// fewMembers takes over what was found of members, of those that matter alike and for the same reason the first few: a holder of
// the gossip key makes up as many members as he likes.
func (r *report) fewMembers(findings []Finding) {
	alike := func(f Finding) Finding { return Finding{Severity: f.Severity, Why: f.Why} }
	left := make(map[Finding]int)
	for _, f := range findings {
		left[alike(f)]++
	}
	told := make(map[Finding]int)
	for _, f := range findings {
		kind := alike(f)
		switch n := told[kind]; {
		// One more than is shown is shown as well: a line that says "1 more" would take its place.
		case n < excerpt.Most, left[kind] == excerpt.Most+1:
			r.findings = append(r.findings, f)
		case n == excerpt.Most:
			f.What = fmt.Sprintf("%d more members are like that: banmesh members names them", left[kind]-excerpt.Most)
			f.Fix = ""
			r.findings = append(r.findings, f)
		}
		told[kind]++
	}
}

func (r *report) ok(format string, args ...any) {
	r.add(OK, fmt.Sprintf(format, args...), "", "")
}
