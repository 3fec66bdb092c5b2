package doctor

import (
	"context"
	"fmt"
	"net/netip"

	"banmesh/internal/excerpt"
)

// places asks whether never-ban or the allow-list covers what must stay
// reachable, and where administrators are logged in from.
func (r *report) places(ctx context.Context, p Patient) {
	covered := 0
	for _, place := range p.Places {
		ok, known := r.covered(ctx, p, place.Addr)
		switch {
		// The agent does not answer, which covered has said once; the rest would say the same.
		case !known:
			return
		case ok:
			covered++
		default:
			r.add(Serious, fmt.Sprintf("never-ban does not cover %s (%s)", place.Addr, place.What), "A ban of it would cut this router off.",
				fmt.Sprintf("banmesh allow add %s, or never_ban in the configuration and systemctl reload banmesh", place.Addr))
		}
	}
	if covered > 0 {
		r.ok("never-ban covers what this router cannot do without (%s)", excerpt.Count(covered, "address", "addresses"))
	}
	asked := make(map[netip.Addr]bool)
	if p.Shell.IsValid() {
		r.admin(ctx, p, asked, "you are", p.Shell)
	}
	for _, s := range p.Logins {
		r.admin(ctx, p, asked, s.User+" is", s.From)
	}
}

// admin warns of each address once, however many sessions come from it.
func (r *report) admin(ctx context.Context, p Patient, asked map[netip.Addr]bool, who string, from netip.Addr) {
	if asked[from] {
		return
	}
	asked[from] = true
	ok, known := r.covered(ctx, p, from)
	switch {
	case !known:
	case ok:
		r.ok("%s logged in from %s, which never-ban or an allow covers", who, from)
	default:
		r.add(Warning, fmt.Sprintf("%s logged in from %s, which neither never-ban nor an allow covers", who, from),
			"A ban of it, from whichever router, locks an administrator out.", fmt.Sprintf("banmesh allow add %s --comment administrator", from))
	}
}

// covered says whether no ban of the address can count.
func (r *report) covered(ctx context.Context, p Patient, a netip.Addr) (ok, known bool) {
	why, err := p.Agent.Why(ctx, netip.PrefixFrom(a, a.BitLen()))
	if err != nil {
		r.add(Warning, err.Error(), "Whether never-ban covers what it should is not known.", "banmesh why "+a.String())
		return false, false
	}
	return len(why.NeverBans)+len(why.Allows) > 0, true
}
