package restclient

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
)

// The datastores.
const (
	running   = "running"
	candidate = "candidate"
)

// A verdict tells how the candidate differs from running.
type verdict struct {
	change  tenantChange // in our tenant
	foreign string       // where they differ first outside of it; "" where they do not

	candidate, running *tenantState
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

// get reads a resource; absent is a 404.
func (n *node) get(ctx context.Context, path string) (b []byte, absent bool, err error) {
	a, err := n.call(ctx, http.MethodGet, path, nil)
	var status *StatusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusNotFound && status.Method == http.MethodGet:
		return nil, true, nil // not that of a login
	case err != nil:
		return nil, false, err
	case len(bytes.TrimSpace(a.body)) == 0:
		return nil, false, fmt.Errorf("%w: GET %s answered nothing", ErrProtocol, pathOnly(path))
	}
	return a.body, false, nil
}

// The resources of a datastore.
func authorityPath(store string) string { return "/config/" + store + "/authority" }
func (k tenantKey) path(store string) string {
	return authorityPath(store) + "/tenant/" + url.PathEscape(k.tenant)
}
func (k tenantKey) memberPath(store string) string {
	return k.path(store) + "/member/" + url.PathEscape(k.neighborhood)
}

// readTenant reads our tenant, its member by itself where the tenant's own resource does not show it.
func (n *node) readTenant(ctx context.Context, store string, key tenantKey) (*tenantState, error) {
	b, absent, err := n.get(ctx, key.path(store))
	if err != nil {
		return nil, err
	}
	if absent && n.known().noVersion {
		// Nothing has shown yet that this is a conductor's API at all. An empty tenant is too much to conclude from that.
		_, absent, err := n.get(ctx, authorityPath(store))
		if err != nil {
			return nil, err
		}
		if absent {
			return nil, fmt.Errorf("%w: neither %s nor /config/version is there; is this a conductor, and does its release have REST?",
				ErrProtocol, authorityPath(store))
		}
	}
	if absent {
		return &tenantState{}, nil
	}
	t, shallow, err := parseTenant(b, key)
	if err != nil || !shallow {
		return t, err
	}
	b, absent, err = n.get(ctx, key.memberPath(store))
	if err != nil {
		return nil, err
	}
	if absent {
		t.member, t.addresses, t.unread, t.spelled, t.memberRest = false, nil, nil, nil, nil
		return t, nil
	}
	return t, t.parseMember(b, key)
}

// compare compares candidate and running whole. The order of lists counts, except that of our addresses: an
// administrator's edit may be nothing but a new order.
func (n *node) compare(ctx context.Context, key tenantKey, description string) (verdict, error) {
	a, b, shown, err := n.both(ctx)
	if err != nil {
		return verdict{}, err
	}
	var v verdict
	if !bytes.Equal(a, b) {
		if v.foreign, err = firstDifference(a, b, key); err != nil {
			return verdict{}, err
		}
	}
	if v.running, err = n.readTenant(ctx, running, key); err != nil {
		return verdict{}, err
	}
	if v.candidate, err = n.readTenant(ctx, candidate, key); err != nil {
		return verdict{}, err
	}
	v.change = compareTenants(v.candidate, v.running, description)
	if v.clean() && !shown {
		// What cannot be seen cannot be compared: the conductor's own word has to do.
		about, err := n.look(ctx)
		if err != nil {
			return verdict{}, err
		}
		if about.dirty {
			v.foreign = "the conductor says that the candidate is changed, and does not show where"
		}
	}
	return v, nil
}

