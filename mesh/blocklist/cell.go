package blocklist

import "strings"

// formula holds the characters that start a formula in a spreadsheet, and the quote that turns one into text.
const formula = "=+-@'"

// Cell returns a text of other routers as a cell of CSV that no spreadsheet takes for a formula. `banmesh import` reads the
// original text again.
func Cell(s string) string {
	if s != "" && strings.IndexByte(formula, s[0]) >= 0 {
		return "'" + s
	}
	return s
}

// uncell undoes Cell. A quote before anything else was part of the text, and stays.
func uncell(s string) string {
	if len(s) > 1 && s[0] == '\'' && strings.IndexByte(formula, s[1]) >= 0 {
		return s[1:]
	}
	return s
}
