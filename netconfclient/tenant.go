package netconfclient

import (
	"encoding/xml"
	"net/netip"
	"slices"

	"banmesh/netconfclient/prefixset"
)

// The elements of the device's model that we know.
var (
	nameConfig       = xml.Name{Space: nsConfig, Local: "config"}
	nameAuthority    = xml.Name{Space: nsAuthority, Local: "authority"}
	nameTenant       = xml.Name{Space: nsAuthority, Local: "tenant"}
	nameName         = xml.Name{Space: nsAuthority, Local: "name"}
	nameDescription  = xml.Name{Space: nsAuthority, Local: "description"}
	nameMember       = xml.Name{Space: nsAuthority, Local: "member"}
	nameNeighborhood = xml.Name{Space: nsAuthority, Local: "neighborhood"}
	nameAddress      = xml.Name{Space: nsAuthority, Local: "address"}
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
	rest        []item                    // everything else in the tenant, in its order
	memberRest  []item                    // everything else in our member
}

// filter selects our tenant whole. It names no single address: servers answer such a filter with the whole member, or
// with nothing.
func (k tenantKey) filter() Filter {
	return Filter{Content: []Element{
		el("config", el("authority", el("tenant", leaf("name", k.tenant))).in(nsAuthority)).in(nsConfig),
	}}
}

// parseTenant finds our tenant in a reply's data; a filter that the server ignored does no harm.
func parseTenant(r *Reply, key tenantKey) (*tenantState, error) {
	ir, err := newItemReader(r, key)
	if err != nil {
		return nil, err
	}
	for {
		if _, more, err := ir.next(); err != nil {
			return nil, err
		} else if !more {
			return &ir.ours, nil
		}
	}
}

// interpret adds what an element tenant of our name holds.
func (t *tenantState) interpret(items []item, key tenantKey) {
	t.exists = true
	for child := range children(items) {
		switch child[0].name {
		case nameName:
		case nameDescription:
			t.described, t.description = true, child[0].text
		case nameMember:
			t.interpretMember(child, key)
		default:
			t.rest = append(t.rest, child...)
		}
	}
}

func (t *tenantState) interpretMember(items []item, key tenantKey) {
	ours, n := false, 0
	for l := range children(items) {
		ours = ours || l[0].name == nameNeighborhood && l[0].text == key.neighborhood
		n++
	}
	if !ours {
		t.rest = append(t.rest, items...)
		return
	}
	t.member = true
	t.addresses = slices.Grow(t.addresses, n)
	for l := range children(items) {
		switch l[0].name {
		case nameNeighborhood:
		case nameAddress:
			t.add(l[0].text)
		default:
			t.memberRest = append(t.memberRest, l...)
		}
	}
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

// finish sorts what was collected. Where a prefix is there in the canonical spelling and in another, that spelling
// comes last of its texts.
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

// texts are the spellings of a prefix in the datastore.
func (t *tenantState) texts(p netip.Prefix) []string {
	if s := t.spelled[p]; len(s) > 0 {
		return s
	}
	return []string{p.String()}
}

// A tenantEdit is one change of the tenant.
type tenantEdit struct {
	key         tenantKey
	description string   // "" leaves it alone
	add         []string // texts
	remove      []string // texts as the server spells them
	removeOp    string   // "remove"; "delete" for a server of base:1.0, which lacks that

	// What goes whole, when exactly our own creation of it is undone.
	dropTenant, dropMember, dropDescription bool
}

func (e tenantEdit) empty() bool {
	return e.description == "" && len(e.add) == 0 && len(e.remove) == 0 && !e.dropTenant && !e.dropMember && !e.dropDescription
}

// config is the change as configuration. The order of the elements is the model's; devices insist on it.
func (e tenantEdit) config() Element {
	tenant := el("tenant", leaf("name", e.key.tenant))
	member := el("member", leaf("neighborhood", e.key.neighborhood))
	switch {
	case e.dropTenant:
		tenant = tenant.Operation(e.removeOp)
	default:
		if e.description != "" {
			tenant = tenant.with(leaf("description", e.description))
		} else if e.dropDescription {
			tenant = tenant.with(el("description").Operation(e.removeOp))
		}
		switch {
		case e.dropMember:
			tenant = tenant.with(member.Operation(e.removeOp))
		case len(e.add)+len(e.remove) > 0:
			addresses := make([]Element, 0, len(e.add)+len(e.remove))
			for _, a := range e.remove {
				addresses = append(addresses, leaf("address", a).Operation(e.removeOp))
			}
			for _, a := range e.add {
				addresses = append(addresses, leaf("address", a))
			}
			tenant = tenant.with(member.with(addresses...))
		}
	}
	return el("config", el("authority", tenant).in(nsAuthority)).in(nsConfig)
}

func texts(ps []netip.Prefix) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.String()
	}
	return out
}

// A tenantChange is how our tenant in the candidate differs from running's.
type tenantChange struct {
	added, removed []netip.Prefix
	created        created
	foreign        string // what we could not have made; "" where there is nothing such
}

// created is what came with our first edit.
type created struct{ tenant, member, description bool }

func (c tenantChange) empty() bool {
	return len(c.added) == 0 && len(c.removed) == 0 && c.created == created{} && c.foreign == ""
}

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
	switch {
	case running.exists && !candidate.exists:
		c.foreign = "the tenant was removed"
	case running.member && !candidate.member:
		c.foreign = "the tenant's member was removed"
	case candidate.described != running.described && !c.created.description,
		candidate.described && running.described && candidate.description != running.description:
		c.foreign = "the tenant's description was changed"
	case !slices.Equal(candidate.rest, running.rest), !slices.Equal(candidate.memberRest, running.memberRest),
		!slices.Equal(candidate.unread, running.unread):
		c.foreign = "the tenant holds something that is not ours"
	}
	return c
}

// undo is the edit that takes back added and removed, and what was created as far as nothing else is left in it.
func undo(key tenantKey, candidate, running *tenantState, added, removed []netip.Prefix, made created, op string) tenantEdit {
	e := tenantEdit{key: key, removeOp: op}
	added = prefixset.Both(added, candidate.addresses)
	alone := len(candidate.addresses) == len(added) && len(candidate.unread) == 0 && len(candidate.memberRest) == 0
	switch {
	case made.tenant && alone && len(candidate.rest) == 0 && (made.description || !candidate.described):
		e.dropTenant = candidate.exists
		return e
	case made.member && alone:
		e.dropMember = candidate.member
	default:
		for _, p := range added {
			e.remove = append(e.remove, candidate.texts(p)...)
		}
		for _, p := range prefixset.Minus(removed, candidate.addresses) {
			e.add = append(e.add, running.texts(p)...)
		}
	}
	e.dropDescription = made.description && candidate.described
	return e
}
