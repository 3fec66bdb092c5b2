package rest_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

// replace makes an answer another one.
func replace(a *http.Response, status int, body string) {
	a.StatusCode, a.Status = status, http.StatusText(status)
	a.Body, a.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	a.Header.Set("Content-Length", fmt.Sprint(len(body)))
}

// An edit that a node swallowed half way does not stay in its candidate, from where the next commit of anybody would put it
// in force, after the work has gone on at the other node.
func TestALeftoverAtTheOtherNodeIsCleanedUp(t *testing.T) {
	for name, restarted := range map[string]bool{"the same process": false, "another process": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
				r := c.client()
				c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
				if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 500, Node: 1, Times: 1}); err != nil {
					t.Fatal(err)
				}
				if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.3/32"), prefixes("192.0.2.2/32")); !errors.Is(err, conductor.ErrUnknown) {
					t.Fatal(err)
				}
				if !strings.Contains(fmt.Sprint(flat(c.Candidate("admin", 1))), "192.0.2.3") {
					t.Fatal("nothing was left")
				}
				next, permit := r, conductor.Permit{}
				if restarted {
					permit.Ours = all
					next = c.client(func(cfg *rest.Config) { cfg.URLs = []string{c.urls[1], c.urls[0]} })
					if err := change(t.Context(), next, permit, nil, nil); err != nil {
						t.Fatal(err)
					}
					time.Sleep(2 * time.Minute) // before, it could be a commit that running shows late
				}
				if err := change(t.Context(), next, permit, prefixes("192.0.2.4/32"), nil); err != nil {
					t.Fatal(err)
				}
				c.wantCleanCandidate("admin", 1)
				c.wantCleanCandidate("admin", 2)
				c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32")
				if w := next.Warnings(); len(w) > 0 {
					t.Errorf("warnings %q", w)
				}
			})
		})
	}
}

// A leader that was killed has committed at one node. The next one, a new process or another member, does not take that out of
// the other node's candidate, which has followed already, because running still shows what was before.
func TestACommitThatShowsLateIsNoLeftoverAtTheOtherNode(t *testing.T) {
	for name, member := range map[string]bool{"a new process": false, "another member": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
				next := c.client()
				time.Sleep(time.Hour)
				if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, Node: 1, For: conductorsim.Duration(time.Hour)}); err != nil {
					t.Fatal(err)
				}
				if err := change(t.Context(), c.client(), conductor.Permit{}, prefixes("192.0.2.1/32"), nil); !errors.Is(err, conductor.ErrUnseen) {
					t.Fatal(err)
				}
				if !member {
					next = c.client()
				}
				if err := change(t.Context(), next, conductor.Permit{Ours: all}, prefixes("192.0.2.1/32"), nil); err != nil && !errors.Is(err, conductor.ErrUnseen) {
					t.Fatal(err)
				}
				c.Clear()
				c.wantCleanCandidate("admin", 2)
				c.want("192.0.2.1/32")
			})
		})
	}
}

func TestALeftoverAtANodeThatIsGoneIsWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
		r := c.client()
		c.seed(r, "192.0.2.1/32")
		for _, f := range []conductorsim.Fault{
			{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 500, Node: 1, Times: 1},
		} {
			if err := c.Inject(f); err != nil {
				t.Fatal(err)
			}
		}
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrUnknown) {
			t.Fatal(err)
		}
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultFreeze, Node: 1}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.3/32"), nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("a node that is gone cost %v", took)
		}
		c.want("192.0.2.1/32", "192.0.2.3/32")
		if w := fmt.Sprint(r.Warnings()); !strings.Contains(w, c.urls[0]) || !strings.Contains(w, "unfinished change") {
			t.Errorf("warnings %s", w)
		}
		c.Clear()
		time.Sleep(time.Minute)
		c.seed(r, "192.0.2.4/32")
		c.wantCleanCandidate("admin", 1)
		if w := r.Warnings(); len(w) > 0 {
			t.Errorf("once it is back: warnings %q", w)
		}
	})
}

