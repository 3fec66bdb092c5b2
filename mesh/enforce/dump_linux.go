package enforce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// The library reads a dump with a small buffer. The kernel fills what it is given, begins each time from the first element
// to find where it was, and so takes seven times as long as with the largest buffer that it uses, 32 KiB.
const dumpBuffer = 64 << 10

// Attributes and flags of linux/netfilter/nf_tables.h that x/sys/unix has not, or not on all platforms.
const genID = 1 // NFTA_GEN_ID

func request(kind uint16, flags netlink.HeaderFlags, family byte, attributes []netlink.Attribute) (netlink.Message, error) {
	data, err := netlink.MarshalAttributes(attributes)
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, data...),
	}, err
}

// readGeneration asks for the number of the ruleset.
func (n *nftTables) readGeneration() (uint32, error) {
	c, err := n.dial()
	if err != nil {
		return 0, err
	}
	defer c.Close()
	m, err := request(unix.NFT_MSG_GETGEN, 0, unix.NFPROTO_UNSPEC, nil)
	if err != nil {
		return 0, err
	}
	replies, err := c.Execute(m)
	if err != nil {
		return 0, err
	}
	for _, r := range replies {
		for kind, value := range attributes(r.Data[min(4, len(r.Data)):]) {
			if kind == genID && len(value) == 4 {
				return binary.BigEndian.Uint32(value), nil
			}
		}
	}
	return 0, errors.New("the kernel's answer has no generation")
}

// mark is what the kernel lists: where a range begins, or where one has ended.
type mark struct {
	at   addr
	end  bool
	left time.Duration // counted from when the reading began; 0 is for ever
}

// readElements reads both sets.
func (n *nftTables) readElements(ctx context.Context) ([]Element, error) {
	began := time.Now()
	var marks [families][]mark
	for f := range families {
		var err error
		if marks[f], err = n.readMarks(ctx, f, began); err != nil {
			return nil, err
		}
	}
	took := time.Since(began)
	var out []Element
	for f := range families {
		out = append(out, ranges(f, marks[f], took)...)
	}
	return out, nil
}

// readMarks reads one set.
func (n *nftTables) readMarks(ctx context.Context, f family, began time.Time) ([]mark, error) {
	c, err := n.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(began.Add(dumpPatience)); err != nil {
		return nil, err
	}
	s := set(f)
	m, err := request(unix.NFT_MSG_GETSETELEM, netlink.Dump, byte(s.Table.Family), []netlink.Attribute{
		{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: []byte(s.Table.Name + "\x00")},
		{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(s.Name + "\x00")},
	})
	if err != nil {
		return nil, err
	}
	if _, err := c.Send(m); err != nil {
		return nil, err
	}
	var marks []mark
	err = receive(c, func(data []byte) error {
		since := time.Since(began)
		for kind, list := range attributes(data) {
			if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				continue
			}
			for _, element := range attributes(list) {
				m, there := markOf(f, element)
				if m.left > 0 {
					m.left += since
				}
				if there {
					marks = append(marks, m)
				}
			}
		}
		return ctx.Err()
	})
	return marks, err
}

// markOf reads an element of a family; there is false for one that has expired.
func markOf(f family, element []byte) (m mark, there bool) {
	there = true
	for kind, value := range attributes(element) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			for _, key := range attributes(value) {
				ip, ok := netip.AddrFromSlice(key)
				var of family
				if ok {
					of, m.at = addrOf(ip)
				}
				there = there && ok && of == f
			}
		case unix.NFTA_SET_ELEM_FLAGS:
			m.end = len(value) == 4 && binary.BigEndian.Uint32(value)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_EXPIRATION:
			if len(value) == 8 {
				m.left = time.Duration(binary.BigEndian.Uint64(value)) * time.Millisecond
				there = there && m.left > 0
			}
		}
	}
	return m, there
}

// ranges makes elements of what the kernel lists in no order. An end whose beginning has expired stands alone until the
// kernel clears it away.
func ranges(f family, marks []mark, took time.Duration) []Element {
	slices.SortFunc(marks, func(a, b mark) int {
		if c := a.at.compare(b.at); c != 0 {
			return c
		}
		if a.end && !b.end {
			return -1
		}
		return 1
	})
	last := addr{0, math.MaxUint32}
	if f == v6 {
		last = addr{math.MaxUint64, math.MaxUint64}
	}
	out := make([]Element, 0, len(marks)/2+1)
	for i, m := range marks {
		if m.end || m.left > 0 && m.left <= took {
			continue
		}
		to := last
		if i+1 < len(marks) {
			next := marks[i+1].at
			if next == m.at { // told twice: something changed meanwhile
				continue
			}
			to = next.prev()
		}
		e := Element{From: m.at.in(f), To: to.in(f)}
		if m.left > 0 {
			e.Left = m.left - took
		}
		out = append(out, e)
	}
	return out
}

// receive calls f with what each message of a dump says, until its end.
func receive(c *netlink.Conn, f func(data []byte) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	buffer := make([]byte, dumpBuffer)
	for {
		var size int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			size, _, failed = unix.Recvfrom(int(fd), buffer, 0)
			return failed != unix.EAGAIN && failed != unix.EINTR
		})
		if err := errors.Join(err, failed); err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:size])
		if err != nil {
			return fmt.Errorf("read the kernel's list: %w", err)
		}
		for _, m := range messages {
			switch m.Header.Type {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				if len(m.Data) >= 4 {
					if code := int32(binary.NativeEndian.Uint32(m.Data)); code != 0 {
						return syscall.Errno(-code)
					}
				}
				return nil
			}
			if len(m.Data) < 4 {
				return errors.New("read the kernel's list: a message without header")
			}
			if err := f(m.Data[4:]); err != nil {
				return err
			}
		}
	}
}

// attributes yields netlink attributes, without what their types have in flags. What is cut off is left out.
func attributes(b []byte) iter.Seq2[uint16, []byte] {
	return func(yield func(uint16, []byte) bool) {
		for len(b) >= unix.NLA_HDRLEN {
			size := int(binary.NativeEndian.Uint16(b))
			if size < unix.NLA_HDRLEN || size > len(b) {
				return
			}
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(kind, b[unix.NLA_HDRLEN:size]) {
				return
			}
			b = b[min((size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b)):]
		}
	}
}
