package conductor_test

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/netconf"
)

// One commit, as package commit makes it: begin (which locks the candidate and reads the tenant), apply the difference, commit.
// The conductor is a simulated one.
func Example() {
	dir, err := os.MkdirTemp("", "banmesh")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	addr, err := simulated(ctx, dir)
	if err != nil {
		fmt.Println(err)
		return
	}

	cfg := netconf.DefaultConfig()
	cfg.Addresses = []string{addr}
	cfg.KeyFile, cfg.KnownHosts = filepath.Join(dir, "client_key"), filepath.Join(dir, "known_hosts")
	c, err := netconf.New(cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	if err := ban(ctx, c, netip.MustParsePrefix("203.0.113.5/32")); err != nil {
		fmt.Println(err)
		return
	}
	running, err := c.Read(ctx)
	fmt.Println(running.Addresses, running.Exists, err)

	// Output:
	// [203.0.113.5/32] true <nil>
}

// ban adds a prefix to the tenant.
func ban(ctx context.Context, c *conductor.Conductor, p netip.Prefix) error {
	edit, err := c.Begin(ctx, conductor.Permit{}) // permits nothing beyond our own edits
	if err != nil {
		return err
	}
	defer edit.Close(ctx) // takes back what was not committed, and unlocks
	if err := edit.Apply(ctx, []netip.Prefix{p}, nil); err != nil {
		return err
	}
	return edit.Commit(ctx)
}

// simulated starts a conductor that keeps its keys in dir, and returns its address once it answers.
func simulated(ctx context.Context, dir string) (addr string, err error) {
	ready, out := io.Pipe()
	go func() {
		out.CloseWithError(conductorsim.Run(ctx, conductorsim.Options{Listen: "127.0.0.1:0", Dir: dir, Stdout: out}))
	}()
	_, err = fmt.Fscanf(ready, "conductor ready on %s\n", &addr)
	return addr, err
}