// However long the node was gone, and whatever others have committed meanwhile: what it still holds exactly as it was left is
// ours, and does not block that node for ever. Where somebody has edited the tenant there since, it is theirs.
func TestAnOldLeftoverAtTheOtherNodeIsCleanedUp(t *testing.T) {
	for name, edited := range map[string]bool{"as it was left": false, "edited since": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
				r, other := c.client(), c.client(func(cfg *rest.Config) { cfg.URLs = c.urls[1:] })
				c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
				if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 500, Node: 1, Times: 1}); err != nil {
					t.Fatal(err)
				}
				if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.3/32"), prefixes("192.0.2.2/32")); !errors.Is(err, conductor.ErrUnknown) {
					t.Fatal(err)
				}
				if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultFreeze, Node: 1}); err != nil {
					t.Fatal(err)
				}
				c.seed(r, "192.0.2.3/32", "192.0.2.4/32")
				c.seed(other, "192.0.2.5/32")
				time.Sleep(time.Hour)
				c.seed(r, "192.0.2.6/32")
				c.Clear()
				if edited {
					a := c.Admin("operator")
					defer a.Close()
					if err := a.Edit(strings.Replace(routerR9, "<router><name>r9</name></router>",
						"<tenant><name>"+tenant+"</name><member><neighborhood>"+member+"</neighborhood><address>192.0.2.9/32</address></member></tenant>", 1)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Minute)
				c.seed(r, "192.0.2.7/32")
				c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32", "192.0.2.5/32", "192.0.2.6/32", "192.0.2.7/32")
				w := r.Warnings()
				if edited {
					if len(w) != 1 || !strings.Contains(fmt.Sprint(flat(c.Candidate("operator", 1))), "192.0.2.9") {
						t.Errorf("warnings %q, the candidate holds %s", w, flat(c.Candidate("operator", 1)))
					}
					return
				}
				c.wantCleanCandidate("admin", 1)
				if len(w) > 0 {
					t.Errorf("warnings %q", w)
				}
			})
		})
	}
}

// A commit at one node that nobody answered is taken back out of its candidate by the attempt at the other. If it shows late after
// all, and nothing is left to commit, that candidate goes on lacking it: the warning is all that tells.
func TestWhatWasTakenBackAtTheOtherNodeIsWarnedOfWhenItShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
		r := c.client()
		c.seed(r, "192.0.2.1/32")
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(8 * time.Second)}); err != nil {
			t.Fatal(err)
		}
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultDrop, Op: "commit", At: "after", Times: 1}); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrUnknown) {
			t.Fatal(err)
		}
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); err == nil {
			t.Fatal("running shows it at once")
		}
		if strings.Contains(fmt.Sprint(flat(c.Candidate("admin", 1))), "192.0.2.2/32") {
			t.Fatal("it was not taken back")
		}
		time.Sleep(5 * time.Minute)
		if got, err := r.Read(t.Context()); err != nil || len(got.Addresses) != 2 {
			t.Fatal(got, err)
		}
		if w := fmt.Sprint(r.Warnings()); !strings.Contains(w, c.urls[0]+" lacks 1 address of the tenant") {
			t.Errorf("warnings %s", w)
		}
		c.seed(r, "192.0.2.3/32")
		c.wantCleanCandidate("admin", 1)
		time.Sleep(5 * time.Minute)
		if _, err := r.Read(t.Context()); err != nil || len(r.Warnings()) > 0 {
			t.Errorf("put right: warnings %q, %v", r.Warnings(), err)
		}
	})
}

