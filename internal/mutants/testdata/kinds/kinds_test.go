package kinds

import (
	"errors"
	"testing"
	"time"
)

func TestAll(t *testing.T) {
	if compare(1, 2) || !compare(2, 2) || !compare("c", "b") {
		t.Error("compare")
	}
	if got := wait(3); got != 6*time.Second {
		t.Error("wait", got)
	}
	if n, err := half(8); n != 4 || err != nil {
		t.Error("half", n, err)
	}
	if _, err := half(7); !errors.Is(err, errOdd) {
		t.Error("half", err)
	}
	for _, c := range []struct {
		numbers []int
		want    int64
	}{{[]int{-1, 0, 1, 2}, 9}, {[]int{3, 4, 5, 6}, 33}, {[]int{4}, 9}} {
		if got := sum(c.numbers); got != c.want {
			t.Error("sum", c.numbers, got)
		}
	}
	if !found([2]string{"a", "b"}, "b") || found([2]string{"a", "b"}, "c") || found([2]string{}, "") {
		t.Error("found")
	}
}

func TestStart(t *testing.T) {
	if start != 5 || compare(4, start) {
		t.Error("start")
	}
}
