package warning

import (
	"fmt"

	"banmesh/internal/excerpt"
)

// Few returns like warnings, and beyond excerpt.Most of them one line in the place of the rest; rest says what those are.
func Few(all []string, rest string) []string {
	if n := len(all) - excerpt.Most; n > 1 {
		return append(all[:excerpt.Most:excerpt.Most], fmt.Sprintf("%d more %s", n, rest))
	}
	return all
}