// A candidate at the other node that lacks what running has is warned of for as long as it does, whether it lost that or never
// had it because somebody's edit elsewhere keeps it from following.
func TestACandidateAtTheOtherNodeThatLiftsBansIsWarnedOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
		r := c.client(func(cfg *rest.Config) { cfg.URLs = []string{c.urls[1], c.urls[0]} })
		c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
		a := c.Admin("operator") // at the first node
		defer a.Close()
		edit := func(content string) {
			t.Helper()
			if err := a.Edit(content); err != nil {
				t.Fatal(err)
			}
		}
		warned := func(when string, lacks int) {
			t.Helper()
			time.Sleep(5 * time.Minute)
			if _, err := r.Read(t.Context()); err != nil {
				t.Fatal(err)
			}
			w := fmt.Sprint(r.Warnings())
			if said := strings.Contains(w, fmt.Sprintf("%s lacks %s of the tenant: the next commit there lifts those bans", c.urls[0], excerpt.Count(lacks, "address", "addresses"))); said != (lacks > 0) || lacks == 0 && w != "[]" {
				t.Errorf("%s: warnings %s", when, w)
			}
		}
		revert := func() {
			t.Helper()
			if err := a.Discard(); err != nil {
				t.Fatal(err)
			}
		}
		warned("nobody edits", 0)
		edit(removedTenant)
		warned("the tenant was removed", 2)
		c.seed(r, "192.0.2.3/32")
		warned("and more committed here", 3)
		revert()
		warned("reverted", 0)
		edit(routerR9)
		warned("edited elsewhere", 0)
		c.seed(r, "192.0.2.4/32")
		warned("which keeps it from following", 1)
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultUnreachable, Node: 1}); err != nil {
			t.Fatal(err)
		}
		warned("that node cannot be reached", 1)
		c.Clear()
		revert()
		warned("reverted again", 0)

		edit(removedTenant)
		warned("removed again", 4)
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultUnreachable, Node: 2}); err != nil {
			t.Fatal(err)
		}
		warned("that node is the only one left", 4)
		revert()
		warned("reverted at the only one left", 0)
	})
}

// What another administrator has half finished at the other node is not ours to clean.
func TestAnothersWorkAtTheOtherNodeStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
		if err := c.Dirty(true); err != nil { // at node 1
			t.Fatal(err)
		}
		before := fmt.Sprint(flat(c.Candidate("operator", 1)))
		r := c.client(func(cfg *rest.Config) { cfg.URLs = []string{c.urls[1], c.urls[0]} })
		if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.1/32"), nil); err != nil {
			t.Fatal(err)
		}
		if after := fmt.Sprint(flat(c.Candidate("operator", 1))); after != before {
			t.Errorf("node 1 held %s, and now %s", before, after)
		}
		if w := r.Warnings(); len(w) > 0 {
			t.Errorf("warnings %q", w)
		}
	})
}

// Where the candidate is the account's own, another user's commit between our edit and our commit leaves it behind. That is
// nobody's half finished work: it is brought up to date.
func TestAnotherUsersCommitInBetweenIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
		r := c.client()
		c.seed(r, "192.0.2.1/32")
		other := func() {
			a := c.Admin("operator")
			defer a.Close()
			if err := errors.Join(a.Edit(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config"><router><name>r`+
				fmt.Sprint(time.Now().UnixNano())+`</name></router></authority></config>`), a.Commit()); err != nil {
				t.Fatal(err)
			}
		}
		// Between edit and commit.
		e, err := r.Begin(t.Context(), conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(t.Context(), prefixes("192.0.2.2/32"), nil); err != nil {
			t.Fatal(err)
		}
		other()
		if err := e.Commit(t.Context()); err != nil && (!errors.Is(err, conductor.ErrBusy) || strings.Contains(err.Error(), "administrator")) {
			t.Errorf("commit: %v", err)
		}
		e.Close(t.Context())
		c.seed(r, "192.0.2.3/32")
		c.wantCleanCandidate("admin", 1)
		// And where the process was killed right then.
		killed := c.client()
		if e, err = killed.Begin(t.Context(), conductor.Permit{}); err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(t.Context(), prefixes("192.0.2.4/32"), nil); err != nil {
			t.Fatal(err)
		}
		other()
		killed.Close()
		c.seed(c.client(), "192.0.2.5/32")
		c.wantCleanCandidate("admin", 1)
		c.wantHistory()
	})
}

