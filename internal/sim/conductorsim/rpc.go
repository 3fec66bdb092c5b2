package conductorsim

import (
	"context"
	"encoding/xml"
	"fmt"
	"slices"
	"strconv"
	"time"

	"banmesh/internal/sim/conductorsim/history"
)

// operations does what NETCONF sessions ask for.
type operations struct {
	sim   *Sim
	actor Actor
}

// answer is what an operation answers besides <ok/>: nil is <ok/>.
type answer func(*writer)

// do runs one operation; close says that the session is to end after the answer.
func (o *operations) do(ctx context.Context, op *Element) (a answer, end bool, err error) {
	if op.Name.Space != nsBase {
		return nil, false, refuse(unknownOperation(op))
	}
	f := o.sim.cfg.Features
	offered := map[string]bool{"lock": f.Lock, "unlock": f.Lock, "validate": f.Validate, "commit": f.Candidate,
		"discard-changes": f.Candidate && f.Discard, "cancel-commit": f.Candidate && f.ConfirmedCommit}
	if ok, listed := offered[op.Name.Local]; listed && !ok {
		return nil, false, o.sim.stores.refused(o.actor, op.Name.Local,
			refuse(protocolError("operation-not-supported", op.Name.Local+" is not supported")))
	}
	switch op.Name.Local {
	case "get", "get-config":
		a, err = o.get(op)
	case "edit-config":
		err = o.edit(ctx, op)
	case "copy-config":
		err = o.copy(op)
	case "lock", "unlock":
		err = o.lock(op)
	case "validate":
		err = o.validate(op)
	case "commit":
		err = o.commit(ctx, op)
	case "cancel-commit":
		err = o.sim.stores.Cancel(o.actor)
	case "discard-changes":
		err = o.sim.stores.Discard(o.actor)
	case "close-session":
		// Before the answer: who has read it may count on the lock being free.
		o.sim.stores.Release(o.actor)
		end = true
	case "kill-session":
		err = o.kill(ctx, op)
	default:
		err = refuse(unknownOperation(op))
	}
	return a, end, err
}

func unknownOperation(op *Element) *RPCError {
	e := protocolError("operation-not-supported", fmt.Sprintf("there is no operation %s", op.Name.Local))
	e.BadElement = op.Name.Local
	return e
}

// store reads the datastore that <source> or <target> of op names.
func (o *operations) store(op *Element, parameter string) (Store, error) {
	p := op.child(parameter)
	if p == nil || len(p.Children) != 1 {
		return "", refuse(&RPCError{Type: "protocol", Tag: "missing-element", BadElement: parameter,
			Message: "one datastore must be named"})
	}
	f := o.sim.cfg.Features
	name := p.Children[0].Name
	switch {
	case name == xml.Name{Space: nsBase, Local: "running"}:
		return StoreRunning, nil
	case name == xml.Name{Space: nsBase, Local: "candidate"} && f.Candidate:
		return StoreCandidate, nil
	case name.Space == nsBase && slices.Contains([]string{"candidate", "startup", "url"}, name.Local):
		return "", refuse(protocolError("operation-not-supported", "there is no datastore "+name.Local))
	}
	return "", refuse(&RPCError{Type: "protocol", Tag: "bad-element", BadElement: name.Local, Message: "this is no datastore"})
}

func (o *operations) get(op *Element) (answer, error) {
	s := StoreRunning
	if op.Name.Local == "get-config" {
		var err error
		if s, err = o.store(op, "source"); err != nil {
			return nil, err
		}
	}
	root := o.sim.stores.Show(o.actor, s)
	if filter := op.child("filter"); filter != nil {
		kind, given := filter.attr("", "type")
		if !given {
			kind, given = filter.attr(nsBase, "type")
		}
		if given && kind != "subtree" {
			return nil, refuse(&RPCError{Type: "protocol", Tag: "bad-attribute", BadAttribute: "type", BadElement: "filter",
				Message: "only subtree filters are supported"})
		}
		root = filterSubtree(root, filter)
	}
	return func(w *writer) {
		w.open(xml.Name{Space: nsBase, Local: "data"})
		w.nodes(root)
		w.close()
	}, nil
}

