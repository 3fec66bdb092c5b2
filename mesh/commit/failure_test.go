package commit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"banmesh/mesh/conductor"
	"banmesh/store"
)

func TestEveryErrorAtEveryStepIsSurvived(t *testing.T) {
	steps := []string{"begin", "apply", "commit", "read", "close"}
	errs := []error{&conductor.BusyError{Holder: 7}, &conductor.BusyError{Dirty: true}, conductor.ErrBusy, conductor.ErrLogin, conductor.ErrHostKey, conductor.ErrUnreachable, conductor.ErrUnknown,
		conductor.ErrRejected, conductor.ErrMismatch, conductor.ErrWideOpen, errors.New("something else"), nil}
	for _, step := range steps {
		for _, err := range errs {
			for _, effect := range []bool{false, true} {
				hang := err == nil
				if effect && (step == "begin" || step == "read") {
					continue // an error leaves no effect there
				}
				name := fmt.Sprintf("%s/%v/effect=%v", step, err, effect)
				t.Run(name, func(t *testing.T) {
					play(t, func(t *testing.T, s *site) {
						a := newAgent(t, s, "a")
						defer a.halt()
						a.set.ban(100*time.Hour, many(3)...)
						pass(time.Minute)
						a.set.unban(false, many(1)...)
						a.set.ban(100*time.Hour, pfx("192.0.2.1")...)
						want := append(pfx("192.0.2.1"), many(3)[1:]...)
						fail := err
						if hang {
							fail = context.DeadlineExceeded
						}
						s.breaks(fault{step: step, err: fail, effect: effect, hang: hang})
						if step == "read" { // read where the outcome of a commit is in doubt
							s.breaks(fault{step: "commit", err: conductor.ErrUnknown})
						}
						a.Notify(Addition)
						a.Notify(Removal)
						pass(20 * time.Minute)
						wantTenant(t, s, want...)
						st := a.Status()
						if st.State != StateIdle || st.LastError != "" || st.PendingAdd+st.PendingRemove != 0 {
							t.Errorf("status = %+v, want idle", st)
						}
						placed := a.set.placedPrefixes()
						if !slices.Equal(placed, slices.SortedFunc(slices.Values(want), comparePrefixes)) {
							t.Errorf("placed = %v, want %v", placed, want)
						}
						for _, r := range s.commits() {
							if len(r.add) > 3 {
								t.Errorf("a commit added %v", r.add)
							}
						}
					})
				})
			}
		}
	}
}

func TestAnUnknownOutcomeIsReadBeforeAnythingElse(t *testing.T) {
	for _, effect := range []bool{true, false} {
		t.Run(fmt.Sprint("effect=", effect), func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				a := newAgent(t, s, "a")
				defer a.halt()
				pass(time.Minute)
				a.set.ban(time.Hour, many(2)...)
				s.breaks(fault{step: "commit", err: conductor.ErrUnknown, effect: effect})
				reads, begins := s.tried("read"), s.tried("begin")
				r, err := a.CommitNow(context.Background(), false)
				if n := s.tried("begin") - begins; n != 1 {
					t.Errorf("%d edits, want one", n)
				}
				if n := s.tried("read") - reads; n != 2 { // to plan, and to learn
					t.Errorf("%d readings, want two", n)
				}
				if effect {
					if err != nil || r.Took == 0 {
						t.Errorf("CommitNow = %+v, %v, want a success: running has it", r, err)
					}
					pass(time.Hour - 2*time.Minute)
					if n := len(s.commits()); n != 1 {
						t.Errorf("%d commits, want one: nothing is edited twice", n)
					}
					return
				}
				if !errors.Is(err, conductor.ErrUnknown) || !strings.Contains(err.Error(), "lacks 2 of 2 additions") {
					t.Errorf("CommitNow = %v, want unknown and what is missing", err)
				}
				pass(10 * time.Second)
				wantTenant(t, s, many(2)...)
			})
		})
	}
}

