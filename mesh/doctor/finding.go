// Package doctor looks at a router and its mesh for what keeps bans from
// working, and says of each finding why it matters and what fixes it.
package doctor

import "fmt"

// Severity says how much a Finding matters.
type Severity string

// The severities. Serious: bans are lost, not shared or not enforced, or
// somebody may be locked out.
const (
	Serious Severity = "serious"
	Warning Severity = "warning"
	Note    Severity = "note"
	OK      Severity = "ok" // looked at, and well
)

// Finding is one thing that was looked at.
type Finding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"`
	Fix      string   `json:"fix,omitempty"` // a command, where there is one
}

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
	r.findings = append(r.findings, Finding{s, what, why, fix})
}

func (r *report) ok(format string, args ...any) {
	r.add(OK, fmt.Sprintf(format, args...), "", "")
}
