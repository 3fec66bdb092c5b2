package rest

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
)

// write makes one edit of the candidate.
func (n *node) write(ctx context.Context, method, path string, body any) error {
	_, err := n.call(ctx, method, path, body)
	return refused("edit", err)
}

// Write makes one change of the candidate and reads it back.
func (s *restSession) Write(ctx context.Context, now *conductor.Tenant, c conductor.Change) (*conductor.Tenant, error) {
	n, key := s.n, s.key
	var err error
	create := !now.Exists && !c.DropTenant
	switch {
	case c.DropTenant:
		err = n.write(ctx, http.MethodDelete, tenantPath(candidate, key), nil)
	case create:
		if err = n.createTenant(ctx, key, c); err == nil {
			now, err = n.readTenant(ctx, candidate, key)
		}
	case c.DropMember:
		err = n.write(ctx, http.MethodDelete, memberPath(candidate, key), nil)
	}
	switch {
	case err != nil, create && len(prefixset.Minus(c.Add, now.Addresses)) == 0:
	case len(c.Add)+len(c.Remove) > 0:
		now, err = s.setAddresses(ctx, now, c)
	default:
		now, err = n.readTenant(ctx, candidate, key)
	}
	// The description comes last: while it carries the mark, it tells what is being done to the member.
	if err != nil || create || c.DropTenant || c.Describe == "" && !c.DropDescription {
		return now, err
	}
	if err := n.setDescription(ctx, key, c.Describe); err != nil {
		return nil, err
	}
	return n.readTenant(ctx, candidate, key)
}

// createTenant makes the tenant with its member and all, so that an interruption leaves either nothing or what anybody can see is
// ours: an empty tenant in a candidate would lift all bans with the next commit once running has them. An API that does not take
// that gets the tenant alone.
func (n *node) createTenant(ctx context.Context, key conductor.Key, c conductor.Change) error {
	body := map[string]any{"name": key.Tenant}
	if c.Describe != "" {
		body["description"] = c.Describe
	}
	path := authorityPath(candidate) + "/tenant"
	if len(c.Add) == 0 || n.known().noNesting {
		return n.write(ctx, http.MethodPost, path, body)
	}
	like := c.Like
	if like == nil {
		like = &conductor.Tenant{}
	}
	nested := maps.Clone(body)
	nested["member"] = []any{memberBody(key, like, texts(like, like, c.Add))}
	err := n.write(ctx, http.MethodPost, path, nested)
	var status *statusError
	rejected := errors.Is(err, conductor.ErrRejected)
	// A refusal of the nesting, or a server that fails at it: the tenant alone is tried.
	if !rejected && !(errors.As(err, &status) && status.Status == http.StatusInternalServerError) {
		return err
	}
	if err := n.write(ctx, http.MethodPost, path, body); err != nil {
		return err
	}
	if rejected { // a server that fails may do so for another reason
		n.learn(func(ab *about) { ab.noNesting = true })
	}
	return nil
}

// setAddresses changes the addresses of our member and reads the candidate back. A single address has no resource, and the
// API does not say whether a PATCH of the list replaces or merges it. Sending the whole list works either way for additions;
// if old addresses remain, the member is replaced.
func (s *restSession) setAddresses(ctx context.Context, now *conductor.Tenant, c conductor.Change) (*conductor.Tenant, error) {
	n, key := s.n, s.key
	want := prefixset.Minus(prefixset.Plus(now.Addresses, c.Add), c.Remove)
	list, like := texts(now, c.Like, want), now
	if !now.Member && c.Like != nil {
		like, list = c.Like, texts(c.Like, nil, want)
	}
	put := false
	var err error
	switch {
	// Neither there nor wanted.
	case !now.Member && len(want) == 0:
	case !now.Member:
		err = n.write(ctx, http.MethodPost, tenantPath(candidate, key)+"/member", memberBody(key, like, list))
	case len(c.Remove) > 0 && n.known().merges:
		put = true
		err = n.remake(ctx, key, now, memberBody(key, now, list), c.Deleting)
	default:
		err = n.write(ctx, http.MethodPatch, memberPath(candidate, key), map[string]any{"address": list})
	}
	if err != nil {
		return nil, err
	}
	got, err := n.readTenant(ctx, candidate, key)
	for range 2 { // by PUT, then, if that merges as well, by DELETE and POST
		if err != nil || !got.Member || len(prefixset.Both(got.Addresses, c.Remove)) == 0 || len(prefixset.Minus(want, got.Addresses)) > 0 {
			break
		}
		n.learn(func(ab *about) { ab.noPut, ab.merges = ab.noPut || ab.merges && put, true })
		put = true
		if err = n.remake(ctx, key, got, memberBody(key, got, texts(got, c.Like, want)), c.Deleting); err == nil {
			got, err = n.readTenant(ctx, candidate, key)
		}
	}
	return got, err
}

