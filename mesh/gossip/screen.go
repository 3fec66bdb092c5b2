package gossip

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/memberlist"
)

// Everything is checked before memberlist reads it, because memberlist trusts every key holder: it inflates 1,400 bytes to 40
// MB, allocates for a million members that are merely announced, believes a single death message with the largest incarnation,
// which the accused can never outbid, and refuses everybody once one member claims a protocol version that the others do not
// speak. No honest member sends anything of the kind.

// The types of memberlist's messages (net.go) that are let through.
const (
	mlPing         = 0
	mlIndirectPing = 1
	mlAck          = 2
	mlSuspect      = 3
	mlAlive        = 4
	mlDead         = 5
	mlPushPull     = 6
	mlCompound     = 7
	mlNack         = 11
	mlCRC          = 12
	mlError        = 13
)

const (
	// maxAccused bounds the incarnation of a suspicion or a death: the accused must be able to outbid it. Honest ones count up
	// from 1.
	maxAccused = 1 << 30
	// maxIncarnation bounds what others say of a living member, well above maxAccused. What a member says of itself may exceed
	// it: it must be able to outbid what others have said in its name.
	maxIncarnation    = 1 << 31
	maxOwnIncarnation = 1<<32 - 2
	// maxUserState is far more than a stamp and a name need.
	maxUserState = 1 << 10
	// maxValue bounds a message of a stream, or one member of a list: a name, an address and up to memberlist.MetaMaxSize bytes
	// of member data.
	maxValue = 2 << 10
)

// The types here mirror memberlist's own, which are unexported, with the names that its encoding uses.
type mlAccusation struct {
	Incarnation uint32
	Node        string
	From        string
}

type mlAliveMsg struct {
	Incarnation uint32
	Node        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Vsn         []uint8
}

type mlState struct {
	Name        string
	Addr        []byte
	Port        uint16
	Meta        []byte
	Incarnation uint32
	State       memberlist.NodeStateType
	Vsn         []uint8
}

type mlHeader struct {
	Nodes        int
	UserStateLen int
	Join         bool
}

// mlHandle encodes msgpack as memberlist does. It never changes.
var mlHandle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{}
	h.TimeNotBuiltin = true
	h.MaxInitLen = 64
	return h
}()

func mlDecode(b []byte, msg any) error { return codec.NewDecoderBytes(b, mlHandle).Decode(msg) }

// screenPacket returns the part of a packet that memberlist may see, nil if none, and calls drop with a reason for each part
// removed. from is the packet's source, ip:port.
func screenPacket(b []byte, from string, drop func(reason string)) []byte {
	body := b
	if len(body) >= 5 && body[0] == mlCRC {
		body = body[5:] // memberlist checks the checksum
	}
	if len(body) == 0 {
		drop("member message empty")
		return nil
	}
	if body[0] != mlCompound {
		if reason := screenMessage(body, from); reason != "" {
			drop(reason)
			return nil
		}
		return b
	}
	parts, ok := compoundParts(body[1:])
	if !ok {
		drop("member message malformed")
		return nil
	}
	kept := make([][]byte, 0, len(parts))
	for _, p := range parts {
		if reason := screenMessage(p, from); reason != "" {
			drop(reason)
			continue
		}
		kept = append(kept, p)
	}
	switch len(kept) {
	case len(parts):
		return b
	case 0:
		return nil
	}
	out := []byte{mlCompound, byte(len(kept))}
	for _, p := range kept {
		out = binary.BigEndian.AppendUint16(out, uint16(len(p)))
	}
	return append(out, bytes.Join(kept, nil)...)
}

// compoundParts splits memberlist's compound message: a count in one byte, two bytes of length for each part,
// the parts. ok is false if anything is cut short.
func compoundParts(b []byte) (parts [][]byte, ok bool) {
	if len(b) < 1 {
		return nil, false
	}
	n := int(b[0])
	lengths := b[1:]
	if len(lengths) < 2*n {
		return nil, false
	}
	rest := lengths[2*n:]
	for i := range n {
		size := int(binary.BigEndian.Uint16(lengths[2*i:]))
		if len(rest) < size {
			return nil, false
		}
		parts, rest = append(parts, rest[:size]), rest[size:]
	}
	return parts, true
}

// screenMessage says why memberlist must not see a single message, "" if it may.
func screenMessage(b []byte, from string) (reason string) {
	if len(b) == 0 {
		return "member message empty"
	}
	if b[0] <= mlDead || b[0] == mlNack {
		// memberlist decodes fields that it does not know as well, and reserves what a time among them announces as its length.
		if _, err := readValue(bufio.NewReaderSize(bytes.NewReader(b[1:]), 16), len(b)); err != nil {
			return "member message malformed"
		}
	}
	switch b[0] {
	case mlPing, mlIndirectPing, mlAck, mlNack:
		return ""
	case mlSuspect, mlDead:
		var a mlAccusation
		if mlDecode(b[1:], &a) != nil {
			return "member message malformed"
		}
		switch {
		case a.Incarnation > maxAccused:
			return "member incarnation"
		case b[0] == mlDead && a.Node != a.From:
			// A suspected member has time to answer. A death that somebody else declares leaves none, so it is dropped: each
			// member finds out for itself.
			return "death by hearsay"
		}
		return ""
	case mlAlive:
		var a mlAliveMsg
		if mlDecode(b[1:], &a) != nil {
			return "member message malformed"
		}
		return screenMember(a.Node, a.Addr, a.Meta, a.Vsn, a.Incarnation, isAt(from, a.Addr, a.Port))
	}
	return "member message kind"
}

