package mesh

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/store"
)

// forge brings bans under a name that is no router's to an agent, as who holds the
// gossip key can.
func forge(t *testing.T, at *Agent, name, jail string, prefixes ...netip.Prefix) {
	t.Helper()
	s, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store"), Origin: name})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	reqs := make([]store.BanRequest, len(prefixes))
	for i, p := range prefixes {
		reqs[i] = store.BanRequest{Prefix: p, Jail: jail, Until: store.Never, Force: true}
	}
	if _, err := s.Ban(t.Context(), reqs); err != nil {
		t.Fatal(err)
	}
	chunk, _ := s.Since(0, 1<<20)
	if _, err := at.store.Merge(chunk); err != nil {
		t.Fatal(err)
	}
}

func banned(t *testing.T, at *Agent, jail, prefix string) {
	t.Helper()
	if _, err := at.Ban(t.Context(), control.BanCall{Prefixes: control.Prefixes{netip.MustParsePrefix(prefix)}, Jail: jail, Until: control.UntilAt(time.Now().Add(time.Hour))}); err != nil {
		t.Fatal(err)
	}
}

// TestTheInternetInWidePrefixesNeedsAWord: under 56 names, four /8 each, so that
// no cap of a name is reached.
func TestTheInternetInWidePrefixesNeedsAWord(t *testing.T) {
	t.Parallel()
	sim, commit := simulated(t, nil)
	a := started(t, "router1", func(c *config.Config) { c.Commit = commit })
	n := 0
	for i := range 56 {
		var wide []netip.Prefix
		for k := range 4 {
			if first := byte(4*i + k); first != 0 && first != 127 {
				wide = append(wide, netip.PrefixFrom(netip.AddrFrom4([4]byte{first}), 8))
			}
		}
		forge(t, a, fmt.Sprintf("ghost%d", i), "x", wide...)
		n += len(wide)
	}
	const honest = "203.0.113.7/32"
	banned(t, a, "sshd", honest)
	eventually(t, "what is honest at the conductor", func() bool { return slices.Contains(tenant(sim), honest) })
	var status control.Status
	eventually(t, "the rest waiting", func() bool {
		status, _ = a.Status(t.Context())
		return status.Commit.Held >= n
	})
	n = status.Commit.Held // more, where a gateway of this host is cut out of one
	if !slices.ContainsFunc(status.Warnings, func(w string) bool { return strings.Contains(w, "commit --force") }) {
		t.Errorf("status warns of %q, and not of what waits", status.Warnings)
	}
	if got := tenant(sim); !slices.Equal(got, []string{honest}) {
		t.Fatalf("the conductor has %v", got)
	}
	d, err := a.Diff(t.Context())
	if err != nil || len(d.HeldAdd) != n || len(d.Add) != 0 {
		t.Errorf("diff shows %d held and %d to add, %v; want %d and 0", len(d.HeldAdd), len(d.Add), err, n)
	}
	if r, err := a.Commit(t.Context(), control.CommitCall{}); err != nil || r.Committed {
		t.Errorf("a commit without force committed: %+v, %v", r, err)
	}
	forwarded, err := a.lead.commitFor(t.Context(), true)
	if got := tenant(sim); forwarded.Committed || err == nil || !strings.Contains(err.Error(), "run `banmesh commit --force` on router1") || len(got) != 1 {
		t.Errorf("a forwarded --force: %+v, %v; the conductor has %d", forwarded, err, len(got))
	}
	r, err := a.Commit(t.Context(), control.CommitCall{Force: true})
	if err != nil || len(r.Add) != n {
		t.Errorf("commit --force adds %d, %v; want %d", len(r.Add), err, n)
	}
}

// TestTheInternetInWidePrefixesWaitsAtEveryExit: a router without a conductor blocks
// nothing of it either, in no feed, before an operator confirms it there.
func TestTheInternetInWidePrefixesWaitsAtEveryExit(t *testing.T) {
	t.Parallel()
	a := started(t, "server1", func(c *config.Config) { c.HTTP.Listen = "127.0.0.1:0" })
	for i := range 56 {
		var wide []netip.Prefix
		for k := range 4 {
			if first := byte(4*i + k); first != 0 && first != 127 {
				wide = append(wide, netip.PrefixFrom(netip.AddrFrom4([4]byte{first}), 8))
			}
		}
		forge(t, a, fmt.Sprintf("ghost%d", i), "x", wide...)
	}
	const honest = "203.0.113.7/32"
	forge(t, a, "server2", "sshd", netip.MustParsePrefix(honest))
	inForce := func() (out []string) {
		for e := range a.store.Effective() {
			if !e.Held {
				out = append(out, e.Prefix.String())
			}
		}
		return out
	}
	if got := inForce(); !slices.Equal(got, []string{honest}) {
		t.Errorf("%d in force: %.100q", len(got), got)
	}
	if e := listing(t, a)["8.0.0.0/8"]; !e.Held {
		t.Errorf("list shows %+v", e)
	}
	s := status(t, a)
	if s.Bans.Held != 222 || !slices.ContainsFunc(s.Warnings, func(w string) bool {
		return strings.HasPrefix(w, "222 bans by other routers are held on this router until an operator confirms them, 222 wider than /16 (IPv6 /32), by ghost")
	}) {
		t.Errorf("status: %d held; it warns of %q", s.Bans.Held, s.Warnings)
	}
	eventually(t, "the feed", func() bool {
		r, err := http.Get("http://" + a.HTTPAddr() + "/feed/plain")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		body, err := io.ReadAll(r.Body)
		return err == nil && string(body) == "203.0.113.7\n"
	})
	r, err := a.Commit(t.Context(), control.CommitCall{Force: true})
	if err != nil || r.Detail != "222 held bans take effect on this router" {
		t.Errorf("commit --force: %+v, %v", r, err)
	}
	if got := inForce(); len(got) != 223 {
		t.Errorf("after the word %d are in force", len(got))
	}
}

