package conductorsim_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
)

// rest is a REST client that trusts the conductor's own certificate.
type rest struct {
	t     *testing.T
	url   string
	http  *http.Client
	token string
}

func (s *server) rest(t *testing.T, node int) *rest {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := s.ServeREST(node, ln); err != nil {
			t.Errorf("serve REST: %v", err)
		}
	}()
	pool := x509.NewCertPool()
	text, _ := s.Certificate()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	return &rest{t: t, url: "https://" + ln.Addr().String() + "/api/v1", http: &http.Client{Transport: transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

// call makes one call; the error is one of the connection.
func (r *rest) call(method, path, body string) (status int, answer string, err error) {
	q, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	if r.token != "" {
		q.Header.Set("Authorization", "Bearer "+r.token)
	}
	a, err := r.http.Do(q)
	if err != nil {
		return 0, "", err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	return a.StatusCode, string(b), err
}

// want makes a call that is answered with status.
func (r *rest) want(status int, method, path, body string) string {
	r.t.Helper()
	got, answer, err := r.call(method, path, body)
	if err != nil || got != status {
		r.t.Fatalf("%s %s: status %d %s, %v; want %d", method, path, got, answer, err, status)
	}
	return answer
}

func (r *rest) login(user string) *rest {
	r.t.Helper()
	out := *r
	var answer struct{ Token string }
	text := r.want(200, "POST", "/login", `{"username":"`+user+`","password":"admin"}`)
	if err := json.Unmarshal([]byte(text), &answer); err != nil || answer.Token == "" {
		r.t.Fatalf("login answered %s", text)
	}
	out.token = answer.Token
	return &out
}

const (
	candidateTenants = "/config/candidate/authority/tenant"
	candidateMember  = candidateTenants + "/black/member/internet"
	runningMember    = "/config/running/authority/tenant/black/member/internet"
)

func (r *rest) addresses(path string) []string {
	r.t.Helper()
	var m struct{ Address []string }
	text := r.want(200, "GET", path, "")
	if err := json.Unmarshal([]byte(text), &m); err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
	return m.Address
}

// make creates the tenant with its member in the candidate.
func (r *rest) make(addresses string) {
	r.t.Helper()
	r.want(201, "POST", candidateTenants, `{"name":"black","description":"bad ones"}`)
	r.want(201, "POST", candidateTenants+"/black/member", `{"neighborhood":"internet","address":[`+addresses+`]}`)
}

func TestRESTAndNETCONFAreOneConductor(t *testing.T) {
	s := serve(t)
	r := s.rest(t, 1).login("admin")
	r.make(`"192.0.2.1/32"`)
	c := s.dial(t)
	c.refused(lockCandidate, "resource-denied")
	if got := r.want(200, "POST", "/config/commit", `{"distributed":false}`); got != "[]" {
		t.Errorf("commit answered %s", got)
	}
	c.ok(lockCandidate)
	c.ok(edit(tenant("192.0.2.2/32")))
	r.want(409, "PATCH", candidateMember, `{"address":["192.0.2.3/32"]}`)
	if got := r.want(200, "POST", "/config/commit", ""); !strings.Contains(got, "message") {
		t.Errorf("a commit into another one's lock answered %s", got)
	}
	c.ok(commit)
	if got, want := r.addresses(runningMember), []string{"192.0.2.1/32", "192.0.2.2/32"}; !slices.Equal(got, want) {
		t.Errorf("addresses %q, want %q", got, want)
	}
}

func TestPatchMergesOrReplaces(t *testing.T) {
	for replaces, want := range map[bool][]string{false: {"192.0.2.1/32", "192.0.2.2/32"}, true: {"192.0.2.2/32"}} {
		s := serve(t, func(c *conductorsim.Config) { c.PatchReplaces = replaces })
		r := s.rest(t, 1).login("admin")
		r.make(`"192.0.2.1/32"`)
		r.want(200, "PATCH", candidateMember, `{"address":["192.0.2.2/32"]}`)
		if got := r.addresses(candidateMember); !slices.Equal(got, want) {
			t.Errorf("replaces %v: addresses %q, want %q", replaces, got, want)
		}
		r.want(200, "PATCH", candidateTenants+"/black", `{"description":"others"}`)
		if got := r.addresses(candidateMember); !slices.Equal(got, want) {
			t.Errorf("replaces %v: a PATCH of something else left %q, want %q", replaces, got, want)
		}
	}
}

func TestRESTResources(t *testing.T) {
	s := serve(t)
	r := s.rest(t, 1)
	r.want(401, "GET", candidateTenants, "")
	r.want(401, "POST", "/login", `{"username":"admin","password":"wrong"}`)
	r.want(400, "POST", "/login", `nonsense`)
	r = r.login("admin")
	if got := r.want(200, "GET", candidateTenants, ""); got != "[]" {
		t.Errorf("tenants %s", got)
	}
	r.want(404, "GET", candidateMember, "")
	r.want(404, "PATCH", candidateMember, `{"address":[]}`)
	r.want(404, "POST", candidateTenants+"/black/member", `{"neighborhood":"internet"}`)
	r.make("")
	r.want(409, "POST", candidateTenants, `{"name":"black"}`)
	r.want(400, "PATCH", candidateMember, `{"address":["192.0.2.1"]}`)
	r.want(400, "PATCH", candidateMember, `{"address":"192.0.2.1/32"}`)
	r.want(400, "PATCH", candidateMember, `{"colour":"red"}`)
	r.want(400, "PATCH", candidateMember, `[`)
	r.want(404, "GET", "/config/candidate/authority/planet/earth", "")
	r.want(404, "GET", "/nothing", "")
	r.want(405, "DELETE", "/config/running/authority/tenant/black", "")
	if got := r.want(200, "GET", "/config/version?datastore=candidate", ""); !strings.Contains(got, `"isDirty":true`) {
		t.Errorf("version %s", got)
	}
	r.want(200, "PATCH", candidateMember, `{"address":["192.0.2.1/32"]}`)
	r.want(200, "DELETE", candidateMember, "")
	r.want(404, "DELETE", candidateMember, "")
	r.want(200, "POST", "/config/revertToRunning", "")
	if got := r.want(200, "GET", "/config/version?datastore=candidate", ""); !strings.Contains(got, `"isDirty":false`) {
		t.Errorf("version %s", got)
	}
	r.want(404, "GET", candidateTenants+"/black", "")
	s.ExpireTokens()
	r.want(401, "GET", candidateTenants, "")
}

func TestRESTVerdictsAreListsOfMessages(t *testing.T) {
	for _, status := range []int{200, 422} {
		s := serve(t, func(c *conductorsim.Config) { c.VerdictStatus = status; c.Token = "secret" })
		r := s.rest(t, 1)
		r.token = "secret"
		if got := r.want(200, "POST", "/config/validate", ""); got != "[]" {
			t.Errorf("validate answered %s", got)
		}
		s.inject(t, conductorsim.Fault{Kind: conductorsim.FaultValidateRefused, N: 3})
		for _, path := range []string{"/config/validate", "/config/commit"} {
			var list []struct{ Message string }
			text := r.want(status, "POST", path, "")
			if err := json.Unmarshal([]byte(text), &list); err != nil || len(list) != 3 || list[0].Message == "" {
				t.Errorf("%s answered %s", path, text)
			}
		}
	}
}

func TestRESTCandidateStyles(t *testing.T) {
	for style, want := range map[conductorsim.Style]struct{ otherUser, otherNode bool }{
		conductorsim.Style52: {true, true}, conductorsim.Style55: {true, false}, conductorsim.Style56: {false, true},
	} {
		s := serve(t, func(c *conductorsim.Config) { c.Style, c.Nodes, c.Users = style, 2, []string{"ann", "bob"} })
		one, two := s.rest(t, 1), s.rest(t, 2)
		ann, bob := one.login("ann"), one.login("bob")
		ann.make(`"192.0.2.1/32"`)
		status, _, err := bob.call("GET", candidateMember, "")
		if err != nil || (status == 200) != want.otherUser {
			t.Errorf("%s: another user sees the edit with %d, %v", style, status, err)
		}
		status, _, err = two.login("ann").call("GET", candidateMember, "")
		if err != nil || (status == 200) != want.otherNode {
			t.Errorf("%s: the other node shows the edit with %d, %v", style, status, err)
		}
	}
}

func TestRESTFaults(t *testing.T) {
	s := serve(t)
	r := s.rest(t, 1).login("admin")
	r.make(`"192.0.2.1/32"`)
	once := func(f conductorsim.Fault) { f.Times = 1; s.inject(t, f) }

	once(conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, N: 429, Body: "<html>slow down</html>", For: conductorsim.Duration(1500 * time.Millisecond)})
	a, err := r.http.Get(r.url + candidateTenants)
	if err != nil {
		t.Fatal(err)
	}
	a.Body.Close()
	if a.StatusCode != 429 || a.Header.Get("Retry-After") != "2" {
		t.Errorf("status %d, Retry-After %q", a.StatusCode, a.Header.Get("Retry-After"))
	}
	once(conductorsim.Fault{Kind: conductorsim.FaultRESTRedirect, Body: "https://192.0.2.1/"})
	r.want(307, "GET", candidateTenants, "")
	once(conductorsim.Fault{Kind: conductorsim.FaultRESTTruncated})
	if got := r.want(200, "GET", candidateMember, ""); json.Valid([]byte(got)) {
		t.Errorf("not truncated: %s", got)
	}
	once(conductorsim.Fault{Kind: conductorsim.FaultRESTDirtyFlag})
	once(conductorsim.Fault{Kind: conductorsim.FaultHugeReply, N: 1 << 20, Op: ""})
	if got := r.want(200, "GET", candidateMember, ""); len(got) < 1<<20 {
		t.Errorf("%d bytes, want more than 1 MiB", len(got))
	}
	r.want(200, "DELETE", "/router/r1/node/n1/traffic/session?source=192.0.2.1", "")
	if !slices.ContainsFunc(s.History().Events(), func(e history.Event) bool {
		return e.Kind == history.Cut && strings.Contains(e.Detail, "192.0.2.1")
	}) {
		t.Error("the cut of live sessions is not in the history")
	}
	for point, committed := range map[string]bool{"before": false, "in": true, "after": true} {
		r.want(200, "PATCH", candidateMember, fmt.Sprintf(`{"address":["198.51.100.%d/32"]}`, len(point)))
		before := s.History().Commits()
		grown := s.History().Grown()
		once(conductorsim.Fault{Kind: conductorsim.FaultDrop, At: point})
		if status, _, err := r.call("POST", "/config/commit", ""); err == nil {
			t.Errorf("dropped %s the commit: answered %d", point, status)
		}
		if committed {
			within(t, "commit without an answer", func() { <-grown })
		}
		if got := s.History().Commits() > before; got != committed {
			t.Errorf("dropped %s the commit: committed %v, want %v", point, got, committed)
		}
	}
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	cfg := conductorsim.DefaultConfig()
	cfg.Dir = dir
	var first []byte
	for range 2 {
		sim, err := conductorsim.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		text, sum := sim.Certificate()
		if err := sim.Close(); err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(first, text) {
			t.Error("the certificate changed with a restart")
		}
		if len(sum) != 2*sha256.Size {
			t.Errorf("fingerprint %q", sum)
		}
		first = text
	}
	s := serve(t, func(c *conductorsim.Config) { c.ExpiredCertificate = true })
	if _, _, err := s.rest(t, 1).call("GET", "/", ""); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v, want an expired certificate", err)
	}
}
