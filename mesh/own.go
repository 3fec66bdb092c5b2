package mesh

import (
	"net/netip"

	"banmesh/store"
)

// own tells this router's bans from those of the others.
type own struct {
	set    *store.Store
	router string
}

// until is when this router's live ban of a jail and prefix ends, 0 where there is none.
// Explain looks up one prefix only, so this costs the same at any number of bans.
func (o own) until(jail string, p netip.Prefix) (until store.Millis) {
	for _, f := range o.set.Explain(p).Facts {
		if o.made(f, jail, p) && f.State == store.FactLive {
			until = max(until, f.Until)
		}
	}
	return until
}

// made reports whether a fact is a ban of that jail and prefix by this router.
func (o own) made(f store.Fact, jail string, p netip.Prefix) bool {
	return f.Kind == store.KindBan && f.Prefix == p && f.Origin == o.router && f.Jail == jail
}