func TestACommitThatHangsIsGivenUpAndJudged(t *testing.T) {
	for _, effect := range []bool{true, false} {
		t.Run(fmt.Sprint("effect=", effect), func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				a := newAgent(t, s, "a")
				defer a.halt()
				pass(time.Minute)
				a.set.ban(time.Hour, many(2)...)
				s.breaks(fault{step: "commit", hang: true, effect: effect})
				a.Notify(Addition)
				pass(30 * time.Second)
				if st := a.Status(); st.State != StateCommitting {
					t.Errorf("state = %s, want committing", st.State)
				}
				pass(80 * time.Second)
				wantTenant(t, s, many(2)...)
			})
		})
	}
}

func TestBusyIsWaitedForAndShown(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		s.lockedBy(900)
		a.set.ban(time.Hour, many(2)...)
		a.Notify(Addition)
		pass(20 * time.Minute)
		st := a.Status()
		if st.State != StateWaiting || !strings.Contains(st.Detail, "waiting for session 900") || !st.Able {
			t.Errorf("status = %+v, want waiting for session 900 and able", st)
		}
		if !strings.HasPrefix(a.lastWork(), "2 waiting for session 900") {
			t.Errorf("work = %q, want waiting", a.lastWork())
		}
		if n := s.tried("begin"); n < 20 || n > 40 {
			t.Errorf("%d tries in 20 min, want about one a minute after the first few", n)
		}
		if n := a.told(EventError); n != 1 {
			t.Errorf("told %d times, want once", n)
		}
		s.lockedBy(0)
		pass(65 * time.Second)
		wantTenant(t, s, many(2)...)
	})
}

func TestAnotherAdministratorsHalfFinishedWorkIsLeftAlone(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(10*time.Hour, many(3)...)
		pass(time.Minute)
		for name, edit := range map[string]func(){
			"an address typed in":                 func() { s.edits(pfx("203.0.113.9"), nil) },
			"a banned one taken out by hand":      func() { s.edits(nil, many(1)) },
			"both, beside one of ours":            func() { s.edits(pfx("203.0.113.9"), many(2)[1:]) },
			"a ban that is effective, not placed": func() { s.edits(pfx("192.0.2.1"), nil) },
		} {
			edit()
			a.set.ban(10*time.Hour, pfx("192.0.2.1")...)
			if _, err := a.CommitNow(context.Background(), false); !errors.Is(err, conductor.ErrBusy) {
				t.Errorf("%s: CommitNow = %v, want conductor.ErrBusy", name, err)
			}
			s.mu.Lock()
			if s.candidate == nil {
				t.Errorf("%s: the candidate was cleaned", name)
			}
			s.candidate = nil
			s.mu.Unlock()
		}
		if _, err := a.CommitNow(context.Background(), false); err != nil {
			t.Error(err)
		}
	})
}

func TestOwnLeftoversAreUndoneExactly(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newAgent(t, s, "b")
		defer b.halt()
		b.lead(false)
		a.set.ban(10*time.Hour, many(3)...)
		pass(time.Minute)
		a.set.unban(false, many(1)...)
		a.set.ban(10*time.Hour, pfx("192.0.2.1")...)
		// a dies between edit and commit; its session and lock go, the candidate stays.
		s.breaks(fault{step: "commit", hang: true}, fault{step: "close", err: errors.New("killed")})
		a.Notify(Removal)
		pass(3 * time.Second)
		b.set.merge(a.set)
		a.halt()
		s.mu.Lock()
		dirty := s.candidate != nil
		s.mu.Unlock()
		if !dirty {
			t.Fatal("nothing was left behind: the test shows nothing")
		}
		b.lead(true)
		pass(2 * time.Second)
		wantTenant(t, s, append(pfx("192.0.2.1"), many(3)[1:]...)...)
		if n := s.commits(); n[len(n)-1].by != "b" {
			t.Errorf("committed by %s, want b", n[len(n)-1].by)
		}
	})
}

