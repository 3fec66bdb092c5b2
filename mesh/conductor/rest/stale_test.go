package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

// twoStyles runs a test against a candidate that all share, and one of the account's own.
func twoStyles(t *testing.T, test func(t *testing.T, c *lab)) {
	for _, style := range []conductorsim.Style{conductorsim.Style52, conductorsim.Style56} {
		t.Run(string(style), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				test(t, serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = style }))
			})
		})
	}
}

// A commit that was answered with success is in force, however late running shows it.
func TestACommitThatShowsLateIsWaitedForAndNotTakenBack(t *testing.T) {
	twoStyles(t, func(t *testing.T, c *lab) {
		r := c.client()
		c.seed(r, "192.0.2.1/32")
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(300 * time.Millisecond)}); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), prefixes("192.0.2.1/32")); err != nil {
			t.Errorf("late: %v", err)
		}
		c.want("192.0.2.2/32")
		c.wantCleanCandidate("admin", 1)
		c.wantHistory()
	})
}

func TestACommitThatDoesNotShowInTimeIsAnUnknownOutcome(t *testing.T) {
	twoStyles(t, func(t *testing.T, c *lab) {
		r := c.client()
		c.seed(r, "192.0.2.1/32")
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil)
		if !errors.Is(err, conductor.ErrUnseen) || errors.Is(err, conductor.ErrMismatch) || !strings.Contains(err.Error(), "acknowledged at ") {
			t.Errorf("%v", err)
		}
		if took := time.Since(began); took > c.config().Timeout+5*time.Second {
			t.Errorf("took %v", took)
		}
		c.want("192.0.2.1/32", "192.0.2.2/32")
		c.wantCleanCandidate("admin", 1)
		// Beyond the timeout it is planned anew. Nothing is taken back on the strength of a reading that may be old: what is
		// wanted still is committed once more, with what is wanted besides.
		never := func(added, removed []netip.Prefix) bool {
			t.Error("asked whether to undo what was acknowledged")
			return false
		}
		e, err := r.Begin(t.Context(), conductor.Permit{Ours: never})
		if err != nil {
			t.Fatalf("with the old running: %v", err)
		}
		e.Close(t.Context())
		c.wantCleanCandidate("admin", 1)
		err = change(t.Context(), r, conductor.Permit{Ours: never}, prefixes("192.0.2.2/32", "192.0.2.3/32"), nil)
		if !errors.Is(err, conductor.ErrUnknown) {
			t.Error(err)
		}
		c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")
		c.Clear()
		c.seed(r, "192.0.2.4/32")
		c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32", "192.0.2.4/32")
		c.wantCleanCandidate("admin", 1)
		c.wantHistory()
	})
}

// An acknowledged commit that the conductor has lost, of any size, is waited for no longer than the timeout, in words that
// say what is waited for, and then made again.
func TestALostCommitIsMadeAgainAfterTheTimeout(t *testing.T) {
	twoStyles(t, func(t *testing.T, c *lab) {
		var lose atomic.Bool
		r := c.client(c.answering(func(req *http.Request) bool {
			if strings.HasSuffix(req.URL.Path, "/config/commit") && lose.Load() {
				req.URL.Path = "/api/v1/config/validate" // answered with success as well, and changes nothing
			}
			return true
		}, nil))
		many := make([]netip.Prefix, 1000)
		for i := range many {
			many[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), 32)
		}
		lose.Store(true)
		began := time.Now()
		if err := change(t.Context(), r, conductor.Permit{}, many, nil); !errors.Is(err, conductor.ErrUnseen) {
			t.Errorf("%v", err)
		}
		lose.Store(false)
		var err error
		for time.Since(began) < time.Minute {
			if err = change(t.Context(), r, conductor.Permit{}, many[:900], nil); err == nil {
				break
			}
			if !strings.Contains(err.Error(), "acknowledged at ") {
				t.Errorf("meanwhile: %v", err)
			}
			time.Sleep(time.Second)
		}
		if took := time.Since(began); err != nil || took > c.config().Timeout+10*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
		want := len(many) // nothing is taken back by a reading that may be old
		if c.private {
			want = 900 // the conductor itself reverted the candidate
		}
		if got := len(c.addresses()); got != want {
			t.Errorf("running has %d addresses, want %d", got, want)
		}
		c.wantCleanCandidate("admin", 1)
		c.wantHistory()
	})
}

