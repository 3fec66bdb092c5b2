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

// Argument returns a word in the form in which a POSIX shell and then a command read it as the last, positional one: a name that
// begins with a dash is no flag.
func Argument(word string) string {
	if strings.HasPrefix(word, "-") {
		return "-- " + Quote(word)
	}
	return Quote(word)
}

// special reports whether a shell might read more into a character than itself.
func special(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._@+:/,=-", r))
}
