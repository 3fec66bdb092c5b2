package gossip

import (
	"strings"
	"testing"
	"time"
)

// TestClosedTCPIsNoticed: a firewall that lets UDP pass alone is told of although
// nothing is lost and all agree, and no more once it is open.
func TestClosedTCPIsNoticed(t *testing.T) {
	simulateWith(t, 3, lan(), nil, func(fl *fleet) {
		time.Sleep(time.Minute)
		if m := fl.nodes[0].member(fl.nodes[1].name); m.NoStream != nil {
			t.Fatalf("with all open: %v", m.NoStream)
		}
		a, b := fl.nodes[0].addr.Addr(), fl.nodes[1].addr.Addr()
		fl.net.Shut(a, b)
		fl.net.Shut(b, a)
		took := fl.wait(2*time.Minute, "both to say so", func() bool {
			return fl.nodes[0].member(fl.nodes[1].name).NoStream != nil && fl.nodes[1].member(fl.nodes[0].name).NoStream != nil
		})
		t.Logf("said after %v", took)
		if m := fl.nodes[0].member(fl.nodes[1].name); m.State != Alive || m.Agrees != Agrees || !strings.Contains(m.NoStream.Error(), "drops TCP") {
			t.Errorf("it is %v, agrees: %v, and no stream because %v", m.State, m.Agrees, m.NoStream)
		}
		if m := fl.nodes[2].member(fl.nodes[1].name); m.NoStream != nil {
			t.Errorf("the third one says so too: %v", m.NoStream)
		}
		fl.net.Heal()
		fl.wait(time.Minute, "nobody to say so any more", func() bool {
			return fl.nodes[0].member(fl.nodes[1].name).NoStream == nil && fl.nodes[1].member(fl.nodes[0].name).NoStream == nil
		})
	})
}

// TestNobodyIsInSyncWithNobody: a member that no other one reaches does not say
// that it agrees with all.
func TestNobodyIsInSyncWithNobody(t *testing.T) {
	simulateWith(t, 3, lan(), nil, func(fl *fleet) {
		fl.wait(30*time.Second, "all in sync", func() bool { return fl.nodes[0].mesh.InSync() && len(fl.nodes[0].mesh.Members()) == 3 })
		for _, other := range fl.nodes[1:] {
			fl.net.Cut(fl.nodes[0].addr.Addr(), other.addr.Addr())
			fl.net.Cut(other.addr.Addr(), fl.nodes[0].addr.Addr())
		}
		fl.wait(time.Minute, "the others to count as failed", func() bool {
			return fl.nodes[0].member(fl.nodes[1].name).State == Failed && fl.nodes[0].member(fl.nodes[2].name).State == Failed
		})
		if fl.nodes[0].mesh.InSync() {
			t.Error("cut off, it is in sync")
		}
		fl.wait(30*time.Second, "the two others to be in sync", func() bool { return fl.nodes[1].mesh.InSync() })
		fl.net.Heal()
		fl.wait(time.Minute, "it to be in sync", func() bool { return fl.nodes[0].mesh.InSync() })
	})
}
