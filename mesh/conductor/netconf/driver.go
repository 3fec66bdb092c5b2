// Package netconf edits a conductor through NETCONF: it implements the sessions of package conductor with netconfclient.
//
// Opening a session reads the server's capabilities and chooses a path of editing from them. Reads select our tenant by a
// filter; comparisons run through both whole datastores token by token and set our tenant aside. What a server refuses to
// support is remembered by its identity, so that the next session does not try again.
//
// The package starts no goroutines. Sessions share the driver, whose mu guards what was learned and is never held during a
// call to the server.
package netconf

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/netconfclient"
)

// driver opens sessions with the nodes.
type driver struct {
	cfg Config

	mu            sync.Mutex
	noTestThenSet map[string]bool   // servers that refused the test-option, by identity
	noLeaf        map[string]bool   // servers whose commit takes no kind of validation, by identity
	unsaved       map[string]string // why running was not copied to startup after the last commit, by address
}

// New checks the configuration and returns a Conductor; it does not connect.
func New(cfg Config) (*conductor.Conductor, error) {
	cfg.Config = cfg.Config.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg.Addresses = slices.Clone(cfg.Addresses)
	return conductor.New(cfg.Config, &driver{cfg: cfg, noTestThenSet: make(map[string]bool), noLeaf: make(map[string]bool), unsaved: make(map[string]string)}), nil
}

func (d *driver) Nodes() []string { return d.cfg.Addresses }
func (d *driver) Close() error    { return nil }

// firstAnswer is how long to wait for the answer to a session's first operation before trying another session.
const firstAnswer = 3 * time.Second

// Open dials one node and makes sure that it answers. One server never answers an operation that it happens to read together
// with our hello, so a first silence is no reason to give up the node. The question is small: the authority's name.
func (d *driver) Open(ctx context.Context, at int) (conductor.Session, error) {
	addr := d.cfg.Addresses[at]
	deadline := time.Now().Add(d.cfg.Timeout)
	for attempt := 0; ; attempt++ {
		nc, err := d.dial(ctx, addr)
		if err != nil {
			return nil, failure(err)
		}
		patience := min(firstAnswer, d.cfg.Timeout/4)
		// Two short attempts, then one for all the time that is left: a slow server is not a silent one.
		if attempt == 2 {
			patience = time.Until(deadline)
		}
		probe, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer to the first operation: %w", context.DeadlineExceeded))
		_, err = nc.GetConfig(probe, netconfclient.RunningStore, netconfclient.Filter{Content: []netconfclient.Element{
			netconfclient.El("config", netconfclient.El("authority", netconfclient.El("name")).In(nsAuthority)).In(nsConfig),
		}})
		silent := probe.Err() != nil && ctx.Err() == nil
		cancel()
		if err == nil || errors.As(err, new(netconfclient.RPCErrors)) { // a refusal is an answer
			s := &session{d: d, cfg: &d.cfg, nc: nc, path: d.path(nc)}
			d.mu.Lock()
			unsaved := d.unsaved[addr] != ""
			d.mu.Unlock()
			// The last copy to startup failed, and is repeated as soon as there is a session.
			if unsaved {
				s.save(ctx, nil)
			}
			return s, nil
		}
		nc.Close()
		if !silent || attempt == 2 {
			return nil, failure(err)
		}
		d.cfg.Logger.Info("conductor does not answer the first operation, trying another session", "conductor", addr)
	}
}

// dial bounds the connection, the SSH handshake and the hello together.
func (d *driver) dial(ctx context.Context, addr string) (*netconfclient.Session, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.DialTimeout)
	defer cancel()
	return netconfclient.Dial(ctx, netconfclient.DialConfig{
		Address: addr, User: d.cfg.User, KeyFile: d.cfg.KeyFile, KnownHosts: d.cfg.KnownHosts, HostKeyAlgorithms: d.cfg.HostKeyAlgorithms,
		MaxReply: d.cfg.MaxReply, Logger: d.cfg.Logger, Dial: d.cfg.Dial,
	})
}

// path returns how to edit a server.
func (d *driver) path(nc *netconfclient.Session) path {
	p := choosePath(nc, d.cfg)
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.noTestThenSet[identity(nc)] && p.validate == conductor.ValidateTestThenSet {
		p.refused, p.validate = string(p.validate), conductor.ValidateNone
	}
	if d.noLeaf[identity(nc)] {
		p.leaf = conductor.ValidationNone
	}
	return p
}