// Words that came with success are no refusal where running comes to hold what was committed.
func TestACommitPraisedInWordsIsNotTakenBack(t *testing.T) {
	twoStyles(t, func(t *testing.T, c *lab) {
		r := c.client(c.answering(func(*http.Request) bool { return true }, func(a *http.Response) error {
			if strings.HasSuffix(a.Request.URL.Path, "/config/commit") {
				body := `{"message":"Committed"}`
				a.Body, a.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				a.Header.Set("Content-Length", fmt.Sprint(len(body)))
			}
			return nil
		}), func(cfg *rest.Config) { cfg.Timeout = 20 * time.Second })
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(300 * time.Millisecond)}); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil); err != nil {
			t.Error(err)
		}
		c.want("192.0.2.1/32")
		c.wantCleanCandidate("admin", 1)
	})
}

// A commit that nobody answered may have taken effect, and running may show it late. Until then it stays in the candidate, or the
// next commit of anybody would lift those bans. After the timeout it was no commit, and is undone.
func TestACommitWithoutAnswerIsNotUndoneWhileItMayShow(t *testing.T) {
	for name, taken := range map[string]bool{"it took effect": true, "it did not": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style52 })
				r := c.client()
				c.seed(r, "192.0.2.1/32")
				at := "before"
				if taken {
					at = "after"
					if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(8 * time.Second)}); err != nil {
						t.Fatal(err)
					}
				}
				if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultDrop, Op: "commit", At: at, Times: 1}); err != nil {
					t.Fatal(err)
				}
				if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrUnknown) {
					t.Fatal(err)
				}
				begin := func() bool {
					e, err := r.Begin(t.Context(), conductor.Permit{})
					if err != nil {
						t.Fatal(err)
					}
					defer e.Close(t.Context())
					return strings.Contains(fmt.Sprint(flat(c.Candidate("admin", 1))), "192.0.2.2/32")
				}
				if !begin() {
					t.Error("undone at once")
				}
				time.Sleep(c.config().Timeout)
				if begin() != taken {
					t.Errorf("after the timeout: in the candidate %v, want %v", !taken, taken)
				}
				c.wantCleanCandidate("admin", 1)
				c.seed(r, "192.0.2.3/32")
				want := []string{"192.0.2.1/32", "192.0.2.3/32"}
				if taken {
					want = append(want, "192.0.2.2/32")
				}
				c.want(want...)
				c.wantHistory()
			})
		})
	}
}

// What was undone because of a reading that turns out to be an old one is put right, and waited for by nobody.
func TestAnUndoingByAnOldReadingIsPutRight(t *testing.T) {
	for _, style := range []conductorsim.Style{conductorsim.Style52, conductorsim.Style55} {
		synctest.Test(t, func(t *testing.T) {
			c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = style })
			c.seed(c.client(), "192.0.2.1/32")
			if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(time.Hour)}); err != nil {
				t.Fatal(err)
			}
			if err := change(t.Context(), c.client(), conductor.Permit{}, prefixes("192.0.2.2/32"), nil); !errors.Is(err, conductor.ErrUnknown) {
				t.Fatal(err)
			}
			next := c.client()
			e, err := next.Begin(t.Context(), conductor.Permit{Ours: all})
			if err != nil {
				t.Fatal(err)
			}
			e.Close(t.Context())
			c.Clear()
			if err := change(t.Context(), next, conductor.Permit{}, prefixes("192.0.2.3/32"), nil); err != nil {
				t.Errorf("%s: %v", style, err)
			}
			c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")
		})
	}
}

