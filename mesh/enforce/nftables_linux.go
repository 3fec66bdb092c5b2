package enforce

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// kernelPatience bounds the wait for one answer of the kernel.
	kernelPatience = 30 * time.Second

	// dumpPatience bounds the reading of the elements: the kernel needs time by the square of their number.
	dumpPatience = 20 * time.Second

	// sendRoom is the largest batch in bytes that a socket may be given; some 20 times what batchSize elements need.
	sendRoom    = 128 << 20
	receiveRoom = 8 << 20
)

// nftTables drops by nftables, over netlink. What it makes is described in layout_linux.go.
type nftTables struct {
	netns int // a file descriptor; 0 is the process's own

	// generation is the kernel's number of the ruleset after the last look or step: it grows with every change that anybody
	// makes, and not when elements expire. 0 is unknown.
	generation uint32
	state      tableState
}

type tableState int

const (
	unknown tableState = iota // not looked at
	absent
	ours
	alien // of that name, and not as this version makes it, or too large to be read
)

// OpenNFTables returns the driver that drops by nftables, in the table `inet banmesh` of the network namespace that the
// agent runs in. It touches nothing yet.
func OpenNFTables() (Driver, error) { return openNFTables(0), nil }

func openNFTables(netns int) *nftTables { return &nftTables{netns: netns} }

// Name returns nftables.
func (n *nftTables) Name() string { return "nftables" }

// conn is a socket to the kernel for the time of one method: nothing is bound to it.
func (n *nftTables) conn() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithNetNSFd(n.netns), nftables.WithSockOptions(prepare))
	if err != nil {
		return nil, explain("open netlink", err)
	}
	return c, nil
}

func (n *nftTables) dial() (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: n.netns})
	if err != nil {
		return nil, err
	}
	if err := prepare(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// prepare makes room for a whole batch, and for the answers to it without a copy of each message. Without the capability
// the rooms stay small; then nothing can be sent anyway.
func prepare(c *netlink.Conn) error {
	return errors.Join(
		c.SetWriteBuffer(sendRoom), c.SetReadBuffer(receiveRoom), c.SetOption(netlink.CapAcknowledge, true),
		c.SetDeadline(time.Now().Add(kernelPatience)),
	)
}

// explain says what failed, and what to do where the kernel refuses.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("nftables: %s: %w: the agent needs CAP_NET_ADMIN: its unit must have AmbientCapabilities=CAP_NET_ADMIN and CapabilityBoundingSet=CAP_NET_ADMIN; restart it then", what, err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("nftables: %s: %w: %w", what, ErrStale, err)
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EOPNOTSUPP):
		return fmt.Errorf("nftables: %s: %w: does this kernel have nf_tables? `modprobe nf_tables` and see `dmesg`", what, err)
	}
	return fmt.Errorf("nftables: %s: %w", what, err)
}

// Held returns the elements of the table's sets.
func (n *nftTables) Held(ctx context.Context) ([]Element, error) {
	n.state, n.generation = unknown, 0
	before, err := n.readGeneration()
	if err != nil {
		return nil, explain("read the ruleset's generation", err)
	}
	if n.state, err = n.look(); err != nil {
		return nil, explain("look at table inet "+tableName, err)
	}
	switch n.state {
	case absent:
		n.generation = before
		return nil, nil
	case alien:
		return nil, fmt.Errorf("table inet %s is not as this version makes it: %w", tableName, ErrUnreadable)
	}
	out, err := n.readElements(ctx)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		n.state = alien
		return nil, fmt.Errorf("table inet %s holds more than can be read in %v: %w", tableName, dumpPatience, ErrUnreadable)
	}
	if err != nil {
		return nil, explain("read the elements of table inet "+tableName, err)
	}
	if after, err := n.readGeneration(); err == nil && after == before {
		n.generation = after
	}
	return out, nil
}

// Touched reports whether anybody has changed any rule of this network namespace.
func (n *nftTables) Touched(context.Context) bool {
	now, err := n.readGeneration()
	return err != nil || n.generation == 0 || now != n.generation
}

// Gone reports whether there is no such table any more.
func (n *nftTables) Gone(ctx context.Context) bool {
	if n.state != ours || !n.Touched(ctx) {
		return false
	}
	c, err := n.conn()
	if err != nil {
		return false
	}
	there, err := tableIsThere(c)
	return err == nil && !there
}

// Apply is one transaction.
func (n *nftTables) Apply(_ context.Context, del, add []Element) error {
	if n.state == ours && len(del)+len(add) == 0 {
		return nil
	}
	c, err := n.conn()
	if err != nil {
		return err
	}
	if n.state != ours {
		if len(del) > 0 {
			return fmt.Errorf("nftables: delete %d elements of a table that is not there: %w", len(del), ErrStale)
		}
		replaceTable(c)
	}
	if err := change(c, del, c.SetDeleteElements); err != nil {
		return explain("delete elements", err)
	}
	if err := change(c, add, c.SetAddElements); err != nil {
		return explain("add elements", err)
	}
	was := n.generation
	if err := c.Flush(); err != nil {
		n.state, n.generation = unknown, 0
		return explain(fmt.Sprintf("delete %d elements and add %d", len(del), len(add)), err)
	}
	n.state, n.generation = ours, 0
	if now, err := n.readGeneration(); err == nil && was != 0 && now == was+1 {
		n.generation = now // nobody came between
	}
	return nil
}

// Remove deletes the table, where there is one.
func (n *nftTables) Remove(context.Context) error {
	n.state, n.generation = unknown, 0
	c, err := n.conn()
	if err != nil {
		return err
	}
	t := table()
	c.AddTable(t) // so that it is there to be deleted
	c.DelTable(t)
	return explain("delete table inet "+tableName, c.Flush())
}

// Dropped adds up the counters of the rules.
func (n *nftTables) Dropped(context.Context) (uint64, error) {
	c, err := n.conn()
	if err != nil {
		return 0, err
	}
	packets, err := dropped(c)
	return packets, explain("read the counters of table inet "+tableName, err)
}