func TestOnlyASilentFormerLeadersSessionIsKilled(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		s.lockedBy(77)
		a.set.ban(time.Hour, many(1)...)
		if _, err := a.CommitNow(context.Background(), false); !errors.Is(err, conductor.ErrBusy) {
			t.Fatalf("CommitNow = %v, want conductor.ErrBusy", err)
		}
		a.flag(func() { a.stale = []conductor.SessionAt{{Node: nodeName, ID: 77}} })
		if _, err := a.CommitNow(context.Background(), false); err != nil || !slices.Equal(s.killed, []uint64{77}) {
			t.Errorf("CommitNow = %v after killing %v, want 77 killed", err, s.killed)
		}
	})
}

func TestRefusedCredentialsAreNotHammered(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		s.breaks(fault{step: "read", err: conductor.ErrLogin, always: true}, fault{step: "begin", err: conductor.ErrLogin, always: true})
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(100*time.Hour, many(1)...)
		for range 60 {
			pass(time.Minute)
			a.Notify(Addition)
			a.ProbeSoon()
			_, _ = a.Plan(context.Background())
			_, _ = a.CommitNow(context.Background(), true)
		}
		if n := s.tried("read") + s.tried("begin"); n > 6 {
			t.Errorf("%d logins in an hour, want at most 6: the device locks accounts", n)
		}
		if able, why := a.Able(); able || !strings.Contains(why, "refused the credentials") {
			t.Errorf("able %v (%s), want not", able, why)
		}
		st := a.Status()
		if st.State != StateFailing || st.LastError == "" {
			t.Errorf("status = %+v, want failing, with the last error", st)
		}
		s.repair()
		pass(20 * time.Minute)
		wantTenant(t, s, many(1)...)
	})
}

func TestAnUnreachableConductorHandsLeadershipOver(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		if able, _ := a.Able(); !able {
			t.Fatal("not able")
		}
		s.breaks(fault{step: "read", err: conductor.ErrUnreachable, always: true}, fault{step: "begin", err: conductor.ErrUnreachable, always: true})
		a.set.ban(100*time.Hour, many(1)...)
		a.Notify(Addition)
		pass(3 * time.Second)
		if able, why := a.Able(); able || !strings.HasPrefix(a.lastWork(), "3 ") {
			t.Errorf("able %v (%s), work %q, want unable", able, why, a.lastWork())
		}
		pass(time.Hour)
		if n := s.tried("read") + s.tried("begin"); n > 90 {
			t.Errorf("%d tries in an hour, want about one a minute", n)
		}
		s.repair()
		pass(70 * time.Second)
		wantTenant(t, s, many(1)...)
		if able, _ := a.Able(); !able {
			t.Error("not able again")
		}
	})
}

func TestAFullDiskCommitsNothingAndHandsOver(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.failWith(errDisk)
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(5 * time.Minute)
		wantTenant(t, s)
		if _, err := a.CommitNow(context.Background(), false); err == nil {
			t.Error("CommitNow succeeded with a full disk")
		}
		a.set.failWith(nil)
		pass(3 * time.Minute)
		wantTenant(t, s, many(1)...)
	})
}

func TestAWideOpenTenantStopsEverything(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(10*time.Hour, many(1)...)
		pass(time.Minute)
		s.byHand(pfx("0.0.0.0/0"), nil)
		a.set.unban(false, many(1)...)
		a.Notify(Removal)
		pass(10 * time.Minute)
		wantTenant(t, s, pfx("0.0.0.0/0", "100.0.0.0")...)
		if st := a.Status(); st.State != StateFailing || !strings.Contains(st.LastError, "0.0.0.0/0") || a.told(EventWideOpen) == 0 {
			t.Errorf("status = %+v, told %d times, want failing and told", st, a.told(EventWideOpen))
		}
		s.byHand(nil, pfx("0.0.0.0/0"))
		pass(2 * time.Minute)
		wantTenant(t, s)
	})
}

