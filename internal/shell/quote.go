// Package shell writes words for the commands that messages advise. Operators paste those, as root: a path may hold a blank, and
// the name of a member is whatever a holder of the gossip key has made up.
package shell

import "strings"

// Quote returns a word in the form in which a POSIX shell reads it as that one word.
func Quote(word string) string {
	if word != "" && !strings.ContainsFunc(word, special) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// special reports whether a shell might read more into a character than itself.
func special(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._@+:/,=-", r))
}