// choice reads a parameter that takes one of some values.
func choice(op *Element, name string, values ...string) (string, error) {
	p := op.child(name)
	if p == nil {
		return "", nil
	}
	if !slices.Contains(values, p.Text) {
		return "", refuse(&RPCError{Type: "protocol", Tag: "invalid-value", BadElement: name,
			Message: fmt.Sprintf("%s is %q, want one of %q", name, clip(p.Text), values)})
	}
	return p.Text, nil
}

func (o *operations) edit(ctx context.Context, op *Element) error {
	refused := func(err error) error { return o.sim.stores.refused(o.actor, "edit-config", err) }
	s, err := o.store(op, "target")
	if err != nil {
		return refused(err)
	}
	f := o.sim.cfg.Features
	if s == StoreRunning && !f.WritableRunning {
		return refused(refuse(protocolError("operation-not-supported", "running cannot be edited")))
	}
	e := Edit{Config: op.child("config")}
	if e.Config == nil {
		return refused(refuse(&RPCError{Type: "protocol", Tag: "missing-element", BadElement: "config", Message: "there is no configuration"}))
	}
	if e.DefaultOp, err = choice(op, "default-operation", opMerge, opReplace, opNone); err != nil {
		return refused(err)
	}
	if e.TestOption, err = choice(op, "test-option", "test-then-set", "set", "test-only"); err != nil {
		return refused(err)
	}
	if e.TestOption != "" && !f.Validate {
		return refused(refuse(&RPCError{Type: "protocol", Tag: "unknown-element", BadElement: "test-option",
			Message: "validate is not supported"}))
	}
	// What was refused is never half done here, whichever error-option asks for it.
	option, err := choice(op, "error-option", "stop-on-error", "continue-on-error", "rollback-on-error")
	if err != nil {
		return refused(err)
	}
	if option == "rollback-on-error" && !f.RollbackOnError {
		return refused(refuse(protocolError("operation-not-supported", "rollback-on-error is not supported")))
	}
	return o.sim.stores.Edit(ctx, o.actor, s, e)
}

// copy makes running, or a whole configuration, the candidate.
func (o *operations) copy(op *Element) error {
	if op.child("target").child("startup") != nil && op.child("source").child("running") != nil && o.sim.cfg.Features.Startup {
		if _, fires := o.sim.faults.fires(FaultStartupFails, o.actor.Node); fires {
			return refuse(failed("no space left on device"))
		}
		o.sim.stores.SaveStartup()
		return nil
	}
	target, err := o.store(op, "target")
	if err != nil {
		return err
	}
	if target != StoreCandidate {
		return refuse(protocolError("operation-not-supported", "only the candidate can be copied to"))
	}
	if source := op.child("source"); source.child("config") != nil {
		root, err := o.sim.stores.edited(o.actor, &Node{}, Edit{Config: source.child("config")})
		if err != nil {
			return o.sim.stores.refused(o.actor, "copy-config", err)
		}
		return o.sim.stores.Replace(o.actor, root)
	}
	source, err := o.store(op, "source")
	if err != nil {
		return err
	}
	return o.sim.stores.Replace(o.actor, o.sim.stores.Read(o.actor, source))
}

func (o *operations) lock(op *Element) error {
	s, err := o.store(op, "target")
	if err != nil {
		return o.sim.stores.refused(o.actor, op.Name.Local, err)
	}
	if op.Name.Local == "lock" {
		return o.sim.stores.Lock(o.actor, s)
	}
	return o.sim.stores.Unlock(o.actor, s)
}

func (o *operations) validate(op *Element) error {
	var root *Node
	if config := op.child("source").child("config"); config != nil {
		ed := editor{storage: o.sim.cfg.Storage}
		if root = ed.apply(&Node{}, config, opMerge); len(ed.errs) > 0 {
			return o.sim.stores.refused(o.actor, "validate", ed.errs)
		}
		return o.sim.stores.Validate(o.actor, root)
	}
	s, err := o.store(op, "source")
	if err != nil {
		return o.sim.stores.refused(o.actor, "validate", err)
	}
	if s == StoreRunning {
		root = o.sim.stores.Read(o.actor, s)
	}
	return o.sim.stores.Validate(o.actor, root)
}