// Where each node has its own candidate, a commit at one node between our edit and our commit at the other leaves the candidate
// there behind. Without our edit it is what it was when the edit began, so it is brought up to date and not waited for. What
// somebody has begun there meanwhile stays.
func TestACommitAtTheOtherNodeInBetweenIsNotWaitedFor(t *testing.T) {
	for name, edited := range map[string]bool{"nobody edits here": false, "somebody edits here": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
				ours, theirs := 2, 1 // an administrator works at node 1
				if edited {
					ours, theirs = 1, 2
				}
				r := c.client(func(cfg *rest.Config) { cfg.URLs = c.urls[ours-1 : ours] })
				c.seed(r, "192.0.2.1/32")
				e, err := r.Begin(t.Context(), conductor.Permit{})
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Apply(t.Context(), prefixes("192.0.2.2/32"), nil); err != nil {
					t.Fatal(err)
				}
				a := c.Admin("operator")
				defer a.Close()
				if err := a.Edit(routerR9); err != nil {
					t.Fatal(err)
				}
				if edited {
					c.seed(c.client(func(cfg *rest.Config) { cfg.URLs = c.urls[theirs-1 : theirs] }), "192.0.2.4/32")
				} else if err := a.Commit(); err != nil {
					t.Fatal(err)
				}
				var busy *conductor.BusyError
				if err := e.Commit(t.Context()); !errors.As(err, &busy) || busy.Dirty != edited {
					t.Errorf("commit: %v", err)
				}
				e.Close(t.Context())
				if edited {
					if !strings.Contains(fmt.Sprint(flat(c.Candidate("operator", ours))), "r9") {
						t.Error("the administrator's edit is gone")
					}
					return
				}
				c.seed(r, "192.0.2.3/32")
				c.want("192.0.2.1/32", "192.0.2.3/32")
				c.wantCleanCandidate("admin", ours)
				c.wantHistory()
			})
		})
	}
}

// A conductor that does not tell whether a candidate is changed need not: without our edits it is what it was when it was clean.
func TestAnotherUsersCommitIsToldFromAnEditWithoutTheConductorsWord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
		r := c.client(c.answering(func(*http.Request) bool { return true }, func(a *http.Response) error {
			if strings.HasSuffix(a.Request.URL.Path, "/config/version") {
				replace(a, http.StatusNotFound, `{"message":"not found"}`)
			}
			return nil
		}), func(cfg *rest.Config) { cfg.Candidate = "user" })
		c.seed(r, "192.0.2.1/32")
		e, err := r.Begin(t.Context(), conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(t.Context(), prefixes("192.0.2.2/32"), nil); err != nil {
			t.Fatal(err)
		}
		a := c.Admin("operator")
		defer a.Close()
		if err := errors.Join(a.Edit(routerR9), a.Commit()); err != nil {
			t.Fatal(err)
		}
		var busy *conductor.BusyError
		if err := e.Commit(t.Context()); !errors.As(err, &busy) || busy.Dirty {
			t.Errorf("commit: %v", err)
		}
		e.Close(t.Context())
		c.seed(r, "192.0.2.3/32")
		c.want("192.0.2.1/32", "192.0.2.3/32")
		c.wantCleanCandidate("admin", 1)
	})
}

