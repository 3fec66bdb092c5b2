package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"
)

// patience bounds every wait: what takes longer has failed.
const patience = 2 * time.Minute

// agent is a store and its place in the mesh.
type agent struct {
	name    string
	set     *store.Store
	mesh    *gossip.Mesh
	changed chan struct{} // of one: the set has changed
}

// fleet is the agents of one mesh.
type fleet struct {
	agents []*agent
	bans   int // given so far
}

func newFleet(ctx context.Context, dir, prefix string, n int) (*fleet, error) {
	f := new(fleet)
	key := []byte("a key of the benchmark, 32 bytes")
	for i := range n {
		a, err := newAgent(ctx, dir, fmt.Sprintf("%s%03d", prefix, i), key, f.agents)
		if err != nil {
			f.close()
			return nil, err
		}
		f.agents = append(f.agents, a)
	}
	return f, nil
}

func newAgent(ctx context.Context, dir, name string, key []byte, known []*agent) (*agent, error) {
	a := &agent{name: name, changed: make(chan struct{}, 1)}
	ready := make(chan struct{})
	var err error
	a.set, err = store.Open(store.Config{
		Path: filepath.Join(dir, name+".db"), Origin: name,
		OnChange: func(c store.Change) {
			<-ready
			if c.OwnHead && a.mesh != nil {
				a.mesh.Announce()
			}
			select {
			case a.changed <- struct{}{}:
			default:
			}
		},
	})
	if err != nil {
		return nil, err
	}
	cfg := gossip.DefaultConfig()
	cfg.Name, cfg.Version, cfg.Set, cfg.Keys = name, "bench", a.set, [][]byte{key}
	cfg.Bind = netip.MustParseAddrPort("127.0.0.1:0")
	if len(known) > 0 {
		cfg.Join = []string{known[0].mesh.Addr()}
	}
	a.mesh, err = gossip.New(ctx, cfg)
	close(ready)
	if err != nil {
		a.set.Close()
		return nil, err
	}
	return a, nil
}

func (f *fleet) close() {
	for _, a := range f.agents {
		a.mesh.Shutdown()
	}
	for _, a := range f.agents {
		a.set.Close()
	}
}

// meet waits until every agent sees n alive.
func (f *fleet) meet(ctx context.Context, n int) error {
	for _, a := range f.agents {
		err := a.await(ctx, func() bool {
			alive := 0
			for _, m := range a.mesh.Members() {
				if m.State == gossip.Alive {
					alive++
				}
			}
			return alive == n
		})
		if err != nil {
			return fmt.Errorf("%s does not see %d agents: %w", a.name, n, err)
		}
	}
	return nil
}

// agree waits until all roots are equal.
func (f *fleet) agree(ctx context.Context) error {
	for _, a := range f.agents[1:] {
		err := a.await(ctx, func() bool {
			minute := store.Minute(time.Now())
			return a.set.Root(minute) == f.agents[0].set.Root(minute)
		})
		if err != nil {
			return fmt.Errorf("%s and %s do not agree: %w", f.agents[0].name, a.name, err)
		}
	}
	return nil
}

type traffic struct{ packets, bytes uint64 }

func (f *fleet) traffic() (sum traffic) {
	for _, a := range f.agents {
		s := a.mesh.Stats()
		sum.packets += s.PacketsSent
		sum.bytes += s.BytesSent
	}
	return sum
}

// batch is how many bans one call gives, as the control socket's bulk calls do.
const batch = 10_000

func (a *agent) ban(ctx context.Context, prefixes []netip.Prefix) error {
	until := store.At(time.Now().Add(24 * time.Hour))
	for len(prefixes) > 0 {
		n := min(batch, len(prefixes))
		reqs := make([]store.BanRequest, n)
		for i, p := range prefixes[:n] {
			reqs[i] = store.BanRequest{Prefix: p, Jail: "bench", Until: until, Failures: 5}
		}
		if _, err := a.set.Ban(ctx, reqs); err != nil {
			return err
		}
		prefixes = prefixes[n:]
	}
	return nil
}

// await waits for cond, which it asks at each change of the set, and each 5 ms
// for what changes without one.
func (a *agent) await(ctx context.Context, cond func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for !cond() {
		select {
		case <-a.changed:
		case <-ticker.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return fmt.Errorf("not within %v", patience)
			}
			return ctx.Err()
		}
	}
	return nil
}