func (o *operations) commit(ctx context.Context, op *Element) error {
	f := o.sim.cfg.Features
	var options CommitOptions
	for _, c := range op.Children {
		refused := &RPCError{Type: "protocol", Tag: "unknown-element", BadElement: c.Name.Local, BadNamespace: c.Name.Space,
			Message: "commit does not take this"}
		switch {
		case c.Name == xml.Name{Space: nsValidate, Local: "validation-type"} && f.ValidationType:
			if c.Text != "local" && c.Text != "distributed" {
				refused.Tag, refused.Message = "invalid-value", fmt.Sprintf("validation-type is %q, want local or distributed", clip(c.Text))
				return o.sim.stores.refused(o.actor, "commit", refuse(refused))
			}
			options.Local = c.Text == "local"
		case c.Name == xml.Name{Space: nsBase, Local: "confirmed"} && f.ConfirmedCommit:
			options.Confirmed = true
		case c.Name == xml.Name{Space: nsBase, Local: "confirm-timeout"} && f.ConfirmedCommit:
			n, err := strconv.ParseUint(c.Text, 10, 31)
			if err != nil || n == 0 {
				refused.Tag, refused.Message = "invalid-value", "confirm-timeout is no number of seconds"
				return o.sim.stores.refused(o.actor, "commit", refuse(refused))
			}
			options.Timeout = time.Duration(n) * time.Second
		default:
			return o.sim.stores.refused(o.actor, "commit", refuse(refused))
		}
	}
	return o.sim.stores.Commit(ctx, o.actor, options)
}

func (o *operations) kill(ctx context.Context, op *Element) error {
	id := op.child("session-id")
	if id == nil {
		return refuse(&RPCError{Type: "protocol", Tag: "missing-element", BadElement: "session-id", Message: "no session is named"})
	}
	n, err := strconv.ParseUint(id.Text, 10, 32)
	if err != nil || n == o.actor.Session || !o.sim.kill(ctx, n) {
		return o.sim.stores.refused(o.actor, "kill-session", refuse(&RPCError{Type: "protocol", Tag: "invalid-value",
			BadElement: "session-id", Message: fmt.Sprintf("there is no other session %q", clip(id.Text))}))
	}
	return nil
}

// announce is the server's hello (RFC 6241 §8.1).
func (o *operations) announce() ([]byte, error) {
	f := o.sim.cfg.Features
	w := newWriter()
	w.open(xml.Name{Space: nsBase, Local: "hello"})
	w.open(xml.Name{Space: nsBase, Local: "capabilities"})
	const capability = "urn:ietf:params:netconf:capability:"
	for _, c := range []struct {
		offered bool
		uri     string
	}{
		{f.Base10, baseURI10}, {f.Base11, baseURI11},
		{f.Candidate, capability + "candidate:1.0"},
		{f.WritableRunning, capability + "writable-running:1.0"},
		{f.ConfirmedCommit, capability + "confirmed-commit:1.1"},
		{f.Startup, capability + "startup:1.0"},
		{f.RollbackOnError, capability + "rollback-on-error:1.0"},
		{f.Validate, capability + "validate:1.1"},
		{true, nsT128 + "?module=t128&revision=2019-10-31"},
		{true, nsAuthy + "?module=authority-config&revision=2019-10-31"},
		{true, nsSvc + "?module=service-config&revision=2019-10-31"},
		{f.ValidationType, nsValidate + "?module=t128-validate-type"},
	} {
		if c.offered {
			w.base("capability", c.uri)
		}
	}
	w.close()
	w.base("session-id", strconv.FormatUint(o.actor.Session, 10))
	w.close()
	return w.bytes()
}

const (
	baseURI10 = "urn:ietf:params:netconf:base:1.0"
	baseURI11 = "urn:ietf:params:netconf:base:1.1"
)

// refusedLogin records a refused login.
func (s *Sim) refusedLogin(node int, user, why string) {
	s.history.Add(history.Event{Kind: history.Login, Node: node, User: clip(user), Detail: why})
}
