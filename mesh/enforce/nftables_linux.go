package enforce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// kernelPatience bounds the wait for an answer of the kernel to the library.
	kernelPatience = 30 * time.Second

	// sendRoom is the largest transaction in bytes that a socket may send: an element needs about 30.
	sendRoom    = 256 << 20
	receiveRoom = 8 << 20
)

// nftTables drops with nftables, over netlink. layout_linux.go describes what it makes.
type nftTables struct {
	netns   string   // the file of a network namespace; "" is the process's own
	ingress []string // interfaces at which frames are dropped before a bridge takes them

	kernel func() string          // returns what this kernel cannot promise
	absent atomic.Pointer[string] // the interfaces of ingress that the last look did not find

	mu   sync.Mutex
	conn *netlink.Conn // for changes and look-ups; nil before the first
	port uint32        // its number, by which the kernel says who changed something
	raw  syscall.RawConn
	in   os.FileInfo // the namespace it is in; nil for the process's own

	made   uint64 // successful transactions, for the goroutine that makes them
	member membership
}

// OpenNFTables returns the driver that drops with nftables, in the table `inet banmesh` of a network namespace: one that `ip
// netns` knows by name, one given by its file, or with "" the agent's own. At the interfaces named in ingress it also drops
// what a bridge would take, which needs Linux 5.10. It touches nothing yet; neither the namespace nor the interfaces need to
// exist.
func OpenNFTables(netns string, ingress []string) (Driver, error) {
	if netns != "" && !filepath.IsAbs(netns) {
		netns = filepath.Join("/run/netns", netns)
	}
	return openNFTables(netns, ingress...), nil
}

func openNFTables(netns string, ingress ...string) *nftTables {
	return &nftTables{netns: netns, ingress: ingress, kernel: sync.OnceValue(kernelCaveat)}
}

// namespace opens the namespace; fd is 0 for the process's own.
func (n *nftTables) namespace() (fd int, in os.FileInfo, done func(), err error) {
	if n.netns == "" {
		return 0, nil, func() {}, nil
	}
	f, err := os.Open(n.netns)
	if err == nil {
		in, err = f.Stat()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%w %s", errNoNamespace, n.netns)
	} else if err != nil { // hide it: errors of the system have another meaning as errors of nftables
		err = errors.New(err.Error())
	}
	if err != nil {
		return 0, nil, nil, fmt.Errorf("enforce.netns: %w: `ip netns list` shows which there are", err)
	}
	return int(f.Fd()), in, func() { f.Close() }, nil
}

// dial opens a socket in the namespace.
func (n *nftTables) dial() (*netlink.Conn, os.FileInfo, error) {
	fd, in, done, err := n.namespace()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: fd})
	if errors.Is(err, os.ErrPermission) && fd != 0 {
		return nil, nil, fmt.Errorf("enter network namespace %s: %w: enforce.netns needs CAP_SYS_ADMIN beside CAP_NET_ADMIN", n.netns, err)
	}
	if err == nil {
		if err = prepare(c); err != nil {
			c.Close()
		}
	}
	return c, in, err
}

// leave closes the lasting socket if the namespace's file is gone or belongs to another namespace now, and reports whether it
// did.
func (n *nftTables) leave() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn == nil || n.in == nil {
		return false
	}
	if now, err := os.Stat(n.netns); err == nil && os.SameFile(now, n.in) {
		return false
	}
	// The namespace was made anew under the same name; a socket stays in the one in which it was opened.
	n.conn.Close()
	n.conn = nil
	return true
}

// Name returns nftables.
func (n *nftTables) Name() string { return "nftables" }

// library is how the library asks. The function closes its socket.
func (n *nftTables) library() (*nftables.Conn, func(), error) {
	fd, _, done, err := n.namespace()
	if err != nil {
		return nil, nil, err
	}
	defer done()
	c, err := nftables.New(nftables.WithNetNSFd(fd), nftables.WithSockOptions(prepare, patiently), nftables.AsLasting())
	if err != nil {
		return nil, nil, err
	}
	return c, func() { c.CloseLasting() }, nil
}

// prepare enlarges the socket's buffers for a whole transaction and its answers. Without the capability they stay small, but
// then nothing can be sent anyway.
func prepare(c *netlink.Conn) error {
	return errors.Join(c.SetWriteBuffer(sendRoom), c.SetReadBuffer(receiveRoom), c.SetOption(netlink.CapAcknowledge, true))
}

func patiently(c *netlink.Conn) error { return c.SetDeadline(time.Now().Add(kernelPatience)) }

