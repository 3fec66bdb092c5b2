package page

import (
	"slices"

	"banmesh/mesh/control"
)

// distinct returns each name once, in natural order. It sorts in place.
func distinct(names []string) []string {
	slices.SortFunc(names, control.CompareNames)
	return slices.Compact(names)
}