// A tenant that is wide open is looked at as often as any other, by who leads and by who does not.
func TestAWideOpenTenantIsNotHammered(t *testing.T) {
	for _, lead := range []bool{true, false} {
		t.Run(fmt.Sprint("lead=", lead), func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				a := newAgent(t, s, "a")
				defer a.halt()
				a.set.ban(100*time.Hour, many(1)...)
				pass(time.Minute)
				a.lead(lead)
				s.byHand(pfx("0.0.0.0/0"), nil)
				before := s.tried("read")
				pass(2 * time.Hour)
				every := a.cfg.tuning.Probe
				if lead {
					every = a.cfg.tuning.Verify
				}
				if n, most := s.tried("read")-before, 3*int(2*time.Hour/every); n == 0 || n > most {
					t.Errorf("read %d times in two hours, want at most %d", n, most)
				}
				if st := a.Status(); st.State != StateFailing || !st.Able || st.Foreign != 1 {
					t.Errorf("status = %+v, want failing, able, and one foreign address", st)
				}
				s.byHand(nil, pfx("0.0.0.0/0"))
				pass(2 * every)
				if st := a.Status(); st.State != StateIdle {
					t.Errorf("status = %+v, want idle", st)
				}
			})
		})
	}
}

func TestALyingServerIsFoundOut(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		a.set.ban(10*time.Hour, many(2)...)
		pass(time.Minute)
		// Removals take effect, additions are lost.
		s.breaks(fault{step: "commit", drop: true, err: conductor.ErrMismatch, always: true})
		a.set.unban(false, many(1)...)
		a.set.ban(10*time.Hour, pfx("192.0.2.1")...)
		a.Notify(Removal)
		pass(10 * time.Second)
		wantTenant(t, s, many(2)[1])
		if st := a.Status(); st.State != StateFailing || !strings.Contains(st.LastError, "lacks 1 of 1 additions") {
			t.Errorf("status = %+v, want failing: one addition is missing", st)
		}
		s.repair()
		a.set.ban(10*time.Hour, many(1)...) // banned again: it was no hand that took it out
		a.Notify(Addition)
		pass(2 * time.Minute)
		wantTenant(t, s, append(many(2), pfx("192.0.2.1")...)...)
	})
}

func TestLosingLeadershipGivesAnEditUp(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		s.breaks(fault{step: "apply", hang: true})
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(5 * time.Second)
		a.lead(false)
		pass(time.Second)
		if s.holder != 0 || s.candidate != nil {
			t.Errorf("lock held by %d, candidate dirty %v, want neither", s.holder, s.candidate != nil)
		}
		pass(time.Hour)
		wantTenant(t, s)
		if st := a.Status(); st.LastError != "" {
			t.Errorf("last error = %q, want none: giving up is no failure", st.LastError)
		}
	})
}

func TestNothingIsCommittedWithoutLeadership(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		// Lost while the edit is being made, and nobody has said so yet.
		s.after = map[string]func(){"apply": func() { a.flag(func() { a.leads = false }) }}
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s)
		if n := s.tried("commit"); n != 0 {
			t.Errorf("%d commits tried, want none", n)
		}
	})
}

func TestLosingLeadershipLetsACommitEnd(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		s.delay = 20 * time.Second
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(5 * time.Second)
		a.lead(false)
		pass(20 * time.Second)
		wantTenant(t, s, many(1)...)
		if s.holder != 0 {
			t.Error("the lock is still held")
		}
	})
}

func TestStoppingTakesLessThanFiveSeconds(t *testing.T) {
	for _, step := range []string{"begin", "apply", "commit", "read"} {
		t.Run(step, func(t *testing.T) {
			play(t, func(t *testing.T, s *site) {
				a := newAgent(t, s, "a")
				if step != "read" {
					pass(time.Minute)
				}
				s.breaks(fault{step: step, hang: true})
				a.set.ban(time.Hour, many(1)...)
				a.Notify(Addition)
				pass(5 * time.Second)
				at := time.Now()
				a.halt()
				if took := time.Since(at); took > 5*time.Second {
					t.Errorf("stopping took %s", took)
				}
			})
		})
	}
}

