package control

import (
	"cmp"
	"strings"
)

// CompareNames compares names as people order them, with numbers by value: router2 comes before router10.
func CompareNames(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		if isDigit(x[0]) && isDigit(y[0]) {
			var m, n string
			m, x = leading(x)
			n, y = leading(y)
			if c := cmp.Or(cmp.Compare(len(m), len(n)), cmp.Compare(m, n)); c != 0 {
				return c
			}
			continue
		}
		if x[0] != y[0] {
			return cmp.Compare(x[0], y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// leading splits off the number at the start of s, without leading zeros.
func leading(s string) (digits, rest string) {
	end := len(s) - len(strings.TrimLeft(s, "0123456789"))
	return strings.TrimLeft(s[:end], "0"), s[end:]
}
