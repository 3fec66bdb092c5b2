package warning

import (
	"fmt"

	"banmesh/internal/shell"
	"banmesh/store"
)

// Unreadable say, for each origin, how many records of it are set aside, which one is the first, and what to do.
func Unreadable(self string, all []store.Unreadable) (w []string) {
	type place struct {
		origin string
		inFile bool
	}
	first := make(map[place]store.Unreadable)
	count := make(map[place]int)
	var places []place
	for _, u := range all {
		p := place{u.Dot.Log.Origin, u.InFile}
		if count[p] == 0 {
			first[p] = u
			places = append(places, p)
		}
		count[p]++
	}
	for _, p := range places {
		u := first[p]
		which := u.Reason
		if u.Dot.Seq > 0 {
			which = fmt.Sprintf("number %d of %s: %s", u.Dot.Seq, u.Dot.Log, u.Reason)
		}
		records := "1 unreadable record"
		if n := count[p]; n > 1 {
			records = fmt.Sprintf("%d unreadable records", n)
			which = "the first: " + which
		}
		switch {
		case !p.inFile:
			w = append(w, fmt.Sprintf("set aside, while all else counts: %s of %s (%s); where `banmesh members` shows two versions, upgrade the older one and restart its agent", records, p.origin, which))
		case p.origin == self:
			w = append(w, fmt.Sprintf("set aside in the store file, while all else counts: %s of this router (%s); ban again what `banmesh list --origin %s` misses", records, which, shell.Quote(self)))
		default:
			w = append(w, fmt.Sprintf("set aside in the store file, while all else counts: %s of %s (%s); the others send it again if they have it whole", records, p.origin, which))
		}
	}
	return Few(w, "routers have records here that cannot be read")
}