// Reverting is tried once, and where it does not help the words say so.
func TestACandidateThatCannotBeRevertedIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
		killed := c.client()
		e, err := killed.Begin(t.Context(), conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(t.Context(), prefixes("192.0.2.2/32"), nil); err != nil {
			t.Fatal(err)
		}
		killed.Close()
		a := c.Admin("operator")
		defer a.Close()
		if err := errors.Join(a.Edit(routerR9), a.Commit()); err != nil {
			t.Fatal(err)
		}
		reverts := 0
		r := c.client(c.answering(func(req *http.Request) bool {
			if strings.HasSuffix(req.URL.Path, "/revertToRunning") {
				reverts++
				req.URL.Path = "/api/v1/config/validate" // an ok that does nothing
			}
			return true
		}, nil))
		err = change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil)
		if !errors.Is(err, conductor.ErrBusy) || !strings.Contains(err.Error(), "revert it by hand") || strings.Contains(err.Error(), "administrator") {
			t.Errorf("%v", err)
		}
		if reverts != 1 {
			t.Errorf("reverted %d times", reverts)
		}
	})
}

const (
	removedTenant = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"><name>` + tenant + `</name></tenant></authority></config>`
	removedMember = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config"><tenant><name>` + tenant + `</name>` +
		`<member xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"><neighborhood>` + member + `</neighborhood></member></tenant></authority></config>`
)

const routerR9 = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config"><router><name>r9</name></router></authority></config>`

// What a person has half finished with the agents' own account is not reverted, whatever of ours lies beside it.
func TestEditsWithTheAgentsAccountAreLeftAlone(t *testing.T) {
	for name, version := range map[string]string{"the flag is told": "", "no flag": `{}`, "null": `{"isDirty":null}`, "a word": `{"isDirty":"unknown"}`, "a list": `[]`} {
		t.Run(name, func(t *testing.T) {
			leaveAlone(t, version)
		})
	}
}

// leaveAlone has a person edit with the agents' account where /config/version answers so; "": as the conductor has it.
func leaveAlone(t *testing.T, version string) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
		own := func(cfg *rest.Config) { cfg.Candidate = "user" }
		if version != "" {
			if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/version", N: 200, Body: version}); err != nil {
				t.Fatal(err)
			}
		}
		c.seed(c.client(own), "192.0.2.2/32")
		killed := c.client(own)
		e, err := killed.Begin(t.Context(), conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(t.Context(), prefixes("192.0.2.3/32"), nil); err != nil {
			t.Fatal(err)
		}
		a := c.Admin("admin")
		defer a.Close()
		if err := a.Edit(routerR9); err != nil {
			t.Fatal(err)
		}
		killed.Close()
		err = change(t.Context(), c.client(own), conductor.Permit{Ours: all}, prefixes("192.0.2.1/32"), nil)
		if !errors.Is(err, conductor.ErrBusy) || !strings.Contains(err.Error(), "an account of their own") {
			t.Errorf("%v", err)
		}
		held := fmt.Sprint(flat(c.Candidate("admin", 1)))
		if !strings.Contains(held, "r9") || strings.Contains(held, "192.0.2.3") {
			t.Errorf("the candidate holds %s", held)
		}
		if err := a.Commit(); err != nil {
			t.Fatal(err)
		}
		c.seed(c.client(own), "192.0.2.1/32")
		c.want("192.0.2.1/32", "192.0.2.2/32")
	})
}

// An agent was killed in an edit, others have committed since, and the conductor calls its candidate changed for ever. No later
// process can tell this from a person's edits, so it waits, says until when, and then reverts what nobody has touched.
func TestACandidateLeftBehindByAKilledAgentIsReverted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style, cfg.Users = conductorsim.Style56, []string{"banmesh"} })
		own := func(cfg *rest.Config) { cfg.User = "banmesh" }
		c.seed(c.client(own), "192.0.2.1/32")
		killed := c.client(own)
		e, err := killed.Begin(t.Context(), conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(t.Context(), prefixes("192.0.2.2/32"), nil); err != nil {
			t.Fatal(err)
		}
		killed.Close()
		a := c.Admin("operator")
		defer a.Close()
		if err := errors.Join(a.Edit(routerR9), a.Commit(), c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTDirtyFlag})); err != nil {
			t.Fatal(err)
		}
		next := c.client(own)
		try := func() error {
			return change(t.Context(), next, conductor.Permit{Ours: all}, prefixes("192.0.2.3/32"), nil)
		}
		for range 4 {
			if err := try(); !errors.Is(err, conductor.ErrBusy) || !strings.Contains(err.Error(), "is reverted at ") {
				t.Fatal(err)
			}
			time.Sleep(9 * time.Minute)
		}
		if err := try(); err != nil {
			t.Error(err)
		}
		c.want("192.0.2.1/32", "192.0.2.3/32")
		c.wantHistory()
	})
}