func TestAThousandFailedCommitsLeaveNothingBehind(t *testing.T) {
	before := runtime.NumGoroutine()
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a", func(c *Config) { c.Timeout = time.Second })
		pass(time.Minute)
		errs := []error{conductor.ErrRejected, conductor.ErrMismatch, conductor.ErrUnknown, conductor.ErrBusy, nil}
		steps := []string{"begin", "apply", "commit", "close"}
		all := spread(20)
		for i := 0; s.tried("begin") < 1000 && i < 3000; i++ {
			p := all[i%20]
			if a.committed(p) {
				a.set.unban(true, p)
			} else if i < 40 || i%10 == 0 {
				a.set.ban(1000*time.Hour, p)
			}
			s.breaks(fault{step: steps[i%len(steps)], err: errs[i%len(errs)], hang: errs[i%len(errs)] == nil})
			_, _ = a.CommitNow(context.Background(), true)
		}
		if n := s.tried("begin"); n < 1000 {
			t.Errorf("%d edits were tried, want a thousand", n)
		}
		s.repair()
		pass(time.Hour)
		a.halt()
	})
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines before, %d after", before, after)
	}
}

func TestAStaleLeaderDoesNotPutBackWhatTheOtherSideLifted(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		y, z := pfx("203.0.113.5")[0], pfx("203.0.113.6")[0]
		l1, l2 := newAgent(t, s, "l1"), newAgent(t, s, "l2")
		defer l1.halt()
		defer l2.halt()
		l2.lead(false)
		l1.set.ban(100*time.Hour, z)
		pass(time.Minute)
		l1.set.merge(l2.set)
		wantTenant(t, s, z)

		// The mesh parts: l1 on one side, l2 with everybody else on the other.
		l2.lead(true)
		l2.set.ban(100*time.Hour, y)
		l2.Notify(Addition)
		pass(time.Minute)
		wantTenant(t, s, y, z)
		l2.set.unban(false, y, z) // z was known to both sides, y only here
		l2.Notify(Removal)
		pass(time.Minute)
		wantTenant(t, s)
		for range 9 {
			l1.set.ban(time.Hour, pfx("192.0.2.1")...)
			l1.Notify(Addition)
			pass(time.Minute)
			for _, p := range s.tenant() {
				if p == y || p == z {
					t.Fatalf("%s is back", p)
				}
			}
		}

		// It heals, and l1 steps down.
		l1.set.merge(l2.set)
		l1.lead(false)
		l2.Notify(Addition)
		l2.Notify(Removal)
		pass(15 * time.Second)
		wantTenant(t, s, pfx("192.0.2.1")...)
		pass(2 * time.Hour)
		l2.Notify(Expiry)
		pass(10 * time.Minute)
		wantTenant(t, s)
	})
}

func TestWhatTheOtherSideCommittedIsLookedForAfterAPartition(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		x := pfx("203.0.113.7")[0]
		l1, l2 := newAgent(t, s, "l1"), newAgent(t, s, "l2")
		defer l1.halt()
		defer l2.halt()
		l1.set.freeze(true)
		l2.set.freeze(true)
		l1.set.ban(100*time.Hour, x) // known to both, not committed yet
		l1.set.merge(l2.set)
		pass(time.Minute)
		l2.set.unban(false, x) // on l2's side only
		l2.Notify(Removal)
		l1.set.freeze(false) // on l1's
		l1.Notify(Addition)
		pass(30 * time.Second)
		wantTenant(t, s, x)

		l1.lead(false)
		l2.set.freeze(false)
		l1.set.merge(l2.set)
		l2.Notify(Removal)
		pass(15 * time.Second) // though l2 has never seen x in the tenant
		wantTenant(t, s)
	})
}

