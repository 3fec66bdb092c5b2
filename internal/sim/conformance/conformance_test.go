package conformance_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conformance"
	"banmesh/mesh/commit"
	"banmesh/mesh/conductor/netconf"
	"banmesh/mesh/conductor/rest"
	"banmesh/netconfclient"
)

var styles = []conductorsim.Style{conductorsim.Style52, conductorsim.Style55, conductorsim.Style56}

func TestREST(t *testing.T) {
	for _, style := range styles {
		for _, replaces := range []bool{false, true} {
			for _, storage := range []conductorsim.Storage{conductorsim.AsGiven, conductorsim.Canonical} {
				if storage == conductorsim.Canonical && style != conductorsim.Style52 {
					continue // how addresses are stored does not depend on whose the candidate is
				}
				t.Run(fmt.Sprintf("%s/replaces=%v/%s", style, replaces, storage), func(t *testing.T) {
					t.Parallel()
					conformance.Run(t, func(t *testing.T, configure func(*conductorsim.Config)) conformance.Setup {
						return startREST(t, usual, func(c *conductorsim.Config) {
							c.Style, c.PatchReplaces, c.Storage = style, replaces, storage
							if configure != nil {
								configure(c)
							}
						})
					})
				})
			}
		}
	}
}

func TestNETCONF(t *testing.T) {
	for _, style := range styles {
		for _, dialect := range []conductorsim.Dialect{conductorsim.DialectResource, conductorsim.DialectFailed} {
			if dialect == conductorsim.DialectFailed && style != conductorsim.Style52 {
				continue // nor do the words of a refusal
			}
			t.Run(fmt.Sprintf("%s/%s", style, dialect), func(t *testing.T) {
				t.Parallel()
				conformance.Run(t, func(t *testing.T, configure func(*conductorsim.Config)) conformance.Setup {
					return startNETCONF(t, usual, func(c *conductorsim.Config) {
						c.Style, c.Dialect = style, dialect
						if configure != nil {
							configure(c)
						}
					})
				})
			})
		}
	}
}

// usual is the drivers' timeout where a test needs no other.
const usual = 20 * time.Second

var (
	histories = flag.Int("histories", 2, "random histories of each kind of conductor")
	firstSeed = flag.Uint64("seed", 1, "of the first history")
)

// Whatever goes wrong in between, running holds nothing but what was asked for, nobody else's work is touched, and once the
// conductor is well what is wanted comes about.
func TestHistories(t *testing.T) {
	type starter func(*testing.T, time.Duration, func(*conductorsim.Config)) conformance.Setup
	for name, start := range map[string]starter{"REST": startREST, "NETCONF": startNETCONF} {
		for _, style := range styles {
			for _, other := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%v", name, style, other), func(t *testing.T) {
					t.Parallel()
					for n := range *histories {
						seed := *firstSeed + uint64(n)
						t.Run(fmt.Sprint(seed), func(t *testing.T) {
							conformance.RunHistory(t, func(t *testing.T, configure func(*conductorsim.Config)) conformance.Setup {
								return start(t, 600*time.Millisecond, func(c *conductorsim.Config) {
									c.Style, c.PatchReplaces, c.DiscardOnUnlock = style, other, other
									configure(c)
								})
							}, seed, 15)
						})
					}
				})
			}
		}
	}
}

// simulate serves a conductor on every node.
func simulate(t *testing.T, configure func(*conductorsim.Config), serve func(*conductorsim.Sim, int, net.Listener) error) (*conductorsim.Sim, string, []string) {
	t.Helper()
	cfg := conductorsim.DefaultConfig()
	cfg.Dir, cfg.Initial, cfg.Password = t.TempDir(), []byte(conformance.Office), "s3cret"
	configure(&cfg)
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	var serving sync.WaitGroup
	for node := range cfg.Nodes {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addrs = append(addrs, ln.Addr().String())
		serving.Go(func() {
			if err := serve(sim, node+1, ln); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		sim.Close()
		serving.Wait()
	})
	return sim, cfg.Dir, addrs
}

func startREST(t *testing.T, timeout time.Duration, configure func(*conductorsim.Config)) conformance.Setup {
	var style conductorsim.Style
	sim, dir, addrs := simulate(t, func(c *conductorsim.Config) {
		configure(c)
		style = c.Style
	}, (*conductorsim.Sim).ServeREST)
	_, pin := sim.Certificate()
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := rest.DefaultConfig()
	for _, a := range addrs {
		cfg.URLs = append(cfg.URLs, "https://"+a)
	}
	cfg.User, cfg.PasswordFile, cfg.PinSHA256 = conformance.User, password, pin
	cfg.Tenant, cfg.Neighborhood, cfg.Description = conformance.Tenant, conformance.Member, conformance.Description
	cfg.DialTimeout, cfg.Timeout = min(timeout, 6*time.Second), timeout
	own := style == conductorsim.Style56
	return conformance.Setup{Sim: sim, OwnCandidate: own, Private: own, Open: func() commit.Conductor {
		c, err := rest.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}}
}

func startNETCONF(t *testing.T, timeout time.Duration, configure func(*conductorsim.Config)) conformance.Setup {
	var style conductorsim.Style
	sim, dir, addrs := simulate(t, func(c *conductorsim.Config) {
		configure(c)
		style = c.Style
	}, (*conductorsim.Sim).ServeNode)
	cfg := netconf.DefaultConfig()
	cfg.Addresses, cfg.User = addrs, conformance.User
	cfg.KeyFile, cfg.KnownHosts = filepath.Join(dir, "client_key"), filepath.Join(dir, "known_hosts")
	cfg.Tenant, cfg.Neighborhood, cfg.Description = conformance.Tenant, conformance.Member, conformance.Description
	cfg.DialTimeout, cfg.Timeout = min(timeout, 6*time.Second), timeout
	for _, a := range addrs {
		awaitServer(t, a)
	}
	return conformance.Setup{Sim: sim, Locks: true, OwnCandidate: style == conductorsim.Style56, Open: func() commit.Conductor {
		c, err := netconf.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}}
}

// awaitServer waits until the server shows its key: by then it has written the file of known hosts.
func awaitServer(t *testing.T, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		_, err := netconfclient.FetchHostKey(ctx, addr)
		if err == nil {
			return
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
	}
}
