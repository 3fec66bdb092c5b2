// Package kinds has something of each kind that is mutated, and tests that notice each mutant.
package kinds

import (
	"errors"
	"log/slog"
	"time"
)

const kept = 1 + 2

var start = 5

var errOdd = errors.New("odd")

func compare[T int | string](a, b T) bool { return a >= b }

func wait(n int) time.Duration { return time.Duration(n) * (2 * time.Second) }

func half(n int) (int, error) {
	if n%2 != 0 {
		return -1, errOdd
	}
	return n / 2, nil
}

func sum(numbers []int) (s int64) {
	slog.Debug("begins", "with", 7)
	list := make([]int, 0, 9)
	for _, n := range numbers {
		if n < 0 || n == kept && !compare(n, start) {
			continue
		}
		list = append(list, n)
	}
	for i := 0; i < len(list); i++ {
		s += int64(2*list[i]) + 1
	}
	return s
}

func found(list [2]string, s string) (ok bool) {
	defer func() { ok = ok && s != "" }()
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}
