package netconf

import (
	"bytes"
	"context"

	"banmesh/mesh/conductor"
	"banmesh/netconfclient"
)

// Compare reads the whole of both datastores. The order of elements counts, except that of our addresses: an administrator's
// edit may only reorder elements.
func (s *session) Compare(ctx context.Context) (*conductor.Difference, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	running, err := s.nc.GetConfig(ctx, netconfclient.RunningStore, netconfclient.Filter{})
	if err != nil {
		return nil, refused("get-config", err)
	}
	candidate, err := s.nc.GetConfig(ctx, netconfclient.CandidateStore, netconfclient.Filter{})
	if err != nil {
		return nil, refused("get-config", err)
	}
	// Usually both are the same text and need no parsing.
	if bytes.Equal(running.Content(), candidate.Content()) {
		return &conductor.Difference{}, nil
	}
	d, err := compareReplies(running, candidate, s.cfg.Key())
	if err != nil {
		return nil, s.breach(err)
	}
	return d, nil
}

// compareReplies walks through both replies at once and holds neither as a tree: a configuration may be of many megabytes. Our
// tenant is collected on the way; the first difference elsewhere is enough to know that others are editing.
func compareReplies(running, candidate *netconfclient.Reply, key conductor.Key) (*conductor.Difference, error) {
	a, err := newItemReader(running, key)
	if err != nil {
		return nil, err
	}
	b, err := newItemReader(candidate, key)
	if err != nil {
		return nil, err
	}
	for {
		x, more, err := a.next()
		if err != nil {
			return nil, err
		}
		y, moreB, err := b.next()
		if err != nil {
			return nil, err
		}
		if x != y {
			d := &conductor.Difference{Foreign: "the candidate differs at " + b.where()}
			if !moreB {
				d.Foreign = "the candidate lacks " + a.where()
			}
			return d, nil
		}
		if !more && !moreB {
			return &conductor.Difference{Running: &a.ours.Tenant, Candidate: &b.ours.Tenant}, nil
		}
	}
}
