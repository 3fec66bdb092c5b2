package conductorsim

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"
)

// Options is what `banmesh conductor sim` takes. Zero values mean the defaults of DefaultConfig.
type Options struct {
	Listen      string // IP:PORT for NETCONF; port 0 lets the kernel choose
	Listen2     string // the second node of a pair; "" is none
	REST        string // IP:PORT for REST; "" is none
	REST2       string // REST of the second node
	Dir         string // required; made when absent
	CommitDelay time.Duration
	Style       Style
	Dialect     Dialect
	Storage     Storage
	Users       []string
	Password    string    // for REST
	Token       string    // for REST: one that never expires
	Features    *Features // nil is AllFeatures
	// PatchReplaces makes a REST PATCH replace lists of addresses.
	PatchReplaces bool
	Faults        []Fault   // in force from the start
	Stdout        io.Writer // gets one line "conductor ready on ADDR" for each listener, once it answers; nil is os.Stdout
	Log           *slog.Logger
}

// config turns options into a Config.
func (o Options) config() Config {
	c := DefaultConfig()
	c.Dir, c.CommitDelay, c.PatchReplaces = o.Dir, o.CommitDelay, o.PatchReplaces
	if o.Style != "" {
		c.Style = o.Style
	}
	if o.Dialect != "" {
		c.Dialect = o.Dialect
	}
	if o.Storage != "" {
		c.Storage = o.Storage
	}
	if len(o.Users) > 0 {
		c.Users = o.Users
	}
	if o.Password != "" {
		c.Password = o.Password
	}
	c.Token = o.Token
	if o.Features != nil {
		c.Features = *o.Features
	}
	if o.Listen2 != "" || o.REST2 != "" {
		c.Nodes = 2
	}
	if o.Log != nil {
		c.Logger = o.Log
	}
	return c
}

// Run serves a simulated conductor until ctx ends, then closes all sessions. It returns nil after such an end, else
// what made it impossible to serve.
func Run(ctx context.Context, o Options) error {
	if o.Dir == "" {
		return fmt.Errorf("conductor sim: no directory given (--dir)")
	}
	if o.Listen == "" && o.REST == "" {
		return fmt.Errorf("conductor sim: no address to listen on given (--listen IP:PORT)")
	}
	out := o.Stdout
	if out == nil {
		out = os.Stdout
	}
	sim, err := New(o.config())
	if err != nil {
		return fmt.Errorf("conductor sim: %w", err)
	}
	defer sim.Close()
	for _, f := range o.Faults {
		if err := sim.Inject(f); err != nil {
			return fmt.Errorf("conductor sim: %w", err)
		}
	}
	type front struct {
		addr  string
		proto string
		node  int
		serve func(int, net.Listener) error
	}
	fronts := []front{{o.Listen, "", 1, sim.ServeNode}, {o.Listen2, "", 2, sim.ServeNode},
		{o.REST, "https://", 1, sim.ServeREST}, {o.REST2, "https://", 2, sim.ServeREST}}
	failed := make(chan error, len(fronts))
	for _, f := range fronts {
		if f.addr == "" {
			continue
		}
		ln, err := net.Listen("tcp", f.addr)
		if err != nil {
			return fmt.Errorf("conductor sim: %w", err)
		}
		// The listener is open: a connection made from now on is served, so ready may be said before serving starts,
		// provided that the files that it needs are there.
		if err := sim.prepare(f.proto != "", ln.Addr()); err != nil {
			ln.Close()
			return fmt.Errorf("conductor sim: %w", err)
		}
		go func() { failed <- f.serve(f.node, ln) }()
		fmt.Fprintf(out, "conductor ready on %s%s\n", f.proto, ln.Addr())
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}