// Edits that somebody dropped and made again, while no agent looked, are new ones.
func TestEditsThatWereMadeAgainAreNotReverted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style, cfg.Users = conductorsim.Style56, []string{"banmesh"} })
		r := c.client(func(cfg *rest.Config) { cfg.User = "banmesh" })
		c.seed(r, "192.0.2.1/32")
		a := c.Admin("banmesh")
		defer a.Close()
		for range 2 {
			if err := a.Edit(routerR9); err != nil {
				t.Fatal(err)
			}
			if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrBusy) {
				t.Errorf("change: %v", err)
			}
			if held := fmt.Sprint(flat(c.Candidate("banmesh", 1))); !strings.Contains(held, "r9") {
				t.Errorf("the candidate holds %s", held)
			}
			time.Sleep(5 * time.Minute)
			if err := a.Discard(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// A token without a name can be a person's.
func TestWhatLiesBesideATokenWithoutANameIsNotReverted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style, cfg.Token = conductorsim.Style56, "a-person's" })
		r := c.client(func(cfg *rest.Config) {
			cfg.User, cfg.PasswordFile, cfg.TokenFile = "", "", c.secret("token", "a-person's\n")
		})
		a := c.Admin("admin")
		defer a.Close()
		if err := a.Edit(routerR9); err != nil {
			t.Fatal(err)
		}
		err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.1/32"), nil)
		if !errors.Is(err, conductor.ErrBusy) || strings.Contains(err.Error(), "is reverted at") {
			t.Errorf("change: %v", err)
		}
	})
}

// What our edit removes is not said of the administrator who has begun another one meanwhile.
func TestOurOwnRemovalsAreNotCalledAnothers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style52 })
		r := c.client()
		c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
		e, err := r.Begin(t.Context(), conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close(t.Context())
		if err := e.Apply(t.Context(), nil, prefixes("192.0.2.2/32")); err != nil {
			t.Fatal(err)
		}
		a := c.Admin("operator")
		defer a.Close()
		if err := a.Edit(routerR9); err != nil {
			t.Fatal(err)
		}
		if err := e.Commit(t.Context()); !errors.Is(err, conductor.ErrBusy) || strings.Contains(err.Error(), "lifts") {
			t.Errorf("commit: %v", err)
		}
	})
}

// An administrator who deletes the tenant or its member while an edit of ours is open finds it deleted afterwards.
func TestADeletionDuringAnEditOutlivesIt(t *testing.T) {
	for _, style := range []conductorsim.Style{conductorsim.Style52, conductorsim.Style55} {
		for what, removal := range map[string]string{"tenant": removedTenant, "member": removedMember} {
			t.Run(fmt.Sprint(style, what), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = style })
					r := c.client()
					c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
					e, err := r.Begin(t.Context(), conductor.Permit{})
					if err != nil {
						t.Fatal(err)
					}
					if err := e.Apply(t.Context(), prefixes("192.0.2.3/32"), prefixes("192.0.2.2/32")); err != nil {
						t.Fatal(err)
					}
					a := c.Admin("operator")
					defer a.Close()
					if err := a.Edit(removal); err != nil {
						t.Fatal(err)
					}
					if err := e.Commit(t.Context()); !errors.Is(err, conductor.ErrBusy) {
						t.Errorf("commit: %v", err)
					}
					e.Close(t.Context())
					if held := fmt.Sprint(flat(c.Candidate("operator", 1))); strings.Contains(held, "192.0.2.") {
						t.Errorf("the candidate holds %s", held)
					}
				})
			})
		}
	}
}