// open opens the lasting socket unless it is open.
func (n *nftTables) open() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.conn != nil {
		return nil
	}
	c, in, err := n.dial()
	if err != nil {
		return err
	}
	if n.raw, err = c.SyscallConn(); err == nil {
		n.port, err = portOf(n.raw)
	}
	if err != nil {
		c.Close()
		return err
	}
	n.conn, n.in = c, in
	return nil
}

// portOf returns the netlink address of a socket, by which the events of its own changes are told from
// others'.
func portOf(raw syscall.RawConn) (port uint32, err error) {
	failed := raw.Control(func(fd uintptr) {
		var at unix.Sockaddr
		if at, err = unix.Getsockname(int(fd)); err != nil {
			return
		}
		if n, ok := at.(*unix.SockaddrNetlink); ok {
			port = n.Pid
		}
	})
	return port, errors.Join(failed, err)
}

// exchange sends messages and calls f with each answer. The kernel has given all answers when the send returns.
func (n *nftTables) exchange(messages []byte, f func(m *syscall.NetlinkMessage)) error {
	if err := n.open(); err != nil {
		return err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	buffer := make([]byte, dumpBuffer)
	var failed error
	err := n.raw.Control(func(fd uintptr) {
		if failed = unix.Sendto(int(fd), messages, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); failed != nil {
			return
		}
		for {
			size, _, err := unix.Recvfrom(int(fd), buffer, unix.MSG_DONTWAIT)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return
			case err != nil:
				failed = errors.Join(failed, err)
				return
			}
			parsed, err := syscall.ParseNetlinkMessage(buffer[:size])
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			for i := range parsed {
				f(&parsed[i])
			}
		}
	})
	return errors.Join(err, failed)
}

// code is the errno of an answer; 0 means success.
func code(m *syscall.NetlinkMessage) (errno syscall.Errno, is bool) {
	if m.Header.Type != unix.NLMSG_ERROR || len(m.Data) < 4 {
		return 0, false
	}
	return syscall.Errno(-int32(binary.NativeEndian.Uint32(m.Data))), true
}

// transact does a transaction.
func (n *nftTables) transact(s *script) error {
	done := false
	var first syscall.Errno
	err := n.exchange(s.finish(), func(m *syscall.NetlinkMessage) {
		switch errno, is := code(m); {
		case !is:
		case errno == 0:
			done = true
		// The first error is the cause; the kernel goes on and reports what fails because of it.
		case first == 0:
			first = errno
		}
	})
	switch {
	case first != 0:
		return first
	case err != nil:
		return err
	case !done:
		return errors.New("the kernel did not answer")
	}
	n.made++
	return nil
}

// explain says what failed, and what to do about a refusal of the kernel.
func explain(what string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("nftables: %s: %w: the agent needs CAP_NET_ADMIN: install examples/systemd/banmesh.service.d/nftables.conf (AmbientCapabilities=CAP_NET_ADMIN), then systemctl daemon-reload and systemctl restart banmesh; in a container, its host must grant it as well", what, err)
	case errors.Is(err, syscall.ENOENT), errors.Is(err, syscall.EEXIST), errors.Is(err, syscall.ENOTEMPTY), errors.Is(err, syscall.EBUSY):
		return fmt.Errorf("nftables: %s: %w: %w", what, ErrStale, err)
	case errors.Is(err, syscall.EPROTONOSUPPORT), errors.Is(err, syscall.EOPNOTSUPP):
		return fmt.Errorf("nftables: %s: %w: does this kernel have nf_tables? `modprobe nf_tables` and see `dmesg`", what, err)
	}
	return fmt.Errorf("nftables: %s: %w", what, err)
}

// Fix makes the chain, the rules and the sets what they should be, provided our sets are in order.
func (n *nftTables) Fix(context.Context) error {
	n.leave()
	ports, err := n.ports()
	if err != nil {
		return err
	}
	c, err := n.contents(ports)
	if err == nil && c.guarded { // left by an agent that was killed while replacing
		err = n.unguard()
	}
	switch {
	case err != nil:
		return explain("look at table inet "+tableName, err)
	case !c.there:
		return ErrAbsent
	case c.ours:
		return nil
	case !c.sets:
		return fmt.Errorf("table inet %s is not as this version makes it: %w", tableName, ErrUnreadable)
	}
	s := newScript(tableName)
	if err := s.fixRules(c, ports); err != nil {
		return explain("write rules", err)
	}
	if err := n.transact(s); errors.Is(err, os.ErrPermission) {
		return explain("put the rules of table inet "+tableName+" right", err)
	} else if err != nil { // something of a kind that this version does not know
		return fmt.Errorf("put the rules of table inet %s right: %w: %w", tableName, err, ErrUnreadable)
	}
	return nil
}

