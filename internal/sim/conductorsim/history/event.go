// Package history records the life of a simulated conductor: every running configuration, lock and refusal, in order. A
// Checker replays it and reports each violation of the rules of safe commits.
//
// A Log may be used from any goroutine; its mutex guards the events and the file. Configurations are recorded as sets of
// lines, one for each leaf, so that an event only holds what was added and removed.
package history

import (
	"strings"
	"time"
)

// Kind says what an Event tells of.
type Kind string

// The kinds of Event.
const (
	Start   Kind = "start"   // the server started: nothing is locked, Added is its whole running configuration
	Open    Kind = "open"    // a session began
	Closed  Kind = "closed"  // a session ended; its locks were given up by Unlock events before
	Lock    Kind = "lock"    // Session took the lock of Store
	Unlock  Kind = "unlock"  // Session released it, or lost it at its end (Detail says which)
	Edit    Kind = "edit"    // Store (not running) was edited; Added and Removed tell what
	Discard Kind = "discard" // the candidate's edits were dropped; Added and Removed are the effect on it
	Running Kind = "running" // the running configuration changed (or was committed unchanged); Added and Removed tell how
	Refused Kind = "refused" // operation Op was refused, for the reason in Detail
	Login   Kind = "login"   // a login was refused
	Cut     Kind = "cut"     // a call asked to end live traffic sessions; Detail is the call
)

// Event is something that happened. Added and Removed are lines, as described at tenantPath.
type Event struct {
	N       uint64    `json:"n"`    // counts from 1 in each history
	Time    time.Time `json:"time"` // UTC
	Kind    Kind      `json:"kind"`
	Node    int       `json:"node,omitempty"`    // the conductor node it happened on, from 1; 0 is no particular one
	Session uint64    `json:"session,omitempty"` // 0 is none
	User    string    `json:"user,omitempty"`
	Via     string    `json:"via,omitempty"`   // netconf, rest or console
	Store   string    `json:"store,omitempty"` // candidate or running
	Scope   string    `json:"scope,omitempty"` // whose candidate, where there is more than one
	Op      string    `json:"op,omitempty"`
	Detail  string    `json:"detail,omitempty"`
	Added   []string  `json:"added,omitempty"`
	Removed []string  `json:"removed,omitempty"`
}

// Address identifies one address of a tenant, as a line of a configuration does.
type Address struct {
	Tenant, Member, Text string
}

// A line is one leaf of a configuration with its way from the root, so that a configuration is a set of lines:
//
//	/config/authority/tenant['blacklist']/member['internet']/address='203.0.113.7/32'
//
// List entries carry their key in brackets; names outside the device's own namespaces are written {namespace}name.
// In quotes, \ ' and line breaks are escaped by a backslash.
const tenantPath = "/config/authority/tenant["

// Quote writes a value as lines carry it.
func Quote(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(value) + "'"
}

// unquote reads a quoted value at the front of s and returns what follows it.
func unquote(s string) (value, rest string, ok bool) {
	if !strings.HasPrefix(s, "'") {
		return "", s, false
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\'':
			return b.String(), s[i+1:], true
		case '\\':
			i++
			if i == len(s) {
				return "", s, false
			}
			switch s[i] {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			default:
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", s, false
}

// TenantOf returns the tenant that a line belongs to.
func TenantOf(line string) (tenant string, ok bool) {
	rest, ok := strings.CutPrefix(line, tenantPath)
	if !ok {
		return "", false
	}
	tenant, rest, ok = unquote(rest)
	return tenant, ok && strings.HasPrefix(rest, "]/")
}

// AddressOf returns the tenant address in a line; ok is false for every other line.
func AddressOf(line string) (a Address, ok bool) {
	rest, ok := strings.CutPrefix(line, tenantPath)
	if !ok {
		return a, false
	}
	if a.Tenant, rest, ok = unquote(rest); !ok {
		return Address{}, false
	}
	if rest, ok = strings.CutPrefix(rest, "]/member["); !ok {
		return Address{}, false
	}
	if a.Member, rest, ok = unquote(rest); !ok {
		return Address{}, false
	}
	if rest, ok = strings.CutPrefix(rest, "]/address="); !ok {
		return Address{}, false
	}
	if a.Text, rest, ok = unquote(rest); !ok || rest != "" {
		return Address{}, false
	}
	return a, true
}