// TestWhatARouterNeedsIsExemptOnItWhateverRecordsSay: somebody who has the gossip
// key ends this router's lease in its own name, and blocks it.
func TestWhatARouterNeedsIsExemptOnItWhateverRecordsSay(t *testing.T) {
	t.Parallel()
	sim, commit := simulated(t, nil)
	admins := netip.MustParsePrefix("198.51.100.0/24")
	a := started(t, "router1", func(c *config.Config) {
		c.Commit, c.NeverBan = commit, []config.Prefix{{Prefix: admins}}
		c.Commit.Conductors = append(c.Commit.Conductors, "192.0.2.1:830")
	})
	eventually(t, "the lease", func() bool { return len(a.store.NeverBans()) > 0 })
	s, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store"), Origin: "router1"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.PublishNeverBan(t.Context(), nil, store.At(time.Now().Add(1000*time.Hour))); err != nil {
		t.Fatal(err)
	}
	chunk, _ := s.Since(0, 1<<20)
	if _, err := a.store.Merge(chunk); err != nil {
		t.Fatal(err)
	}
	if still := a.store.NeverBans(); len(still) > 0 {
		t.Fatalf("the lease was not ended: %v", still)
	}
	forge(t, a, "ghost", "x", netip.MustParsePrefix("198.51.100.7/32"), netip.MustParsePrefix("198.51.0.0/16"), netip.MustParsePrefix("192.0.2.1/32"))
	banned(t, a, "sshd", "203.0.113.7/32")
	eventually(t, "the commit", func() bool { return slices.Contains(tenant(sim), "203.0.113.7/32") })
	for _, has := range []func(func(netip.Prefix)){
		func(f func(netip.Prefix)) {
			for _, p := range tenant(sim) {
				f(netip.MustParsePrefix(p))
			}
		},
		func(f func(netip.Prefix)) {
			for e := range a.store.Effective() { // what the kernel and the feeds hold
				for _, p := range e.Pieces {
					f(p)
				}
			}
		},
	} {
		has(func(p netip.Prefix) {
			if p.Overlaps(admins) || p.Contains(netip.MustParseAddr("192.0.2.1")) {
				t.Errorf("%s is blocked", p)
			}
		})
	}
	if e := listing(t, a)["198.51.100.7/32"]; e.Effective || !strings.Contains(e.ReasonNotEffective, "198.51.100.0/24 is protected by router1") {
		t.Errorf("list says %+v", e)
	}
	if w, err := a.Why(t.Context(), netip.MustParsePrefix("198.51.100.7/32")); err != nil || len(w.NeverBans) != 1 || w.NeverBans[0].Origin != "router1" {
		t.Errorf("why says %+v, %v", w, err)
	}
}

// TestNamesAreNoQuorum: neither several names that nobody has, nor one of them
// with an operator's jail.
func TestNamesAreNoQuorum(t *testing.T) {
	t.Parallel()
	sim, commit := simulated(t, nil)
	a := started(t, "router1", func(c *config.Config) { c.Commit, c.Quorum = commit, config.Quorum{Default: 2} })
	victim := netip.MustParsePrefix("203.0.113.1/32")
	for _, name := range []string{"ghost1", "ghost2", "ghost3"} {
		forge(t, a, name, "sshd", victim)
	}
	forge(t, a, "ghost4", "manual", netip.MustParsePrefix("203.0.113.2/32"))
	const honest = "203.0.113.7/32"
	banned(t, a, "", honest)
	eventually(t, "the operator's ban at the conductor", func() bool { return slices.Contains(tenant(sim), honest) })
	if got := tenant(sim); !slices.Equal(got, []string{honest}) {
		t.Errorf("the conductor has %v", got)
	}
	if w := listing(t, a)[victim.String()].WaitsForQuorum; w == nil || *w != (control.QuorumWait{Jail: "sshd", Seen: 0, Needed: 2}) {
		t.Errorf("waits for %+v, want 0 of 2", w)
	}
}

func TestStatusSaysWhoBlocked(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	if err := a.store.Block(t.Context(), "router2"); err != nil {
		t.Fatal(err)
	}
	if err := a.store.Freeze(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"nothing of router2 counts: it is blocked by router1 since 2", "frozen by router1 since 2"} {
		if w := status(t, a).Warnings; !slices.ContainsFunc(w, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("status warns of %q, want %q…", w, want)
		}
	}
}
