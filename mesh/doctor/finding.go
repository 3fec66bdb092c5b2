// Package doctor looks at a router and its mesh for what keeps bans from
// working, and says of each finding why it matters and what fixes it.
package doctor

import (
	"fmt"

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

func (r *report) ok(format string, args ...any) {
	r.add(OK, fmt.Sprintf(format, args...), "", "")
}
