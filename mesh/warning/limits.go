package warning

import (
	"fmt"
	"strings"

	"banmesh/internal/shell"
	"banmesh/store"
)

// wideAllow is the prefix length below which an allow takes --yes, and is told
// of as long as it lasts.
const wideAllow = 8

// WideAllows says of each allow that frees much of the Internet.
func WideAllows(all []store.AllowEntry) (w []string) {
	for _, e := range all {
		switch {
		case e.Prefix.Bits() >= wideAllow:
		case e.Reason != "":
			w = append(w, fmt.Sprintf("%s, which %s allows, does not count: %s", e.Prefix, e.Origin, e.Reason))
		default:
			w = append(w, fmt.Sprintf("%s is allowed by %s since %s: nothing in it is blocked; end that with `banmesh allow remove %s`", e.Prefix, e.Origin, e.Start.Time().UTC().Format("2006-01-02 15:04:05 UTC"), e.Prefix))
		}
	}
	return Few(w, "networks wider than a /8 are allowed: `banmesh allow list` shows them, and who did it")
}

// Exceeding says what counts for nothing because its router exceeds a limit.
func Exceeding(all []store.Excess) (w []string) {
	for _, e := range all {
		// limits.members is a closed list: of a member that is not on it no kind of record counts.
		if e.Strange {
			w = append(w, fmt.Sprintf("nothing of %s counts: it is not in limits.members; add it there on all routers, or see who has the gossip key", e.Origin))
			continue
		}
		var parts []string
		count := func(n int, one, many string) {
			switch {
			case n == 1:
				parts = append(parts, "1 "+one)
			case n > 1:
				parts = append(parts, fmt.Sprintf("%d %s", n, many))
			}
		}
		count(e.Bans, "ban", "bans")
		count(e.Lifts, "lift", "lifts")
		count(e.Allows, "allow", "allows")
		count(e.NeverBans, "never-ban prefix", "never-ban prefixes")
		w = append(w, fmt.Sprintf("%s of %s do not count: it exceeds the limits; if it is not in order, `banmesh revoke --origin %s --block`", strings.Join(parts, ", "), e.Origin, shell.Quote(e.Origin)))
	}
	return Few(w, "members exceed the limits: somebody makes them up; name the real ones in limits.members")
}
