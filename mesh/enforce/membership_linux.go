package enforce

import (
	"encoding/binary"
	"errors"
	"sync"
	"syscall"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// loud is how many elements a transaction may have while the driver listens to the kernel's reports.
const loud = 512

// membership is the watching socket's in the group that gets the kernel's reports.
//
// While the group has a member, in whatever network namespace, the kernel allocates a report of several KiB for each element of
// a transaction and sends none before all are made: a million elements took more than 5 GB of its memory and five times as long.
// So the socket leaves the group for that time.
type membership struct {
	mu   sync.Mutex
	conn *netlink.Conn // nil while nothing is watched
	tell func(News)
}

// enter joins the group.
func (m *membership) enter(c *netlink.Conn, tell func(News)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := c.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return err
	}
	m.conn, m.tell = c, tell
	return nil
}

// end is called before the socket is closed.
func (m *membership) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.conn = nil
}

// unreported runs f, which makes transactions, while the kernel reports nothing to the driver. If somebody else's came in
// between, which the ruleset's generation shows, news may have been missed.
func (n *nftTables) unreported(f func() error) error {
	m := &n.member
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn == nil {
		return f()
	}
	// The kernel counts each transaction in the namespace, ours and those of others.
	before, err := n.generation()
	if err == nil {
		err = n.awaitReports()
	}
	if err != nil {
		return err
	}
	if err := m.conn.LeaveGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return err
	}
	made := n.made
	failed := f()
	// Outside the group the watch sees nothing: end it, and it begins anew.
	if err := m.conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		m.conn.Close()
		return errors.Join(failed, err)
	}
	if after, err := n.generation(); err != nil || after-before != uint32(n.made-made) {
		m.tell(News{Lost: true})
	}
	return failed
}

// generation is the number of transactions that the kernel has made in the namespace.
func (n *nftTables) generation() (g uint32, err error) {
	s := &script{}
	s.close(s.message(unix.NFT_MSG_GETGEN, 0))
	err = errors.New("the kernel did not tell the generation of its rules")
	failed := n.exchange(s.b, func(m *syscall.NetlinkMessage) {
		if errno, is := code(m); is {
			err = errno
			return
		}
		if len(m.Data) < 4 {
			return
		}
		for kind, value := range attributes(m.Data[4:]) {
			if kind == unix.NFTA_GEN_ID && len(value) == 4 {
				g, err = binary.BigEndian.Uint32(value), nil
			}
		}
	})
	return g, errors.Join(failed, err)
}

// awaitReports returns once the kernel has reported everything of the transactions before: it makes one at a time, and this one is
// empty.
func (n *nftTables) awaitReports() error {
	s := newScript(tableName)
	s.control(unix.NFNL_MSG_BATCH_END)
	return n.exchange(s.b, func(*syscall.NetlinkMessage) {})
}
