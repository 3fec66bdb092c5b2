package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"
)

// meshKey is the gossip key of the tests with a rogue, who has it too.
var meshKey = bytes.Repeat([]byte{7}, 32)

// keyed are settings of agents that share meshKey.
func keyed(t testing.TB, extra string) settings {
	t.Helper()
	ring, err := json.Marshal([]string{base64.StdEncoding.EncodeToString(meshKey)})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(shortDir(t), "keyring")
	if err := os.WriteFile(file, ring, 0o600); err != nil {
		t.Fatal(err)
	}
	return settings{extra: extra, gossip: fmt.Sprintf("{bind: %q, profile: local, keyring: %q}", "127.0.0.1:0", file)}
}

// rogue is a member with a set of its own that keeps to no limits.
type rogue struct {
	t    testing.TB
	set  *store.Store
	mesh *gossip.Mesh
}

// enter joins the mesh as a member of that name. wrap makes another set of its
// store, nil keeps it.
func enter(t testing.TB, name string, join *agent, wrap func(*store.Store) gossip.Set) *rogue {
	t.Helper()
	r := &rogue{t: t}
	var announce func()
	var mu sync.Mutex
	var err error
	r.set, err = store.Open(store.Config{
		Path: filepath.Join(shortDir(t), "store.db"), Origin: name,
		OnChange: func(c store.Change) {
			mu.Lock()
			defer mu.Unlock()
			if c.OwnHead && announce != nil {
				announce()
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.set.Close() })
	cfg := gossip.DefaultConfig()
	cfg.Name, cfg.Set, cfg.Keys, cfg.Profile = name, r.set, [][]byte{meshKey}, "local"
	cfg.Bind, cfg.Join = netip.MustParseAddrPort("127.0.0.1:0"), []string{join.addr()}
	if wrap != nil {
		cfg.Set = wrap(r.set)
	}
	if r.mesh, err = gossip.New(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.mesh.Shutdown() })
	mu.Lock()
	announce = r.mesh.Announce
	mu.Unlock()
	return r
}

func (r *rogue) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatalf("the rogue: %v", err)
	}
}

// ban bans the addresses that the rogue counts from first on.
func (r *rogue) ban(first, n int) error {
	reqs := make([]store.BanRequest, n)
	for i := range reqs {
		reqs[i] = store.BanRequest{Prefix: netip.PrefixFrom(rogueAddr(first+i), 32), Jail: "x", Until: store.Never}
	}
	_, err := r.set.Ban(context.Background(), reqs)
	return err
}

func rogueAddr(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{100, byte(i >> 16), byte(i >> 8), byte(i)})
}

// verdicts is the effective set as `list` shows it: each prefix with what is
// left out of it. live are all that are banned, effective or not.
func (a *agent) verdicts() (effective map[string]string, live map[string]bool) {
	a.t.Helper()
	type entry struct {
		Prefix    string   `json:"prefix"`
		Effective bool     `json:"effective"`
		Except    []string `json:"except"`
	}
	effective, live = make(map[string]string), make(map[string]bool)
	for _, e := range read[[]entry](a, "list") {
		live[e.Prefix] = true
		if e.Effective {
			effective[e.Prefix] = strings.Join(e.Except, " ")
		}
	}
	return effective, live
}

// difference says in what one effective set differs from another, "" for equal ones.
func difference(got, want map[string]string) string {
	var diff []string
	for p, except := range want {
		if e, ok := got[p]; !ok {
			diff = append(diff, "lacks "+p)
		} else if e != except {
			diff = append(diff, fmt.Sprintf("%s except [%s], not [%s]", p, e, except))
		}
	}
	for p := range got {
		if _, ok := want[p]; !ok {
			diff = append(diff, "has "+p)
		}
	}
	slices.Sort(diff)
	if len(diff) > 10 {
		diff = append(diff[:10], fmt.Sprintf("and %d more", len(diff)-10))
	}
	return strings.Join(diff, ", ")
}

// known reports whether a ban of the address has come to the agent.
func (a *agent) known(addr string) bool {
	a.t.Helper()
	type answer struct {
		Bans []struct {
			Origin string `json:"origin"`
		} `json:"bans"`
	}
	return len(read[answer](a, "why", addr).Bans) > 0
}

func (a *agent) resident() int {
	a.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", a.cmd.Process.Pid))
	if err != nil {
		a.t.Fatal(err)
	}
	var kb int
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	a.t.Fatal("no VmRSS")
	return 0
}

