package mesh

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"banmesh/mesh/commit"
	"banmesh/netconfclient"
)

// newConductor returns the driver that the configuration names, nil for none.
func newConductor(k *Commit, log *slog.Logger) (commit.Conductor, error) {
	if k.Driver == "none" {
		return nil, nil
	}
	c, err := netconfclient.New(netconfclient.Config{
		Addresses:    k.Conductors,
		User:         k.User,
		KeyFile:      k.Key,
		KnownHosts:   k.KnownHosts,
		Tenant:       k.Tenant,
		Neighborhood: k.Neighborhood,
		Description:  k.Description,
		Validation:   netconfclient.Validation(k.Validation),
		ValidateMode: netconfclient.ValidateMode(k.Validate),
		Timeout:      time.Duration(k.Timeout),
		Logger:       log,
	})
	if err != nil {
		return nil, err
	}
	return &netconfConductor{c}, nil
}

// netconfConductor puts the NETCONF client, which knows nothing of the mesh,
// behind the interface that the committer wants.
type netconfConductor struct{ client *netconfclient.Conductor }

func (n *netconfConductor) Begin(ctx context.Context, p commit.Permit) (commit.Edit, error) {
	var kill []netconfclient.SessionAt
	for _, s := range p.Kill {
		kill = append(kill, netconfclient.SessionAt(s))
	}
	edit, err := n.client.Begin(ctx, netconfclient.Permit{Ours: p.Ours, Kill: kill})
	if err != nil {
		return nil, conductorError(err)
	}
	return &netconfEdit{edit}, nil
}

func (n *netconfConductor) Read(ctx context.Context) (commit.Running, error) {
	r, err := n.client.Read(ctx)
	return running(r), conductorError(err)
}

func (n *netconfConductor) Features() string { return n.client.Features() }
func (n *netconfConductor) Close() error     { return n.client.Close() }

type netconfEdit struct{ edit *netconfclient.Edit }

func (e *netconfEdit) Running() commit.Running { return running(e.edit.Running()) }
func (e *netconfEdit) Session() uint64         { return e.edit.Session() }

func (e *netconfEdit) Apply(ctx context.Context, add, remove []netip.Prefix) error {
	return conductorError(e.edit.Apply(ctx, add, remove))
}

func (e *netconfEdit) Commit(ctx context.Context) error { return conductorError(e.edit.Commit(ctx)) }
func (e *netconfEdit) Close(ctx context.Context) error  { return conductorError(e.edit.Close(ctx)) }

func running(r netconfclient.Running) commit.Running {
	return commit.Running{Addresses: r.Addresses, Exists: r.Exists, Conductor: r.Conductor}
}

// driverError is a driver's error, in its own words, that is also the kind of
// error the committer branches on.
type driverError struct{ kind, err error }

func (e *driverError) Error() string        { return e.err.Error() }
func (e *driverError) Is(target error) bool { return target == e.kind }
func (e *driverError) Unwrap() error        { return e.err }

// kinds pairs what the client tells apart with what the committer does.
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
}

func conductorError(err error) error {
	var busy *netconfclient.BusyError
	if errors.As(err, &busy) {
		return &commit.BusyError{Holder: busy.Holder, Dirty: busy.Dirty, Detail: busy.Detail}
	}
	for _, k := range kinds {
		if errors.Is(err, k.from) {
			return &driverError{kind: k.to, err: err}
		}
	}
	return err
}
