package peer

import (
	"errors"
	"fmt"

	"banmesh/mesh/packed"
)

// The first byte of what agents say to each other outside of the replicated
// set tells what it is. An agent ignores those it does not know.
const (
	messageLeader     = 'L' // a heartbeat of mesh/leader
	messageReport     = 'R' // how the leader's commits stand
	messageForward    = 'C' // commit now, please
	messageResult     = 'O' // the result of a forwarded commit
	messageLimits     = 'M' // the sender's limits, in short
	messageLife       = 'D' // the sender's bans.max_duration
	messageUnnotified = 'F' // why the sender's fail2ban cannot be told
)

// messageVersion is the second byte of the messages of this package.
const messageVersion = 1

// maxMessage is the most a message may have: it must fit a packet.
const maxMessage = 1200

var errMessage = errors.New("malformed message")

// encodeMessage writes body, a struct without strings of unbounded length, as
// kind, version, msgpack array.
func encodeMessage(kind byte, body any) ([]byte, error) {
	b, err := packed.Append([]byte{kind, messageVersion}, body)
	if err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if len(b) > maxMessage {
		return nil, fmt.Errorf("encode message: %d bytes: more than %d", len(b), maxMessage)
	}
	return b, nil
}

// decodeMessage reads what follows the kind into body, which has the given
// number of fields: the decoder itself takes shorter arrays and trailing bytes
// in silence.
func decodeMessage(payload []byte, fields int, body any) error {
	switch {
	case len(payload) < 2 || len(payload) > maxMessage:
		return fmt.Errorf("%w: %d bytes", errMessage, len(payload))
	case payload[0] != messageVersion:
		return fmt.Errorf("%w: version %d", errMessage, payload[0])
	}
	if err := packed.Decode(payload[1:], fields, body); err != nil {
		return fmt.Errorf("%w: %v", errMessage, err)
	}
	return nil
}
