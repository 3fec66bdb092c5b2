package peer

import (
	"testing"
	"time"
)

// A member that follows tells of the leader's commits, once each: not of those from
// before its start, nor again when a leader of which it hears for the first time
// tells of an old one.
func TestCommitsOfTheLeaderAreTold(t *testing.T) {
	var r reports
	for i, c := range []struct {
		from string
		term uint64
		last int64
		want bool
	}{
		{"a", 1, 100, false}, {"a", 1, 100, false}, {"a", 1, 200, true}, {"a", 1, 200, false}, {"a", 0, 300, false},
		{"b", 2, 150, false}, {"b", 2, 400, true}, {"a", 3, 200, false}, {"a", 3, 500, true},
	} {
		if got := r.heard(time.Now(), c.from, Report{Term: c.term, LastCommit: c.last}); got != c.want {
			t.Errorf("%d: %+v: told %v, want %v", i, c, got, c.want)
		}
	}
	r = reports{}
	if r.heard(time.Now(), "a", Report{LastCommit: 0}) || !r.heard(time.Now(), "a", Report{LastCommit: 100}) {
		t.Error("the first commit of all is not told")
	}
}
