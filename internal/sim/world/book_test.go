package world

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/store"
)

// A fail2ban whose clock is set ahead ends its bans too early. The mesh goes by the clock of the majority and keeps them: that is
// no lift that comes back.
func TestAnEndByAWrongClockIsNoLift(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(Config{Seed: 1, Members: 3, Calm: true, Dir: dir})
		defer w.close()
		if !w.open() {
			t.Fatal(w.faults)
		}
		m, address := w.members[2], netip.MustParseAddr("198.51.100.52")
		m.watchdog.attack("sshd", address, time.Hour)
		w.pass(time.Now().Add(2 * time.Second))
		m.offset.Store(int64(3 * time.Hour))
		m.watchdog.pass()
		if n := len(m.watchdog.keys()); n > 0 {
			t.Fatalf("fail2ban still holds %d bans: the test proves nothing", n)
		}
		w.pass(time.Now().Add(time.Minute))
		m.offset.Store(0)
		w.pass(time.Now().Add(5 * time.Second)) // until the agent knows
		w.settle()
		for _, m := range w.members {
			if len(m.agent.Load().Set().List(store.Query{Prefix: netip.PrefixFrom(address, 32)})) == 0 {
				t.Errorf("%s no longer bans %v", m.name, address)
			}
			w.book.compare(m, m.agent.Load())
		}
		// What fail2ban ends before its time is a lift.
		m.watchdog.attack("web", address, time.Hour)
		if _, err := m.watchdog.client(t.Context(), "set", "web", "unbanip", address.String()); err != nil {
			t.Fatal(err)
		}
		lifted := 0
		for o, f := range w.book.facts {
			if o.jail == "web" && f.lifted && !f.doubt {
				lifted++
			}
		}
		if lifted != 1 {
			t.Errorf("%d bans count as lifted, want the one that fail2ban released", lifted)
		}
		for _, f := range w.faults {
			t.Error(f)
		}
	})
}
