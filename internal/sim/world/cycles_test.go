package world

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
	"banmesh/store"
)

// TestAThousandCyclesAtThreeAgents: ban and unban of one address a thousand times, at two of three agents in turn. All agree within
// 2 s of the last one, nobody bans it, and it has left no more than four records on any of them, beside what the leader placed.
func TestAThousandCyclesAtThreeAgents(t *testing.T) {
	need.Long(t)
	n := 1000
	if raced {
		n = 250 // TestFiguresAThousandCycles has all of them
	}
	cycles(t, n)
}

func TestFiguresAThousandCycles(t *testing.T) { cycles(t, 1000) }

// cycles bans and unbans the address n times.
func cycles(t *testing.T, n int) {
	dir, remove, err := Dir()
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Config{Seed: 1, Members: 3, Calm: true, Dir: dir})
		defer w.close()
		if !w.open() {
			t.Fatal(w.faults)
		}
		address := netip.MustParseAddr("198.51.100.7")
		ps := control.Prefixes{netip.PrefixFrom(address, 32)}
		records := func(m *Member) (n int) {
			for _, f := range m.agent.Load().Set().Explain(ps[0]).Facts {
				if f.Prefix == ps[0] && f.Kind != store.KindPlaced {
					n++
				}
			}
			return n
		}
		most := 0
		for i := range n {
			m := w.members[i%2]
			a := m.agent.Load()
			if _, err := a.Ban(short(), control.BanCall{Prefixes: ps, Until: control.Until(control.At(m.now().Add(time.Hour)))}); err != nil {
				t.Fatalf("cycle %d: ban: %v", i, err)
			}
			time.Sleep(100 * time.Millisecond)
			r, err := a.Unban(short(), control.UnbanCall{Prefixes: ps})
			if err != nil || r.Lifted[0].Offences == 0 {
				t.Fatalf("cycle %d: unban: %+v %v", i, r, err)
			}
			time.Sleep(100 * time.Millisecond)
			most = max(most, records(m))
		}
		ended := time.Now()
		agreed := w.until(2*time.Second, "all agree on the address", func() string {
			minute := store.Minute(time.Now())
			for _, m := range w.members {
				set := m.agent.Load().Set()
				if len(set.List(store.Query{Prefix: ps[0]})) > 0 {
					return m.name + " still bans it"
				}
				if set.Root(minute) != w.members[0].agent.Load().Set().Root(minute) {
					return fmt.Sprintf("%s and %s differ", w.members[0].name, m.name)
				}
			}
			return ""
		})
		t.Logf("agreed: %t, %v after the last; at most %d records at one agent meanwhile", agreed, time.Since(ended), most)
		for _, m := range w.members {
			if n := records(m); n > 4 {
				t.Errorf("%s holds %d records of the address, want at most 4", m.name, n)
			}
		}
		for _, f := range w.faults {
			t.Error(f)
		}
	})
}
