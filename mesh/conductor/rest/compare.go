package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"banmesh/mesh/conductor"
)

// The datastores.
const (
	running   = string(conductor.RunningStore)
	candidate = string(conductor.CandidateStore)
)

// get reads a resource; absent is a 404 of the API. One with a page for people comes from something before it.
func (n *node) get(ctx context.Context, path string) (b []byte, absent bool, err error) {
	a, err := n.call(ctx, http.MethodGet, path, nil)
	var status *StatusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusNotFound && status.Method == http.MethodGet: // not that of a login
		if status.page {
			return nil, false, fmt.Errorf("%w: %w: %w", conductor.ErrProtocol, errHTML, err)
		}
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case len(bytes.TrimSpace(a.body)) == 0:
		return nil, false, fmt.Errorf("%w: GET %s answered nothing", conductor.ErrProtocol, pathOnly(path))
	}
	return a.body, false, nil
}

// The resources of a datastore.
func authorityPath(store string) string { return "/config/" + store + "/authority" }
func tenantPath(store string, key conductor.Key) string {
	return authorityPath(store) + "/tenant/" + url.PathEscape(key.Tenant)
}
func memberPath(store string, key conductor.Key) string {
	return tenantPath(store, key) + "/member/" + url.PathEscape(key.Neighborhood)
}

// readTenant reads our tenant. That it is absent is believed only where the authority does not show it either: one wrong
// answer must not look like a tenant that somebody emptied.
func (n *node) readTenant(ctx context.Context, store string, key conductor.Key) (*conductor.Tenant, error) {
	b, absent, err := n.get(ctx, tenantPath(store, key))
	if err != nil {
		return nil, err
	}
	if !absent {
		return n.tenantFrom(ctx, store, key, b)
	}
	b, absent, err = n.get(ctx, authorityPath(store))
	switch {
	case err != nil:
		return nil, err
	case absent && n.known().noVersion:
		// Nothing has shown yet that this is a conductor's API at all.
		return nil, fmt.Errorf("%w: neither %s nor /config/version is there; is this a conductor, and does its release have REST?",
			conductor.ErrProtocol, authorityPath(store))
	case absent:
		return &conductor.Tenant{}, nil
	}
	authority, err := asAuthority(b)
	if err != nil {
		return nil, err
	}
	if _, shown := tenantOf(authority, key); shown {
		return nil, fmt.Errorf("%w: GET %s answered that there is no tenant %s, but the authority shows it", conductor.ErrProtocol, pathOnly(tenantPath(store, key)), key.Tenant)
	}
	return &conductor.Tenant{}, nil
}

// tenantFrom makes our tenant of its object; its member is read by itself where that does not show it.
func (n *node) tenantFrom(ctx context.Context, store string, key conductor.Key, b []byte) (*conductor.Tenant, error) {
	t, shallow, err := parseTenant(b, key)
	if err != nil || !shallow {
		return t, err
	}
	b, absent, err := n.get(ctx, memberPath(store, key))
	if err != nil {
		return nil, err
	}
	if absent {
		if t.Member && len(t.Addresses) > 0 {
			return nil, fmt.Errorf("%w: GET %s answered that there is no member %s, but the tenant shows it", conductor.ErrProtocol, pathOnly(memberPath(store, key)), key.Neighborhood)
		}
		return t.WithoutMember(), nil
	}
	return t, parseMember(t, b, key)
}

// asAuthority returns the object of an authority, or what an authority is wrapped in. An error that came with a status of
// success is not one.
func asAuthority(b []byte) ([]byte, error) {
	b, err := jsonObject(b)
	if err != nil {
		return nil, fmt.Errorf("authority: %w", err)
	}
	complaint, holds := "", false
	for name, v := range fields(b) {
		switch name {
		case "message", "error", "errors", "detail":
			complaint = name
		default:
			holds = holds || isObject(v) || isArray(v) || name == "name"
		}
	}
	if complaint != "" && !holds {
		return nil, fmt.Errorf("%w: authority: the answer is an error: %s", conductor.ErrProtocol, strings.Join(messages(b), "; "))
	}
	return b, nil
}

// compare compares candidate and running whole. The order of lists counts, except that of our addresses: an
// administrator's edit may be nothing but a new order. Where the two whole configurations show our tenant it is taken out
// of them, so that one picture of each is judged.
func (n *node) compare(ctx context.Context, key conductor.Key) (*conductor.Difference, error) {
	a, b, shown, err := n.both(ctx)
	if err != nil {
		return nil, err
	}
	d := &conductor.Difference{}
	if !bytes.Equal(a, b) {
		d.Foreign = firstDifference(a, b, key)
	}
	of := func(store string, whole []byte) (*conductor.Tenant, error) {
		t, there := tenantOf(whole, key)
		switch {
		case shown && !there:
			return &conductor.Tenant{}, nil
		case shown && isObject(t):
			return n.tenantFrom(ctx, store, key, t)
		}
		return n.readTenant(ctx, store, key)
	}
	if d.Running, err = of(running, a); err != nil {
		return nil, err
	}
	if d.Candidate, err = of(candidate, b); err != nil {
		return nil, err
	}
	if d.Foreign == "" && !shown {
		// What cannot be seen cannot be compared: the conductor's own word has to do.
		about, err := n.look(ctx)
		if err != nil {
			return nil, err
		}
		if d.Explain(""); about.dirty && d.Clean() {
			d.Foreign = "the conductor says that the candidate is changed, and does not show where"
		}
	}
	return d, nil
}

