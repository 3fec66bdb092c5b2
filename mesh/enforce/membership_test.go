//go:build linux

package enforce

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// watched is a driver that watches until the test ends.
func watched(t *testing.T, s *space) (n *nftTables, news chan News) {
	t.Helper()
	n, news = s.driver(), make(chan News, 100)
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- n.Watch(ctx, func(n News) { news <- n }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if first := <-news; !first.Lost {
		t.Fatalf("first %+v", first)
	}
	return n, news
}

// TestWhatOthersDoDuringALargeChangeIsNoticed: although the kernel does not report it. Before and after it reports everything.
func TestWhatOthersDoDuringALargeChangeIsNoticed(t *testing.T) {
	s := newSpace(t)
	n, news := watched(t, s)
	applied(t, n, element("192.0.2.1", "192.0.2.1", 0), element("192.0.2.3", "192.0.2.3", 0))
	next := func() News {
		t.Helper()
		select {
		case got := <-news:
			return got
		case <-time.After(10 * time.Second):
			t.Fatal("no news")
			return News{}
		}
	}
	for i, others := range []string{
		"add table inet other",
		"delete table inet other",
		"delete element inet banmesh banned4 { 192.0.2.1 }",
		"add element inet banmesh banned4 { 192.0.2.1 }",
	} {
		err := n.unreported(func() error {
			if i%2 == 0 {
				s.nft(others)
			}
			err := n.apply(Change{Add: []Element{element(fmt.Sprintf("198.51.100.%d", i), fmt.Sprintf("198.51.100.%d", i), 0)}})
			if i%2 == 1 {
				s.nft(others)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := next(); !got.Lost {
			t.Errorf("nft %s meanwhile: %+v", others, got)
		}
	}
	if err := n.Apply(t.Context(), Change{Add: many(loud + 1)}); err != nil {
		t.Fatal(err)
	}
	if err := n.Apply(t.Context(), Change{Del: many(loud + 2)}); err == nil { // one of them is not there
		t.Fatal("deleted what is not there")
	}
	s.nft("delete", "element", "inet", "banmesh", "banned4", "{ 192.0.2.3 }")
	if got := next(); got.Lost || len(got.Elements) != 1 || got.Elements[0].String() != "192.0.2.3" {
		t.Errorf("after large changes, one refused, somebody deletes an element: %+v", got)
	}
}

// TestNobodyListensDuringALargeChange: the kernel would make a report of each element.
func TestNobodyListensDuringALargeChange(t *testing.T) {
	s := newSpace(t)
	n, _ := watched(t, s)
	const member = " 00000040 " // of the group of nftables
	listens := func() bool { return strings.Contains(s.run("", "cat", "/proc/self/net/netlink"), member) }
	if !listens() {
		t.Fatal("the watch is not in the group")
	}
	err := n.unreported(func() error {
		if listens() {
			t.Error("the watch stays in the group")
		}
		return nil
	})
	if err != nil || !listens() {
		t.Errorf("afterwards: %v, in the group %v", err, listens())
	}
}

// TestFiguresKernelMemoryOfALargeChange: some 130 bytes an address. A report about each would take 5 KiB or more, which the
// kernel makes for listeners in any namespace: this needs a machine without others.
func TestFiguresKernelMemoryOfALargeChange(t *testing.T) {
	const addresses, most = 60_000, 1 << 10
	var took int64
	for range 3 { // the memory is the whole machine's
		s := newSpace(t)
		n, _ := watched(t, s)
		applied(t, n)
		var peak atomic.Int64
		before, end, ended := slab(t), make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-end:
					return
				default:
					peak.Store(max(peak.Load(), slab(t)))
				}
			}
		}()
		err := n.Apply(t.Context(), Change{Add: many(addresses)})
		close(end)
		<-ended
		if err != nil {
			t.Fatal(err)
		}
		if took = (peak.Load() - before) / addresses; took <= most {
			return
		}
	}
	t.Errorf("the kernel took %d bytes for each of %d addresses added at once, want at most %d", took, addresses, most)
}

// slab is how much memory the kernel uses for itself, in bytes.
func slab(t testing.TB) int64 {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		t.Error(err)
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "SUnreclaim:"); ok {
			var kb int64
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				t.Error(err)
			}
			return kb << 10
		}
	}
	t.Error("no SUnreclaim in /proc/meminfo")
	return 0
}
