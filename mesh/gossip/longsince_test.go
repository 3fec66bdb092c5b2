package gossip

import (
	"testing"
	"time"
)

// A member that agreed is compared again in time, whatever the order in which memberlist probes, and however many do not answer.
func TestWhoAgreedIsComparedAgainInTime(t *testing.T) {
	for _, members := range []int{2, 8, 40} {
		tab, now := newTable("self"), time.Unix(1_700_000_000, 0)
		for i := range 5 {
			name := string(rune('0' + i))
			tab.all[name] = &peer{name: name, state: Alive, comparison: comparison{sync: Agrees}, reach: reach{unanswered: now, asked: now}}
		}
		for i := range members {
			name := string(rune('a'+i/26)) + string(rune('a'+i%26))
			tab.all[name] = &peer{name: name, state: Alive}
			tab.with(name, func(p *peer) { p.agree(now) })
		}
		longest := askAgain + askAgainEach*members // in seconds, without a single probe
		for at := range 3 * longest {
			now := now.Add(time.Duration(at) * time.Second)
			asked := tab.toAsk(4, now)
			if len(asked) > 4 {
				t.Fatalf("%d members: asks %d in one second", members, len(asked))
			}
			for _, to := range asked {
				if tab.all[to.name].unanswered.IsZero() {
					tab.with(to.name, func(p *peer) { p.agree(now) })
				}
			}
			for name, p := range tab.all {
				if ago := now.Sub(p.compared); p.unanswered.IsZero() && ago > time.Duration(longest+askAgainEach)*time.Second {
					t.Fatalf("%d members: %s was compared %v ago", members, name, ago)
				}
			}
		}
	}
}
