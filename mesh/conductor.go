package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"banmesh/mesh/commit"
	"banmesh/netconfclient"
	"banmesh/restclient"
)

// newConductor returns the driver that the configuration names, nil for none.
// The drivers know nothing of the mesh; what follows puts them behind the
// interface that the committer wants.
func newConductor(k *Commit, log *slog.Logger) (commit.Conductor, error) {
	switch k.Driver {
	case "netconf":
		c, err := netconfclient.New(netconfclient.Config{
			Addresses: k.Conductors, User: k.User, KeyFile: k.Key, KnownHosts: k.KnownHosts,
			Tenant: k.Tenant, Neighborhood: k.Neighborhood, Description: k.Description,
			Validation: netconfclient.Validation(k.Validation), ValidateMode: netconfclient.ValidateMode(k.Validate),
			Timeout: time.Duration(k.Timeout), Logger: log,
		})
		if err != nil {
			return nil, err
		}
		return &netconfConductor{c}, nil
	case "rest":
		c, err := restclient.New(restclient.Config{
			URLs: k.Conductors, User: k.User, PasswordFile: k.PasswordFile, TokenFile: k.TokenFile,
			CAFile: k.CAFile, PinSHA256: k.PinSHA256,
			Tenant: k.Tenant, Neighborhood: k.Neighborhood, Description: k.Description,
			Validation: restclient.Validation(k.Validation), ValidateMode: restclient.ValidateMode(k.Validate),
			Timeout: time.Duration(k.Timeout), Logger: log,
		})
		if err != nil {
			return nil, err
		}
		return &restConductor{c}, nil
	}
	return nil, nil
}

type netconfConductor struct{ client *netconfclient.Conductor }

func (n *netconfConductor) Begin(ctx context.Context, p commit.Permit) (commit.Edit, error) {
	var kill []netconfclient.SessionAt
	for _, s := range p.Kill {
		kill = append(kill, netconfclient.SessionAt(s))
	}
	e, err := n.client.Begin(ctx, netconfclient.Permit{Ours: p.Ours, Kill: kill})
	if err != nil {
		return nil, conductorError(err)
	}
	r := e.Running()
	return &edit{e, commit.Running{Addresses: r.Addresses, Exists: r.Exists, Conductor: r.Conductor}, e.Session()}, nil
}

func (n *netconfConductor) Read(ctx context.Context) (commit.Running, error) {
	r, err := n.client.Read(ctx)
	return commit.Running{Addresses: r.Addresses, Exists: r.Exists, Conductor: r.Conductor}, conductorError(err)
}

func (n *netconfConductor) Features() string { return n.client.Features() }
func (n *netconfConductor) Close() error     { return n.client.Close() }

type restConductor struct{ client *restclient.Conductor }

func (n *restConductor) Begin(ctx context.Context, p commit.Permit) (commit.Edit, error) {
	e, err := n.client.Begin(ctx, restclient.Permit{Ours: p.Ours})
	if err != nil {
		return nil, conductorError(err)
	}
	r := e.Running()
	return &edit{e, commit.Running{Addresses: r.Addresses, Exists: r.Exists, Conductor: r.Conductor}, 0}, nil
}

func (n *restConductor) Read(ctx context.Context) (commit.Running, error) {
	r, err := n.client.Read(ctx)
	return commit.Running{Addresses: r.Addresses, Exists: r.Exists, Conductor: r.Conductor}, conductorError(err)
}

func (n *restConductor) Features() string { return n.client.Features() }
func (n *restConductor) Close() error     { return n.client.Close() }

// driverEdit is what the edits of the drivers have in common.
type driverEdit interface {
	Apply(ctx context.Context, add, remove []netip.Prefix) error
	Commit(ctx context.Context) error
	Close(ctx context.Context) error
}

type edit struct {
	driverEdit
	running commit.Running
	session uint64 // 0: the driver has none
}

func (e *edit) Running() commit.Running { return e.running }
func (e *edit) Session() uint64         { return e.session }

func (e *edit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	return conductorError(e.driverEdit.Apply(ctx, add, remove))
}

func (e *edit) Commit(ctx context.Context) error { return conductorError(e.driverEdit.Commit(ctx)) }
func (e *edit) Close(ctx context.Context) error  { return conductorError(e.driverEdit.Close(ctx)) }

// driverError is a driver's error, in its own words, that is also the kind of
// error the committer branches on.
type driverError struct{ kind, err error }

func (e *driverError) Error() string        { return e.err.Error() }
func (e *driverError) Is(target error) bool { return target == e.kind }
func (e *driverError) Unwrap() error        { return e.err }

// kinds pairs what the drivers tell apart with what the committer does. A secret
// that cannot be used waits like a refused one; who may not call waits as well,
// because each try is a login.
var kinds = []struct{ from, to error }{
	{netconfclient.ErrLogin, commit.ErrLogin},
	{netconfclient.ErrKeyFile, commit.ErrLogin},
	{netconfclient.ErrHostKey, commit.ErrHostKey},
	{netconfclient.ErrUnknownOutcome, commit.ErrUnknown},
	{netconfclient.ErrRejected, commit.ErrRejected},
	{netconfclient.ErrMismatch, commit.ErrMismatch},
	{netconfclient.ErrWideOpen, commit.ErrWideOpen},
	{netconfclient.ErrUnreachable, commit.ErrUnreachable},
	{netconfclient.ErrProtocol, commit.ErrUnreachable},

	{restclient.ErrLogin, commit.ErrLogin},
	{restclient.ErrForbidden, commit.ErrLogin},
	{restclient.ErrSecretFile, commit.ErrLogin},
	{restclient.ErrCertificate, commit.ErrHostKey},
	{restclient.ErrUnknownOutcome, commit.ErrUnknown},
	{restclient.ErrRejected, commit.ErrRejected},
	{restclient.ErrMismatch, commit.ErrMismatch},
	{restclient.ErrWideOpen, commit.ErrWideOpen},
	{restclient.ErrUnreachable, commit.ErrUnreachable},
	{restclient.ErrProtocol, commit.ErrUnreachable},
}

func conductorError(err error) error {
	if busy := new(netconfclient.BusyError); errors.As(err, &busy) {
		return &commit.BusyError{Holder: busy.Holder, Dirty: busy.Dirty, Detail: busy.Detail}
	}
	if busy := new(restclient.BusyError); errors.As(err, &busy) {
		return &commit.BusyError{Dirty: busy.Dirty, After: busy.After, Detail: busy.Detail}
	}
	for _, k := range kinds {
		if errors.Is(err, k.from) {
			return &driverError{kind: k.to, err: err}
		}
	}
	return err
}