// What was undone once explains no deletion of what has been committed since.
func TestADeletionAfterACommitIsNotTakenForAnOldUndoing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style52 })
		killed := c.client()
		e, err := killed.Begin(t.Context(), conductor.Permit{})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Apply(t.Context(), prefixes("192.0.2.1/32"), nil); err != nil {
			t.Fatal(err)
		}
		killed.Close()
		r := c.client()
		if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.1/32"), nil); err != nil { // undoes what was left first
			t.Fatal(err)
		}
		a := c.Admin("operator")
		defer a.Close()
		if err := a.Edit(removedTenant); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrBusy) {
			t.Errorf("change: %v", err)
		}
		if held := fmt.Sprint(flat(c.Candidate("operator", 1))); strings.Contains(held, "192.0.2.") {
			t.Errorf("the candidate holds %s", held)
		}
	})
}

// So is what a person begins with the agents' account while an edit of ours is open, however that edit ends.
func TestEditsWithTheAgentsAccountOutliveOurOwn(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, c *lab, e conductor.Edit){
		"commit": func(t *testing.T, c *lab, e conductor.Edit) {
			if err := e.Commit(t.Context()); !errors.Is(err, conductor.ErrBusy) || !strings.Contains(err.Error(), "an account of their own") || !strings.Contains(err.Error(), "r9") {
				t.Errorf("commit: %v", err)
			}
		},
		"close": func(t *testing.T, c *lab, e conductor.Edit) {},
		"a rejected edit": func(t *testing.T, c *lab, e conductor.Edit) {
			if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/member", N: 400, Times: 1}); err != nil {
				t.Fatal(err)
			}
			if err := e.Apply(t.Context(), prefixes("192.0.2.4/32"), nil); !errors.Is(err, conductor.ErrRejected) {
				t.Errorf("apply: %v", err)
			}
		},
		"a rejected validation": func(t *testing.T, c *lab, e conductor.Edit) {
			if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/validate", N: 400, Times: 1}); err != nil {
				t.Fatal(err)
			}
			if err := e.Commit(t.Context()); !errors.Is(err, conductor.ErrRejected) {
				t.Errorf("commit: %v", err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
				r := c.client()
				c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
				e, err := r.Begin(t.Context(), conductor.Permit{})
				if err != nil {
					t.Fatal(err)
				}
				if err := e.Apply(t.Context(), prefixes("192.0.2.3/32"), prefixes("192.0.2.2/32")); err != nil {
					t.Fatal(err)
				}
				a := c.Admin("admin")
				defer a.Close()
				if err := a.Edit(routerR9); err != nil {
					t.Fatal(err)
				}
				end(t, c, e)
				if err := e.Close(t.Context()); err != nil {
					t.Errorf("close: %v", err)
				}
				held := fmt.Sprint(flat(c.Candidate("admin", 1)))
				if !strings.Contains(held, "r9") || strings.Contains(held, "192.0.2.3") || !strings.Contains(held, "192.0.2.2") {
					t.Errorf("the candidate holds %s", held)
				}
				if err := a.Commit(); err != nil {
					t.Fatal(err)
				}
				c.seed(r, "192.0.2.4/32")
				c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.4/32")
			})
		})
	}
}

