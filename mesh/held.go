package mesh

import (
	"fmt"
	"strings"

	"banmesh/internal/excerpt"
)

// heldWarning says whose bans are held on this router, "" where none are, or where
// nothing on this router would block them.
func (a *Agent) heldWarning() string {
	// A router that blocks nothing itself holds nothing back.
	if a.enforcement == nil && a.watchers.listener == nil {
		return ""
	}
	wide, mass := 0, 0
	var by []string
	all := a.store.Holding()
	for _, h := range all {
		wide, mass = wide+h.Wide, mass+h.Mass
		by = append(by, fmt.Sprintf("%s (%d)", h.Origin, h.Wide+h.Mass))
	}
	if len(all) == 0 {
		return ""
	}
	e := &a.cfg.Enforce
	var what []string
	if wide > 0 {
		what = append(what, fmt.Sprintf("%d wider than /%d (IPv6 /%d)", wide, e.WidestIPv4, e.WidestIPv6))
	}
	if mass > 0 {
		what = append(what, fmt.Sprintf("%d beyond what others may ban here together (enforce.space_ipv4, space_ipv6)", mass))
	}
	return fmt.Sprintf("%d bans by other routers are held on this router until an operator confirms them, %s, by %s: `banmesh list` marks them; `banmesh commit --force` here lets them take effect, `banmesh revoke --origin NAME` lifts them",
		wide+mass, strings.Join(what, " and "), excerpt.Names(by))
}
