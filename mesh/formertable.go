package mesh

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/enforce"
	"banmesh/store"
)

// tableKey is where the store keeps the network namespace of the nftables table
// that this agent drops with; "" is the agent's own. Without it there is none.
const tableKey = "nftables"

// tableTime bounds the removal of a table: the agent starts only after it.
const tableTime = 5 * time.Second

// removeFormerTable removes the nftables table that an earlier run dropped with,
// where this one is not configured to: nobody would end its bans any more. Only the
// store can tell that the table is this agent's and not another one's. It returns
// a warning where the table stays, "" otherwise.
func removeFormerTable(ctx context.Context, s *store.Store, remove func(ctx context.Context, netns string) error, now config.Enforce) (stays string, err error) {
	in, known := s.Meta(tableKey)
	netns, drops := string(in), now.Driver == "nftables"
	if known && !(drops && netns == now.NetNS) {
		if err := remove(ctx, netns); err != nil && !errors.Is(err, enforce.ErrNoNamespace) { // with the namespace went the table
			return fmt.Sprintf("this router dropped by nftables before its configuration was changed, and still does, because the table cannot be removed: %v; remove it with `%snft delete table inet banmesh`, then restart the agent", err, inside(netns)), nil
		}
	}
	switch {
	// Noted before the first change of the kernel, so that a crash in between leaves no table that nobody knows.
	case drops && !(known && netns == now.NetNS):
		return "", s.SaveMeta(ctx, tableKey, []byte(now.NetNS))
	case known && !drops:
		return "", s.SaveMeta(ctx, tableKey, nil)
	}
	return "", nil
}

// inside is what runs a command in a network namespace.
func inside(netns string) string {
	switch {
	case netns == "":
		return ""
	case filepath.IsAbs(netns):
		return "nsenter --net=" + netns + " "
	}
	return "ip netns exec " + netns + " "
}

// removeTable removes the nftables table in a network namespace.
func (d *Doors) removeTable(ctx context.Context, netns string) error {
	ctx, cancel := context.WithTimeout(ctx, tableTime)
	defer cancel()
	driver, err := d.Kernel(netns, nil)
	if err != nil {
		return err
	}
	return driver.Remove(ctx)
}
