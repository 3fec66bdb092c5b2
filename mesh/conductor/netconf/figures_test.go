package netconf_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor/netconf"
)

// The time is that of the whole call: a session, the reply over SSH to its end, and the server's share. On a machine with nothing
// else to do it is below a second; the test fails only far beyond, where something costs what it need not.
func TestFiguresReadOf100000Addresses(t *testing.T) {
	const n = 100_000
	var text strings.Builder
	fmt.Fprintf(&text, `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">`+
		`<tenant><name>%s</name><member><neighborhood>%s</neighborhood>`, netconf.DefaultConfig().Tenant, netconf.DefaultConfig().Neighborhood)
	for i := range n {
		fmt.Fprintf(&text, "<address>%v/32</address>", netip.AddrFrom4([4]byte{20, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
	text.WriteString(`</member></tenant></authority></config>`)
	s := startSim(t, func(c *conductorsim.Config) { c.Initial = []byte(text.String()) })
	c := conductorFor(t, s.cfg)
	best := time.Hour
	for range 5 { // the machine is not ours alone
		start := time.Now()
		got, err := c.Read(t.Context())
		if err != nil || len(got.Addresses) != n {
			t.Fatalf("%d addresses, %v", len(got.Addresses), err)
		}
		best = min(best, time.Since(start))
	}
	t.Logf("read in %v at best", best)
	if best > 10*time.Second {
		t.Errorf("read in %v at best: more than ten times 1s", best)
	}
}
