package netconfclient

import (
	"bytes"
	"context"
)

// A verdict tells how the candidate differs from running.
type verdict struct {
	change  tenantChange // in our tenant
	foreign string       // where they differ first outside of it; "" where they do not

	candidate, running *tenantState // nil where the two were the same byte for byte
}

func (v verdict) clean() bool    { return v.foreign == "" && v.change.empty() }
func (v verdict) onlyOurs() bool { return v.foreign == "" && v.change.foreign == "" }

// detail says where the candidate differs.
func (v verdict) detail() string {
	switch {
	case v.foreign != "":
		return v.foreign
	case v.change.foreign != "":
		return v.change.foreign
	}
	return "addresses of the tenant were edited by somebody else"
}

// compareStores reads both datastores whole. The order of elements counts, except that of our addresses: an
// administrator's edit may be nothing but a new order.
func compareStores(ctx context.Context, s *Session, key tenantKey, description string) (verdict, error) {
	running, err := s.GetConfig(ctx, RunningStore, Filter{})
	if err != nil {
		return verdict{}, err
	}
	candidate, err := s.GetConfig(ctx, CandidateStore, Filter{})
	if err != nil {
		return verdict{}, err
	}
	// Most often both are the same text, and need not be parsed.
	if bytes.Equal(running.Raw[running.data:], candidate.Raw[candidate.data:]) {
		return verdict{}, nil
	}
	a, err := newItemReader(running, key)
	if err != nil {
		return verdict{}, err
	}
	b, err := newItemReader(candidate, key)
	if err != nil {
		return verdict{}, err
	}
	return compareItems(a, b, description)
}

// compareItems compares running, a, with the candidate, b.
func compareItems(a, b *itemReader, description string) (verdict, error) {
	var v verdict
	for {
		x, more, err := a.next()
		if err != nil {
			return verdict{}, err
		}
		y, moreB, err := b.next()
		if err != nil {
			return verdict{}, err
		}
		if x != y {
			v.foreign = "the candidate differs at " + b.where()
			if !moreB {
				v.foreign = "the candidate lacks " + a.where()
			}
			return v, nil
		}
		if !more && !moreB {
			break
		}
	}
	v.running, v.candidate = &a.ours, &b.ours
	v.change = compareTenants(v.candidate, v.running, description)
	return v, nil
}
