// Package half is tested by half.
package half

// Tested is.
func Tested(a, b int) bool { return a < b }

// Untested is not.
func Untested(a, b int) bool { return a < b }
