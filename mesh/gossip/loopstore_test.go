package gossip_test

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"
)

// TestTenRealMembers is the whole way on this machine: a ban is on the disk of
// one member, goes encrypted over loopback and is held by the nine others.
func TestTenRealMembers(t *testing.T) {
	const n = 10
	type member struct {
		store *store.Store
		mesh  *gossip.Mesh
	}
	var all []*member
	for i := range n {
		m := &member{}
		var mesh atomic.Pointer[gossip.Mesh]
		name := fmt.Sprintf("r%03d", i)
		s, err := store.Open(store.Config{
			Path: filepath.Join(t.TempDir(), "store.db"), Origin: name,
			OnChange: func(c store.Change) {
				if m := mesh.Load(); c.OwnHead && m != nil {
					m.Announce()
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		cfg := gossip.DefaultConfig()
		cfg.Name, cfg.Set, cfg.Bind = name, s, netip.MustParseAddrPort("127.0.0.1:0")
		cfg.Keys = [][]byte{bytes.Repeat([]byte{3}, 32)}
		if i > 0 {
			cfg.Join = []string{all[0].mesh.Addr()}
		}
		g, err := gossip.New(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = g.Shutdown() })
		mesh.Store(g)
		m.store, m.mesh = s, g
		all = append(all, m)
	}
	wait := func(limit time.Duration, what string, ok func(*member) bool) {
		t.Helper()
		deadline := time.Now().Add(limit)
		for _, m := range all {
			for !ok(m) {
				if time.Now().After(deadline) {
					t.Fatalf("not after %v: %s", limit, what)
				}
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	wait(30*time.Second, "all see all", func(m *member) bool { return len(m.mesh.Members()) == n })
	ban := func(m *member, reqs ...store.BanRequest) time.Duration {
		if _, err := m.store.Ban(context.Background(), reqs); err != nil {
			t.Fatal(err)
		}
		acked := time.Now()
		head := m.store.Head()
		wait(time.Minute, "ban everywhere", func(o *member) bool { return o.store.Holds(head.Log, head.Seq) })
		return time.Since(acked)
	}
	request := func(i int) store.BanRequest {
		return store.BanRequest{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32),
			Jail:   "sshd", Until: store.At(time.Now().Add(time.Hour)), Failures: 5,
		}
	}
	var took []time.Duration
	for i := range 50 {
		took = append(took, ban(all[i%n], request(i)))
	}
	slices.Sort(took)
	t.Logf("one acknowledged ban to all: p50 %v, max %v", took[25], took[49])
	var reqs []store.BanRequest
	for i := range 10000 {
		reqs = append(reqs, request(1000+i))
	}
	d := ban(all[3], reqs...)
	t.Logf("10,000 acknowledged bans to all: %v", d)
	wait(time.Minute, "all in sync and settled", func(m *member) bool { return m.mesh.InSync() && m.mesh.Settled() })
	if sent := all[3].mesh.Stats().RecordsSent; sent < 10005 {
		t.Errorf("records sent by the one who made 10,005: %d", sent)
	}
	for i, m := range all {
		own := uint64(5)
		if i == 3 {
			own = 10005
		}
		if s := m.mesh.Stats(); s.RecordsMerged != 10050-own || s.RecordsRefused != 0 {
			t.Errorf("member %d: %d records merged, %d refused, want %d and 0", i, s.RecordsMerged, s.RecordsRefused, 10050-own)
		}
	}
}
