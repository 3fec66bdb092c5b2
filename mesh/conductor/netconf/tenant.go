package netconf

import (
	"encoding/xml"

	"banmesh/mesh/conductor"
	"banmesh/netconfclient"
)

// The namespaces of the device's model.
const (
	nsConfig    = "http://128technology.com/t128"
	nsAuthority = "http://128technology.com/t128/config/authority-config"
	nsValidate  = "urn:128technology:netconf:validate-type:1.0"
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

// state is our tenant while it is being read.
type state struct {
	conductor.Tenant
	rest, memberRest []item // everything else in the tenant and in our member, in order
}

// filter selects our whole tenant. It does not name single addresses: to such a filter servers answer with the whole member
// or with nothing.
func filter(key conductor.Key) netconfclient.Filter {
	tenant := netconfclient.El("tenant", netconfclient.Leaf("name", key.Tenant))
	return netconfclient.Filter{Content: []netconfclient.Element{
		netconfclient.El("config", netconfclient.El("authority", tenant).In(nsAuthority)).In(nsConfig),
	}}
}

// parseTenant finds our tenant in a reply's data; it does no harm if the server ignored the filter.
func parseTenant(r *netconfclient.Reply, key conductor.Key) (*conductor.Tenant, error) {
	ir, err := newItemReader(r, key)
	if err != nil {
		return nil, err
	}
	for {
		if _, more, err := ir.next(); err != nil {
			return nil, err
		} else if !more {
			return &ir.ours.Tenant, nil
		}
	}
}

// interpret adds the content of an element tenant with our name.
func (t *state) interpret(items []item, key conductor.Key) {
	t.Exists = true
	for child := range children(items) {
		switch child[0].name {
		case nameName:
		case nameDescription:
			t.Described, t.Description = true, child[0].text
		case nameMember:
			t.interpretMember(child, key)
		default:
			t.rest = append(t.rest, child...)
		}
	}
}

// interpretMember takes the member of the configured neighborhood. All others, and what else ours has, are
// kept as they are: they are compared, and never written.
func (t *state) interpretMember(items []item, key conductor.Key) {
	ours := false
	for l := range children(items) {
		ours = ours || l[0].name == nameNeighborhood && l[0].text == key.Neighborhood
	}
	if !ours {
		t.rest = append(t.rest, items...)
		return
	}
	t.Member = true
	for l := range children(items) {
		switch l[0].name {
		case nameNeighborhood:
		case nameAddress:
			t.Add(l[0].text)
		default:
			t.memberRest = append(t.memberRest, l...)
		}
	}
}

// assignable reports whether a server may have given all of this to a new entry by itself: values, and containers of values. A
// member, or an element with children that stands there twice, is an entry of a list, which only somebody's edit makes.
func assignable(items []item) bool {
	seen := []map[xml.Name]bool{{}} // the elements with children of each open element
	for _, it := range items {
		last := len(seen) - 1
		switch it.kind {
		case itemStart:
			if it.name == nameMember || seen[last][it.name] {
				return false
			}
			seen[last][it.name] = true
			seen = append(seen, map[xml.Name]bool{})
		case itemEnd:
			seen = seen[:last]
		}
	}
	return true
}

// finish keeps what is not ours for the comparison, if there is any.
func (t *state) finish() {
	t.Finish()
	if len(t.rest) > 0 {
		t.Rest, t.Assigned = t.rest, assignable(t.rest)
	}
	if len(t.memberRest) > 0 {
		t.MemberRest, t.MemberAssigned = t.memberRest, assignable(t.memberRest)
	}
}

// A tenantEdit is one change of the tenant as it is written.
type tenantEdit struct {
	key      conductor.Key
	change   conductor.Change
	add      []string // canonical texts, or restored as they were
	remove   []string // texts as the server spells them
	removeOp string   // "remove", or "delete" for a base:1.0 server, which lacks remove
}

// newEdit spells a change: removed addresses as the datastore has them, restored ones as they were.
func newEdit(key conductor.Key, now *conductor.Tenant, c conductor.Change, removeOp string) tenantEdit {
	e := tenantEdit{key: key, change: c, removeOp: removeOp}
	for _, p := range c.Remove {
		e.remove = append(e.remove, now.Texts(p)...)
	}
	for _, p := range c.Add {
		e.add = append(e.add, c.Like.Texts(p)...)
	}
	return e
}

// empty ignores the prefixes of the change itself: add and remove hold them in the spelling of the server.
func (e tenantEdit) empty() bool {
	c := e.change
	c.Add, c.Remove = nil, nil
	return c.Empty() && len(e.add) == 0 && len(e.remove) == 0
}

// config returns the change as configuration. The order of the elements follows the model; devices insist on it.
func (e tenantEdit) config() netconfclient.Element {
	tenant := netconfclient.El("tenant", netconfclient.Leaf("name", e.key.Tenant))
	member := netconfclient.El("member", netconfclient.Leaf("neighborhood", e.key.Neighborhood))
	switch {
	case e.change.DropTenant:
		tenant = tenant.Operation(e.removeOp)
	default:
		if e.change.Describe != "" {
			tenant = tenant.With(netconfclient.Leaf("description", e.change.Describe))
		} else if e.change.DropDescription {
			tenant = tenant.With(netconfclient.El("description").Operation(e.removeOp))
		}
		switch {
		case e.change.DropMember:
			tenant = tenant.With(member.Operation(e.removeOp))
		case len(e.add)+len(e.remove) > 0:
			addresses := make([]netconfclient.Element, 0, len(e.add)+len(e.remove))
			for _, a := range e.remove {
				addresses = append(addresses, netconfclient.Leaf("address", a).Operation(e.removeOp))
			}
			for _, a := range e.add {
				addresses = append(addresses, netconfclient.Leaf("address", a))
			}
			tenant = tenant.With(member.With(addresses...))
		}
	}
	return netconfclient.El("config", netconfclient.El("authority", tenant).In(nsAuthority)).In(nsConfig)
}
