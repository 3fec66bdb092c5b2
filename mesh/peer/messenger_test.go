package peer

import (
	"testing"

	"banmesh/mesh/gossip"
)

// TestOnlyTheLeadersReportCounts: any holder of the key can send one.
func TestOnlyTheLeadersReportCounts(t *testing.T) {
	var commits []string
	m := New(Config{
		Name: "self", Members: func() []gossip.Member { return nil },
		Leads: func(name string) bool { return name == "leader" },
		Reported: func(from string, r Report, committed bool) {
			if committed {
				commits = append(commits, from)
			}
		},
	})
	say := func(from string, r Report) {
		t.Helper()
		b, err := encodeMessage(messageReport, &r)
		if err != nil {
			t.Fatal(err)
		}
		m.Receive(from, b)
	}
	say("leader", Report{Term: 1, Committed: 45, LastCommit: 100})
	say("rogue", Report{Term: 9999, LastCommit: 1 << 50})
	if r, ok := m.ReportOf("leader"); !ok || r.Committed != 45 {
		t.Errorf("after a rogue's report the leader's is %+v, %v", r, ok)
	}
	say("leader", Report{Term: 1, Committed: 46, LastCommit: 200})
	if len(commits) != 1 || commits[0] != "leader" {
		t.Errorf("commits are told of %q, want one of the leader", commits)
	}
}
