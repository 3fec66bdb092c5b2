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

const (
	// The kernel fills the buffer it is given, up to 32 KiB, and starts each time from the first element to find its place: a
	// smaller buffer would take seven times as long.
	dumpBuffer = 64 << 10

	// lookAtOnce is how many addresses one call looks up: each answer takes up to 8 KiB of the socket's buffer.
	lookAtOnce = 256
)

// mark is one entry of the kernel's list: the start of a range, or the end of one.
type mark struct {
	at   addr
	end  bool
	left time.Duration // counted from when the reading began; 0 is for ever
}

// readElements reads the sets.
func (n *nftTables) readElements(ctx context.Context, patience time.Duration) ([]Element, error) {
	began := time.Now()
	var marks [sets][]mark
	for id := range sets {
		var err error
		if marks[id], err = n.readMarks(ctx, id, began, patience); err != nil {
			return nil, err
		}
	}
	took := time.Since(began)
	var out []Element
	for id := range sets {
		if id.interval() {
			out = append(out, ranges(id.family(), marks[id], took)...)
		} else {
			out = append(out, singles(id.family(), marks[id], took)...)
		}
	}
	return out, nil
}

// readMarks reads one set.
func (n *nftTables) readMarks(ctx context.Context, id setID, began time.Time, patience time.Duration) ([]mark, error) {
	c, _, err := n.dial()
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(began.Add(patience)); err != nil {
		return nil, err
	}
	s := &script{in: tableName}
	s.ask(unix.NLM_F_DUMP, id, nil)
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	if err := sendAll(raw, s.b); err != nil {
		return nil, err
	}
	var marks []mark
	err = receive(c, func(data []byte) error {
		marks = append(marks, marksOf(id.family(), data, time.Since(began))...)
		return ctx.Err()
	})
	return marks, err
}

// sendAll sends one datagram: the kernel takes a batch of messages only as a whole.
func sendAll(raw syscall.RawConn, b []byte) error {
	var failed error
	err := raw.Control(func(fd uintptr) {
		failed = unix.Sendto(int(fd), b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	})
	return errors.Join(err, failed)
}

// ask requests a set's elements: all, or those of one key.
func (s *script) ask(flags uint16, id setID, key func(s *script)) {
	at := s.message(unix.NFT_MSG_GETSETELEM, flags)
	s.text(unix.NFTA_SET_ELEM_LIST_TABLE, s.in)
	s.text(unix.NFTA_SET_ELEM_LIST_SET, id.name())
	if key != nil {
		list := s.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		key(s)
		s.end(list)
	}
	s.close(at)
}

// marksOf reads the elements in one message. What has expired is left out.
func marksOf(f family, data []byte, since time.Duration) (out []mark) {
	for kind, list := range attributes(data) {
		if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		for _, element := range attributes(list) {
			m, there := markOf(f, element)
			if m.left > 0 {
				// Counted from the beginning of the whole reading, so that all parts of it agree.
				m.left += since
			}
			if there {
				out = append(out, m)
			}
		}
	}
	return out
}

// Look asks for each address separately, because the cost of one answer does not depend on the size of the set.
func (n *nftTables) Look(ctx context.Context, addresses []netip.Addr) ([]Element, error) {
	var out []Element
	for part := range slices.Chunk(addresses, lookAtOnce) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		found, err := n.look(part)
		if err != nil {
			return nil, explain(fmt.Sprintf("look up %d addresses in table inet %s", len(part), tableName), err)
		}
		for _, e := range found {
			// Several of the addresses may lie in one range, which is one element.
			if !slices.ContainsFunc(out, func(o Element) bool { return o.From == e.From && o.To == e.To }) {
				out = append(out, e)
			}
		}
	}
	return out, nil
}

// look asks three questions about each address: is it in the set of addresses, where does the range that contains it begin, and
// where does that end.
func (n *nftTables) look(addresses []netip.Addr) (out []Element, err error) {
	const questions = 3
	s := &script{in: tableName}
	for i, a := range addresses {
		f, _ := addrOf(a)
		single, ranges := setID(f), setID(f)+prefixes4
		s.numbered(questions*i, func() { s.ask(0, single, func(s *script) { s.element(a.AsSlice(), 0, false) }) })
		s.numbered(questions*i+1, func() { s.ask(0, ranges, func(s *script) { s.element(a.AsSlice(), 0, false) }) })
		s.numbered(questions*i+2, func() { s.ask(0, ranges, func(s *script) { s.element(a.AsSlice(), 0, true) }) })
	}
	answers := make([]struct{ single, begin, end []mark }, len(addresses))
	failed := n.exchange(s.b, func(m *syscall.NetlinkMessage) {
		if errno, is := code(m); is {
			if errno != 0 && errno != syscall.ENOENT { // ENOENT: there is none
				err = errno
			}
			return
		}
		i := int(m.Header.Seq) / questions
		if len(m.Data) < 4 || i >= len(answers) {
			return
		}
		f, _ := addrOf(addresses[i])
		found := marksOf(f, m.Data[4:], 0)
		switch m.Header.Seq % questions {
		case 0:
			answers[i].single = found
		case 1:
			answers[i].begin = found
		case 2:
			answers[i].end = found
		}
	})
	if err = errors.Join(failed, err); err != nil {
		return nil, err
	}
	for i, a := range answers {
		f, _ := addrOf(addresses[i])
		out = append(out, singles(f, a.single, 0)...)
		if len(a.begin) > 0 && !a.begin[0].end {
			out = append(out, ranges(f, append(a.begin, a.end...), 0)...)
		}
	}
	return out, nil
}

// numbered gives sequence numbers to the messages that f writes.
func (s *script) numbered(n int, f func()) {
	at := len(s.b)
	f()
	binary.NativeEndian.PutUint32(s.b[at+8:], uint32(n))
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

// singles makes elements of what the kernel lists of a set without intervals.
func singles(f family, marks []mark, took time.Duration) []Element {
	slices.SortFunc(marks, func(a, b mark) int { return a.at.compare(b.at) })
	out := make([]Element, 0, len(marks))
	for i, m := range marks {
		if m.left > 0 && m.left <= took || i > 0 && marks[i-1].at == m.at {
			continue
		}
		e := Element{From: m.at.in(f), To: m.at.in(f)}
		if m.left > 0 {
			e.Left = m.left - took
		}
		out = append(out, e)
	}
	return out
}

// ranges makes elements from the kernel's list, which is in no order. An end whose beginning has expired stands alone until the
// kernel removes it.
func ranges(f family, marks []mark, took time.Duration) []Element {
	slices.SortFunc(marks, func(a, b mark) int {
		if c := a.at.compare(b.at); c != 0 {
			return c
		}
		// An end is the first address behind its range, where the next range may begin.
		if a.end && !b.end {
			return -1
		}
		return 1
	})
	// Where no end follows, the range reaches to the last address of the family.
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
			if next == m.at { // listed twice: something changed meanwhile
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
			// Not ready, or a signal: the runtime waits and asks again.
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
			// Both may hold an error code, negative, and end the dump (netlink(7)).
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

// attributes yields netlink attributes without the flags in their types. It leaves out a truncated one.
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
