package enforce

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// A message's list of elements may have 64 KiB; one element needs at most elementRoom.
const (
	messageRoom = 60 << 10
	elementRoom = 128
)

// script is one transaction, as the kernel reads it. The library's own needs ten allocations an element and an answer for
// each message; a transaction of a million elements is 50 MB here, and one answer.
// Messages are written in the form of linux/netfilter/nf_tables.h: numbers in network byte order, lengths and headers in the
// machine's.
type script struct {
	in   string // the table that the messages are about
	b    []byte
	last int // where the last message begins that the kernel acts on
}

// newScript begins a transaction.
func newScript(table string) *script {
	s := &script{in: table, b: make([]byte, 0, 512)}
	s.control(unix.NFNL_MSG_BATCH_BEGIN)
	return s
}

// control begins or ends a batch (NFNL_MSG_BATCH_BEGIN, _END): the kernel applies what lies between as one
// transaction. The resource id of these two is the subsystem.
func (s *script) control(kind uint16) {
	at := len(s.b)
	s.header(kind, unix.NLM_F_REQUEST, unix.AF_UNSPEC)
	binary.BigEndian.PutUint16(s.b[at+unix.NLMSG_HDRLEN+2:], unix.NFNL_SUBSYS_NFTABLES)
	s.close(at)
}

// finish ends the transaction. The kernel answers its last message once everything is done, and otherwise each that failed.
func (s *script) finish() []byte {
	flags := s.b[s.last+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	s.control(unix.NFNL_MSG_BATCH_END)
	return s.b
}

// header is nlmsghdr and nfgenmsg in the machine's byte order, with room for the length, which close fills
// in. The port is 0, the kernel's.
func (s *script) header(kind, flags uint16, family byte) {
	s.b = append(s.b, 0, 0, 0, 0)
	s.b = binary.NativeEndian.AppendUint16(s.b, kind)
	s.b = binary.NativeEndian.AppendUint16(s.b, flags)
	s.b = append(s.b, 0, 0, 0, 0, 0, 0, 0, 0) // sequence and port
	s.b = append(s.b, family, unix.NFNETLINK_V0, 0, 0)
}

// message begins a message to nftables, about what is in a table of family inet.
func (s *script) message(kind, flags uint16) (at int) {
	s.last = len(s.b)
	s.header(unix.NFNL_SUBSYS_NFTABLES<<8|kind, unix.NLM_F_REQUEST|flags, unix.NFPROTO_INET)
	return s.last
}

// close ends a message.
func (s *script) close(at int) { binary.NativeEndian.PutUint32(s.b[at:], uint32(len(s.b)-at)) }

// attribute, text and long write one attribute of netlink: length, kind, value, padded to four bytes by end.
// nf_tables wants numbers in network byte order and texts with a final 0.
func (s *script) attribute(kind uint16, value []byte) {
	at := s.open(kind)
	s.b = append(s.b, value...)
	s.end(at)
}

func (s *script) text(kind uint16, value string) {
	at := s.open(kind)
	s.b = append(append(s.b, value...), 0)
	s.end(at)
}

func (s *script) number(kind uint16, value uint32) {
	s.attribute(kind, binary.BigEndian.AppendUint32(nil, value))
}

func (s *script) long(kind uint16, value uint64) {
	at := s.open(kind)
	s.b = binary.BigEndian.AppendUint64(s.b, value)
	s.end(at)
}

// open begins an attribute, nest one that holds others.
func (s *script) open(kind uint16) (at int) {
	at = len(s.b)
	s.b = append(s.b, 0, 0)
	s.b = binary.NativeEndian.AppendUint16(s.b, kind)
	return at
}

func (s *script) nest(kind uint16) (at int) { return s.open(kind | unix.NLA_F_NESTED) }

// end ends an attribute.
func (s *script) end(at int) {
	binary.NativeEndian.PutUint16(s.b[at:], uint16(len(s.b)-at))
	for len(s.b)%unix.NLA_ALIGNTO != 0 {
		s.b = append(s.b, 0)
	}
}

// elements adds elements to their sets, or deletes them from them.
func (s *script) elements(kind, flags uint16, elements []Element) {
	room := 0
	for i := range elements {
		room += setOf(&elements[i]).room()
	}
	s.b = slices.Grow(s.b, room+room/messageRoom*elementRoom)
	for id := range sets {
		at, list := -1, 0
		for i := range elements {
			e := &elements[i]
			if setOf(e) != id {
				continue
			}
			if at >= 0 && len(s.b)-at > messageRoom-elementRoom {
				s.end(list)
				s.close(at)
				at = -1
			}
			if at < 0 {
				at = s.message(kind, flags)
				s.text(unix.NFTA_SET_ELEM_LIST_TABLE, s.in)
				s.text(unix.NFTA_SET_ELEM_LIST_SET, id.name())
				s.number(unix.NFTA_SET_ELEM_LIST_SET_ID, id.number())
				list = s.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
			}
			s.element(e.From.AsSlice(), uint64(e.Left.Milliseconds()), false)
			// A range is where it begins, and where the next address is that does not belong to it; none comes after the last one.
			if id.interval() {
				if end := e.To.Next(); end.IsValid() {
					s.element(end.AsSlice(), 0, true)
				}
			}
		}
		if at >= 0 {
			s.end(list)
			s.close(at)
		}
	}
}

// room is how many bytes an element of a set takes.
func (id setID) room() int {
	const attribute = unix.NLA_HDRLEN
	key := 3*attribute + int(id.keyType().Bytes)
	room := key + attribute + 8 // its timeout
	if id.interval() {
		room += key + attribute + 4 // the flags of its end
	}
	return room
}

// element writes one element of a set. An interval is two elements, the second with end set, which is the
// first address behind it. timeout is in ms; 0 is for ever.
func (s *script) element(key []byte, timeout uint64, end bool) {
	item := s.nest(unix.NFTA_LIST_ELEM)
	if end {
		s.number(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	k := s.nest(unix.NFTA_SET_ELEM_KEY)
	s.attribute(unix.NFTA_DATA_VALUE, key)
	s.end(k)
	if timeout > 0 {
		s.long(unix.NFTA_SET_ELEM_TIMEOUT, timeout)
	}
	s.end(item)
}