// The same with a tenant that was taken for an unfinished one, and dropped.
func TestATenantDroppedByAnOldReadingComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = conductorsim.Style52 })
		if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRunningLags, For: conductorsim.Duration(time.Hour)}); err != nil {
			t.Fatal(err)
		}
		if err := change(t.Context(), c.client(), conductor.Permit{}, prefixes("192.0.2.1/32"), nil); !errors.Is(err, conductor.ErrUnknown) {
			t.Fatal(err)
		}
		next := c.client()
		e, err := next.Begin(t.Context(), conductor.Permit{Ours: all})
		if err != nil {
			t.Fatal(err)
		}
		e.Close(t.Context())
		if held := fmt.Sprint(flat(c.Candidate("admin", 1))); strings.Contains(held, tenant) {
			t.Fatalf("the tenant was not dropped: %s", held)
		}
		c.Clear()
		if err := change(t.Context(), next, conductor.Permit{Ours: all}, prefixes("192.0.2.2/32"), nil); err != nil {
			t.Error(err)
		}
		c.want("192.0.2.1/32", "192.0.2.2/32")
		c.wantHistory()
	})
}

// No answer but that of the API itself, and no reading that another one contradicts, makes a tenant absent or empty.
func TestAWrongAnswerIsNoEmptyTenant(t *testing.T) {
	const tenantPath, authority = "/config/running/authority/tenant", "/config/running/authority"
	for name, f := range map[string]conductorsim.Fault{
		"404":             {Op: tenantPath, N: 404, Body: `{"message":"not found"}`},
		"404 HTML":        {Op: tenantPath, N: 404, Body: "<html>no such page</html>"},
		"404 HTML, whole": {Op: authority, N: 404, Body: "<html>no such page</html>"},
		"error":           {Op: tenantPath, N: 200, Body: `{"message":"Internal error: database is locked"}`},
		"error, whole":    {Op: authority, N: 200, Body: `{"message":"Internal error: database is locked"}`},
		"error beside":    {Op: tenantPath, N: 200, Body: `{"name":"blacklist-fail2ban","member":[{"neighborhood":"internet","address":["192.0.2.1/32"]}],"error":"read aborted"}`},
		"beside, whole":   {Op: authority, N: 200, Body: `{"name":"A","router":[{"name":"r1"}],"tenant":[],"errors":[{"message":"read aborted"}]}`},
		"in an envelope":  {Op: authority, N: 200, Body: `{"data":{"router":[{"name":"r1"}],"tenant":[]},"errors":["read aborted"]}`},
		"null":            {Op: tenantPath, N: 200, Body: `null`},
		"null, whole":     {Op: authority, N: 200, Body: `null`},
		"nothing in it":   {Op: tenantPath, N: 200, Body: `{}`},
		"no name":         {Op: tenantPath, N: 200, Body: `{"description":"x","member":[]}`},
		"HTML":            {Op: tenantPath, N: 200, Body: "<html>welcome</html>"},
	} {
		t.Run(name, func(t *testing.T) {
			twoStyles(t, func(t *testing.T, c *lab) {
				r := c.client()
				c.seed(c.client(), "192.0.2.1/32", "192.0.2.2/32")
				f := f // the styles run at once
				f.Kind = conductorsim.FaultRESTAnswer
				if err := c.Inject(f); err != nil {
					t.Fatal(err)
				}
				if got, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) {
					t.Errorf("read: %+v, %v", got, err)
				}
				if err := change(t.Context(), r, conductor.Permit{Ours: all}, prefixes("192.0.2.3/32"), nil); err != nil && !errors.Is(err, conductor.ErrProtocol) && !errors.Is(err, conductor.ErrUnknown) {
					t.Errorf("change: %v", err)
				}
				for _, a := range []string{"192.0.2.1/32", "192.0.2.2/32"} {
					if !strings.Contains(fmt.Sprint(flat(c.Candidate("admin", 1))), a) {
						t.Errorf("the candidate has lost %s", a)
					}
				}
				c.Clear()
				c.seed(c.client(), "192.0.2.3/32")
				c.want("192.0.2.1/32", "192.0.2.2/32", "192.0.2.3/32")
				c.wantCleanCandidate("admin", 1)
			})
		})
	}
}

