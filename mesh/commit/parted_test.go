package commit

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRemovedByTheOtherSideOfACutIsBackAfterIt: what another leader has removed
// looks like a removal by hand as long as its word does not get through. Once it
// does, a ban that survived that leader's lift need not wait.
func TestRemovedByTheOtherSideOfACutIsBackAfterIt(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newAgent(t, s, "b")
		defer a.halt()
		defer b.halt()
		a.set.ban(time.Hour, many(1)...)
		b.lead(false)
		pass(time.Minute)
		wantTenant(t, s, many(1)...)
		a.set.merge(b.set)

		b.lead(true) // on its side
		pass(time.Minute)
		a.set.unban(true, many(1)...)
		a.Notify(Removal)
		pass(time.Minute)
		wantTenant(t, s)
		b.set.ban(time.Hour, many(2)...)
		b.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s, many(2)[1]) // b must take the other's removal for one by hand
		if n := b.told(EventByHand); n != 1 {
			t.Fatalf("told %d times of a removal by hand, want once", n)
		}

		a.lead(false)
		a.set.merge(b.set)
		b.Notify(Removal)
		pass(15 * time.Second)
		if want := many(2); !slices.Equal(s.tenant(), want) {
			t.Errorf("tenant = %v 15 s after the cut, want %v", s.tenant(), want)
		}
	})
}

// The leader writes a record of its own for what it is about to add. It must not pass for the one that another leader has
// lifted, even where the edit is planned anew under the lock.
func TestOwnRecordOfAnEditDoesNotRenewTheWait(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		var b *agent
		var parted atomic.Bool
		parted.Store(true)
		a := newAgent(t, s, "a")
		b = newAgent(t, s, "b", func(c *Config) {
			c.spread = func(context.Context) error {
				if !parted.Load() {
					b.Notify(Addition) // changes still arrive while the edit begins
				}
				return nil
			}
		})
		defer a.halt()
		defer b.halt()
		a.set.ban(time.Hour, many(1)...)
		b.lead(false)
		pass(time.Minute)
		a.set.merge(b.set)
		b.lead(true) // on its side
		pass(time.Minute)
		a.set.unban(true, many(1)...)
		a.Notify(Removal)
		pass(time.Minute)
		b.set.ban(time.Hour, many(2)...)
		b.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s, many(2)[1])

		a.lead(false)
		a.set.merge(b.set)
		parted.Store(false)
		b.Notify(Removal)
		pass(15 * time.Second)
		if want := many(2); !slices.Equal(s.tenant(), want) {
			t.Errorf("tenant = %v 15 s after the cut, want %v", s.tenant(), want)
		}
	})
}

// Whatever two leaders do to the same few addresses while they are parted, and however stale what each has read: soon after the
// cut the tenant is what both sides' bans and lifts come to.
func TestTheTenantIsRightSoonAfterACut(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			play(t, func(t *testing.T, s *site) { cutAndHeal(t, s, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func cutAndHeal(t *testing.T, s *site, r *rand.Rand) {
	var parted atomic.Bool
	var since atomic.Int64
	pace := func(other string) func(*Config) {
		return func(c *Config) {
			c.Window, c.MaxWait, c.MinInterval = 500*time.Millisecond, 2*time.Second, time.Second
			c.Peers = func() []Peer {
				p := Peer{Name: other, MayLead: true, Failed: parted.Load(), Alive: !parted.Load(), Since: time.Unix(since.Load(), 0)}
				if p.Alive {
					p.Agreed = time.Now()
				}
				return []Peer{p}
			}
		}
	}
	agents := []*agent{newAgent(t, s, "a", pace("b")), newAgent(t, s, "b", pace("a"))}
	a, b := agents[0], agents[1]
	defer a.halt()
	defer b.halt()
	s.delay = 200 * time.Millisecond
	b.lead(false)
	a.set.ban(time.Hour, many(3)...)
	a.Notify(Addition)
	pass(time.Minute)
	a.set.merge(b.set)

	parted.Store(true)
	pass(4 * time.Second)
	b.lead(true)
	for range 5 + r.IntN(20) {
		x, p := agents[r.IntN(2)], many(6)[r.IntN(6)]
		if r.IntN(2) == 0 {
			x.set.ban(time.Hour, p)
			x.Notify(Addition)
		} else {
			x.set.unban(true, p)
			x.Notify(Removal)
		}
		pass(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
	since.Store(time.Now().Add(time.Second).Unix())
	parted.Store(false)
	next, other := a, b
	if r.IntN(2) == 0 {
		next, other = b, a
	}
	other.lead(false)
	a.set.merge(b.set)
	a.Notify(Removal)
	b.Notify(Removal)
	pass(20 * time.Second)
	a.set.merge(b.set) // the records of what was committed since
	var want []netip.Prefix
	for e := range next.set.Effective() {
		want = append(want, e.Prefix)
	}
	if !slices.Equal(s.tenant(), want) {
		t.Errorf("tenant = %v soon after the cut, want %v", s.tenant(), want)
	}
}

// A member that was there when a prefix was found gone cannot have removed it beyond a cut, so its restart does not end the wait.
// One that was away then may have.
func TestALaterRestartOfAMemberDoesNotEndTheWaitAfterARemovalByHand(t *testing.T) {
	for _, away := range []bool{false, true} {
		t.Run(fmt.Sprintf("away=%v", away), func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				var mu sync.Mutex
				var other Peer
				turn := func(alive bool) {
					mu.Lock()
					defer mu.Unlock()
					other = Peer{Name: "b", MayLead: true, Failed: !alive, Alive: alive, Since: time.Now()}
				}
				turn(true)
				a := newAgent(t, s, "a", func(c *Config) {
					c.tuning.ByHandWait = time.Hour
					c.Peers = func() []Peer {
						mu.Lock()
						defer mu.Unlock()
						p := other
						if p.Alive {
							p.Agreed = time.Now()
						}
						return []Peer{p}
					}
				})
				defer a.halt()
				a.set.ban(100*time.Hour, many(1)...)
				pass(time.Minute)
				wantTenant(t, s, many(1)...)
				if away {
					turn(false)
				}
				s.byHand(nil, many(1))
				pass(10 * time.Minute) // the leader looks each five
				wantTenant(t, s)
				turn(false)
				pass(time.Minute)
				turn(true)
				pass(time.Minute)
				if away {
					wantTenant(t, s, many(1)...)
				} else {
					wantTenant(t, s)
				}
			})
		})
	}
}
