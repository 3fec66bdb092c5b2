package commit

import (
	"context"

	"banmesh/mesh/conductor"
)

// Conductor is the one tenant of the conductor's configuration that receives the bans. *conductor.Conductor implements it. All
// methods honour ctx and may be called while an Edit is open; their errors are those of package conductor. Begin and Read both
// refuse a tenant that is wide open; what Read returns is valid nevertheless.
type Conductor interface {
	Begin(ctx context.Context, p conductor.Permit) (conductor.Edit, error)
	Read(ctx context.Context) (conductor.Running, error)
	// Features says what the server offers and how it is used, for status; "" before the first contact.
	Features() string
	// Warnings are what an operator has to know about the server.
	Warnings() []string
	Close() error
}