// remake replaces the whole member, including what else is in it. If the API does not replace an entry by PUT, the member is
// deleted and created again, with a mark in the tenant's description meanwhile.
func (n *node) remake(ctx context.Context, key conductor.Key, now *conductor.Tenant, body map[string]any, deleting func()) error {
	if !n.known().noPut {
		err := n.write(ctx, http.MethodPut, memberPath(candidate, key), body)
		if !errors.Is(err, conductor.ErrRejected) {
			return err
		}
		n.learn(func(ab *about) { ab.noPut = true })
	}
	mark := len(now.Description)+len(conductor.Rewriting) <= 1024 && !strings.HasSuffix(now.Description, conductor.Rewriting)
	if mark {
		if err := n.write(ctx, http.MethodPatch, tenantPath(candidate, key), map[string]any{"description": now.Description + conductor.Rewriting}); err != nil {
			return err
		}
	}
	// The member is missing from here on, so finish even if the context ends now.
	ctx, cancel := conductor.Cleanup(ctx)
	defer cancel()
	if deleting != nil {
		deleting()
	}
	if err := n.write(ctx, http.MethodDelete, memberPath(candidate, key), nil); err != nil {
		return err
	}
	create := func() error { return n.write(ctx, http.MethodPost, tenantPath(candidate, key)+"/member", body) }
	err := create()
	if errors.Is(err, conductor.ErrUnreachable) {
		err = create() // refused as existing if the first one came through; the read-back shows it
		var busy *conductor.BusyError
		if errors.As(err, &busy) && busy.Err != nil {
			err = nil
		}
	}
	if err != nil || !mark {
		return err
	}
	return n.setDescription(ctx, key, now.Description)
}

// setDescription sets the tenant's description; "" removes it.
func (n *node) setDescription(ctx context.Context, key conductor.Key, text string) error {
	if text != "" {
		return n.write(ctx, http.MethodPatch, tenantPath(candidate, key), map[string]any{"description": text})
	}
	// A null removes it if the API follows RFC 7396. Otherwise write the tenant without it, and if that is refused too, set
	// an empty text.
	err := n.write(ctx, http.MethodPatch, tenantPath(candidate, key), map[string]any{"description": nil})
	if err != nil && !errors.Is(err, conductor.ErrRejected) {
		return err
	}
	now, err := n.readTenant(ctx, candidate, key)
	if err != nil || !now.Described {
		return err
	}
	if !n.known().noPut {
		if err := n.write(ctx, http.MethodPut, tenantPath(candidate, key), tenantBody(key, now)); !errors.Is(err, conductor.ErrRejected) {
			return err
		}
		n.learn(func(ab *about) { ab.noPut = true })
	}
	return n.write(ctx, http.MethodPatch, tenantPath(candidate, key), map[string]any{"description": ""})
}

// tenantBody is the whole tenant without a description.
func tenantBody(key conductor.Key, t *conductor.Tenant) map[string]any {
	body := make(map[string]any)
	if more, ok := t.Rest.(map[string]any); ok {
		body = maps.Clone(more)
	}
	body["name"] = key.Tenant
	if t.Member {
		others, _ := body["member"].([]any)
		body["member"] = append(slices.Clone(others), memberBody(key, t, texts(t, nil, t.Addresses)))
	}
	return body
}
