package conductorsim

import (
	"encoding/xml"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"sync"
)

// Namespaces of the configuration and of the protocol.
const (
	nsT128     = "http://128technology.com/t128"
	nsAuthy    = "http://128technology.com/t128/config/authority-config"
	nsSvc      = "http://128technology.com/t128/config/service-config"
	nsBase     = "urn:ietf:params:xml:ns:netconf:base:1.0"
	nsValidate = "urn:128technology:netconf:validate-type:1.0"
)

// prefixOf returns the prefix that the device's own namespaces are written with, "" for any other.
func prefixOf(space string) string {
	switch space {
	case nsT128:
		return "t128"
	case nsAuthy:
		return "authy"
	case nsSvc:
		return "svc"
	}
	return ""
}

// schema describes one node of the device's model, as far as it is known here. What it does not know is taken as it
// comes: with elements inside it is a list keyed by name if it has one, else a container; without, a leaf.
type schema struct {
	name     xml.Name
	kind     Kind
	key      string             // List: the local name of its key leaf
	check    func(string) error // Leaf and LeafList: nil takes any text
	prefixes bool               // LeafList of ip-prefix: canonical storage masks, compresses and sorts them
	closed   bool               // refuses children that it does not know
	children []*schema
}

// child returns the schema of a child, nil when it is not known. An element of a known name in another namespace is
// reported as wrong.
func (s *schema) child(name xml.Name) (c *schema, wrong bool) {
	if s == nil {
		return nil, false
	}
	for _, c := range s.children {
		if c.name == name {
			return c, false
		}
		wrong = wrong || c.name.Local == name.Local
	}
	return nil, wrong || s.closed
}

// stored is the form in which a value is kept.
func (s *schema) stored(value string, how Storage) string {
	if !s.prefixes || how != Canonical {
		return value
	}
	p, err := netip.ParsePrefix(value)
	if err != nil {
		return value // it will be refused
	}
	return p.Masked().String()
}

// Compiled when first needed: every command of the program would pay for it.
var (
	tenantName = lazily(`^(((([a-zA-Z0-9]([a-zA-Z0-9\-_]){0,61})?[a-zA-Z0-9]\.)*([a-zA-Z0-9]([a-zA-Z0-9\-_]){0,61})?[a-zA-Z0-9])?|_bgp_speaker_|_internal_)$`)
	nameID     = lazily(`^([a-zA-Z0-9]([a-zA-Z0-9\-_]){0,61})?[a-zA-Z0-9]$`)
)

func lazily(expr string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })
}

func text(max int) func(string) error {
	return func(v string) error {
		if len(v) > max {
			return fmt.Errorf("longer than %d characters", max)
		}
		return nil
	}
}

func pattern(re func() *regexp.Regexp, max int) func(string) error {
	return func(v string) error {
		if len(v) > max {
			return fmt.Errorf("longer than %d characters", max)
		}
		if !re().MatchString(v) {
			return fmt.Errorf("does not match %s", re())
		}
		return nil
	}
}

func oneOf(values ...string) func(string) error {
	return func(v string) error {
		if !slices.Contains(values, v) {
			return fmt.Errorf("is none of %q", values)
		}
		return nil
	}
}

func unsigned(bits int) func(string) error {
	return func(v string) error {
		_, err := strconv.ParseUint(v, 10, bits)
		if err != nil {
			return fmt.Errorf("is no uint%d", bits)
		}
		return nil
	}
}

// ipPrefix is inet:ip-prefix (RFC 6991 §4): an address without a length is none; host bits are allowed.
func ipPrefix(v string) error {
	if _, err := netip.ParsePrefix(v); err != nil {
		return fmt.Errorf("is no ip-prefix (address/length)")
	}
	return nil
}

// deviceSchema is the part of the device's model that is published in its modules authority-config and service-config
// (4.2). Its root is the datastore.
func deviceSchema() *schema {
	leaf := func(space, local string, check func(string) error) *schema {
		return &schema{name: xml.Name{Space: space, Local: local}, kind: Leaf, check: check}
	}
	list := func(space, local, key string, children ...*schema) *schema {
		return &schema{name: xml.Name{Space: space, Local: local}, kind: List, key: key, children: children}
	}
	boolean := oneOf("true", "false")
	member := list(nsAuthy, "member", "neighborhood",
		leaf(nsAuthy, "neighborhood", pattern(nameID, 63)),
		&schema{name: xml.Name{Space: nsAuthy, Local: "address"}, kind: LeafList, check: ipPrefix, prefixes: true})
	tenant := list(nsAuthy, "tenant", "name",
		leaf(nsAuthy, "name", pattern(tenantName, 253)),
		leaf(nsAuthy, "id", unsigned(32)),
		leaf(nsAuthy, "description", text(4096)),
		member,
		leaf(nsAuthy, "generated", boolean))
	router := list(nsAuthy, "router", "name", leaf(nsAuthy, "name", pattern(nameID, 63)))
	transport := list(nsSvc, "transport", "protocol",
		leaf(nsSvc, "protocol", oneOf("tcp", "udp", "icmp", "gre")),
		list(nsSvc, "port-range", "start-port",
			leaf(nsSvc, "start-port", unsigned(16)),
			leaf(nsSvc, "end-port", unsigned(16))))
	policy := list(nsSvc, "access-policy", "source",
		leaf(nsSvc, "source", text(4096)),
		leaf(nsSvc, "permission", oneOf("allow", "deny")))
	service := list(nsSvc, "service", "name",
		leaf(nsSvc, "name", text(253)),
		leaf(nsSvc, "description", text(4096)),
		leaf(nsSvc, "enabled", boolean),
		leaf(nsSvc, "scope", oneOf("public", "private")),
		transport,
		&schema{name: xml.Name{Space: nsSvc, Local: "address"}, kind: LeafList, check: text(253)},
		policy,
		leaf(nsSvc, "generated", boolean))
	authority := &schema{name: xml.Name{Space: nsAuthy, Local: "authority"}, kind: Container, children: []*schema{
		leaf(nsAuthy, "name", pattern(nameID, 63)), router, tenant, service}}
	config := &schema{name: xml.Name{Space: nsT128, Local: "config"}, kind: Container, closed: true, children: []*schema{authority}}
	return &schema{kind: Container, closed: true, children: []*schema{config}}
}
