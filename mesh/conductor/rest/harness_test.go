package rest_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
	"banmesh/internal/sim/simnet"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

const tenant, member = "blacklist-fail2ban", "internet"

// office is a configuration with something in it that is not ours.
const office = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
	`<router><name>r1</name></router><tenant><name>office</name><member><neighborhood>lan</neighborhood><address>10.1.0.0/16</address></member></tenant>` +
	`<service xmlns="http://128technology.com/t128/config/service-config"><name>web</name><scope>public</scope><address>198.51.100.80/32</address></service>` +
	`</authority></config>`

// lab is a simulated conductor that serves REST.
type lab struct {
	*conductorsim.Sim
	t    testing.TB
	urls []string
	pin  string
	dir  string // of the client's files

	private bool // the candidate is the account's own

	listen func() (net.Listener, error)
	dial   func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the network's
}

// serve serves a conductor on loopback.
func serve(t testing.TB, change ...func(*conductorsim.Config)) *lab {
	t.Helper()
	return serveOn(t, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }, nil, change...)
}

// serveInMemory serves a conductor without the kernel, so that a bubble of testing/synctest can hold it and its clients: what
// they wait for takes no time, and no busy machine makes them late.
func serveInMemory(t testing.TB, change ...func(*conductorsim.Config)) *lab {
	t.Helper()
	network := simnet.New(simnet.Config{Seed: 1, Latency: time.Millisecond})
	t.Cleanup(network.Close)
	attach := func(n int) (*simnet.Host, error) {
		return network.Attach(netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 443))
	}
	client, err := attach(1)
	if err != nil {
		t.Fatal(err)
	}
	hosts := 1
	return serveOn(t, func() (net.Listener, error) {
		hosts++
		h, err := attach(hosts)
		if err != nil {
			return nil, err
		}
		return h.Listener(), nil
	}, client.DialContext, change...)
}

func serveOn(t testing.TB, listen func() (net.Listener, error), dial func(context.Context, string, string) (net.Conn, error), change ...func(*conductorsim.Config)) *lab {
	t.Helper()
	cfg := conductorsim.DefaultConfig()
	cfg.Password = "s3cret"
	cfg.Initial = []byte(office)
	for _, c := range change {
		c(&cfg)
	}
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c := &lab{Sim: sim, t: t, dir: t.TempDir(), private: cfg.Style == conductorsim.Style56, listen: listen, dial: dial}
	_, c.pin = sim.Certificate()
	var serving sync.WaitGroup
	for n := range cfg.Nodes {
		ln, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		c.urls = append(c.urls, "https://"+ln.Addr().String())
		serving.Go(func() {
			if err := sim.ServeREST(n+1, ln); err != nil {
				t.Errorf("serve: %v", err)
			}
		})
	}
	t.Cleanup(func() {
		sim.Close()
		serving.Wait()
	})
	return c
}

// secret writes a file that only its owner can read.
func (c *lab) secret(name, text string) string {
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

func (c *lab) config() rest.Config {
	cfg := rest.DefaultConfig()
	cfg.URLs = c.urls
	cfg.PasswordFile = c.secret("password", "s3cret\n")
	cfg.PinSHA256 = c.pin
	cfg.Dial = c.dial
	cfg.Timeout, cfg.DialTimeout = 10*time.Second, 5*time.Second
	return cfg
}

func (c *lab) client(change ...func(*rest.Config)) *conductor.Conductor {
	c.t.Helper()
	cfg := c.config()
	for _, f := range change {
		f(&cfg)
	}
	return open(c.t, cfg)
}

func open(t testing.TB, cfg rest.Config) *conductor.Conductor {
	t.Helper()
	r, err := rest.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// addresses are the tenant's, in running, sorted by text.
func (c *lab) addresses() []string {
	out := c.Addresses(tenant, member)
	slices.Sort(out)
	return out
}

func (c *lab) want(texts ...string) {
	c.t.Helper()
	slices.Sort(texts)
	if got := c.addresses(); !slices.Equal(got, texts) {
		c.t.Errorf("running has %v, want %v", got, texts)
	}
}

// wantCleanCandidate checks that nothing of ours waits for somebody's commit.
func (c *lab) wantCleanCandidate(user string, node int) {
	c.t.Helper()
	running, cand := c.Running(), c.Candidate(user, node)
	if a, b := fmt.Sprint(flat(running)), fmt.Sprint(flat(cand)); a != b {
		c.t.Errorf("candidate of %s at node %d differs from running:\n%s\nrunning:\n%s", user, node, b, a)
	}
}

// flat lists the leaves of a configuration.
func flat(n *conductorsim.Node) []string {
	var out []string
	var walk func(string, *conductorsim.Node)
	walk = func(path string, n *conductorsim.Node) {
		path += "/" + n.Name.Local + n.Key
		if n.Kind == conductorsim.Leaf || n.Kind == conductorsim.LeafList {
			out = append(out, path+"="+n.Value)
		}
		for _, c := range n.Children {
			walk(path, c)
		}
	}
	walk("", n)
	slices.Sort(out)
	return out
}

// wantHistory checks that our commits touched nothing but the tenant.
func (c *lab) wantHistory() {
	c.t.Helper()
	for _, v := range (history.Checker{Tenant: tenant}).Check(c.History().Events()) {
		c.t.Errorf("history: %v", v)
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range texts {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// change makes one whole change.
func change(ctx context.Context, r *conductor.Conductor, p conductor.Permit, add, remove []netip.Prefix) (err error) {
	e, err := r.Begin(ctx, p)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := e.Close(ctx); err == nil {
			err = closeErr
		}
	}()
	if err := e.Apply(ctx, add, remove); err != nil {
		return err
	}
	return e.Commit(ctx)
}

// seed brings addresses into running.
func (c *lab) seed(r *conductor.Conductor, texts ...string) {
	c.t.Helper()
	if err := change(c.t.Context(), r, conductor.Permit{}, prefixes(texts...), nil); err != nil {
		c.t.Fatal(err)
	}
}

func all(added, removed []netip.Prefix) bool { return true }
