package gossip

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"
)

// TestForceSaysWhoRefused: --force passes over members that do not answer. It passed over refusals too, and the command
// succeeded where most members had changed nothing.
func TestForceSaysWhoRefused(t *testing.T) {
	simulate(t, 4, lan(), func(fl *fleet) {
		time.Sleep(5 * time.Second) // all have answered all
		raw := bytes.Repeat([]byte{50}, 32)
		for _, nd := range fl.nodes {
			if err := nd.mesh.ring.install(raw); err != nil {
				t.Fatal(err)
			}
		}
		fl.stop(fl.nodes[2])
		if err := fl.start(fl.nodes[2], func(c *Config) { c.LocalKeyring, c.Keys = true, [][]byte{testKey, raw} }); err != nil {
			t.Fatal(err)
		}
		fl.wait(time.Minute, "all see all", fl.whole)
		time.Sleep(5 * time.Second)
		err := fl.nodes[0].mesh.UseKey(context.Background(), KeyName(raw), true)
		if err == nil || !strings.Contains(err.Error(), "r002") || !strings.Contains(err.Error(), "remote_keyring") {
			t.Errorf("use --force: %v, want it to say that r002 refused", err)
		}
		for _, nd := range fl.nodes {
			if used := nd.mesh.ring.names()[0] == KeyName(raw); used != (nd.name != "r002") {
				t.Errorf("%s uses the new key: %v", nd.name, used)
			}
		}
	})
}
