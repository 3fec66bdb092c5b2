package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// withPage is one agent that serves its page there.
func withPage(t *testing.T) (a *agent, addr string) {
	t.Helper()
	addr = freeAddr(t)
	a = newAgent(t, "router1", settings{extra: fmt.Sprintf("http: {listen: %q}\nlog: {level: error}\n", addr)}).start()
	return a, addr
}

// TestFiguresPageOfTenThousandBans: from the address to a page that answers and
// follows, in under a second; page.mjs holds it to that.
func TestFiguresPageOfTenThousandBans(t *testing.T) {
	a, addr := withPage(t)
	a.must("import", listFile(t, 10_000), "--for", "1d", "--jail", "blocklist")
	a.must("ban", "203.0.113.7", "--for", "1h", "--jail", "sshd")
	browse(t, "many", visit{URL: "http://" + addr, Socket: a.socket})
}

// TestFiguresSlowViewersDoNotSlowBans: the time of a ban, on disk, with a
// hundred viewers that do not read and without any.
func TestFiguresSlowViewersDoNotSlowBans(t *testing.T) {
	a, addr := withPage(t)
	client := control.NewClient(a.socket)
	given := 0
	bans := func() time.Duration {
		var took []time.Duration
		for range 1000 {
			given++
			prefix := netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(given >> 16), byte(given >> 8), byte(given)}), 32)
			began := time.Now()
			_, err := client.Ban(t.Context(), control.BanCall{
				Prefixes: control.Prefixes{prefix}, Jail: "sshd", Until: control.UntilAt(began.Add(time.Hour)),
			})
			took = append(took, time.Since(began))
			if err != nil {
				t.Fatal(err)
			}
		}
		return median(took)
	}
	bans() // the first ones pay for the file's growth
	const most = 1.1
	var ratios []float64
	for range 7 {
		without := bans()
		leave := viewers(t, "http://"+addr, 100)
		with := bans()
		leave()
		ratios = append(ratios, with.Seconds()/without.Seconds())
		t.Logf("a ban takes %v without viewers, %v with 100 that do not read", without, with)
		// Whatever else the machine does falls on either side.
		if len(ratios) >= 3 && middle(ratios) <= most {
			t.Logf("ratio %.2f", middle(ratios))
			return
		}
	}
	t.Errorf("100 slow viewers make a ban %.2f times as long, want at most %.2f", middle(ratios), most)
}

func middle(f []float64) float64 {
	sorted := slices.Sorted(slices.Values(f))
	return sorted[len(sorted)/2]
}