// both reads running and candidate whole, in the same form. shown says that they hold more than the names of their
// entries, or have none.
func (n *node) both(ctx context.Context) (a, b []byte, shown bool, err error) {
	read := func(path string) ([]byte, bool, error) {
		b, absent, err := n.get(ctx, path)
		if absent {
			b = []byte("{}")
		}
		return b, absent, err
	}
	if a, _, err = read(authorityPath(running)); err != nil {
		return nil, nil, false, err
	}
	if b, _, err = read(authorityPath(candidate)); err != nil {
		return nil, nil, false, err
	}
	for _, text := range [][]byte{a, b} {
		if shown, err = deep(text); err != nil || shown {
			return a, b, shown, err
		}
	}
	// Some releases give the resource without what is inside its entries, and the whole only as an export.
	const export = "/config/getJSON?source="
	x, absent, err := read(export + running)
	if err != nil || absent {
		return a, b, false, err
	}
	y, absent, err := read(export + candidate)
	if err != nil || absent {
		return a, b, false, err
	}
	return x, y, true, nil
}

// deep tells whether an authority shows what is inside of its lists' entries.
func deep(b []byte) (bool, error) {
	var authority map[string]any
	if err := unmarshal(b, &authority); err != nil {
		return false, fmt.Errorf("authority: %w", err)
	}
	entries := false
	for _, v := range authority {
		list, ok := v.([]any)
		if !ok {
			continue
		}
		for _, entry := range list {
			object, ok := entry.(map[string]any)
			if !ok {
				entries = true
				continue
			}
			entries = true
			for _, field := range object {
				switch field.(type) {
				case []any, map[string]any:
					return true, nil
				}
			}
		}
	}
	return !entries, nil
}

// firstDifference names where two configurations differ first outside of our tenant, "" where they do not. It gives no
// value but the names of list entries: others can be secret.
func firstDifference(a, b []byte, key tenantKey) (string, error) {
	var x, y any
	if err := unmarshal(a, &x); err != nil {
		return "", fmt.Errorf("running configuration: %w", err)
	}
	if err := unmarshal(b, &y); err != nil {
		return "", fmt.Errorf("candidate configuration: %w", err)
	}
	x, y = without(x, key, 0), without(y, key, 0)
	if place := difference("", x, y); place != "" {
		return "the candidate differs at " + place, nil
	}
	return "", nil
}

// without takes our tenant out of a decoded authority, or out of what an authority is wrapped in.
func without(v any, key tenantKey, depth int) any {
	object, ok := v.(map[string]any)
	if !ok {
		return v
	}
	if list, ok := object["tenant"].([]any); ok {
		list = slices.DeleteFunc(list, func(t any) bool {
			entry, ok := t.(map[string]any)
			return t == any(key.tenant) || ok && entry["name"] == key.tenant
		})
		if object["tenant"] = list; len(list) == 0 {
			delete(object, "tenant")
		}
	}
	for _, wrapper := range []string{"authority", "config", "datastore"} {
		if inner, ok := object[wrapper].(map[string]any); ok && depth < 4 {
			if without(inner, key, depth+1); len(inner) == 0 {
				delete(object, wrapper)
			}
		}
	}
	return v
}

// difference finds the first place, by name, at which two values differ.
func difference(path string, a, b any) string {
	if reflect.DeepEqual(a, b) {
		return ""
	}
	x, ok := a.(map[string]any)
	y, okB := b.(map[string]any)
	if ok && okB {
		names := make([]string, 0, len(x)+len(y))
		for name := range x {
			names = append(names, name)
		}
		for name := range y {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range slices.Compact(names) {
			if place := difference(path+"/"+name, x[name], y[name]); place != "" {
				return place
			}
		}
	}
	l, ok := a.([]any)
	m, okB := b.([]any)
	if ok || okB {
		for i := range max(len(l), len(m)) {
			var e, f any
			if i < len(l) {
				e = l[i]
			}
			if i < len(m) {
				f = m[i]
			}
			if place := difference(path+entryStep(e, f), e, f); place != "" {
				return place
			}
		}
	}
	if path == "" {
		return "/"
	}
	return clip(oneLine(path))
}

// entryStep names a list's entry by its name, where it has one.
func entryStep(entries ...any) string {
	for _, e := range entries {
		if object, ok := e.(map[string]any); ok {
			if name, ok := object["name"].(string); ok {
				return "[" + clip(name) + "]"
			}
		}
	}
	return ""
}
