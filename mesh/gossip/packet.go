package gossip

import (
	"crypto/rand"
	"errors"
)

// On the wire a packet is
//
//	magic, sealed,    nonce (12), sealed(channel, payload), tag (16)
//	magic, unsealed,  length of label, label, channel, payload
//
// The label is authenticated with a sealed packet and not sent. All packets,
// memberlist's as well, are sealed here and not by memberlist: what nobody with
// a key sent never reaches it (it buffers up to 20 MiB of a stream before it
// looks at a key), ciphers are made once a key, and a key can be removed while
// packets flow.
const (
	magic    = 0xBA
	unsealed = 0
	sealed   = 1

	nonceSize = 12
	tagSize   = 16

	// maxPacket is the size of one datagram, memberlist's own default: it passes an MTU of 1,500 with a tunnel on the way.
	maxPacket = 1400
	// packetOverhead is what a sealed, counted packet adds: magic, mode, nonce, tag, channel, header. An unsealed one adds
	// less, whatever its label.
	packetOverhead = 2 + nonceSize + tagSize + 1 + countedHead
	// maxFrame is the largest frame of our own.
	maxFrame = maxPacket - packetOverhead
)

// Channels: the receiver of a packet or a stream.
const (
	chanMembers = 0 // memberlist
	chanFrames  = 1 // this package
)

var (
	errNotOurs   = errors.New("not a packet of a mesh")
	errNoKey     = errors.New("no key of the keyring opens it, or its label differs")
	errUnsealed  = errors.New("encrypted here and not there, or the other way round")
	errLabel     = errors.New("label of another mesh")
	errTruncated = errors.New("truncated")
)

// dropReason is the counter of an error of openPacket or of a handshake.
func dropReason(err error) string {
	switch {
	case errors.Is(err, errNoKey):
		return "no key"
	case errors.Is(err, errUnsealed):
		return "encryption differs"
	case errors.Is(err, errLabel):
		return "label"
	case errors.Is(err, errTruncated):
		return "truncated packet"
	}
	return "not ours"
}

// sealPacket wraps one payload. ring is nil if the mesh is not encrypted.
func sealPacket(ring *keyring, label string, channel byte, payload []byte) []byte {
	if ring == nil {
		b := make([]byte, 0, 3+len(label)+1+len(payload))
		b = append(b, magic, unsealed, byte(len(label)))
		b = append(b, label...)
		b = append(b, channel)
		return append(b, payload...)
	}
	b := make([]byte, 2+nonceSize, 2+nonceSize+1+len(payload)+tagSize)
	b[0], b[1] = magic, sealed
	_, _ = rand.Read(b[2 : 2+nonceSize]) // never fails, see crypto/rand
	b = append(b, channel)
	b = append(b, payload...)
	plain := b[2+nonceSize:]
	out := ring.all()[0].aead.Seal(plain[:0], b[2:2+nonceSize], plain, []byte(label))
	return b[:2+nonceSize+len(out)]
}

// openPacket undoes sealPacket. The payload does not alias b.
func openPacket(ring *keyring, label string, b []byte) (channel byte, payload []byte, err error) {
	if len(b) < 2 || b[0] != magic {
		return 0, nil, errNotOurs
	}
	switch {
	case b[1] == unsealed && ring == nil:
		if len(b) < 3 || len(b) < 3+int(b[2])+1 {
			return 0, nil, errTruncated
		}
		if string(b[3:3+int(b[2])]) != label {
			return 0, nil, errLabel
		}
		b = b[3+int(b[2]):]
		return b[0], append([]byte(nil), b[1:]...), nil
	case b[1] == sealed && ring != nil:
		if len(b) < 2+nonceSize+1+tagSize {
			return 0, nil, errTruncated
		}
		nonce, text := b[2:2+nonceSize], b[2+nonceSize:]
		for _, k := range ring.all() {
			plain, err := k.aead.Open(nil, nonce, text, []byte(label))
			if err == nil {
				return plain[0], plain[1:], nil
			}
		}
		return 0, nil, errNoKey
	case b[1] == unsealed || b[1] == sealed:
		return 0, nil, errUnsealed
	}
	return 0, nil, errNotOurs
}
