package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"banmesh/mesh/commit"
	"banmesh/mesh/commit/conformance"
	"banmesh/netconfclient"
	"banmesh/netconfclient/conductorsim"
	"banmesh/restclient"
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
						return startREST(t, func(c *conductorsim.Config) {
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
					return startNETCONF(t, func(c *conductorsim.Config) {
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

func startREST(t *testing.T, configure func(*conductorsim.Config)) conformance.Setup {
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
	cfg := restclient.DefaultConfig()
	for _, a := range addrs {
		cfg.URLs = append(cfg.URLs, "https://"+a)
	}
	cfg.User, cfg.PasswordFile, cfg.PinSHA256 = conformance.User, password, pin
	cfg.Tenant, cfg.Neighborhood, cfg.Description = conformance.Tenant, conformance.Member, conformance.Description
	cfg.DialTimeout, cfg.Timeout = 6*time.Second, 20*time.Second
	own := style == conductorsim.Style56
	return conformance.Setup{Sim: sim, OwnCandidate: own, Private: own, Open: func() commit.Conductor {
		c, err := restclient.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return restConductor{c}
	}}
}

func startNETCONF(t *testing.T, configure func(*conductorsim.Config)) conformance.Setup {
	var style conductorsim.Style
	sim, dir, addrs := simulate(t, func(c *conductorsim.Config) {
		configure(c)
		style = c.Style
	}, (*conductorsim.Sim).ServeNode)
	cfg := netconfclient.DefaultConfig()
	cfg.Addresses, cfg.User = addrs, conformance.User
	cfg.KeyFile, cfg.KnownHosts = filepath.Join(dir, "client_key"), filepath.Join(dir, "known_hosts")
	cfg.Tenant, cfg.Neighborhood, cfg.Description = conformance.Tenant, conformance.Member, conformance.Description
	cfg.DialTimeout, cfg.Timeout = 6*time.Second, 20*time.Second
	for _, a := range addrs {
		awaitServer(t, a)
	}
	return conformance.Setup{Sim: sim, Locks: true, OwnCandidate: style == conductorsim.Style56, Open: func() commit.Conductor {
		c, err := netconfclient.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return netconfConductor{c}
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

// kindOf makes an error of a driver one of the committer's kinds.
type kindOf struct{ kind, err error }

func (e *kindOf) Error() string        { return e.err.Error() }
func (e *kindOf) Is(target error) bool { return target == e.kind }
func (e *kindOf) Unwrap() error        { return e.err }

type restConductor struct{ c *restclient.Conductor }

func (r restConductor) Begin(ctx context.Context, p commit.Permit) (commit.Edit, error) {
	e, err := r.c.Begin(ctx, restclient.Permit{Ours: p.Ours})
	if err != nil {
		return nil, restError(err)
	}
	return restEdit{e}, nil
}

func (r restConductor) Read(ctx context.Context) (commit.Running, error) {
	got, err := r.c.Read(ctx)
	return commit.Running{Addresses: got.Addresses, Exists: got.Exists, Conductor: got.Conductor}, restError(err)
}

func (r restConductor) Features() string { return r.c.Features() }
func (r restConductor) Close() error     { return r.c.Close() }

type restEdit struct{ e *restclient.Edit }

func (e restEdit) Running() commit.Running {
	got := e.e.Running()
	return commit.Running{Addresses: got.Addresses, Exists: got.Exists, Conductor: got.Conductor}
}
func (e restEdit) Session() uint64 { return 0 }
func (e restEdit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	return restError(e.e.Apply(ctx, add, remove))
}
func (e restEdit) Commit(ctx context.Context) error { return restError(e.e.Commit(ctx)) }
func (e restEdit) Close(ctx context.Context) error  { return restError(e.e.Close(ctx)) }

func restError(err error) error {
	for _, k := range []struct{ from, to error }{
		{restclient.ErrUnknownOutcome, commit.ErrUnknown}, {restclient.ErrLogin, commit.ErrLogin}, {restclient.ErrForbidden, commit.ErrLogin},
		{restclient.ErrSecretFile, commit.ErrLogin}, {restclient.ErrCertificate, commit.ErrHostKey}, {restclient.ErrRejected, commit.ErrRejected},
		{restclient.ErrMismatch, commit.ErrMismatch}, {restclient.ErrWideOpen, commit.ErrWideOpen},
	} {
		if errors.Is(err, k.from) {
			return &kindOf{k.to, err}
		}
	}
	var busy *restclient.BusyError
	switch {
	case errors.As(err, &busy):
		return &commit.BusyError{Dirty: busy.Dirty, Detail: busy.Detail}
	case errors.Is(err, restclient.ErrUnreachable), errors.Is(err, restclient.ErrProtocol):
		return &kindOf{commit.ErrUnreachable, err}
	}
	return err
}

type netconfConductor struct{ c *netconfclient.Conductor }

func (n netconfConductor) Begin(ctx context.Context, p commit.Permit) (commit.Edit, error) {
	var kill []netconfclient.SessionAt
	for _, s := range p.Kill {
		kill = append(kill, netconfclient.SessionAt(s))
	}
	e, err := n.c.Begin(ctx, netconfclient.Permit{Ours: p.Ours, Kill: kill})
	if err != nil {
		return nil, netconfError(err)
	}
	return netconfEdit{e}, nil
}

func (n netconfConductor) Read(ctx context.Context) (commit.Running, error) {
	got, err := n.c.Read(ctx)
	return commit.Running{Addresses: got.Addresses, Exists: got.Exists, Conductor: got.Conductor}, netconfError(err)
}

func (n netconfConductor) Features() string { return n.c.Features() }
func (n netconfConductor) Close() error     { return n.c.Close() }

type netconfEdit struct{ e *netconfclient.Edit }

func (e netconfEdit) Running() commit.Running {
	got := e.e.Running()
	return commit.Running{Addresses: got.Addresses, Exists: got.Exists, Conductor: got.Conductor}
}
func (e netconfEdit) Session() uint64 { return e.e.Session() }
func (e netconfEdit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	return netconfError(e.e.Apply(ctx, add, remove))
}
func (e netconfEdit) Commit(ctx context.Context) error { return netconfError(e.e.Commit(ctx)) }
func (e netconfEdit) Close(ctx context.Context) error  { return netconfError(e.e.Close(ctx)) }

func netconfError(err error) error {
	var busy *netconfclient.BusyError
	if errors.As(err, &busy) {
		return &commit.BusyError{Holder: busy.Holder, Dirty: busy.Dirty, Detail: busy.Detail}
	}
	for _, k := range []struct{ from, to error }{
		{netconfclient.ErrLogin, commit.ErrLogin}, {netconfclient.ErrKeyFile, commit.ErrLogin}, {netconfclient.ErrHostKey, commit.ErrHostKey},
		{netconfclient.ErrUnknownOutcome, commit.ErrUnknown}, {netconfclient.ErrRejected, commit.ErrRejected},
		{netconfclient.ErrMismatch, commit.ErrMismatch}, {netconfclient.ErrWideOpen, commit.ErrWideOpen},
		{netconfclient.ErrUnreachable, commit.ErrUnreachable}, {netconfclient.ErrProtocol, commit.ErrUnreachable},
	} {
		if errors.Is(err, k.from) {
			return &kindOf{k.to, err}
		}
	}
	return err
}
