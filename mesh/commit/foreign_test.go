package commit

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"banmesh/store"
)

// known are the members that an agent knows beside itself.
type known struct {
	mu    sync.Mutex
	peers []Peer
	deaf  bool // they are alive, and what they hold does not come
}

func (k *known) set(ps ...Peer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.peers = ps
}

func (k *known) hear(on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.deaf = !on
}

func (k *known) list() []Peer {
	k.mu.Lock()
	defer k.mu.Unlock()
	peers := slices.Clone(k.peers)
	for i := range peers {
		if !k.deaf && peers[i].Alive {
			peers[i].Agreed = time.Now()
		}
	}
	return peers
}

// among makes an agent one of a mesh with the peers.
func among(ps ...Peer) (*known, func(*Config)) {
	k := &known{peers: ps}
	return k, func(c *Config) { c.Peers = k.list }
}

// lie is a record by a member of what was placed.
func lie(t *testing.T, by string, n int) *fakeSet {
	t.Helper()
	s := newFakeSet(by)
	if err := s.Place(context.Background(), many(n), store.At(time.Now().Add(100*time.Hour))); err != nil {
		t.Fatal(err)
	}
	return s
}

// A lift of what a leader has placed, by whoever has the key, makes no ended ban permanent.
func TestALiftOfThePlacedMakesNoEndedBanPermanent(t *testing.T) {
	for name, ends := range map[string]func(*agent){
		"expiry":           func(*agent) { pass(time.Hour + 6*time.Minute) },
		"unban, the next":  func(a *agent) { a.set.unban(false, many(3)...); a.Notify(Removal); pass(5 * time.Second) },
		"unban, by itself": func(a *agent) { a.set.unban(false, many(3)...); pass(6 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				a := newAgent(t, s, "a")
				defer a.halt()
				a.set.ban(time.Hour, many(3)...)
				a.Notify(Addition)
				pass(time.Minute)
				wantTenant(t, s, many(3)...)
				if err := a.set.Unplace(context.Background(), many(3)); err != nil {
					t.Fatal(err)
				}
				if st := a.Status(); st.Committed != 3 || st.Foreign != 0 {
					t.Errorf("status = %+v, want all 3 as committed", st)
				}
				ends(a)
				wantTenant(t, s)
				if n := len(a.set.Placed()); n != 0 {
					t.Errorf("%d placed are left", n)
				}
			})
		})
	}
}

// The others, and who leads next, learn anew what is ours.
func TestLiftedRecordsAreWrittenAgain(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		a.set.ban(time.Hour, many(3)...)
		a.Notify(Addition)
		pass(time.Minute)
		if err := a.set.Unplace(context.Background(), many(3)); err != nil {
			t.Fatal(err)
		}
		pass(time.Minute)
		if got := a.set.placedPrefixes(); !slices.Equal(got, many(3)) {
			t.Errorf("placed = %v, want what is there", got)
		}
		b := newAgent(t, s, "b")
		defer b.halt()
		b.set.merge(a.set)
		a.halt()
		pass(2 * time.Hour)
		wantTenant(t, s)
	})
}

// What another leader has just placed, and withdraws because an administrator added it meanwhile, is that administrator's.
func TestWhatIsWithdrawnWhileItIsThereIsForeign(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newFakeSet("b")
		defer a.halt()
		pass(time.Minute)
		if err := b.Place(context.Background(), many(1), store.At(time.Now().Add(a.cfg.tuning.Lease))); err != nil {
			t.Fatal(err)
		}
		s.byHand(many(1), nil)
		a.set.merge(b)
		if _, err := a.CommitNow(context.Background(), true); err != nil {
			t.Fatal(err)
		}
		if st := a.Status(); st.Committed != 1 {
			t.Errorf("status = %+v, want it read as placed", st)
		}
		if err := b.UnplaceOwn(context.Background(), many(1)); err != nil {
			t.Fatal(err)
		}
		a.set.merge(b)
		pass(24 * time.Hour)
		wantTenant(t, s, many(1)...)
		if st := a.Status(); st.Foreign != 1 || st.Committed != 0 || len(a.set.Placed()) != 0 {
			t.Errorf("status = %+v, placed = %v, want one foreign", st, a.set.Placed())
		}
	})
}

// What another leader took out, and an administrator has put back since, is that administrator's.
func TestWhatAnotherLeaderTookOutIsNotOursAnyMore(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newAgent(t, s, "b")
		defer a.halt()
		defer b.halt()
		b.lead(false)
		a.set.ban(100*time.Hour, many(2)...)
		a.Notify(Addition)
		pass(time.Minute)
		b.set.merge(a.set)
		a.lead(false)
		b.lead(true)
		pass(time.Minute)
		b.set.unban(true, many(1)...)
		b.Notify(Removal)
		pass(time.Minute)
		wantTenant(t, s, many(2)[1])
		s.byHand(many(1), nil)
		a.set.merge(b.set)
		b.lead(false)
		a.lead(true)
		pass(time.Hour)
		wantTenant(t, s, many(2)...)
	})
}

