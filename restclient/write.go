package restclient

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"net/netip"
	"strings"

	"banmesh/netconfclient/prefixset"
)

// write makes one edit of the candidate.
func (n *node) write(ctx context.Context, method, path string, body any) error {
	_, err := n.call(ctx, method, path, body)
	return refused("edit", err)
}

// setLeftover remembers own edits that are in the candidate, nil that there are none.
func (n *node) setLeftover(l *leftover) { n.learn(func(ab *about) { ab.leftover = l }) }

// setUndone remembers what was taken back.
func (n *node) setUndone(c tenantChange) { n.learn(func(ab *about) { ab.undone = undone{c, n.now()} }) }

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
	removes, put := len(prefixset.Minus(now.addresses, want)) > 0, false
	switch {
	case !now.member && len(want) == 0:
	case !now.member:
		if err := n.write(ctx, http.MethodPost, key.path(candidate)+"/member", now.memberBody(key, want)); err != nil {
			return nil, err
		}
	case removes && n.known().merges:
		put = true
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
	for range 2 { // by PUT, and where that merges as well, by DELETE and POST
		if remain := prefixset.Both(got.addresses, old); len(remain) == 0 || len(prefixset.Minus(want, got.addresses)) > 0 || !got.member {
			return got, nil
		}
		n.learn(func(ab *about) { ab.noPut, ab.merges = ab.noPut || ab.merges && put, true })
		put = true
		if err := n.remake(ctx, key, got, want); err != nil {
			return nil, err
		}
		if got, err = n.readTenant(ctx, candidate, key); err != nil {
			return nil, err
		}
	}
	return got, nil
}

// remake replaces the member whole, with what else is in it. Where the API does not replace an entry by PUT it is deleted
// and created anew; a mark in the tenant's description says so meanwhile, unless the candidate is the account's own.
func (n *node) remake(ctx context.Context, key tenantKey, now *tenantState, want []netip.Prefix) error {
	body := now.memberBody(key, want)
	if !n.known().noPut {
		err := n.write(ctx, http.MethodPut, key.memberPath(candidate), body)
		if !errors.Is(err, ErrRejected) {
			return err
		}
		n.learn(func(ab *about) { ab.noPut = true })
	}
	mark := n.known().style != styleUser && len(now.description)+len(remaking) <= 1024 && !strings.HasSuffix(now.description, remaking)
	if mark {
		if err := n.write(ctx, http.MethodPatch, key.path(candidate), map[string]any{"description": now.description + remaking}); err != nil {
			return err
		}
	}
	// From here on the candidate is in between: if the context ends now, it is finished first.
	ctx, cancel := cleanup(ctx)
	defer cancel()
	if err := n.write(ctx, http.MethodDelete, key.memberPath(candidate), nil); err != nil {
		return err
	}
	create := func() error { return n.write(ctx, http.MethodPost, key.path(candidate)+"/member", body) }
	err := create()
	if errors.Is(err, ErrUnreachable) {
		err = create() // refused as existing where the first one came through: the read-back tells
		var busy *BusyError
		if errors.As(err, &busy) && busy.Err != nil {
			err = nil
		}
	}
	if err != nil || !mark {
		return err
	}
	return n.setDescription(ctx, key, now.description)
}

// setDescription gives the tenant a description, "" for none.
func (n *node) setDescription(ctx context.Context, key tenantKey, text string) error {
	if text != "" {
		return n.write(ctx, http.MethodPatch, key.path(candidate), map[string]any{"description": text})
	}
	// A null does it where the API takes it as RFC 7396 does. Elsewhere the tenant is replaced as it is but for that, and
	// where that is not taken either, an empty text says the same.
	err := n.write(ctx, http.MethodPatch, key.path(candidate), map[string]any{"description": nil})
	if err != nil && !errors.Is(err, ErrRejected) {
		return err
	}
	now, err := n.readTenant(ctx, candidate, key)
	if err != nil || !now.described {
		return err
	}
	if !n.known().noPut {
		body := maps.Clone(now.raw)
		delete(body, "description")
		if err := n.write(ctx, http.MethodPut, key.path(candidate), body); !errors.Is(err, ErrRejected) {
			return err
		}
		n.learn(func(ab *about) { ab.noPut = true })
	}
	return n.write(ctx, http.MethodPatch, key.path(candidate), map[string]any{"description": ""})
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
	if (c.created.description || c.created.remade) && now.described && !c.created.tenant {
		return n.setDescription(ctx, key, base.description)
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
