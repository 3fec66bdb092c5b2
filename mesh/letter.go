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
	letterLeader     = 'L' // a heartbeat of mesh/leader
	letterReport     = 'R' // how the leader's commits stand
	letterAsk        = 'C' // commit now, please
	letterOutcome    = 'O' // what came of asking
	letterLimits     = 'M' // the sender's limits, in short
	letterLife       = 'D' // the sender's bans.max_duration
	letterUnnotified = 'F' // why the sender's fail2ban cannot be told
)

// letterVersion is the second byte of the letters of this package.
const letterVersion = 1

// maxLetter is the most a letter may have: it must fit a packet.
const maxLetter = 1200

var errLetter = errors.New("malformed letter")

// letterHandle is set up once and never changed: all encoders share it.
var letterHandle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.StructToArray = true
	h.ErrorIfNoArrayExpand = true
	return h
}()

// encodeLetter writes body, a struct without strings of unbounded length, as
// kind, version, msgpack array.
func encodeLetter(kind byte, body any) ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte(kind)
	b.WriteByte(letterVersion)
	if err := codec.NewEncoder(&b, letterHandle).Encode(body); err != nil {
		return nil, fmt.Errorf("encode letter: %w", err)
	}
	if b.Len() > maxLetter {
		return nil, fmt.Errorf("encode letter: %d bytes: more than %d", b.Len(), maxLetter)
	}
	return b.Bytes(), nil
}

// decodeLetter reads what follows the kind into body, which has the given
// number of fields: the decoder itself takes shorter arrays and trailing bytes
// in silence.
func decodeLetter(payload []byte, fields int, body any) error {
	switch {
	case len(payload) < 2 || len(payload) > maxLetter:
		return fmt.Errorf("%w: %d bytes", errLetter, len(payload))
	case payload[0] != letterVersion:
		return fmt.Errorf("%w: version %d", errLetter, payload[0])
	case payload[1] != arrayHead(fields):
		return fmt.Errorf("%w: not an array of %d", errLetter, fields)
	}
	d := codec.NewDecoderBytes(payload[1:], letterHandle)
	if err := d.Decode(body); err != nil {
		return fmt.Errorf("%w: %v", errLetter, err)
	}
	if d.NumBytesRead() != len(payload)-1 {
		return fmt.Errorf("%w: %d bytes after its end", errLetter, len(payload)-1-d.NumBytesRead())
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
