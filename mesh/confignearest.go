package mesh

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// section is one mapping of the configuration: its place, "" for the outermost, and its keys.
type section struct {
	place string
	keys  []string
}

// sections are the mappings of the configuration by the name of their Go type,
// which is how the YAML library names where a key is unknown.
var sections = sync.OnceValue(func() map[string]section {
	found := map[string]section{}
	var walk func(t reflect.Type, place string)
	walk = func(t reflect.Type, place string) {
		s := section{place: place}
		for i := range t.NumField() {
			key, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
			if key == "" || key == "-" {
				continue
			}
			s.keys = append(s.keys, key)
			if kid := t.Field(i).Type; kid.Kind() == reflect.Struct {
				walk(kid, strings.TrimPrefix(place+"."+key, "."))
			}
		}
		if len(s.keys) > 0 {
			found[t.String()] = s
		}
	}
	walk(reflect.TypeFor[Config](), "")
	return found
})

// suggestion is what an unknown key was probably meant to be: a key of that
// mapping that differs by a letter or two, or the same one of another mapping.
func suggestion(key, typeName string) string {
	const longest = 64 // no key is longer
	if len(key) > longest {
		return ""
	}
	here := sections()[typeName]
	best, least := "", 1+len(key)/3
	for _, k := range here.keys {
		if d := distance(strings.ToLower(key), k); d <= least && (best == "" || d < least) {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf(": did you mean %s?", best)
	}
	var places []string
	for _, s := range sections() {
		if slices.Contains(s.keys, key) && s.place != here.place {
			places = append(places, strings.TrimPrefix(s.place+"."+key, "."))
		}
	}
	if len(places) == 0 {
		return ""
	}
	slices.Sort(places)
	return fmt.Sprintf(" here: did you mean %s?", strings.Join(places, " or "))
}

// distance is how many letters must be added, left out, replaced or swapped with
// their neighbour to make one word of the other (Damerau and Levenshtein).
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
