package excerpt

import (
	"fmt"
	"strings"
)

// Most is how many names, or like warnings, are told one by one: a holder of the gossip key makes up any number of members, and
// what else is wrong must stay in sight.
const Most = 5

// Names lists names, the first Most of them.
func Names(names []string) string { return First(names, Most) }

// First lists names, the first few; a single further one is named as well.
func First(names []string, few int) string {
	if n := len(names) - few; n > 1 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), n)
	}
	return strings.Join(names, ", ")
}

// Count is a number of things, in words.
func Count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
