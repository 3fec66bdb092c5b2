package gossip

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
)

// stamp travels in a probe's acknowledgement: enough to see that two members hold the same records, have the same time and know
// the same members.
//
//	version (1), root (16), minute of the root (4), Unix ms (6), members (4)
//
// Its size matters: it rides on each acknowledgement, a few times a second from every member.
type stamp struct {
	root    [16]byte
	minute  int64
	millis  int64
	members uint32
}

const (
	stampVersion = 1
	stampSize    = 1 + 16 + 4 + 6 + 4
)

var errStamp = errors.New("not a stamp")

// encode takes 31 bytes, as it is in every answer to a probe. Of the time 48 bits suffice, in ms.
func (s stamp) encode() []byte {
	b := make([]byte, 0, stampSize)
	b = append(b, stampVersion)
	b = append(b, s.root[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(s.minute))
	b = binary.BigEndian.AppendUint16(b, uint16(s.millis>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(s.millis))
	return binary.BigEndian.AppendUint32(b, s.members)
}

func decodeStamp(b []byte) (s stamp, err error) {
	if len(b) != stampSize || b[0] != stampVersion {
		return s, errStamp
	}
	copy(s.root[:], b[1:])
	s.minute = int64(binary.BigEndian.Uint32(b[17:]))
	s.millis = int64(binary.BigEndian.Uint16(b[21:]))<<32 | int64(binary.BigEndian.Uint32(b[23:]))
	s.members = binary.BigEndian.Uint32(b[27:])
	return s, nil
}

// nameHash is summed in any order, and deals members to slices.
func nameHash(name string, salt uint32) uint32 {
	h := fnv.New32a()
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], salt)
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(name))
	// FNV's low bits are weak, and slices are chosen by remainder: mix them.
	v := h.Sum32()
	v ^= v >> 16
	v *= 0x85ebca6b
	return v ^ v>>13
}
