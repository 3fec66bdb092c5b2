package excerpt

import (
	"fmt"
	"strings"
)

// Most is how many names, or like warnings, are told one by one: a holder of the gossip key makes up any number of members, and
// what else is wrong must stay in sight.
const Most = 5

// Names lists names, the first few.
func Names(names []string) string {
	if n := len(names) - Most; n > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:Most], ", "), n)
	}
	return strings.Join(names, ", ")
}