// Held returns the elements of the table's sets. The time grows with the square of their number: 0.2 s for 100,000, 20 s for a
// million. In the moments after a large change, while the kernel resizes a set, some can be missing without an error (seen with
// Linux 6.18); to add them again does no harm.
func (n *nftTables) Held(ctx context.Context, patience time.Duration) ([]Element, error) {
	out, err := n.readElements(ctx, patience)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil, fmt.Errorf("table inet %s holds more than can be read in %v: %w", tableName, patience, ErrUnreadable)
	}
	return out, explain("read the elements of table inet "+tableName, err)
}

// Apply is one transaction, with a guard around it if the table is replaced. If ranges are added around addresses that are
// deleted, it takes two: the kernel deletes the address a moment before it looks into the new set of ranges. An address that is
// in both sets meanwhile does no harm.
func (n *nftTables) Apply(_ context.Context, c Change) error {
	if len(c.Del)+len(c.Add) > loud {
		return n.unreported(func() error { return n.apply(c) })
	}
	return n.apply(c)
}

// apply makes a change in one transaction as far as it can; what apart put aside is deleted after it. A new
// table is written together with its elements, so that there is no moment without it; guard covers the one
// that the kernel needs all the same.
func (n *nftTables) apply(c Change) error {
	s := newScript(tableName)
	if c.Anew {
		ports, err := n.ports()
		if err != nil {
			return err
		}
		guarded, err := n.guard(c.Add, ports)
		if err != nil {
			return explain("guard the change of the table", err)
		}
		if guarded {
			// Fix removes one that cannot be removed now.
			defer n.unguard()
		}
		if err := s.replaceTable(ports); err != nil {
			return explain("write rules", err)
		}
	}
	first, later := apart(c)
	s.elements(unix.NFT_MSG_DELSETELEM, 0, first)
	s.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE|unix.NLM_F_EXCL, c.Add)
	if s.last > 0 {
		if err := n.transact(s); err != nil {
			return explain(fmt.Sprintf("delete %d elements and add %d", len(c.Del), len(c.Add)), err)
		}
	}
	return explain(fmt.Sprintf("delete %d elements", len(later)), n.erase(later))
}

// rangesAmong are the elements of more than one address.
func rangesAmong(elements []Element) (wide []Element) {
	for _, e := range elements {
		if e.From != e.To {
			wide = append(wide, e)
		}
	}
	return wide
}

// apart splits the deletions by whether added ranges cover them.
func apart(c Change) (first, later []Element) {
	wide := rangesAmong(c.Add)
	if len(wide) == 0 {
		return c.Del, nil
	}
	slices.SortFunc(wide, func(a, b Element) int { return a.From.Compare(b.From) })
	for _, e := range c.Del {
		i, _ := slices.BinarySearchFunc(wide, e.From, func(w Element, a netip.Addr) int { return w.To.Compare(a) })
		if e.From == e.To && i < len(wide) && !e.From.Less(wide[i].From) {
			later = append(later, e)
		} else {
			first = append(first, e)
		}
	}
	return first, later
}

// erase deletes elements, some of which may have expired just now.
// Halving finds the one that is gone in a few steps; the kernel's answer names none.
func (n *nftTables) erase(elements []Element) error {
	if len(elements) == 0 {
		return nil
	}
	s := newScript(tableName)
	s.elements(unix.NFT_MSG_DELSETELEM, 0, elements)
	err := n.transact(s)
	switch {
	case !errors.Is(err, syscall.ENOENT):
		return err
	case len(elements) == 1:
		return nil
	}
	half := len(elements) / 2
	return errors.Join(n.erase(elements[:half]), n.erase(elements[half:]))
}

// Remove deletes the driver's tables, if there are any.
func (n *nftTables) Remove(context.Context) error {
	return explain("delete table inet "+tableName, errors.Join(n.remove(tableName), n.unguard()))
}

// remove deletes the table of that name, if there is one.
func (n *nftTables) remove(table string) error {
	s := newScript(table)
	s.deleteTable()
	return n.transact(s)
}

// Dropped adds up the counters of the rules.
func (n *nftTables) Dropped(context.Context) (Drops, error) {
	c, done, err := n.library()
	if err != nil {
		return Drops{}, explain("open netlink", err)
	}
	defer done()
	d, err := dropped(c)
	return d, explain("read the counters of table inet "+tableName, err)
}

// Probe says why a driver of OpenNFTables could not work in a network namespace; nil where it could. It changes nothing.
func Probe(netns string) error {
	driver, err := OpenNFTables(netns, nil)
	if err != nil {
		return err
	}
	c, done, err := driver.(*nftTables).library()
	if err != nil {
		return err
	}
	defer done()
	if _, err := c.ListTablesOfFamily(nftables.TableFamilyINet); err != nil {
		return fmt.Errorf("nftables: %w", err)
	}
	return nil
}
