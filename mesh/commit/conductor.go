package commit

import (
	"context"

	"banmesh/mesh/conductor"
)

// Conductor is the one tenant of the conductor's configuration that bans go to. *conductor.Conductor is one. All its
// methods honour ctx and may be called while an Edit is open; their errors are those of package conductor. Begin and Read
// alike refuse a tenant that is wide open; what Read returns is valid all the same.
type Conductor interface {
	Begin(ctx context.Context, p conductor.Permit) (conductor.Edit, error)
	Read(ctx context.Context) (conductor.Running, error)
	// Features says what the server offers and which path is taken, for status; "" before the first contact.
	Features() string
	// Warnings are what an operator has to know of the server.
	Warnings() []string
	Close() error
}
