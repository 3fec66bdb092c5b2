package warning

import (
	"errors"
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
		"it failed":        {func(m *gossip.Member) { m.State = gossip.Failed }, "no answer from router7 (192.0.2.7:18007): no bans get there until this ends; check `systemctl status banmesh` there and that UDP and TCP are open to that port; if it is not coming back, `banmesh forget router7`", "18001"},
		"it differs":       {func(m *gossip.Member) { m.Agrees = gossip.Differs }, "not in sync yet with router7 (192.0.2.7:18007): usually it resolves itself within seconds; if it stays, check that TCP is open to there and to 18001 here, and whether `banmesh status` on any router says that records bear its name", ""},
		"exchanges stall":  {func(m *gossip.Member) { m.Agrees, m.Stuck = gossip.Differs, errors.New("they stall") }, "not in sync with router7 (192.0.2.7:18007): they stall: its disk hangs, or it refuses more (`banmesh status` there says so), or large packets are lost on the way, as in a tunnel: if `ping -c 3 -M do -s 1372 192.0.2.7` has no answer", "18001"},
		"nothing is known": {func(m *gossip.Member) { m.Agrees = gossip.Unknown }, "not known whether in sync with router7 (192.0.2.7:18007)", ""},
		"UDP to it":        {func(m *gossip.Member) { m.Mute = gossip.MuteTo }, "open UDP 18007 outbound here and inbound there", "18001"},
		"UDP from it":      {func(m *gossip.Member) { m.Mute = gossip.MuteFrom }, "open UDP 18001 inbound here and outbound there", "open UDP 18007"},
		"TCP to it":        {func(m *gossip.Member) { m.NoStream = errors.New("no answer") }, "no stream to router7 (192.0.2.7:18007) can be opened (no answer): what is lost by UDP, and long lists, do not get there; open TCP 18007 outbound here and inbound there", "18001"},
		"all is well":      {func(*gossip.Member) {}, "", "router7"},
	} {
		m := other
		c.spoil(&m)
		got := strings.Join(Members("0.0.0.0:18001", []gossip.Member{m}, now), "\n")
		if !strings.Contains(got, c.says) || c.not != "" && strings.Contains(got, c.not) {
			t.Errorf("%s: %q, want %q and not %q", name, got, c.says, c.not)
		}
	}
}

// Where nobody answers it is this router that is cut off, as a rule, and not all
// the others that are down.
func TestWarningOfARouterThatIsCutOff(t *testing.T) {
	self := gossip.Member{Name: "router1", Addr: "192.0.2.1:18001", Self: true}
	two := gossip.Member{Name: "router2", Addr: "192.0.2.2:18002", State: gossip.Failed}
	three := gossip.Member{Name: "router3", Addr: "192.0.2.3:18003", State: gossip.Failed}
	text := strings.Join(Members("0.0.0.0:18001", []gossip.Member{self, two, three}, time.Now()), "\n")
	if !strings.Contains(text, "no other member answers (router2 (192.0.2.2:18002), router3 (192.0.2.3:18003)): most likely this router is cut off") || !strings.Contains(text, "UDP and TCP 18001 are open here") {
		t.Errorf("cut off: %q", text)
	}
	three.State = gossip.Alive
	text = strings.Join(Members("0.0.0.0:18001", []gossip.Member{self, two, three}, time.Now()), "\n")
	if !strings.Contains(text, "no answer from router2 (192.0.2.2:18002)") || strings.Contains(text, "cut off") {
		t.Errorf("one of two failed: %q", text)
	}
}
