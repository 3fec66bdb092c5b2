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
	if e.Caveat != "" {
		r.add(Note, "enforcement by "+e.Driver+": "+e.Caveat, "A kernel with the change \"nft_set_rbtree: translate rbtree to array for binary search\" of 2026 has no such instant.", "")
	}
	const why = "What the others ban is let in here, unless a conductor's configuration keeps it out."
	switch e.State {
	case "failing":
		r.add(Serious, fmt.Sprintf("enforcement by %s fails: %s", e.Driver, e.Detail), why, "banmesh status; journalctl -u banmesh")
	case "limited":
		r.add(Warning, fmt.Sprintf("enforcement by %s: %s", e.Driver, e.Detail), why, "enforce: {driver: nftables}, or a higher enforce.limit")
	default:
		if e.BehindMS > 10_000 {
			r.add(Warning, fmt.Sprintf("enforcement by %s is behind for %d s", e.Driver, e.BehindMS/1000), why, "banmesh status; journalctl -u banmesh")
			return
		}
		r.ok("%s is %s, %d in force", e.Driver, e.State, e.InForce)
	}
}