func TestAPartitionLongerThanTheHoldLeavesNothingForEver(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		z := pfx("203.0.113.6")[0]
		l1, l2 := newAgent(t, s, "l1"), newAgent(t, s, "l2")
		defer l1.halt()
		defer l2.halt()
		l2.lead(false)
		l1.set.ban(100*time.Hour, z)
		pass(time.Minute)
		l1.set.merge(l2.set)
		l2.lead(true)
		l2.set.unban(false, z)
		l2.Notify(Removal)
		pass(time.Hour) // l1 holds the ban for live and puts it back in time
		l1.set.merge(l2.set)
		l1.lead(false)
		l2.Notify(Removal)
		pass(15 * time.Second)
		wantTenant(t, s)
	})
}

func TestAnEmptyOrLostStoreUnbansNothing(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		a.set.ban(100*time.Hour, many(30)...)
		pass(time.Minute)
		a.halt()
		b := newAgent(t, s, "b") // knows nothing
		defer b.halt()
		pass(24 * time.Hour)
		wantTenant(t, s, many(30)...)
		if _, err := b.CommitNow(context.Background(), true); err != nil {
			t.Error(err)
		}
		wantTenant(t, s, many(30)...)
	})
}

func TestPlacedIsLiftedOnlyOnceItCannotComeAnyMore(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		s.breaks(fault{step: "commit", err: conductor.ErrRejected, always: true})
		a.set.ban(100*time.Hour, many(1)...)
		a.Notify(Addition)
		pass(time.Minute)
		a.set.unban(false, many(1)...)
		a.Notify(Removal)
		s.repair()
		pass(9 * time.Minute)
		if n := len(a.set.Placed()); n != 1 {
			t.Fatalf("%d placed, want one: it may still turn up", n)
		}
		pass(20 * time.Minute)
		a.set.ban(100*time.Hour, pfx("192.0.2.1")...)
		a.Notify(Addition)
		pass(time.Minute)
		if got := a.set.placedPrefixes(); !slices.Equal(got, pfx("192.0.2.1")) {
			t.Errorf("placed = %v, want only what is there", got)
		}
	})
}

func TestALeaderThatDiesAfterPlacingIsFollowedAtOnce(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a, b := newAgent(t, s, "a"), newAgent(t, s, "b")
		defer b.halt()
		b.lead(false)
		pass(time.Minute)
		s.breaks(fault{step: "apply", hang: true})
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(3 * time.Second)
		b.set.merge(a.set)
		a.halt()
		b.lead(true)
		pass(time.Second) // it is not taken for removed by hand
		wantTenant(t, s, many(1)...)
	})
}

func TestRecordsLiftedByAnotherSideAreWrittenAgain(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		s.delay = 10 * time.Second
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(5 * time.Second) // committing
		if err := a.set.Unplace(context.Background(), many(1)); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Second)
		if got := a.set.placedPrefixes(); !slices.Equal(got, many(1)) {
			t.Errorf("placed = %v, want %v: else nobody would ever remove it", got, many(1))
		}
	})
}

// Two leaders may plan the same addition: the one that does not get to edit takes back its own record alone, or what the
// other adds would be foreign for ever.
func TestAnAttemptThatFailsLeavesTheRecordsOfOthers(t *testing.T) {
	play(t, func(t *testing.T, s *site) {
		a := newAgent(t, s, "a")
		defer a.halt()
		pass(time.Minute)
		s.breaks(fault{step: "begin", hang: true})
		a.set.ban(time.Hour, many(1)...)
		a.Notify(Addition)
		pass(5 * time.Second) // beginning
		if got := a.set.placedPrefixes(); !slices.Equal(got, many(1)) {
			t.Fatalf("placed = %v, want %v", got, many(1))
		}
		b := newFakeSet("b")
		if err := b.Place(t.Context(), many(1), store.At(time.Now().Add(time.Hour))); err != nil {
			t.Fatal(err)
		}
		a.set.merge(b)
		tried := s.tried("begin")
		for s.tried("begin") == tried {
			pass(time.Second)
		}
		b.merge(a.set)
		a.halt()
		b.mu.Lock()
		defer b.mu.Unlock()
		for dot := range b.placed {
			if own := strings.HasPrefix(dot, "b/"); own && b.gone[dot] {
				t.Errorf("the record %s of the other was lifted", dot)
			} else if !own && dot == "a/2" && !b.gone[dot] {
				t.Errorf("the own record %s stays", dot)
			}
		}
	})
}

