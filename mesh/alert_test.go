package mesh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/config"
)

// TestAlertOfAMemberThatIsGone: the real thing, with an agent that dies and
// comes back.
func TestAlertOfAMemberThatIsGone(t *testing.T) {
	t.Parallel()
	need.Long(t)
	events := filepath.Join(t.TempDir(), "events")
	a := started(t, "router1", func(c *config.Config) {
		c.Alert = config.Alert{Command: "cat >> " + events, After: config.Duration(time.Second)}
	})
	two := func(c *config.Config) { c.Join = []string{a.Addr()} }
	b := started(t, "router2", two)
	eventually(t, "two members", func() bool { return len(a.mesh.Members()) == 2 })
	b.mesh.Shutdown() // as a crash: nobody is told
	eventually(t, "the alert", func() bool {
		return strings.Contains(read(events), `"alert":"member","name":"router2","state":"begins"`)
	})
	started(t, "router2", func(c *config.Config) { two(c); c.Gossip.Bind = b.Addr() })
	eventually(t, "its end", func() bool { return strings.Contains(read(events), `"alert":"member","name":"router2","state":"ends"`) })
}

// TestAlertIsOverAlsoAfterARestart: the agent that told of it is not the process
// that sees its end.
func TestAlertIsOverAlsoAfterARestart(t *testing.T) {
	t.Parallel()
	need.Long(t)
	events := filepath.Join(t.TempDir(), "events")
	alert := func(c *config.Config) {
		c.Alert = config.Alert{Command: "cat >> " + events, After: config.Duration(time.Second)}
	}
	a, stop := startedBy(t, time.Now, "router1", alert)
	b := started(t, "router2", func(c *config.Config) { c.Join = []string{a.Addr()} })
	eventually(t, "two members", func() bool { return len(a.mesh.Members()) == 2 })
	b.mesh.Shutdown() // as a crash
	kept := func(a *Agent) string { raw, _ := a.store.Meta("alert/told"); return string(raw) }
	eventually(t, "the alert to be told and kept", func() bool { return strings.Contains(kept(a), "router2") })
	stop()

	again := started(t, "router1", func(c *config.Config) { alert(c); c.DataDir, c.Gossip.Bind = a.cfg.DataDir, a.Addr() })
	started(t, "router2", func(c *config.Config) { c.Join = []string{again.Addr()}; c.Gossip.Bind = b.Addr() })
	eventually(t, "its end", func() bool { return strings.Contains(read(events), `"alert":"member","name":"router2","state":"ends"`) })
	eventually(t, "it to be forgotten", func() bool { return !strings.Contains(kept(again), "router2") })
	if told := read(events); strings.Count(told, `"name":"router2","state":"begins"`) != 1 {
		t.Errorf("told %s", told)
	}
}

func read(path string) string {
	b, _ := os.ReadFile(path)
	return string(b)
}
