package restclient

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"banmesh/netconfclient/prefixset"
)

// A tenantKey finds our member in a configuration.
type tenantKey struct{ tenant, neighborhood string }

// A tenantState is our tenant as a datastore holds it.
type tenantState struct {
	exists      bool
	described   bool
	description string
	member      bool // our neighborhood's member exists
	addresses   []netip.Prefix
	unread      []string                  // values that are no prefix, sorted
	spelled     map[netip.Prefix][]string // the texts of a prefix, where they are not just the canonical one
	raw         map[string]any            // the tenant as it was read
	rest        map[string]any            // what else is in the tenant, other members included
	memberRest  map[string]any            // what else is in our member
}

// parseTenant reads the answer of a GET of the tenant. shallow says that the answer does not show the tenant's members,
// or not what is in ours: the member has to be read by itself.
func parseTenant(b []byte, key tenantKey) (t *tenantState, shallow bool, err error) {
	var raw map[string]any
	if err := unmarshal(b, &raw); err != nil {
		return nil, false, fmt.Errorf("tenant: %w", err)
	}
	if err := isNamed("tenant", raw, "name", key.tenant); err != nil {
		return nil, false, err
	}
	t = &tenantState{exists: true, raw: raw, rest: maps.Clone(raw)}
	delete(t.rest, "name")
	if d, ok := raw["description"].(string); ok {
		t.described, t.description = d != "", d
		delete(t.rest, "description")
	}
	members, listed := raw["member"].([]any)
	delete(t.rest, "member")
	var others []any
	for _, m := range members {
		object, ok := m.(map[string]any)
		switch {
		case !ok:
			shallow = true // names of members, or references to them
		case object["neighborhood"] == key.neighborhood:
			if _, filled := object["address"]; !filled {
				shallow = true // empty, or not shown
			}
			if err := t.readMember(object, key); err != nil {
				return nil, false, err
			}
		default:
			others = append(others, m)
		}
	}
	if len(others) > 0 {
		t.rest["member"] = others
	}
	t.finish()
	return t, shallow || !listed, nil
}

// isNamed checks that an answer is what was asked for: an error, or nothing, can come with a status of success as well.
func isNamed(what string, object map[string]any, field, want string) error {
	switch got, named := object[field].(string); {
	case got == want:
		return nil
	case named:
		return fmt.Errorf("%w: asked for %s %s, the answer is another one", ErrProtocol, what, want)
	}
	s := "it has no " + field
	for _, key := range []string{"message", "error", "detail"} {
		if text, ok := object[key].(string); ok {
			s = clip(oneLine(text))
		}
	}
	return fmt.Errorf("%w: asked for %s %s, the answer is none: %s", ErrProtocol, what, want, s)
}

// parseMember adds the answer of a GET of our member.
func (t *tenantState) parseMember(b []byte, key tenantKey) error {
	var object map[string]any
	if err := unmarshal(b, &object); err != nil {
		return fmt.Errorf("member: %w", err)
	}
	t.member, t.addresses, t.unread, t.spelled, t.memberRest = false, nil, nil, nil, nil
	if err := t.readMember(object, key); err != nil {
		return err
	}
	t.finish()
	return nil
}

func (t *tenantState) readMember(object map[string]any, key tenantKey) error {
	if err := isNamed("member", object, "neighborhood", key.neighborhood); err != nil {
		return err
	}
	t.member = true
	t.memberRest = maps.Clone(object)
	delete(t.memberRest, "neighborhood")
	delete(t.memberRest, "address")
	var list []any
	switch v := object["address"].(type) {
	case nil:
	case []any:
		list = v
	case string:
		list = []any{v}
	default:
		return fmt.Errorf("%w: the member's addresses are no list", ErrProtocol)
	}
	t.addresses = slices.Grow(t.addresses, len(list))
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return fmt.Errorf("%w: an address of the member is no text", ErrProtocol)
		}
		t.add(text)
	}
	return nil
}

func (t *tenantState) add(text string) {
	p, exact, ok := prefixset.Parse(text)
	if !ok {
		t.unread = append(t.unread, text)
		return
	}
	t.addresses = append(t.addresses, p)
	if !exact {
		if t.spelled == nil {
			t.spelled = make(map[netip.Prefix][]string)
		}
		t.spelled[p] = append(t.spelled[p], text)
	}
}

