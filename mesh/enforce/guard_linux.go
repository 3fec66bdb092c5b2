package enforce

import "golang.org/x/sys/unix"

// guardName is the table that drops the banned ranges while the other one is replaced.
const guardName = tableName + "-replacing"

// guard makes a second table that drops the ranges among some elements, where there is a table that is to be replaced, and
// reports whether it did. The kernel lets a transaction's new rules look into a new set of ranges before that shows what
// the same transaction adds to it, and by then the old table is gone: for a millisecond, and longer where there are many
// ranges, packets passed. A set of single addresses shows them at once.
func (n *nftTables) guard(elements []Element, ports []string) (guarded bool, err error) {
	wide := rangesAmong(elements)
	if len(wide) == 0 {
		return false, nil
	}
	c, done, err := n.library()
	if err != nil {
		return false, err
	}
	defer done()
	if there, _, err := tablesOf(c); err != nil || !there {
		return false, err
	}
	s := newScript(guardName)
	if err := s.replaceTable(ports); err != nil {
		return false, err
	}
	s.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, wide)
	return true, n.transact(s)
}

// unguard takes the guard away, where there is one.
func (n *nftTables) unguard() error { return n.remove(guardName) }
