package blocklist

import "strings"

// formula is what a spreadsheet takes the beginning of one by, and the quote that
// makes it text.
const formula = "=+-@'"

// Cell is a text of other routers as a cell of CSV: a spreadsheet that opens the
// file must not take it for a formula. What `banmesh import` reads is as it was.
func Cell(s string) string {
	if s != "" && strings.IndexByte(formula, s[0]) >= 0 {
		return "'" + s
	}
	return s
}

// uncell undoes Cell.
func uncell(s string) string {
	if len(s) > 1 && s[0] == '\'' && strings.IndexByte(formula, s[1]) >= 0 {
		return s[1:]
	}
	return s
}
