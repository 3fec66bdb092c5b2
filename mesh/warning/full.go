package warning

import (
	"fmt"
	"slices"

	"banmesh/internal/excerpt"
)

// Full say of which routers no more is kept, self among them or not.
func Full(self string, full []string) (w []string) {
	if slices.Contains(full, self) {
		w = append(w, fmt.Sprintf("%s takes no new ban: it keeps as many records as it may, also of bans that ended within two hours; raise limits.stored_per_origin or limits.stored on all routers if it is under attack for long", self))
	}
	others := slices.DeleteFunc(slices.Clone(full), func(name string) bool { return name == self })
	if len(others) == 0 {
		return w
	}
	return append(w, fmt.Sprintf("nothing more of %s is kept here: limits.stored_per_origin or limits.stored is reached, also by bans that ended within two hours", excerpt.Names(others)))
}