// both reads running and candidate whole, in the same form. shown says that they hold more than the names of their
// entries, or have none.
func (n *node) both(ctx context.Context) (a, b []byte, shown bool, err error) {
	read := func(path string) ([]byte, bool, error) {
		b, absent, err := n.get(ctx, path)
		if absent {
			b = []byte("{}")
		}
		if err == nil {
			b, err = asAuthority(b)
		}
		return b, absent, err
	}
	twice := func(path string) ([]byte, error) {
		b, absent, err := read(path)
		if absent && err == nil { // a new conductor has none; one wrong answer looks the same
			b, _, err = read(path)
		}
		return b, err
	}
	if a, err = twice(authorityPath(running)); err != nil {
		return nil, nil, false, err
	}
	if b, err = twice(authorityPath(candidate)); err != nil {
		return nil, nil, false, err
	}
	if deep(a) || deep(b) {
		return a, b, true, nil
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
func deep(authority []byte) bool {
	some := false
	for _, list := range fields(authority) {
		if !isArray(list) {
			continue
		}
		for entry := range entries(list) {
			some = true
			if !isObject(entry) {
				continue
			}
			for _, field := range fields(entry) {
				if isArray(field) || isObject(field) {
					return true
				}
			}
		}
	}
	return !some
}

// wrappers are the objects that an authority comes in, by their names.
var wrappers = [...]string{"authority", "config", "datastore"}

const maxWrappers = 4 // one in the other

// tenantOf finds our tenant in an authority, or in what that is wrapped in: the object, or no more than its name.
func tenantOf(whole []byte, key conductor.Key) (b []byte, there bool) {
	return findTenant(whole, key, 0)
}

func findTenant(whole []byte, key conductor.Key, depth int) ([]byte, bool) {
	for name, v := range fields(whole) {
		switch {
		case name == "tenant" && isArray(v):
			for entry := range entries(v) {
				if isOurs(entry, key) {
					return entry, true
				}
			}
		case slices.Contains(wrappers[:], name) && isObject(v) && depth < maxWrappers:
			if b, there := findTenant(v, key, depth+1); there {
				return b, true
			}
		}
	}
	return nil, false
}

// isOurs tells whether an entry of the list of tenants is ours, or its name.
func isOurs(entry []byte, key conductor.Key) bool {
	if isObject(entry) {
		for name, v := range fields(entry) {
			if name == "name" {
				return isText(v, key.Tenant)
			}
		}
		return false
	}
	return isText(entry, key.Tenant)
}

func isText(b []byte, text string) bool {
	var s string
	return len(b) > 0 && b[0] == '"' && json.Unmarshal(b, &s) == nil && s == text
}

// firstDifference names where two configurations, running and candidate, differ first outside of our tenant, "" where
// they do not. It gives no value but the names of list entries: others can be secret.
func firstDifference(a, b []byte, key conductor.Key) string {
	if place := objectDifference("", a, b, key, 0); place != "" {
		return "the candidate differs at " + conductor.OneLine(place)
	}
	return ""
}

// objectDifference compares two authorities, or what an authority is wrapped in. Only what is not the same text is decoded.
func objectDifference(path string, a, b []byte, key conductor.Key, depth int) string {
	x, y := make(map[string][]byte), make(map[string][]byte)
	var names []string
	for name, v := range fields(a) {
		x[name], names = v, append(names, name)
	}
	for name, v := range fields(b) {
		y[name], names = v, append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		v, w := x[name], y[name]
		if bytes.Equal(v, w) {
			continue
		}
		at := path + "/" + name
		place := ""
		switch {
		case slices.Contains(wrappers[:], name) && depth < maxWrappers && (isObject(v) || v == nil) && (isObject(w) || w == nil):
			place = objectDifference(at, orEmpty(v, "{}"), orEmpty(w, "{}"), key, depth+1)
		case name == "tenant" && (isArray(v) || v == nil) && (isArray(w) || w == nil):
			place = difference(at, others(orEmpty(v, "[]"), key), others(orEmpty(w, "[]"), key))
		default:
			place = difference(at, decoded(v), decoded(w))
		}
		if place != "" {
			return place
		}
	}
	return ""
}

func orEmpty(b []byte, empty string) []byte {
	if b == nil {
		return []byte(empty)
	}
	return b
}

// others are the tenants of a list that are not ours.
func others(list []byte, key conductor.Key) []any {
	var out []any
	for entry := range entries(list) {
		if !isOurs(entry, key) {
			out = append(out, decoded(entry))
		}
	}
	return out
}

// decoded is a value, nil where it is absent.
func decoded(b []byte) any {
	if b == nil {
		return nil
	}
	var v any
	if unmarshal(b, &v) != nil {
		return string(b) // duplicate of nothing else: it compares by its text
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
	return conductor.OneLine(path)
}

// entryStep names a list's entry by its name, where it has one.
func entryStep(entries ...any) string {
	for _, e := range entries {
		if object, ok := e.(map[string]any); ok {
			if name, ok := object["name"].(string); ok {
				return "[" + conductor.OneLine(name) + "]"
			}
		}
	}
	return ""
}
