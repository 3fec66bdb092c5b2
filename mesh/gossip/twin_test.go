package gossip_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"
)

// TestNumbersWrittenInAnothersLogHideNothing: one who has the key writes the numbers that a member comes to next into its log,
// at the others. The member's bans reach them all the same, and all agree in the end.
func TestNumbersWrittenInAnothersLogHideNothing(t *testing.T) {
	// A store that draws the same epoch writes the same log.
	author := func(name string, change func(store.Change)) *store.Store {
		s, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store.db"), Origin: name, Random: rand.NewPCG(1, 2), OnChange: change})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	var stores []*store.Store
	var all []*gossip.Mesh
	for i := range 3 {
		var mesh atomic.Pointer[gossip.Mesh]
		name := fmt.Sprintf("r%03d", i)
		s := author(name, func(c store.Change) {
			if m := mesh.Load(); c.OwnHead && m != nil {
				m.Announce()
			}
		})
		cfg := gossip.DefaultConfig()
		cfg.Name, cfg.Set, cfg.Bind = name, s, netip.MustParseAddrPort("127.0.0.1:0")
		cfg.Keys = [][]byte{bytes.Repeat([]byte{3}, 32)}
		if i > 0 {
			cfg.Join = []string{all[0].Addr()}
		}
		g, err := gossip.New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Shutdown() })
		mesh.Store(g)
		stores, all = append(stores, s), append(all, g)
	}
	wait := func(what string, ok func(i int) bool) {
		t.Helper()
		deadline := time.Now().Add(time.Minute)
		for i := range all {
			for !ok(i) {
				if time.Now().After(deadline) {
					t.Fatalf("not within a minute, at r%03d: %s", i, what)
				}
				time.Sleep(time.Millisecond)
			}
		}
	}
	wait("all see all", func(i int) bool { return len(all[i].Members()) == len(all) })
	ban := func(s *store.Store, net byte, n int) {
		for i := range n {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{net, 0, 0, byte(i)}), 32)
			if _, err := s.Ban(t.Context(), []store.BanRequest{{Prefix: p, Jail: "sshd", Until: store.At(time.Now().Add(time.Hour))}}); err != nil {
				t.Fatal(err)
			}
		}
	}
	rogue := author("r000", nil)
	if rogue.Head().Log != stores[0].Head().Log {
		t.Fatal("the two stores write different logs: the test proves nothing")
	}
	ban(rogue, 44, 5)
	forged, _ := rogue.Since(0, 1<<16)
	for _, s := range stores[1:] {
		if _, err := s.Merge(forged); err != nil {
			t.Fatal(err)
		}
	}
	ban(stores[0], 45, 5)
	live := func(i int, net byte) (n int) {
		for _, e := range stores[i].List(store.Query{}) {
			if e.Prefix.Addr().As4()[0] == net {
				n++
			}
		}
		return n
	}
	wait("the author's bans", func(i int) bool { return live(i, 45) == 5 })
	wait("all in sync, with what was forged", func(i int) bool { return all[i].InSync() && live(i, 44) == 5 })
	if logs, records := stores[0].Namesakes(); logs != 1 || records == 0 {
		t.Errorf("the author knows of %d logs with %d records in its name", logs, records)
	}
}
