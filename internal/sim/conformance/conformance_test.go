package conformance_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh/knownhosts"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conformance"
	"banmesh/internal/sim/simnet"
	"banmesh/mesh/commit"
	"banmesh/mesh/conductor/netconf"
	"banmesh/mesh/conductor/rest"
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
						return startREST(t, inMemory(t), usual, func(c *conductorsim.Config) {
							c.Style, c.PatchReplaces, c.Storage, c.Assigns = style, replaces, storage, replaces
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
					return startNETCONF(t, inMemory(t), usual, func(c *conductorsim.Config) {
						c.Style, c.Dialect, c.Assigns = style, dialect, dialect == conductorsim.DialectFailed
						if configure != nil {
							configure(c)
						}
					})
				})
			})
		}
	}
	t.Run("no lock", func(t *testing.T) {
		t.Parallel()
		conformance.Run(t, func(t *testing.T, configure func(*conductorsim.Config)) conformance.Setup {
			return startNETCONF(t, inMemory(t), usual, func(c *conductorsim.Config) {
				c.Features.Lock, c.Assigns = false, true
				if configure != nil {
					configure(c)
				}
			})
		})
	})
}

// usual is the drivers' timeout where a test needs no other.
const usual = 20 * time.Second

var (
	histories = flag.Int("histories", 2, "random histories of each kind of conductor")
	firstSeed = flag.Uint64("seed", 1, "of the first history")
)

// Whatever goes wrong in between, running holds nothing but what was asked for, nobody else's work is touched, and once the
// conductor is well what is wanted comes about. Conductor and driver run in memory, where waiting takes no time.
func TestHistories(t *testing.T) {
	for name, start := range map[string]starter{"REST": startREST, "NETCONF": startNETCONF} {
		for _, style := range styles {
			for _, other := range []bool{false, true} {
				for nodes := 1; nodes <= 2; nodes++ {
					if name == "NETCONF" && style != conductorsim.Style52 {
						continue // no release that speaks NETCONF has more than one candidate
					}
					t.Run(fmt.Sprintf("%s/%s/%v/%d", name, style, other, nodes), func(t *testing.T) {
						t.Parallel()
						for n := range *histories {
							seed := *firstSeed + uint64(n)
							t.Run(fmt.Sprint(seed), func(t *testing.T) {
								synctest.Test(t, func(t *testing.T) {
									conformance.RunHistory(t, func(t *testing.T, configure func(*conductorsim.Config)) conformance.Setup {
										return start(t, inMemory(t), 10*time.Second, func(c *conductorsim.Config) {
											c.Style, c.PatchReplaces, c.DiscardOnUnlock, c.Assigns, c.Nodes = style, other, other, other, nodes
											configure(c)
										})
									}, seed, 15)
								})
							})
						}
					})
				}
			}
		}
	}
}

type starter func(*testing.T, wire, time.Duration, func(*conductorsim.Config)) conformance.Setup

// wire is how driver and conductor reach each other.
type wire struct {
	listen func(node int) (net.Listener, error)
	dial   func(ctx context.Context, network, addr string) (net.Conn, error)
}

// inMemory is a network for a bubble of testing/synctest.
func inMemory(t *testing.T) wire {
	network := simnet.New(simnet.Config{Seed: 1, Latency: time.Millisecond})
	t.Cleanup(network.Close)
	client, err := network.Attach(netip.MustParseAddrPort("192.0.2.1:1"))
	if err != nil {
		t.Fatal(err)
	}
	return wire{dial: client.DialContext, listen: func(node int) (net.Listener, error) {
		h, err := network.Attach(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + node)}), 830))
		if err != nil {
			return nil, err
		}
		return h.Listener(), nil
	}}
}

// simulate serves a conductor on every node, and returns a directory with what a client needs.
func simulate(t *testing.T, w wire, configure func(*conductorsim.Config), serve func(*conductorsim.Sim, int, net.Listener) error) (*conductorsim.Sim, string, []string) {
	t.Helper()
	cfg := conductorsim.DefaultConfig()
	cfg.Initial, cfg.Password, cfg.Users = []byte(conformance.Office), "s3cret", []string{conformance.User}
	configure(&cfg)
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var addrs []string
	var serving sync.WaitGroup
	for node := range cfg.Nodes {
		ln, err := w.listen(node)
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
	dir := t.TempDir()
	for name, text := range map[string][]byte{"client_key": sim.ClientKey(), "password": []byte("s3cret\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return sim, dir, addrs
}

func startREST(t *testing.T, w wire, timeout time.Duration, configure func(*conductorsim.Config)) conformance.Setup {
	var style conductorsim.Style
	sim, dir, addrs := simulate(t, w, func(c *conductorsim.Config) {
		configure(c)
		style = c.Style
	}, (*conductorsim.Sim).ServeREST)
	_, pin := sim.Certificate()
	cfg := rest.DefaultConfig()
	for _, a := range addrs {
		cfg.URLs = append(cfg.URLs, "https://"+a)
	}
	cfg.User, cfg.PasswordFile, cfg.PinSHA256 = conformance.User, filepath.Join(dir, "password"), pin
	cfg.Tenant, cfg.Neighborhood, cfg.Description = conformance.Tenant, conformance.Member, conformance.Description
	cfg.DialTimeout, cfg.Timeout, cfg.Dial = min(timeout, 6*time.Second), timeout, w.dial
	own := style == conductorsim.Style56
	return conformance.Setup{Sim: sim, Nodes: len(addrs), OwnCandidate: own, Private: own, Open: func() commit.Conductor {
		c, err := rest.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}}
}

func startNETCONF(t *testing.T, w wire, timeout time.Duration, configure func(*conductorsim.Config)) conformance.Setup {
	var style conductorsim.Style
	var locks bool
	sim, dir, addrs := simulate(t, w, func(c *conductorsim.Config) {
		configure(c)
		style, locks = c.Style, c.Features.Lock
	}, (*conductorsim.Sim).ServeNode)
	cfg := netconf.DefaultConfig()
	cfg.Addresses, cfg.User = addrs, conformance.User
	cfg.KeyFile, cfg.KnownHosts = filepath.Join(dir, "client_key"), filepath.Join(dir, "known_hosts")
	cfg.Tenant, cfg.Neighborhood, cfg.Description = conformance.Tenant, conformance.Member, conformance.Description
	cfg.DialTimeout, cfg.Timeout, cfg.Dial = min(timeout, 6*time.Second), timeout, w.dial
	var hosts bytes.Buffer
	for _, a := range addrs {
		fmt.Fprintln(&hosts, knownhosts.Line([]string{a}, sim.HostKey()))
	}
	if err := os.WriteFile(cfg.KnownHosts, hosts.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return conformance.Setup{Sim: sim, Nodes: len(addrs), Locks: locks, IDs: true, OwnCandidate: style == conductorsim.Style56, Open: func() commit.Conductor {
		c, err := netconf.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}}
}
