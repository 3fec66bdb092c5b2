package enforce

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"banmesh/store"
)

// tableKey is where the store keeps the network namespace of the nftables table
// that this agent drops with; "" is the agent's own. Without it there is none.
const tableKey = "nftables"

// RemoveFormer removes the nftables table that an earlier run dropped with, unless this run drops in the same network
// namespace: nobody would end its bans any more. Only the store can tell that the table is this agent's and not another one's.
// It returns a warning if the table stays.
func RemoveFormer(ctx context.Context, s *store.Store, drops bool, in string, remove func(ctx context.Context, netns string) error) (stays string, err error) {
	noted, known := s.Meta(tableKey)
	former := string(noted)
	if known && !(drops && former == in) {
		if err := remove(ctx, former); err != nil && !errors.Is(err, errNoNamespace) { // with the namespace went the table
			return fmt.Sprintf("this router dropped by nftables before its configuration was changed, and still does, because the table cannot be removed: %v; remove it with `%s`, then restart the agent", err, byHand(former)), nil
		}
	}
	switch {
	// Noted before the first change of the kernel, so that a crash in between leaves no table that nobody knows.
	case drops && !(known && former == in):
		return "", s.SaveMeta(ctx, tableKey, []byte(in))
	case known && !drops:
		return "", s.SaveMeta(ctx, tableKey, nil)
	}
	return "", nil
}

// RemoveTable removes the nftables table in a network namespace where no agent runs any more. Its error says what does so by hand.
func RemoveTable(ctx context.Context, netns string) error {
	driver, err := OpenNFTables(netns, nil)
	if err == nil {
		err = driver.Remove(ctx)
	}
	if err == nil || errors.Is(err, errNoNamespace) { // with the namespace went the table
		return nil
	}
	return fmt.Errorf("remove it with `%s`: %w", byHand(netns), err)
}

// byHand is the command that removes the table in a network namespace.
func byHand(netns string) string {
	const remove = "nft delete table inet banmesh"
	switch {
	case netns == "":
		return remove
	case filepath.IsAbs(netns):
		return "nsenter --net=" + netns + " " + remove
	}
	return "ip netns exec " + netns + " " + remove
}

// ForgetTable notes that no table of this agent is left, after it was removed on an operator's word.
func ForgetTable(ctx context.Context, s *store.Store) error { return s.SaveMeta(ctx, tableKey, nil) }
