package gossip

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

var measure = flag.Bool("measure", false, "measure on real loopback, with more members and runs")

// realFleet starts n members on 127.0.0.1.
func realFleet(t testing.TB, n int) []*node {
	t.Helper()
	var nodes []*node
	for i := range n {
		nd := &node{name: fmt.Sprintf("r%03d", i), set: newFakeSet(fmt.Sprintf("r%03d", i), uint64(i+1))}
		cfg := DefaultConfig()
		cfg.Name, cfg.Version, cfg.Set = nd.name, "test", nd.set
		cfg.Bind = netip.MustParseAddrPort("127.0.0.1:0")
		cfg.Keys = [][]byte{testKey}
		if i > 0 {
			cfg.Join = []string{nodes[0].mesh.Addr()}
		}
		m, err := New(context.Background(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Shutdown() })
		nd.mesh = m
		nodes = append(nodes, nd)
	}
	until(t, time.Minute, "all see all", func() bool {
		return !slices.ContainsFunc(nodes, func(nd *node) bool { return nd.mesh.table.alive() != n })
	})
	return nodes
}

func until(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("not after %v: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// everywhere waits until all have n records and returns when the last one had.
func everywhere(t testing.TB, nodes []*node, n int, limit time.Duration) time.Time {
	t.Helper()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for _, nd := range nodes {
		for {
			have, grown := nd.set.size()
			if have >= n {
				break
			}
			select {
			case <-grown:
			case <-timer.C:
				t.Fatalf("%s has %d of %d records after %v; dropped: %v", nd.name, have, n, limit, nd.mesh.Stats().Dropped)
			}
		}
	}
	return time.Now()
}

func TestLoopbackBanLatencyAndBurst(t *testing.T) {
	sizes, runs, burst := []int{10}, 50, 10000
	if *measure {
		sizes, runs = []int{10, 100}, 200
	}
	if Raced {
		sizes, burst = []int{5}, 4000
	}
	for _, n := range sizes {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			nodes := realFleet(t, n)
			if *measure {
				time.Sleep(time.Duration(n) * 100 * time.Millisecond) // let the joins calm down
			}
			var took []time.Duration
			for i := range runs {
				began := time.Now()
				nodes[i%n].ban(fmt.Sprint("ban number ", i))
				took = append(took, everywhere(t, nodes, i+1, 20*time.Second).Sub(began))
				if *measure {
					time.Sleep(20 * time.Millisecond)
				}
			}
			slices.Sort(took)
			t.Logf("N=%d: one ban to all: p50 %v, p99 %v, max %v", n, took[runs/2], took[runs*99/100], took[runs-1])
			var recs []string
			for i := range burst {
				recs = append(recs, fmt.Sprintf("a record of the usual size, number %d", i))
			}
			began := time.Now()
			nodes[1].ban(recs...)
			d := everywhere(t, nodes, runs+burst, 30*time.Second).Sub(began)
			t.Logf("N=%d: %d bans at one member to all: %v", n, burst, d)
		})
	}
}
