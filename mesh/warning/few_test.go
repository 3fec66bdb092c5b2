package warning

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/store"
)

// Somebody who has the gossip key and makes up fifty members does not bury what else is wrong.
func TestFiftyMadeUpMembersAreToldInAFewLines(t *testing.T) {
	now := time.Now()
	var members []gossip.Member
	var unnotified []control.Unnotified
	var allows []store.AllowEntry
	var unreadable []store.Unreadable
	var lifts Lifts
	for i := range 50 {
		name := fmt.Sprintf("made-up-%d", i)
		members = append(members, gossip.Member{
			Name: name, Addr: fmt.Sprintf("198.51.100.%d:7946", i+1), State: gossip.Alive, Since: now.Add(-time.Hour),
			Agrees: gossip.Differs, Stuck: errors.New("stalls"), Mute: gossip.MuteFrom, NoStream: errors.New("no answer"), Skew: time.Hour,
		}, gossip.Member{Name: "gone-" + name, Addr: "198.51.100.200:7946", State: gossip.Failed})
		unnotified = append(unnotified, control.Unnotified{Router: name, Why: "denied"})
		allows = append(allows, store.AllowEntry{Prefix: netip.MustParsePrefix("0.0.0.0/1"), Origin: name})
		unreadable = append(unreadable, store.Unreadable{Dot: store.Dot{Log: store.LogID{Origin: name}, Seq: 1}, Reason: "x"})
		var c store.Change
		for range manyLifts + 1 {
			c.Events = append(c.Events, store.Event{Kind: store.EventLift, Origin: "self", By: name})
		}
		lifts.Note("self", c, now)
	}
	for what, said := range map[string][]string{
		"members": Members("192.0.2.1:7946", members, now), "fail2bans": Unnotified("self", unnotified), "allows": WideAllows(allows),
		"records": Unreadable("self", unreadable), "lifts": lifts.Warnings(now, 1000),
	} {
		kinds := map[string]int{"members": 5}[what]
		if text := strings.Join(said, "\n"); len(said) > 6*max(kinds, 1)+1 || !strings.Contains(text, "45 more") {
			t.Errorf("%d lines about %s:\n%s", len(said), what, text)
		}
		for _, line := range said {
			if len(line) > 700 {
				t.Errorf("a line of %d bytes: %s", len(line), line)
			}
		}
	}
}
