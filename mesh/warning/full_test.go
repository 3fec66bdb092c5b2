package warning

import (
	"fmt"
	"strings"
	"testing"
)

func TestFullWarningsNameSelfAndTheOthers(t *testing.T) {
	var many []string
	for i := range 9 {
		many = append(many, fmt.Sprintf("router%d", i))
	}
	for _, c := range []struct {
		full []string
		want []string // words of each warning
	}{
		{nil, nil},
		{[]string{"router1"}, []string{"router1 takes no new ban"}},
		{[]string{"router2", "router3"}, []string{"nothing more of router2, router3 is kept"}},
		{[]string{"router1", "router2"}, []string{"router1 takes no new ban", "nothing more of router2 is kept"}},
		{many, []string{"router1 takes no new ban", "router5 and 3 more is kept"}},
	} {
		got := Full("router1", c.full)
		if len(got) != len(c.want) {
			t.Errorf("%v: %q, want %q", c.full, got, c.want)
			continue
		}
		for i, w := range c.want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%v: %q, want %q in it", c.full, got[i], w)
			}
		}
	}
}
