// Package rest speaks to a conductor by the REST API of the device's newer releases: the sessions of package conductor over
// HTTPS.
//
// The API has no lock and no session. Between the last look and the commit a moment remains in which another administrator
// can begin to edit; nothing that the API offers closes it on releases that share one candidate.
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

// New checks the configuration, reads the file of the authority and makes a Conductor of it; it does not connect.
func New(cfg Config) (*conductor.Conductor, error) { return newWith(cfg, time.Now) }

func newWith(cfg Config, now func() time.Time) (*conductor.Conductor, error) {
	cfg.Config = cfg.Config.WithDefaults()
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

// Open makes the first call to a node, within the time that a dead one may cost.
func (d *driver) Open(ctx context.Context, at int) (conductor.Session, error) {
	n := d.nodes[at]
	first, cancel := context.WithTimeoutCause(ctx, d.cfg.DialTimeout,
		fmt.Errorf("no answer within %v: %w", d.cfg.DialTimeout, context.DeadlineExceeded))
	defer cancel()
	ab, err := n.look(first)
	if err != nil {
		n.client.CloseIdleConnections()
		return nil, err
	}
	return &restSession{n: n, key: d.cfg.Key(), ab: ab}, nil
}
