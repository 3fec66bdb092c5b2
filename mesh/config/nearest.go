package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"banmesh/internal/nearest"
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
// mapping that is much like it, or the same one of another mapping.
func suggestion(key, typeName string) string {
	here := sections()[typeName]
	if best := nearest.Word(here.keys, key); best != "" {
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
