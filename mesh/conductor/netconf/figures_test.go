package netconf_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/apart"
	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor"
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

// A candidate with somebody's edits in a configuration of many megabytes costs at most five times its size, attempt after attempt: the two
// replies, and as much again for what decoding them leaves to the collector. The driver runs in a process of its own, whose peak the kernel tells.
func TestFiguresADirtyLargeCandidateCostsFiveTimesItsSize(t *testing.T) {
	if apart.Measure(t, func() { compareLarge(t) }) {
		return
	}
	const size = 8 << 20
	documents := map[string]string{}
	for store, what := range map[string]string{"running": "a", "candidate": "b"} {
		var b strings.Builder
		fmt.Fprintf(&b, `<config xmlns="%s"><authority xmlns="%s/config/authority-config"><name>A</name>`, t128, t128)
		for i := 0; b.Len() < size; i++ {
			fmt.Fprintf(&b, "\n  <router>\n    <name>r%d</name>\n    <description>a router</description>\n    <node>\n      <name>node1</name>\n      <address>198.51.100.%d</address>\n    </node>\n  </router>", i, i%256)
		}
		fmt.Fprintf(&b, "<router><name>last</name><description>%s</description></router></authority></config>", what)
		documents[store] = b.String()
	}
	_, cfg := serveForeigner(t, manner{lacks: "lock unlock", chunk: 10240, whole: func(store string) string { return documents[store] }})
	peak := apart.Peak(t, "BANMESH_TEST_ADDR="+cfg.Addresses[0], "BANMESH_TEST_KEY="+cfg.KeyFile, "BANMESH_TEST_HOSTS="+cfg.KnownHosts)
	t.Logf("%d kB for documents of %d kB", peak, size>>10)
	const process = 8 << 10 // kB of the process itself
	if peak > 5*size>>10+process {
		t.Errorf("%d kB more than before, for documents of %d kB", peak, size>>10)
	}
}

// compareLarge makes a few attempts in the other process.
func compareLarge(t *testing.T) {
	cfg := netconf.DefaultConfig()
	cfg.Addresses, cfg.KeyFile, cfg.KnownHosts = []string{os.Getenv("BANMESH_TEST_ADDR")}, os.Getenv("BANMESH_TEST_KEY"), os.Getenv("BANMESH_TEST_HOSTS")
	c, err := netconf.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 {
		_, err := c.Begin(t.Context(), conductor.Permit{})
		if !errors.Is(err, conductor.ErrBusy) || !strings.Contains(err.Error(), "router[last]") {
			t.Fatal(err)
		}
	}
}
