package netconf

import (
	"strings"

	"banmesh/mesh/conductor"
	"banmesh/netconfclient"
)

// A path is how one server is edited: what its hello offers, less what it was found not to support.
type path struct {
	base      string // "1.0" or "1.1"
	target    netconfclient.Datastore
	announced bool                   // the target was in the hello
	validate  conductor.ValidateMode // never auto
	refused   string                 // the configured way to validate, if the server does not support it; else ""
	rollback  bool                   // error-option rollback-on-error
	removeOp  string
	leaf      conductor.Validation
}

// choosePath chooses by the capabilities. If a server announces neither a candidate nor a writable running, assume a
// candidate: the device has one, and the content of its hello is not documented.
func choosePath(s *netconfclient.Session, cfg Config) path {
	p := path{base: "1.0", target: netconfclient.CandidateStore, announced: true, validate: cfg.ValidateMode, removeOp: "delete", leaf: cfg.Validation}
	if s.Offers(netconfclient.CapBase11) {
		// Removing what is not there fails with delete and not with remove (RFC 6241 section 7.2), which
		// base:1.0 lacks.
		p.base, p.removeOp = "1.1", "remove"
	}
	if !s.Offers(netconfclient.CapCandidate) {
		p.announced = s.Offers(netconfclient.CapWritable)
		if p.announced {
			// Without a candidate there is no commit, and nothing to carry the kind of validation.
			p.target, p.leaf = netconfclient.RunningStore, conductor.ValidationNone
		}
	}
	offered := s.Offers(netconfclient.CapValidate) || s.Offers(netconfclient.CapValidate11)
	switch {
	case p.validate == conductor.ValidateAuto && offered:
		p.validate = conductor.ValidateTestThenSet
	case p.validate == conductor.ValidateAuto:
		p.validate = conductor.ValidateNone
	case p.validate != conductor.ValidateNone && !offered:
		p.refused = string(p.validate)
		p.validate = conductor.ValidateNone
	}
	if p.target == netconfclient.RunningStore && p.validate == conductor.ValidateExplicit {
		// Nothing can be validated before it is in force, so the edit itself must test.
		p.validate = conductor.ValidateTestThenSet
	}
	p.rollback = s.Offers(netconfclient.CapRollback)
	return p
}

// editOptions returns the options of an edit that adds or removes addresses.
func (p path) editOptions() netconfclient.EditOptions {
	o := netconfclient.EditOptions{Default: "merge"}
	if p.validate == conductor.ValidateTestThenSet {
		o.Test = "test-then-set"
	}
	if p.rollback {
		o.Error = "rollback-on-error"
	}
	return o
}

// features describes the path in one line, without what the server was found not to support.
func (p path) features(lacks conductor.Abilities) string {
	words := []string{"base:" + p.base}
	switch {
	case p.target == netconfclient.RunningStore:
		words = append(words, "no candidate: running is edited")
	case p.announced:
		words = append(words, "candidate")
	default:
		words = append(words, "candidate (not announced)")
	}
	if lacks[conductor.AbilityLock] {
		words = append(words, "no lock: the candidate is compared with running")
	} else {
		words = append(words, "lock")
	}
	if p.target == netconfclient.CandidateStore && lacks[conductor.AbilityDiscard] {
		words = append(words, "no discard: own edits are undone one by one")
	}
	switch {
	case p.refused != "":
		words = append(words, "validate "+p.refused+" is not offered")
	case p.validate == conductor.ValidateNone:
		words = append(words, "validated by the commit")
	default:
		words = append(words, "validate "+string(p.validate))
	}
	if p.leaf != conductor.ValidationNone {
		words = append(words, "commit with validation "+string(p.leaf))
	}
	return strings.Join(words, ", ")
}
