package enforce

import "golang.org/x/sys/unix"

// guardName is the table that drops the banned ranges while the main table is replaced.
const guardName = tableName + "-replacing"

// guard makes a second table that drops the ranges among some elements, if there is a table to be replaced, and reports whether
// it did. Without it packets passed for a millisecond, or longer with many ranges: the new rules of a transaction already look
// into a new set of ranges before the set shows the elements of the same transaction, and by then the old table is gone. Sets
// of single addresses show their elements at once.
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

// unguard removes the guard if there is one.
func (n *nftTables) unguard() error { return n.remove(guardName) }
