package mesh

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor"
	"banmesh/mesh/config"
	"banmesh/netconfclient"
)

const denying = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
	`<tenant><name>blacklist-fail2ban</name></tenant>` +
	`<service xmlns="http://128technology.com/t128/config/service-config"><name>open</name></service>` +
	`<service xmlns="http://128technology.com/t128/config/service-config"><name>web</name>` +
	`<access-policy><source>blacklist-fail2ban</source><permission>deny</permission></access-policy></service></authority></config>`

// The doctor asks whether any service denies the tenant; either driver answers
// the same of the same conductor.
func TestProbeNamesTheDenyingServicesOverEitherDriver(t *testing.T) {
	dir := t.TempDir()
	cfg := conductorsim.DefaultConfig()
	cfg.Dir, cfg.Initial, cfg.Password = dir, []byte(denying), "s3cret"
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 2)
	serve := func(how func(int, net.Listener) error) string {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { served <- how(1, ln) }()
		return ln.Addr().String()
	}
	netconf, rest := serve(sim.ServeNode), serve(sim.ServeREST)
	t.Cleanup(func() {
		sim.Close()
		if err := errors.Join(<-served, <-served); err != nil {
			t.Error(err)
		}
	})
	// The simulator has written its files once it shows its key.
	if _, err := netconfclient.FetchHostKey(t.Context(), netconf); err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}

	n, r := config.Default().Commit, config.Default().Commit
	n.Driver, n.Conductors, n.Key, n.KnownHosts = "netconf", []string{netconf}, filepath.Join(dir, "client_key"), filepath.Join(dir, "known_hosts")
	r.Driver, r.Conductors, r.PasswordFile = "rest", []string{"https://" + rest}, password
	_, r.PinSHA256 = sim.Certificate()
	for _, k := range []config.Commit{n, r} {
		t.Run(k.Driver, func(t *testing.T) {
			p, err := NewProbe(&k, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			got, err := p.Denied(t.Context())
			if err != nil || !slices.Equal(got, []string{"web"}) {
				t.Errorf("denied by %q, %v; want web", got, err)
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		t.Run(k.Driver+" away", func(t *testing.T) {
			k.Conductors = []string{map[string]string{"netconf": "127.0.0.1:1", "rest": "https://127.0.0.1:1"}[k.Driver]}
			p, err := NewProbe(&k, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			if _, err := p.Denied(t.Context()); !errors.Is(err, conductor.ErrUnreachable) {
				t.Errorf("error %v, want conductor.ErrUnreachable", err)
			}
		})
	}
}
