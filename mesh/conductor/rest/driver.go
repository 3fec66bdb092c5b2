// Package rest edits a conductor through the REST API of the device's newer releases: it implements the sessions of package
// conductor over HTTPS.
//
// The API has neither sessions nor a lock. Between the last comparison and the commit, another administrator can start to
// edit, and nothing in the API closes that gap on releases with a shared candidate.
//
// Large answers pass through as JSON text: a decoded configuration would take ten times its size. Answers whose form the
// vendor does not publish are only hints.
//
// The package has no goroutines of its own. A driver has one node for each URL, which sessions share: it keeps the token and
// what was learned about the server. node.login lets one caller at a time get a token; node.mu may be taken while holding it,
// never the other way round, and never during a request.
package rest

import (
	"context"
	"fmt"
	"time"

	"banmesh/mesh/conductor"
)

// driver opens sessions with the nodes.
type driver struct {
	cfg   Config
	nodes []*node
}

// New checks the configuration, loads the file of the authority and returns a Conductor; it does not connect.
func New(cfg Config) (*conductor.Conductor, error) { return newWith(cfg, time.Now) }

// newWith lets tests set the clock by which certificates and tokens end.
func newWith(cfg Config, now func() time.Time) (*conductor.Conductor, error) {
	cfg.Config = cfg.Config.WithDefaults()
	cfg.OwnAccount = cfg.User != "" && cfg.User != DefaultConfig().User
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	t, err := loadTrust(cfg, now)
	if err != nil {
		return nil, err
	}
	d := &driver{cfg: cfg}
	for _, s := range cfg.URLs {
		u, err := parseURL(s)
		if err != nil {
			return nil, fmt.Errorf("conductor %q: %w", s, err)
		}
		d.nodes = append(d.nodes, newNode(u, &d.cfg, t, now))
	}
	return conductor.New(cfg.Config, d), nil
}

// Nodes keeps the order of the configuration, which is the order in which they are tried.
func (d *driver) Nodes() []string {
	var names []string
	for _, n := range d.nodes {
		names = append(names, n.url)
	}
	return names
}

func (d *driver) Close() error {
	for _, n := range d.nodes {
		n.client.CloseIdleConnections()
	}
	return nil
}

// Open makes the first call to a node, bounded by the time that a dead node may cost.
func (d *driver) Open(ctx context.Context, at int) (conductor.Session, error) {
	n := d.nodes[at]
	first, cancel := context.WithTimeoutCause(ctx, d.cfg.DialTimeout,
		fmt.Errorf("no answer within %v: %w", d.cfg.DialTimeout, context.DeadlineExceeded))
	defer cancel()
	ab, err := n.look(first)
	if err != nil {
		// The next attempt starts with a connection of its own.
		n.client.CloseIdleConnections()
		return nil, err
	}
	return &restSession{n: n, key: d.cfg.Key(), ab: ab}, nil
}
