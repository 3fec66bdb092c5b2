package doctor

import (
	"fmt"

	"banmesh/mesh/control"
)

// enforcement looks at how the bans take effect on this router itself.
func (r *report) enforcement(e *control.Enforcement) {
	if e == nil {
		return
	}
	const why = "What the others ban is let in here until the conductor's configuration keeps it out."
	switch e.State {
	case "failing":
		r.add(Serious, fmt.Sprintf("enforcement by %s fails: %s", e.Driver, e.Detail), why, "banmesh status; journalctl -u banmesh")
	case "limited":
		r.add(Warning, fmt.Sprintf("enforcement by %s: %s", e.Driver, e.Detail), why, "enforce: {driver: nftables}, or a higher enforce.limit")
	default:
		r.ok("%s is %s, %d in force", e.Driver, e.State, e.InForce)
	}
}