// event is one thing that happens around a committer.
type event struct {
	After int // seconds
	What  int
	N     int
}

// TestAnyHistoryOfFailuresEndsInAnEqualTenant plays random bans, lifts, failures,
// changes of leadership and administrators' doings against two members that share
// what they know, and then leaves them in peace.
func TestAnyHistoryOfFailuresEndsInAnEqualTenant(t *testing.T) {
	steps := []string{"begin", "apply", "commit", "commit", "read", "close"}
	errs := []error{&conductor.BusyError{Holder: 7}, conductor.ErrUnreachable, conductor.ErrUnknown, conductor.ErrRejected, conductor.ErrMismatch, nil}
	rapid.Check(t, func(rt *rapid.T) {
		history := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
			return event{rapid.IntRange(0, 40).Draw(t, "after"), rapid.IntRange(0, 8).Draw(t, "what"), rapid.IntRange(0, 63).Draw(t, "n")}
		}), 1, 40).Draw(rt, "history")
		aggregate := rapid.Bool().Draw(rt, "aggregate")
		bad := ""
		play(t, func(t *testing.T, s *site) {
			set := func(c *Config) { c.Aggregate = aggregate }
			ms := []*agent{newAgent(t, s, "a", set), newAgent(t, s, "b", set)}
			ms[1].lead(false)
			share := func(u Urgency) {
				ms[0].set.merge(ms[1].set)
				ms[0].Notify(u)
				ms[1].Notify(u)
			}
			for _, e := range history {
				p := many(64)[e.N]
				switch e.What {
				case 0, 1, 2:
					ms[e.N%2].set.ban(time.Duration(1+e.N%7)*time.Minute, p)
					share(Addition)
				case 3:
					ms[e.N%2].set.unban(false, p)
					share(Removal)
				case 4:
					err := errs[e.N%len(errs)]
					s.breaks(fault{step: steps[e.N%len(steps)], err: err, hang: err == nil, effect: e.N%3 == 0 && e.N%len(steps) >= 1})
				case 5:
					ms[e.N%2].lead(e.N%4 < 2) // nobody, one, or both
				case 6:
					s.byHand(nil, []netip.Prefix{p})
				case 7:
					s.mu.Lock()
					s.delay = time.Duration(e.N) * time.Second / 4
					s.mu.Unlock()
				case 8:
					s.byHand(pfx("192.0.2.1"), nil)
				}
				pass(time.Duration(e.After) * time.Second)
			}
			s.repair()
			share(Addition)
			ms[0].lead(true)
			ms[1].lead(false)
			ms[0].set.ban(1000*time.Hour, pfx("203.0.113.77")...)
			for range 150 { // until all has expired and nothing is held back any more
				pass(time.Minute)
				share(Expiry)
			}
			want := pfx("203.0.113.77")
			if slices.Contains(s.tenant(), pfx("192.0.2.1")[0]) {
				want = append(want, pfx("192.0.2.1")...)
			}
			if got := s.tenant(); !slices.Equal(got, slices.SortedFunc(slices.Values(want), comparePrefixes)) {
				bad = fmt.Sprintf("tenant = %v, want %v", got, want)
			}
			if got := ms[0].set.placedPrefixes(); bad == "" && !slices.Equal(got, pfx("203.0.113.77")) {
				bad = fmt.Sprintf("placed = %v, want what is there", got)
			}
			for i, r := range s.commits() {
				if r.wrong != "" && bad == "" {
					bad = fmt.Sprintf("commit %d by %s: %s", i, r.by, r.wrong)
				}
			}
			ms[0].halt()
			ms[1].halt()
		})
		if bad != "" {
			rt.Fatal(bad)
		}
	})
}