// isAt reports whether ip:port is the address in memberlist's form.
func isAt(from string, addr []byte, port uint16) bool {
	at, err := netip.ParseAddrPort(from)
	a, ok := netip.AddrFromSlice(addr)
	return err == nil && ok && at.Port() == port && at.Addr().Unmap() == a.Unmap()
}

// screenMember does the same for an alive message. self: the member says it of itself.
func screenMember(name string, addr, meta []byte, vsn []uint8, incarnation uint32, self bool) (reason string) {
	most := uint32(maxIncarnation)
	if self {
		most = maxOwnIncarnation
	}
	switch {
	case checkName(name) != nil:
		return "member name"
	case len(addr) != net.IPv4len && len(addr) != net.IPv6len, len(meta) > memberlist.MetaMaxSize:
		return "member message malformed"
	case incarnation > most:
		return "member incarnation"
	case len(vsn) != 6 || vsn[0] < 1 || vsn[0] > memberlist.ProtocolVersion2Compatible || vsn[1] < memberlist.ProtocolVersion2Compatible ||
		vsn[2] != memberlist.ProtocolVersion2Compatible || vsn[3]|vsn[4]|vsn[5] != 0:
		return "member protocol"
	}
	return ""
}

var errScreened = errors.New("not what memberlist says to its kind")

// screenedConn is one of memberlist's streams, whose first message is checked when it is first read.
type screenedConn struct {
	net.Conn
	peer    string // ip:port; for an inbound stream the port is not the member's
	drop    func(reason string)
	screens atomic.Bool
	in      *bufio.Reader
	ready   bytes.Buffer // let through and not read yet
	err     error
}

// Read is called by one goroutine at a time, as memberlist does.
func (s *screenedConn) Read(b []byte) (int, error) {
	if !s.screens.Swap(true) {
		s.in = bufio.NewReader(s.Conn)
		if s.err = s.screen(); s.err != nil {
			var ne net.Error
			if !errors.Is(s.err, io.EOF) && !errors.As(s.err, &ne) {
				s.drop("member stream refused")
			}
		}
	}
	switch {
	case s.err != nil:
		return 0, s.err
	case s.ready.Len() > 0:
		return s.ready.Read(b)
	}
	return 0, io.EOF // nothing may follow the message
}

// screen reads the one message that memberlist will read from the stream, and keeps what it has checked in
// ready for it. What is not known to be harmless ends the stream.
func (s *screenedConn) screen() error {
	kind, err := s.in.ReadByte()
	if err != nil {
		return err
	}
	s.ready.WriteByte(kind)
	switch kind {
	case mlPing, mlAck, mlError:
		b, err := readValue(s.in, maxValue)
		s.ready.Write(b)
		return err
	case mlPushPull:
		return s.pushPull()
	}
	return fmt.Errorf("message of type %d: %w", kind, errScreened)
}

// pushPull reads a list of members and rewrites it without entries that must not be in it.
func (s *screenedConn) pushPull() error {
	next := func(msg any) error {
		b, err := readValue(s.in, maxValue)
		if err == nil {
			err = mlDecode(b, msg)
		}
		if err != nil {
			return fmt.Errorf("read member list: %w", err)
		}
		return nil
	}
	var h mlHeader
	if err := next(&h); err != nil {
		return err
	}
	if h.Nodes < 0 || h.Nodes > maxPeers || h.UserStateLen < 0 || h.UserStateLen > maxUserState {
		return fmt.Errorf("list of %d members, %d bytes of state: %w", h.Nodes, h.UserStateLen, errScreened)
	}
	var kept []mlState
	for range h.Nodes {
		var n mlState
		if err := next(&n); err != nil {
			return err
		}
		reason := screenMember(n.Name, n.Addr, n.Meta, n.Vsn, n.Incarnation, isAt(s.peer, n.Addr, n.Port))
		if reason == "" && n.State != memberlist.StateAlive && n.Incarnation > maxAccused {
			reason = "member incarnation"
		}
		if reason != "" {
			s.drop(reason)
			continue
		}
		kept = append(kept, n)
	}
	h.Nodes = len(kept)
	enc := codec.NewEncoder(&s.ready, mlHandle)
	if err := enc.Encode(h); err != nil {
		return err
	}
	for i := range kept {
		if err := enc.Encode(&kept[i]); err != nil {
			return err
		}
	}
	_, err := io.CopyN(&s.ready, s.in, int64(h.UserStateLen))
	return err
}