// finish sorts what was collected. A prefix that is there in the canonical spelling as well keeps that one too.
func (t *tenantState) finish() {
	counts := make(map[netip.Prefix]int, len(t.spelled))
	if len(t.spelled) > 0 {
		for _, p := range t.addresses {
			if _, odd := t.spelled[p]; odd {
				counts[p]++
			}
		}
	}
	for p, texts := range t.spelled {
		canonical := counts[p] > len(texts)
		slices.Sort(texts)
		texts = slices.Compact(texts)
		if canonical {
			texts = append(texts, p.String())
		}
		t.spelled[p] = texts
	}
	t.addresses = prefixset.Sort(t.addresses)
	slices.Sort(t.unread)
}

// texts are what a list of want is written as: each prefix in the spellings that the datastore has of it, and what is no
// prefix as it is. It is never nil: a device must see an empty list.
func (t *tenantState) texts(want []netip.Prefix) []string {
	out := make([]string, 0, len(want)+len(t.unread))
	for _, p := range want {
		if s := t.spelled[p]; len(s) > 0 {
			out = append(out, s...)
		} else {
			out = append(out, p.String())
		}
	}
	return append(out, t.unread...)
}

// memberBody is our member whole, as it is created.
func (t *tenantState) memberBody(key tenantKey, want []netip.Prefix) map[string]any {
	body := maps.Clone(t.memberRest)
	if body == nil {
		body = make(map[string]any)
	}
	body["neighborhood"] = key.neighborhood
	if texts := t.texts(want); len(texts) > 0 {
		body["address"] = texts
	}
	return body
}

// created is what came with our edit, or went with it for a moment.
type created struct {
	tenant, member, description bool
	remade                      bool // the member was deleted to be created anew; in a candidate: the tenant is marked so
}

// A tenantChange is how our tenant in the candidate differs from running's.
type tenantChange struct {
	added, removed []netip.Prefix
	created        created
	foreign        string // what we could not have made; "" where there is nothing such
}

func (c tenantChange) empty() bool {
	return len(c.added) == 0 && len(c.removed) == 0 && c.created == created{} && c.foreign == ""
}

func (c tenantChange) equal(d tenantChange) bool {
	return slices.Equal(c.added, d.added) && slices.Equal(c.removed, d.removed) && c.created == d.created && c.foreign == d.foreign
}

// remaking marks the description of a tenant whose member is being deleted and created anew. Should that be interrupted,
// whoever comes next, an administrator or an agent, can tell it from a deletion on purpose.
const remaking = " (banmesh is rewriting this member: revert if it stays)"

// memberGone is the trace of an agent that was killed between deleting the member and creating it anew; it cannot be told
// from an administrator's deletion.
const memberGone = "the tenant's member was removed; if nobody did that on purpose, an agent was interrupted while it made the member anew: revert the candidate"

// compareTenants explains a candidate's tenant by running's and what our edits do to it.
func compareTenants(candidate, running *tenantState, description string) tenantChange {
	c := tenantChange{
		added:   prefixset.Minus(candidate.addresses, running.addresses),
		removed: prefixset.Minus(running.addresses, candidate.addresses),
		created: created{
			tenant:      candidate.exists && !running.exists,
			member:      candidate.member && !running.member,
			description: candidate.described && !running.described && candidate.description == description,
		},
	}
	if before, marked := strings.CutSuffix(candidate.description, remaking); marked && before == running.description {
		c.created.remade = true
	}
	switch {
	case running.exists && !candidate.exists:
		c.foreign = "the tenant was removed"
	case !same(candidate.rest, running.rest):
		c.foreign = "the tenant holds something that is not ours"
	case c.created.remade && !candidate.member:
	case !c.created.remade && (candidate.described != running.described && !c.created.description ||
		candidate.described && running.described && candidate.description != running.description):
		c.foreign = "the tenant's description was changed"
	case running.member && !candidate.member:
		c.foreign = memberGone
	case !same(candidate.memberRest, running.memberRest), !slices.Equal(candidate.unread, running.unread):
		c.foreign = "the tenant's member holds something that is not ours"
	}
	return c
}

// same compares decoded JSON; absent and empty are the same.
func same(a, b map[string]any) bool {
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(a, b)
}

// unmarshal decodes JSON whose numbers must not lose digits.
func unmarshal(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: the answer is not of the expected kind: %w", ErrProtocol, err)
	}
	return nil
}
