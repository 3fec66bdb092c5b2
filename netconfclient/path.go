package netconfclient

import (
	"strings"
)

// A path is how changes are made at one server: what its hello offers, less what it turned out not to support.
type path struct {
	base      string // "1.0" or "1.1"
	target    Datastore
	announced bool // the target was in the hello
	noLock    bool
	noDiscard bool
	validate  ValidateMode // never auto
	refused   string       // the configured way of validating that is not to be had; "" where it is
	rollback  bool         // error-option rollback-on-error
	removeOp  string
	leaf      Validation
}

// choosePath chooses by the capabilities. A server that announces neither the candidate nor a writable running is
// taken to have a candidate: the device does, and what its hello says of that is not documented.
func choosePath(s *Session, cfg Config) path {
	p := path{base: "1.0", target: CandidateStore, announced: true, validate: cfg.ValidateMode, removeOp: "delete", leaf: cfg.Validation}
	if s.Offers(capBase11) {
		p.base, p.removeOp = "1.1", "remove"
	}
	if !s.Offers(capCandidate) {
		p.announced = s.Offers(capWritable)
		if p.announced {
			p.target, p.leaf = RunningStore, ValidationNone
		}
	}
	offered := s.Offers(capValidate) || s.Offers(capValidate1)
	switch {
	case p.validate == ValidateAuto && offered:
		p.validate = ValidateTestThenSet
	case p.validate == ValidateAuto:
		p.validate = ValidateNone
	case p.validate != ValidateNone && !offered:
		p.refused = string(p.validate)
		p.validate = ValidateNone
	}
	if p.target == RunningStore && p.validate == ValidateExplicit {
		// There is nothing to validate before it is in force: the test belongs into the edit.
		p.validate = ValidateTestThenSet
	}
	p.rollback = s.Offers(capRollback)
	return p
}

// editOptions are those of an edit that adds or removes addresses.
func (p path) editOptions() EditOptions {
	o := EditOptions{Default: "merge"}
	if p.validate == ValidateTestThenSet {
		o.Test = "test-then-set"
	}
	if p.rollback {
		o.Error = "rollback-on-error"
	}
	return o
}

func (p path) String() string {
	words := []string{"base:" + p.base}
	switch {
	case p.target == RunningStore:
		words = append(words, "no candidate: running is edited")
	case p.announced:
		words = append(words, "candidate")
	default:
		words = append(words, "candidate (not announced)")
	}
	if p.noLock {
		words = append(words, "no lock: the candidate is compared with running")
	} else {
		words = append(words, "lock")
	}
	if p.target == CandidateStore && p.noDiscard {
		words = append(words, "no discard: own edits are undone one by one")
	}
	switch {
	case p.refused != "":
		words = append(words, "validate "+p.refused+" is not offered")
	case p.validate == ValidateNone:
		words = append(words, "validated by the commit")
	default:
		words = append(words, "validate "+string(p.validate))
	}
	if p.leaf != ValidationNone {
		words = append(words, "commit with validation "+string(p.leaf))
	}
	return strings.Join(words, ", ")
}

// learned is what a server turned out not to support, although nothing in its hello says so.
type learned struct {
	capabilities  string // of the hello it was learned with: another release may be another server
	noLock        bool
	noDiscard     bool
	noTestThenSet bool
}

func (l learned) apply(p *path) {
	p.noLock = p.noLock || l.noLock
	p.noDiscard = p.noDiscard || l.noDiscard
	if l.noTestThenSet && p.validate == ValidateTestThenSet {
		p.refused, p.validate = string(p.validate), ValidateNone
	}
}