// An envelope may hold the error as well as what was read before it.
func TestAnErrorInsideAnEnvelopeIsNoEmptyTenant(t *testing.T) {
	r := fake(t, func(w http.ResponseWriter, req *http.Request) {
		switch strings.TrimPrefix(req.URL.Path, "/api/v1") {
		case "/login":
			fmt.Fprint(w, `{"token":"t"}`)
		case "/config/running/authority":
			fmt.Fprint(w, `{"data":{"router":[{"name":"r1"}],"tenant":[{"name":"other"}],"error":"read aborted"}}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	if got, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) || !strings.Contains(err.Error(), "read aborted") {
		t.Errorf("%+v, %v", got, err)
	}
}

// killed makes a change by a client that is killed after n requests, the last of them with or without effect, and tells
// whether it got that far.
func (c *lab) killed(n int64, effect bool, add, remove []netip.Prefix) bool {
	c.t.Helper()
	var count atomic.Int64
	r := c.client(c.proxied(func(req *http.Request) bool {
		if at := count.Add(1); at > n || at == n && !effect {
			panic(http.ErrAbortHandler)
		}
		return true
	}))
	err := change(c.t.Context(), r, conductor.Permit{}, add, remove)
	return err != nil || count.Load() > n
}

// Whatever moment an agent is killed at, the next one commits.
func TestKilledAtAnyRequest(t *testing.T) {
	for _, style := range []conductorsim.Style{conductorsim.Style52, conductorsim.Style56} {
		for _, put := range []bool{true, false} {
			for _, first := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s/put=%v/first=%v", style, put, first), func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) {
						c := serveInMemory(t, func(cfg *conductorsim.Config) { cfg.Style = style })
						if !put {
							if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTNoPut}); err != nil {
								t.Fatal(err)
							}
						}
						for n := int64(1); n < 60; n++ {
							if !c.survivesAKill(n, n%2 == 0, first) {
								if n < 8 {
									t.Fatalf("a change took %d requests", n)
								}
								return
							}
						}
					})
				})
			}
		}
	}
}

// survivesAKill kills a change at a request and makes the next one; false says that there was no such request.
func (c *lab) survivesAKill(n int64, effect, first bool) bool {
	c.t.Helper()
	c.reset()
	var old []string
	if !first {
		old = []string{"192.0.2.1/32", "192.0.2.2/32"}
		c.seed(c.client(), old...)
	}
	if !c.killed(n, effect, prefixes("192.0.2.3/32", "192.0.2.4/32"), prefixes("192.0.2.2/32")) {
		return false
	}
	placed := func(added, removed []netip.Prefix) bool { return len(added)+len(removed) > 0 }
	next := c.client()
	if err := change(c.t.Context(), next, conductor.Permit{Ours: placed}, prefixes("192.0.2.5/32"), nil); err != nil {
		c.t.Fatalf("killed at %d, effect %v: %v\n%s", n, effect, err, strings.Join(flat(c.Candidate("admin", 1)), "\n"))
	}
	c.wantCleanCandidate("admin", 1)
	got := fmt.Sprint(c.addresses())
	if fresh := fmt.Sprint(append(old, "192.0.2.5/32")); got != fresh && !strings.Contains(got, "192.0.2.3/32 192.0.2.4/32 192.0.2.5/32") {
		c.t.Errorf("killed at %d, effect %v: running has %s", n, effect, got)
	}
	if d := c.Running().Child("config", "").Child("authority", "").Child("tenant", tenant).Text("description"); d != "Blacklist maintained by fail2ban" {
		c.t.Errorf("killed at %d, effect %v: description %q", n, effect, d)
	}
	return true
}

// reset takes our tenant away and leaves nothing in any candidate.
func (c *lab) reset() {
	c.t.Helper()
	for _, user := range []string{"admin", "operator"} {
		a := c.Admin(user)
		if err := a.Discard(); err != nil {
			c.t.Fatal(err)
		}
		a.Close()
	}
	a := c.Admin("operator")
	defer a.Close()
	err := a.Edit(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"><name>` + tenant + `</name></tenant></authority></config>`)
	if err := errors.Join(err, a.Commit()); err != nil {
		c.t.Fatal(err)
	}
	b := c.Admin("admin")
	defer b.Close()
	if err := b.Discard(); err != nil {
		c.t.Fatal(err)
	}
}

// While a member is being deleted and created anew the tenant says so, on a candidate that others can see.
func TestTheMemberIsNeverMissingWithoutAWord(t *testing.T) {
	c := serve(t)
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTNoPut}); err != nil {
		t.Fatal(err)
	}
	var seen atomic.Value
	r := c.client(c.proxied(func(req *http.Request) bool {
		if req.Method == http.MethodPost && strings.HasSuffix(req.URL.Path, "/member") {
			seen.Store(fmt.Sprint(flat(c.Candidate("admin", 1))))
		}
		return true
	}))
	c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
	seen.Store("")
	if err := change(t.Context(), r, conductor.Permit{}, nil, prefixes("192.0.2.1/32")); err != nil {
		t.Fatal(err)
	}
	if s := seen.Load().(string); !strings.Contains(s, "banmesh is rewriting this member") {
		t.Errorf("in between the candidate is %s", s)
	}
	c.want("192.0.2.2/32")
	c.wantCleanCandidate("admin", 1)
}

// Twenty megabytes of other people's configuration are compared as text.
func TestAnotherTenantsChangeIsSeenInALargeConfiguration(t *testing.T) {
	var b strings.Builder
	for i := range 200 {
		fmt.Fprintf(&b, `{"name":"r%d","note":%q},`, i, strings.Repeat("x", 1000))
	}
	whole := func(last string) string {
		return `{"router":[` + b.String() + `{"name":"last","note":` + last + `,"node":[]}],"tenant":[{"name":"blacklist-fail2ban","member":[{"neighborhood":"internet","address":["192.0.2.1/32"]}]}]}`
	}
	r := fake(t, func(w http.ResponseWriter, req *http.Request) {
		switch path := strings.TrimPrefix(req.URL.Path, "/api/v1"); {
		case path == "/login":
			json.NewEncoder(w).Encode(map[string]string{"token": "t"})
		case path == "/config/running/authority":
			fmt.Fprint(w, whole(`"a"`))
		case path == "/config/candidate/authority":
			fmt.Fprint(w, whole(`"b"`))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	_, err := r.Begin(context.Background(), conductor.Permit{})
	if !errors.Is(err, conductor.ErrBusy) || !strings.Contains(err.Error(), "/router[last]/note") {
		t.Errorf("%v", err)
	}
}

// What a node's candidate was left with explains nothing at another node, which has one of its own: there somebody else did
// the same.
func TestALeftoverExplainsNothingAtAnotherNode(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Nodes, cfg.Style = 2, conductorsim.Style55 })
	r := c.client(func(cfg *rest.Config) { cfg.URLs = []string{c.urls[1], c.urls[0]} })
	c.seed(r, "192.0.2.1/32", "192.0.2.2/32")
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/commit", N: 500, Node: 2, Times: 1}); err != nil {
		t.Fatal(err)
	}
	if err := change(t.Context(), r, conductor.Permit{}, nil, prefixes("192.0.2.2/32")); !errors.Is(err, conductor.ErrUnknown) {
		t.Fatal(err)
	}
	a := c.Admin("operator")
	defer a.Close()
	err := a.Edit(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant><name>` + tenant + `</name><member xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove"><neighborhood>` + member + `</neighborhood></member></tenant></authority></config>`)
	if err != nil {
		t.Fatal(err)
	}
	e, err := r.Begin(t.Context(), conductor.Permit{})
	if !errors.Is(err, conductor.ErrBusy) {
		t.Errorf("begin: %v", err)
	}
	if err == nil {
		e.Close(t.Context())
	}
	if strings.Contains(fmt.Sprint(flat(c.Candidate("operator", 1))), member) {
		t.Error("the administrator's deletion was undone")
	}
}
