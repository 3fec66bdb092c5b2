package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/hashicorp/memberlist"

	"banmesh/internal/random"
	"banmesh/mesh/alert"
	"banmesh/mesh/conductor"
	"banmesh/mesh/config"
	"banmesh/mesh/control/server"
	"banmesh/mesh/enforce"
	"banmesh/mesh/fail2ban"
	"banmesh/mesh/gossip"
	"banmesh/mesh/spool"
	"banmesh/mesh/web"
)

// Doors are where an agent meets the world, one each. What is nil is the real
// thing. A simulation puts its own there, so that a whole agent, wired as ever,
// runs without a socket, a process or a wait for a real clock. Time itself is no
// door beyond Options.Now: timers and time.Now are virtual in a testing/synctest
// bubble.
type Doors struct {
	// Random is the source of chance; several goroutines draw from it. Keys, nonces
	// and tokens are not drawn from it.
	Random rand.Source
	// Transport carries gossip, in the place of UDP and TCP at gossip.bind.
	Transport memberlist.Transport
	// Lookup finds the addresses of a host by its name.
	Lookup gossip.Lookup
	// Addresses are this router's own and its default gateways.
	Addresses func() []netip.Addr
	// Prepare makes the data directory and refuses to go on where others can change
	// what is in it.
	Prepare func(*config.Config, *slog.Logger) error
	// Commit stands between the store and its file, see store.Config.
	// A simulated disk fails, hangs or loses power in it.
	Commit func(write func() error) error
	// Spools hold the calls that reached no agent.
	Spools func(dir, socket string) Spools
	// Listen takes the control socket, ListenHTTP the address of http.listen.
	Listen     func(path, group string) (net.Listener, error)
	ListenHTTP func(ctx context.Context, addr string) (net.Listener, error)
	// Conductor makes the conductor of a configuration that names one.
	Conductor func(*config.Commit, conductor.Config) (*conductor.Conductor, error)
	// Fail2ban runs a command of fail2ban's protocol, in the place of fail2ban-client.
	Fail2ban func(ctx context.Context, args ...string) (string, error)
	// Kernel makes what drops packets, where enforce.driver is nftables. It touches nothing before its first call, so that a
	// wrong namespace is a State and not a failed start.
	Kernel func(netns string, ingress []string) (enforce.Driver, error)
	// Alert runs alert.command with an event on its standard input.
	Alert func(ctx context.Context, command string, event []byte, log *slog.Logger) error
}

// Spools are where calls wait that reached no agent.
type Spools interface {
	// Prepare makes them, for a group where gid is not negative, and tells the
	// commands where they are.
	Prepare(gid int) error
	Drain(ctx context.Context, apply func(context.Context, spool.Entry) error) (spool.Drained, error)
	// Quick counts what waits in memory, Len what waits on the disk, which may hang.
	Quick() int
	Len() (int, error)
}

// real puts the real thing where there is nothing.
func (d Doors) real() Doors {
	if d.Random == nil {
		d.Random = random.Source
	}
	if d.Lookup == nil {
		d.Lookup = lookup
	}
	if d.Addresses == nil {
		d.Addresses = func() []netip.Addr { return slices.Concat(interfaceAddrs(), defaultGateways()) }
	}
	if d.Prepare == nil {
		d.Prepare = prepare
	}
	if d.Spools == nil {
		d.Spools = func(dir, socket string) Spools {
			return &files{spool.New(dir), spool.Quick(socket), socket}
		}
	}
	if d.Listen == nil {
		d.Listen = server.Listen
	}
	if d.ListenHTTP == nil {
		d.ListenHTTP = web.Listen
	}
	if d.Conductor == nil {
		d.Conductor = realConductor
	}
	if d.Kernel == nil {
		d.Kernel = openKernel
	}
	if d.Alert == nil {
		d.Alert = alert.Run
	}
	return d
}

func lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// prepare makes the data directory, closed to others, and refuses to start where others could change a file
// that the agent relies on.
func prepare(cfg *config.Config, log *slog.Logger) error {
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := checkRights(cfg, log); err != nil {
		return err
	}
	// The unit gives the capability that nftables need, whatever is configured. A command that is started for an alert needs none.
	if err := enforce.KeepCapabilities(); err != nil {
		log.Warn("programs that the agent starts get its capabilities", "error", err)
	}
	return nil
}

func openKernel(netns string, ingress []string) (enforce.Driver, error) {
	return enforce.OpenNFTables(netns, ingress)
}

// newClient makes the client of this router's fail2ban.
func (d *Doors) newClient(c fail2ban.ClientConfig) *fail2ban.Client {
	if d.Fail2ban != nil {
		return fail2ban.NewClientWith(c, d.Fail2ban)
	}
	return fail2ban.NewClient(c)
}