// rogueLimits are small enough that a flood meets them, and ban enough.
const rogueLimits = `limits: {live_per_origin: 1000, lifts_per_minute_per_origin: 20, lifts_per_origin: 30, allows_per_origin: 5, widest_allow_ipv4: 8}
`

// TestARogueIsBoundedAndUndone: a member that has the key and keeps to nothing
// floods, lifts, allows, exemptions, blocks and freezes. The others go on, show what
// does not count, and are rid of all of it by one command.
func TestARogueIsBoundedAndUndone(t *testing.T) {
	t.Parallel()
	all := trio(t, keyed(t, rogueLimits))
	for i, a := range all {
		var line []string
		for j := range 60 {
			line = append(line, fmt.Sprintf("203.0.%d.%d", i, j+1))
		}
		a.must(append([]string{"ban", "--for", "6h"}, line...)...)
	}
	all[0].must("ban", "198.51.100.0/24", "--for", "6h")
	all[1].must("allow", "add", "198.51.100.7", "--for", "6h")
	await := func(patience time.Duration, what string, want map[string]string) {
		t.Helper()
		for _, a := range all {
			var diff string
			for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
				// The list of a flood is long: it is read when its length is right.
				if n := read[state](a, "status").Bans.Effective; n != len(want) {
					diff = fmt.Sprintf("%d effective, not %d", n, len(want))
				} else {
					got, _ := a.verdicts()
					if diff = difference(got, want); diff == "" {
						break
					}
				}
				if time.Now().After(deadline) {
					t.Fatalf("waited %v for %s %s: %s", patience, a.name, what, diff)
				}
			}
		}
	}
	want := map[string]string{"198.51.100.0/24": "198.51.100.7/32"}
	for i := range all {
		for j := range 60 {
			want[fmt.Sprintf("203.0.%d.%d/32", i, j+1)] = ""
		}
	}
	await(10*time.Second, "to have the honest bans", want)

	r := enter(t, "rogue", all[0], nil)
	awaitMembers(t, all, 4)
	eventually(t, 10*time.Second, "the rogue to have all", func() bool { return r.set.Counts().Live == len(want) })

	// The attack, all at once, and the others' new bans meanwhile.
	ctx := context.Background()
	const burst, batch = 15000, 1500
	var attack sync.WaitGroup
	stop := make(chan struct{})
	attack.Go(func() {
		for n, size := 0, 0; ; n += size {
			pause := 250 * time.Millisecond
			size = batch
			if n >= burst {
				size, pause = 20, 100*time.Millisecond
			}
			if r.ban(n, size) != nil {
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(pause):
			}
		}
	})
	liftedIn := store.Minute(time.Now())
	_, err := r.set.Lift(ctx, store.LiftRequest{All: true, Confirmed: true})
	r.must(err)
	var allows []store.AllowRequest
	var exemptions []netip.Prefix
	for i := 1; i < 224; i++ {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(i)}), 8)
		if i != 10 && i != 127 {
			allows = append(allows, store.AllowRequest{Prefix: p})
			exemptions = append(exemptions, p)
		}
	}
	r.must(r.set.Allow(ctx, append([]store.AllowRequest{{Prefix: netip.MustParsePrefix("0.0.0.0/1")}, {Prefix: netip.MustParsePrefix("128.0.0.0/1")}}, allows...)))
	r.must(r.set.PublishNeverBan(ctx, exemptions, store.At(time.Now().Add(10*time.Hour))))
	_, err = r.set.Ban(ctx, []store.BanRequest{{Prefix: netip.MustParsePrefix("198.51.100.7/32"), Until: store.Never}, {Prefix: netip.MustParsePrefix("127.0.0.1/32"), Until: store.Never}})
	r.must(err)
	r.must(r.set.Block(ctx, "router2"))
	r.must(r.set.Block(ctx, "router3"))
	r.must(r.set.Freeze(ctx))

	var took []time.Duration
	for i := range 30 {
		addr := fmt.Sprintf("203.0.200.%d", i+1)
		began := time.Now()
		all[i%3].must("ban", addr, "--for", "6h")
		want[addr+"/32"] = ""
		for _, a := range all {
			eventually(t, 10*time.Second, a.name+" to have a ban made during the flood", func() bool { return a.known(addr) })
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("during the flood a ban is at all others within %v (median), %v (worst of %d), command lines included", took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))

	for _, a := range all {
		eventually(t, 30*time.Second, a.name+" to have the flood", func() bool { return overLimit(a) > burst-2000 })
		s := a.status()
		if !slices.ContainsFunc(s.Warnings, func(w string) bool {
			return strings.Contains(w, "of rogue do not count") && strings.Contains(w, "lifts") && strings.Contains(w, "allows") && strings.Contains(w, "never-ban prefixes")
		}) {
			t.Errorf("%s does not say what of the rogue does not count: %q", a.name, s.Warnings)
		}
		if mb := a.resident() >> 20; mb > 100 {
			t.Errorf("%s takes %d MB", a.name, mb)
		} else {
			t.Logf("%s takes %d MB with %d records beyond the limits", a.name, mb, overLimit(a))
		}
		w := a.must("why", rogueAddr(burst-1).String())
		if !strings.Contains(w, "over the limit of origin rogue") {
			t.Errorf("%s: why does not say that a ban is over the limit:\n%s", a.name, w)
		}
		verdicts, live := a.verdicts()
		effective := 0
		for p := range verdicts {
			if strings.HasPrefix(p, "100.") {
				effective++
			}
		}
		for _, p := range []string{"198.51.100.7/32", "127.0.0.1/32"} {
			if _, ok := verdicts[p]; ok || !live[p] {
				t.Errorf("%s: the rogue's ban of %s: effective %v, stored %v; want it stored and not effective", a.name, p, ok, live[p])
			}
		}
		lifted := 0
		for p := range want {
			if !live[p] {
				lifted++
			}
		}
		// As many lifts as the limit count in each minute.
		if most := 20 * int(store.Minute(time.Now())-liftedIn+1); effective > 1000 || lifted > most || lifted == 0 {
			t.Errorf("%s: %d bans of the rogue are effective, %d bans are lifted by it; the limits let 1000 and %d", a.name, effective, lifted, most)
		}
	}
	if out := all[0].must("allow", "list"); strings.Count(out, "does not count") < len(allows)-5 {
		t.Errorf("allow list does not say what does not count:\n%s", tail(out, 10))
	}

	// One command, while the flood goes on.
	began := time.Now()
	all[0].must("revoke", "--origin", "rogue", "--block", "--yes")
	await(20*time.Second, "to be as without the rogue", want)
	t.Logf("one command and %v later all are as if the rogue had never been", time.Since(began).Round(time.Millisecond))
	for _, a := range all {
		s := read[state](a, "status")
		if s.Frozen || !slices.Equal(s.Blocked, []string{"rogue"}) {
			t.Errorf("%s: frozen %v, blocked %v; want the rogue blocked alone", a.name, s.Frozen, s.Blocked)
		}
	}
	close(stop)
	attack.Wait()
	await(20*time.Second, "to stay so", want)
	equal(t, all, 30*time.Second)

	all[1].must("revoke", "--origin", "rogue", "--unblock")
	for _, a := range all {
		eventually(t, 10*time.Second, a.name+" to let the rogue count again", func() bool {
			s := read[state](a, "status")
			return s.Frozen && !slices.Contains(s.Blocked, "rogue")
		})
	}

	// A router that it has blocked cannot decide alone, and says so.
	if got := all[1].run("revoke", "--origin", "rogue", "--block", "--yes"); got.code == 0 || !strings.Contains(got.err, "at another router") {
		t.Errorf("revoke at a router that the rogue has blocked: exit %d, %q; want to be sent to another one", got.code, got.err)
	}
	all[0].must("revoke", "--origin", "rogue", "--block", "--yes")
	await(20*time.Second, "to be as without the rogue once more", want)
}

// state is what of `status --json` tells of a rogue.
type state struct {
	Frozen  bool     `json:"frozen"`
	Blocked []string `json:"blocked"`
	Root    string   `json:"root"`
	InSync  bool     `json:"in_sync"`
	Bans    struct {
		OverLimit int `json:"over_limit"`
		Effective int `json:"effective"`
	} `json:"bans"`
}

func overLimit(a *agent) int { a.t.Helper(); return read[state](a, "status").Bans.OverLimit }

// equal waits until all agree that they hold the same.
func equal(t testing.TB, all []*agent, patience time.Duration) {
	t.Helper()
	eventually(t, patience, "all to hold the same", func() bool {
		first := read[state](all[0], "status")
		return !slices.ContainsFunc(all, func(a *agent) bool {
			s := read[state](a, "status")
			return !s.InSync || s.Root != first.Root || s.Bans.Effective != first.Bans.Effective
		})
	})
}
