package mesh

import (
	"strings"
	"testing"
	"time"

	"banmesh/mesh/gossip"
)

// The port to look at is that of the router that does not answer, not one's own.
func TestWarningsNameThePortOfTheOther(t *testing.T) {
	now := time.Now()
	other := gossip.Member{Name: "router7", Addr: "192.0.2.7:18007", Since: now.Add(-time.Hour), Agrees: gossip.Agrees}
	for name, c := range map[string]struct {
		spoil func(*gossip.Member)
		says  string
		not   string
	}{
		"it failed":        {func(m *gossip.Member) { m.State = gossip.Failed }, "no answer from router7 (192.0.2.7:18007)", "18001"},
		"it differs":       {func(m *gossip.Member) { m.Agrees = gossip.Differs }, "not in sync yet with router7 (192.0.2.7:18007): it resolves itself within seconds; if it stays, check that TCP is open to there and to 18001 here", ""},
		"nothing is known": {func(m *gossip.Member) { m.Agrees = gossip.Unknown }, "not known whether in sync with router7 (192.0.2.7:18007)", ""},
		"UDP to it":        {func(m *gossip.Member) { m.Mute = gossip.MuteTo }, "open UDP 18007 outbound here and inbound there", "18001"},
		"UDP from it":      {func(m *gossip.Member) { m.Mute = gossip.MuteFrom }, "open UDP 18001 inbound here and outbound there", "open UDP 18007"},
		"all is well":      {func(*gossip.Member) {}, "", "router7"},
	} {
		m := other
		c.spoil(&m)
		got := strings.Join(memberWarnings("0.0.0.0:18001", []gossip.Member{m}, now), "\n")
		if !strings.Contains(got, c.says) || c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%s: %q, want %q and not %q", name, got, c.says, c.not)
		}
	}
}
