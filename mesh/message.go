package mesh

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The first byte of what agents say to each other outside of the replicated
// set tells what it is. An agent ignores those it does not know.
const (
	messageLeader     = 'L' // a heartbeat of mesh/leader
	messageReport     = 'R' // how the leader's commits stand
	messageForward    = 'C' // commit now, please
	messageResult     = 'O' // what came of asking
	messageLimits     = 'M' // the sender's limits, in short
	letterLife        = 'D' // the sender's bans.max_duration
	messageUnnotified = 'F' // why the sender's fail2ban cannot be told
)

// messageVersion is the second byte of the messages of this package.
const messageVersion = 1

// maxMessage is the most a message may have: it must fit a packet.
const maxMessage = 1200

var errMessage = errors.New("malformed message")

// messageHandle is set up once and never changed: all encoders share it.
var messageHandle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.StructToArray = true
	h.ErrorIfNoArrayExpand = true
	return h
}()

// encodeMessage writes body, a struct without strings of unbounded length, as
// kind, version, msgpack array.
func encodeMessage(kind byte, body any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte(kind)
	b.WriteByte(messageVersion)
	if err := codec.NewEncoder(&b, messageHandle).Encode(body); err != nil {
		return nil, fmt.Errorf("encode message: %w", err)
	}
	if b.Len() > maxMessage {
		return nil, fmt.Errorf("encode message: %d bytes: more than %d", b.Len(), maxMessage)
	}
	return b.Bytes(), nil
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
	case payload[1] != arrayHead(fields):
		return fmt.Errorf("%w: not an array of %d", errMessage, fields)
	}
	d := codec.NewDecoderBytes(payload[1:], messageHandle)
	if err := d.Decode(body); err != nil {
		return fmt.Errorf("%w: %v", errMessage, err)
	}
	if d.NumBytesRead() != len(payload)-1 {
		return fmt.Errorf("%w: %d bytes after its end", errMessage, len(payload)-1-d.NumBytesRead())
	}
	return nil
}

// arrayHead is msgpack's first byte of an array of fewer than 16 fields.
func arrayHead(fields int) byte { return 0x90 | byte(fields) }

// cut shortens a text for people to n bytes, between two runes.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
