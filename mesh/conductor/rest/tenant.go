package rest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
)

// rest returns what else is in a tenant or a member, nil for nothing. A null and an empty list count as absent: some APIs show
// those where others leave them out. assigned says that it holds only single values, and objects of such.
func rest(object map[string]any) (more any, assigned bool) {
	dropLinks(object)
	if maps.DeleteFunc(object, func(_ string, v any) bool { return isNothing(v) }); len(object) == 0 {
		return nil, false
	}
	return object, !holdsLists(object)
}

// isNothing treats null, an empty list and a missing field alike: an empty list may be written in any of
// these ways.
func isNothing(v any) bool {
	list, ok := v.([]any)
	return v == nil || ok && len(list) == 0
}

// holdsLists reports whether a value has lists with something in them, at any depth.
func holdsLists(v any) bool {
	switch v := v.(type) {
	case []any:
		return len(v) > 0
	case map[string]any:
		for _, inner := range v {
			if holdsLists(inner) {
				return true
			}
		}
	}
	return false
}

// parseTenant parses the answer of a GET of the tenant. shallow says that the answer does not show the tenant's members, or
// the content of ours, so that the member must be read separately.
func parseTenant(b []byte, key conductor.Key) (t *conductor.Tenant, shallow bool, err error) {
	var raw map[string]any
	if err := unmarshal(b, &raw); err != nil {
		return nil, false, fmt.Errorf("tenant: %w", err)
	}
	if err := isNamed("tenant", raw, "name", key.Tenant); err != nil {
		return nil, false, err
	}
	t = &conductor.Tenant{Exists: true}
	// What is left of raw in the end is everything else, which is compared and kept.
	delete(raw, "name")
	if d, ok := raw["description"].(string); ok {
		t.Described, t.Description = d != "", d
		delete(raw, "description")
	}
	members, listed := listOf(raw["member"], "neighborhood")
	if !isList(raw["member"]) && len(members) == 0 {
		listed = false // an object without entries can be how an API shows what has to be asked for by itself
	}
	delete(raw, "member")
	var others []any
	for _, m := range members {
		object, ok := m.(map[string]any)
		switch {
		case !ok:
			shallow = true // names of members, or references to them
		case object["neighborhood"] == key.Neighborhood:
			if object["address"] == nil {
				shallow = true // empty, or not shown
			}
			if err := readMember(t, object, key); err != nil {
				return nil, false, err
			}
		default:
			others = append(others, m)
		}
	}
	if len(others) > 0 {
		raw["member"] = others
	}
	t.Rest, t.Assigned = rest(raw)
	t.Finish()
	return t, shallow || !listed, nil
}

func isList(v any) bool { _, ok := v.([]any); return ok }

// dropLinks takes links out of a value, also from deep inside: they differ between running and candidate, and are no edit.
func dropLinks(v any) {
	switch v := v.(type) {
	case map[string]any:
		for name, inner := range v {
			if isLink(name) {
				delete(v, name)
			} else {
				dropLinks(inner)
			}
		}
	case []any:
		for _, inner := range v {
			dropLinks(inner)
		}
	}
}

// listOf returns a list of entries that may also come as an object keyed by name, or as the only entry.
func listOf(v any, key string) (list []any, ok bool) {
	switch v := v.(type) {
	case []any:
		return v, true
	case map[string]any:
		if _, only := v[key].(string); only {
			return []any{v}, true
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if isLink(name) {
				continue
			}
			object, ok := v[name].(map[string]any)
			if !ok {
				return nil, false
			}
			if _, named := object[key]; !named {
				object[key] = name
			}
			list = append(list, object)
		}
		return list, true
	}
	return nil, false
}

// isNamed checks that an answer is what was asked for: an error or an empty object can come with a status of success as well.
func isNamed(what string, object map[string]any, field, want string) error {
	switch got, named := object[field].(string); {
	case got == want:
		return nil
	case named:
		return fmt.Errorf("%w: asked for %s %s, the answer is another one", conductor.ErrProtocol, what, want)
	}
	if len(object) == 0 {
		return fmt.Errorf("%w: asked for %s %s, the answer is none: %w", conductor.ErrProtocol, what, want, errNoName)
	}
	s := "it has no " + field
	for _, key := range []string{"message", "error", "detail"} {
		if text, ok := object[key].(string); ok {
			s = conductor.OneLine(text)
		}
	}
	return fmt.Errorf("%w: asked for %s %s, the answer is none: %s", conductor.ErrProtocol, what, want, s)
}

// parseMember adds the answer of a GET of our member.
func parseMember(t *conductor.Tenant, b []byte, key conductor.Key) error {
	var object map[string]any
	if err := unmarshal(b, &object); err != nil {
		return fmt.Errorf("member: %w", err)
	}
	*t = *t.WithoutMember()
	if err := readMember(t, object, key); err != nil {
		return err
	}
	t.Finish()
	return nil
}

// readMember reads our member of the tenant. "address" is a leaf-list: a server may answer it with one value as text, and
// leaves out an empty one. What else is in the member is kept as it is, for comparing and for writing it back.
func readMember(t *conductor.Tenant, object map[string]any, key conductor.Key) error {
	if err := isNamed("member", object, "neighborhood", key.Neighborhood); err != nil {
		return err
	}
	t.Member = true
	more := maps.Clone(object)
	delete(more, "neighborhood")
	delete(more, "address")
	t.MemberRest, t.MemberAssigned = rest(more)
	var list []any
	switch v := object["address"].(type) {
	case nil:
	case []any:
		list = v
	case string:
		list = []any{v}
	default:
		// Taken for an empty list, it would be written over by the next edit.
		return fmt.Errorf("%w: the member's addresses are no list", conductor.ErrProtocol)
	}
	t.Addresses = slices.Grow(t.Addresses, len(list))
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("%w: an address of the member is no text", conductor.ErrProtocol)
		}
		t.Add(text)
	}
	return nil
}

// texts returns what to write for want: each prefix spelled as now has it, or else as like has it, and values that are not
// prefixes unchanged. It is never nil: the device must see an empty list.
func texts(now, like *conductor.Tenant, want []netip.Prefix) []string {
	out := make([]string, 0, len(want)+len(now.Unread))
	// What is put back is spelled as it was before our edit, so that undoing leaves no difference.
	back := prefixset.Minus(want, now.Addresses)
	for _, p := range want {
		from := now
		if _, ok := slices.BinarySearchFunc(back, p, prefixset.Compare); ok {
			from = like
		}
		for _, text := range from.Texts(p) {
			if !strings.Contains(text, "/") {
				text = p.String() // some servers show an address without its length, but refuse it like that
			}
			out = append(out, text)
		}
	}
	return append(slices.Compact(out), now.Unread...)
}

// memberBody is the whole member for its creation.
func memberBody(key conductor.Key, like *conductor.Tenant, addresses []string) map[string]any {
	body := make(map[string]any)
	if more, ok := like.MemberRest.(map[string]any); ok {
		body = maps.Clone(more)
	}
	body["neighborhood"] = key.Neighborhood
	if len(addresses) > 0 {
		body["address"] = addresses
	}
	return body
}

// unmarshal decodes JSON without losing digits of numbers.
func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	// It stops after the first value; checkJSON has refused an answer with more than one.
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: the answer is not of the expected kind: %w", conductor.ErrProtocol, err)
	}
	return nil
}
