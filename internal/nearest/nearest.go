// Package nearest finds what a mistyped word was probably meant to be.
package nearest

import "strings"

// longest bounds what is compared, in bytes: nothing that is known is longer.
const longest = 64

// Word returns the known word that is most like the given one, whose case does not count: it differs by a third of the given
// letters or two, and by no more than half of its own. Of words that are as near it is one that the given one begins, else the
// first. "" where none is near.
func Word(known []string, given string) string {
	if len(given) > longest {
		return ""
	}
	given = strings.ToLower(given)
	best, least := "", max(2, 1+len(given)/3)
	for _, word := range known {
		d := distance(given, word)
		switch {
		case d > least || d > len(word)/2:
		case best == "" || d < least || strings.HasPrefix(word, given) && !strings.HasPrefix(best, given):
			best, least = word, d
		}
	}
	return best
}

// distance is how many letters must be added, left out, replaced or swapped with their neighbour to make one word of the other
// (Damerau and Levenshtein).
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
