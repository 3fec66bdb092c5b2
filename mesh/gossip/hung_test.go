package gossip

import (
	"fmt"
	"testing"
	"time"
)

// A member whose set waits for its disk still hears the others: one that heard no heartbeat would claim to lead.
func TestWordsAreHeardWhileTheSetWaitsForItsDisk(t *testing.T) {
	simulate(t, 3, lan(), func(fl *fleet) {
		time.Sleep(5 * time.Second)
		deaf, others := fl.nodes[0], fl.nodes[1:]
		hung := make(chan struct{})
		deaf.set.mu.Lock()
		deaf.set.hung = hung
		deaf.set.mu.Unlock()
		for i := range 20 {
			for _, nd := range others {
				nd.ban(fmt.Sprintf("%s/%d", nd.name, i))
			}
			time.Sleep(time.Second)
		}
		heard := len(deaf.got.all())
		for _, nd := range others {
			if err := nd.mesh.Send(deaf.name, []byte("word")); err != nil {
				t.Fatal(err)
			}
		}
		fl.wait(time.Second, "the words of both", func() bool { return len(deaf.got.all()) == heard+2 })
		for _, nd := range others {
			if m := nd.member(deaf.name); m.State != Alive {
				t.Errorf("%s takes it for %v", nd.name, m.State)
			}
			if m := deaf.member(nd.name); m.State != Alive || m.Mute != MuteNone {
				t.Errorf("it takes %s for %v, mute %v", nd.name, m.State, m.Mute)
			}
		}
		close(hung)
		fl.wait(time.Minute, "all bans, once the disk answers", fl.all(40))
	})
}