// What was seen foreign for three minutes, by one to whom all have told what they hold, stays foreign: a record that comes later does not have an administrator's address removed.
func TestALateRecordAdoptsNothing(t *testing.T) {
	for name, lead := range map[string]bool{"the leader": true, "who leads next": false} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				s.byHand(many(30), nil)
				_, mesh := among(Peer{Name: "rogue", MayLead: true, Alive: true})
				a := newAgent(t, s, "a", mesh)
				defer a.halt()
				a.lead(lead)
				pass(15 * time.Minute)
				a.set.merge(lie(t, "rogue", 30))
				a.lead(true)
				pass(24 * time.Hour)
				if _, err := a.CommitNow(context.Background(), true); err != nil {
					t.Fatal(err)
				}
				wantTenant(t, s, many(30)...)
				if st := a.Status(); st.Foreign != 30 || st.Committed != 0 {
					t.Errorf("status = %+v, want 30 foreign", st)
				}
				s.byHand(nil, many(1)) // and once it is gone, it can become ours
				pass(6 * time.Minute)
				a.set.ban(time.Hour, many(1)...)
				a.Notify(Addition)
				pass(time.Minute)
				wantTenant(t, s, many(30)...)
				pass(2 * time.Hour)
				wantTenant(t, s, many(30)[1:]...)
			})
		})
	}
}

// One answer that lacks what was seen foreign changes nothing of that, whatever is wanted meanwhile.
func TestALateRecordAdoptsNothingAfterAReadingThatLacksIt(t *testing.T) {
	for name, meanwhile := range map[string]func(a *agent){
		"a glitch": func(*agent) {},
		"a ban":    func(a *agent) { a.set.ban(time.Hour, many(1)...); a.Notify(Addition) },
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				s.byHand(many(3), nil)
				_, mesh := among(Peer{Name: "rogue", MayLead: true, Alive: true})
				a := newAgent(t, s, "a", mesh)
				defer a.halt()
				pass(15 * time.Minute)
				a.set.merge(lie(t, "rogue", 3))
				pass(time.Minute)
				a.link.lie(many(3))
				if _, err := a.read(context.Background()); err != nil {
					t.Fatal(err)
				}
				meanwhile(a)
				pass(24 * time.Hour)
				wantTenant(t, s, many(3)...)
				if st := a.Status(); st.Foreign != 3 || st.Committed != 0 {
					t.Errorf("status = %+v, want 3 foreign", st)
				}
				if n := len(a.own()); n != 0 {
					t.Errorf("%d records of its own are left", n)
				}
			})
		})
	}
}

// The records of a member that could not be heard when its addresses were found in the tenant count all the same, and those
// that come a moment late: what a leader commits would stay for ever.
func TestAnHonestLateRecordCounts(t *testing.T) {
	b := Peer{Name: "b", MayLead: true, Alive: true}
	for name, c := range map[string]struct {
		peers func(*known) // while the record is on its way
		wait  time.Duration
	}{
		"of the other side of a cut": {func(k *known) { k.set(Peer{Name: "b", MayLead: true, Failed: true}) }, time.Hour},
		"a moment late":              {func(k *known) { k.set(b) }, 90 * time.Second},
		"to one who was alone":       {func(k *known) { k.set() }, time.Hour},
		"by TCP, which was closed":   {func(k *known) { k.set(b); k.hear(false) }, 24 * time.Hour},
		"to one who had been alone":  {func(k *known) { pass(time.Hour); k.hear(false); k.set(b) }, 2 * time.Minute},
		"alive again": {func(k *known) {
			k.set(Peer{Name: "c", Alive: true})
			pass(3 * time.Minute)
			k.hear(false)
			k.set(b)
		}, 2 * time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				s.byHand(many(3), nil) // as b does it
				k, mesh := among()
				a := newAgent(t, s, "a", mesh)
				defer a.halt()
				c.peers(k)
				pass(c.wait)
				k.hear(true)
				k.set(b)
				a.set.merge(lie(t, "b", 3))
				pass(24 * time.Hour)
				wantTenant(t, s)
			})
		})
	}
}

// What an administrator has put into the tenant and is banned later waits for nothing, and no leader is slow to commit it.
func TestAFollowerWaitsForNothingThatIsThereAlready(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.lead(false)
		pass(time.Minute)
		s.byHand(many(3), nil)
		a.set.ban(time.Hour, many(5)...)
		a.Notify(Addition)
		pass(time.Second)
		if st := a.Status(); st.PendingAdd != 5 {
			t.Errorf("%d additions wait before a reading, want 5", st.PendingAdd)
		}
		a.ReadSoon()
		pass(2 * time.Second)
		if st := a.Status(); st.PendingAdd != 2 || st.PendingRemove != 0 || st.Foreign != 3 {
			t.Errorf("status = %+v, want 2 that wait, and 3 foreign", st)
		}
	})
}

// What an administrator took out again is not there, although it would still be foreign if it came back.
func TestAFollowerKnowsWhatAnAdministratorTookOut(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		_, with := among(Peer{Name: "b", Alive: true, MayLead: true})
		a := newAgent(t, s, "a", with)
		defer a.halt()
		a.lead(false)
		s.byHand(many(1), nil)
		pass(time.Second)
		a.ReadSoon()
		pass(10 * time.Minute) // until no record of it can still be on its way
		s.byHand(nil, many(1))
		a.ReadSoon()
		pass(2 * time.Second)
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(time.Second)
		if st := a.Status(); st.PendingAdd != 1 || a.committed(many(1)[0]) {
			t.Errorf("status = %+v, committed %v, want 1 that waits", st, a.committed(many(1)[0]))
		}
	})
}
