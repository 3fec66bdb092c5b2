package restclient

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"banmesh/netconfclient/prefixset"
)

// write makes one edit of the candidate.
func (n *node) write(ctx context.Context, method, path string, body any) error {
	_, err := n.call(ctx, method, path, body)
	return refused("edit", err)
}

// setLeftover remembers own edits that are in the candidate, nil that there are none.
func (n *node) setLeftover(l *leftover) { n.learn(func(ab *about) { ab.leftover = l }) }

// describe creates the tenant where it is absent, and gives it the description where that is asked for.
func (n *node) describe(ctx context.Context, key tenantKey, now *tenantState, text string, wanted bool) error {
	switch {
	case !now.exists:
		body := map[string]any{"name": key.tenant}
		if wanted {
			body["description"] = text
		}
		return n.write(ctx, http.MethodPost, authorityPath(candidate)+"/tenant", body)
	case wanted:
		return n.write(ctx, http.MethodPatch, key.path(candidate), map[string]any{"description": text})
	}
	return nil
}

// setAddresses makes want the addresses of our member and reads the candidate back. There is no resource for a single
// address, and whether a PATCH of the list replaces or merges it is nowhere said; the whole list is sent, which is right
// either way for additions, and where old ones remain the member is made anew. now is what the candidate holds, as far as
// the member goes.
func (n *node) setAddresses(ctx context.Context, key tenantKey, now *tenantState, want []netip.Prefix) (*tenantState, error) {
	removes := len(prefixset.Minus(now.addresses, want)) > 0
	switch {
	case !now.member && len(want) == 0:
	case !now.member:
		if err := n.write(ctx, http.MethodPost, key.path(candidate)+"/member", now.memberBody(key, want)); err != nil {
			return nil, err
		}
	case removes && n.known().merges:
		if err := n.remake(ctx, key, now, want); err != nil {
			return nil, err
		}
	default:
		err := n.write(ctx, http.MethodPatch, key.memberPath(candidate), map[string]any{"address": now.texts(want)})
		if err != nil {
			return nil, err
		}
	}
	got, err := n.readTenant(ctx, candidate, key)
	if err != nil || !removes {
		return got, err
	}
	old := prefixset.Minus(now.addresses, want)
	if remain := prefixset.Both(got.addresses, old); len(remain) == 0 || len(prefixset.Minus(want, got.addresses)) > 0 || !got.member {
		return got, nil
	}
	n.learn(func(ab *about) { ab.merges = true })
	if err := n.remake(ctx, key, got, want); err != nil {
		return nil, err
	}
	return n.readTenant(ctx, candidate, key)
}

// remake deletes the member and creates it anew, with what else is in it.
func (n *node) remake(ctx context.Context, key tenantKey, now *tenantState, want []netip.Prefix) error {
	if err := n.write(ctx, http.MethodDelete, key.memberPath(candidate), nil); err != nil {
		return err
	}
	// From here to the answer of the POST the candidate has no member: if the context ends now, it is finished first.
	ctx, cancel := cleanup(ctx)
	defer cancel()
	create := func() error {
		return n.write(ctx, http.MethodPost, key.path(candidate)+"/member", now.memberBody(key, want))
	}
	err := create()
	if errors.Is(err, ErrUnreachable) {
		err = create() // refused as existing where the first one came through: the read-back tells
		var busy *BusyError
		if errors.As(err, &busy) && busy.Err != nil {
			err = nil
		}
	}
	return err
}

// undo takes back a change of our tenant in the candidate: exactly what is named, and what was created as far as nothing
// else is left in it.
func (n *node) undo(ctx context.Context, key tenantKey, now, base *tenantState, c tenantChange) error {
	if !now.exists {
		return nil
	}
	added := prefixset.Both(c.added, now.addresses)
	alone := len(now.addresses) == len(added) && len(now.unread) == 0 && len(now.memberRest) == 0
	switch {
	case c.created.tenant && alone && len(now.rest) == 0 && (c.created.description || !now.described):
		return n.write(ctx, http.MethodDelete, key.path(candidate), nil)
	case c.created.member && alone && now.member:
		if err := n.write(ctx, http.MethodDelete, key.memberPath(candidate), nil); err != nil {
			return err
		}
	case base.member && !now.member:
		if err := n.write(ctx, http.MethodPost, key.path(candidate)+"/member", base.memberBody(key, base.addresses)); err != nil {
			return err
		}
	case len(added)+len(c.removed) > 0:
		want := prefixset.Minus(prefixset.Plus(now.addresses, c.removed), added)
		// What comes back, comes back as running spells it.
		state := *now
		for _, p := range prefixset.Minus(c.removed, now.addresses) {
			if s := base.spelled[p]; len(s) > 0 {
				state.spelled = withSpelling(state.spelled, p, s)
			}
		}
		got, err := n.setAddresses(ctx, key, &state, want)
		if err != nil {
			return err
		}
		if err := mismatch(candidate, want, got.addresses); err != nil {
			return err
		}
	}
	if c.created.description && now.described && !c.created.tenant {
		return n.dropDescription(ctx, key, base)
	}
	return nil
}

func withSpelling(m map[netip.Prefix][]string, p netip.Prefix, texts []string) map[netip.Prefix][]string {
	out := make(map[netip.Prefix][]string, len(m)+1)
	for k, v := range m {
		out[k] = v
	}
	out[p] = texts
	return out
}

// dropDescription takes the description away that we gave an older tenant. A null in a PATCH does it where the API takes
// it as RFC 7396 does; elsewhere the tenant is made anew as running has it.
func (n *node) dropDescription(ctx context.Context, key tenantKey, base *tenantState) error {
	err := n.write(ctx, http.MethodPatch, key.path(candidate), map[string]any{"description": nil})
	if err != nil && !errors.Is(err, ErrRejected) {
		return err
	}
	now, err := n.readTenant(ctx, candidate, key)
	if err != nil || !now.described {
		return err
	}
	if c := compareTenants(now, base, now.description); c.foreign != "" || len(c.added)+len(c.removed) > 0 {
		return fmt.Errorf("%w: the description stays, because the tenant holds edits of somebody else", ErrMismatch)
	}
	if err := n.write(ctx, http.MethodDelete, key.path(candidate), nil); err != nil {
		return err
	}
	ctx, cancel := cleanup(ctx)
	defer cancel()
	return n.write(ctx, http.MethodPost, authorityPath(candidate)+"/tenant", base.raw)
}