// A member that is being made anew is told from one that somebody has removed also where the candidate is the account's own.
func TestAMemberBeingMadeAnewIsPutBackBesideTheEditsOfOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style56 })
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTNoPut}); err != nil {
			t.Fatal(err)
		}
		c.seed(c.client(), "192.0.2.1/32", "192.0.2.2/32")
		gone := false
		killed := c.client(c.answering(func(req *http.Request) bool {
			gone = gone || req.Method == http.MethodDelete
			return !gone || req.Method == http.MethodDelete
		}, nil))
		if err := change(t.Context(), killed, conductor.Permit{}, nil, prefixes("192.0.2.2/32")); err == nil {
			t.Fatal("the edit came to its end")
		}
		killed.Close()
		a := c.Admin("admin")
		defer a.Close()
		if err := a.Edit(routerR9); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), c.client(), conductor.Permit{}, prefixes("192.0.2.3/32"), nil); !errors.Is(err, conductor.ErrBusy) {
			t.Errorf("%v", err)
		}
		held := fmt.Sprint(flat(c.Candidate("admin", 1)))
		if !strings.Contains(held, "r9") || !strings.Contains(held, "192.0.2.1") || strings.Contains(held, "rewriting") {
			t.Errorf("the candidate holds %s", held)
		}
	})
}

// A page that shows no list of anything is no configuration, and says nothing about our tenant.
func TestAnAuthorityWithoutListsIsNoEmptyOne(t *testing.T) {
	for _, body := range []string{`{}`, `{"name":"Authority"}`, `{"status":"ok"}`, `{"authority":{}}`, `{"errors":[]}`, `{"config":{"authority":{"name":"x"}}}`,
		`{"name":"x","tenant":{}}`, `{"name":"x","tenant":{"_links":{"self":{"href":"x"}}}}`, `{"name":"x","router":[{"name":"edge"}]}`,
		`{"name":"x","router":[{"name":"edge"}],"tenant":{"_links":{"self":{"href":"x"}}}}`, `{"name":"x","router":[{"name":"edge"}],"tenant":null}`} {
		t.Run(body, func(t *testing.T) {
			twoStyles(t, func(t *testing.T, c *lab) {
				c.seed(c.client(), "192.0.2.1/32", "192.0.2.2/32")
				r := c.client(c.answering(func(req *http.Request) bool { return true }, func(a *http.Response) error {
					switch path := a.Request.URL.Path; {
					case a.Request.Method != http.MethodGet:
					case strings.HasSuffix(path, "/authority"):
						replace(a, 200, body)
					case strings.HasSuffix(path, "/tenant/"+tenant):
						replace(a, 404, `{"message":"not found"}`)
					}
					return nil
				}))
				if got, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) {
					t.Errorf("read: %+v, %v", got, err)
				}
				if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.3/32"), nil); !errors.Is(err, conductor.ErrProtocol) {
					t.Errorf("change: %v", err)
				}
				c.want("192.0.2.1/32", "192.0.2.2/32")
				c.wantCleanCandidate("admin", 1)
			})
		})
	}
	// A conductor that has nothing yet says so in its list of tenants.
	r := fake(t, func(w http.ResponseWriter, req *http.Request) {
		switch strings.TrimPrefix(req.URL.Path, "/api/v1") {
		case "/login":
			fmt.Fprint(w, `{"token":"t"}`)
		case "/config/running/authority":
			fmt.Fprint(w, `{"name":"new"}`)
		case "/config/running/authority/tenant":
			fmt.Fprint(w, `[]`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	if got, err := r.Read(t.Context()); err != nil || got.Exists {
		t.Errorf("a new conductor: %+v, %v", got, err)
	}
}

// An authority that was there a moment ago has not gone.
func TestAnAuthorityThatWasThereIsNotAbsent(t *testing.T) {
	twoStyles(t, func(t *testing.T, c *lab) {
		r := c.client()
		c.seed(r, "192.0.2.1/32")
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/authority", N: 404, Body: `{"message":"not found"}`}); err != nil {
			t.Fatal(err)
		}
		if got, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) {
			t.Errorf("read: %+v, %v", got, err)
		}
		if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrProtocol) {
			t.Errorf("change: %v", err)
		}
		c.Clear()
		c.seed(r, "192.0.2.2/32")
		c.want("192.0.2.1/32", "192.0.2.2/32")
	})
}
