// Package packed is the msgpack that members send each other: a message is an array of a fixed number of fields, without names
// and without what a receiver would have to guess.
package packed

import (
	"errors"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// The errors of Decode for bytes that are msgpack, but not the message.
var (
	ErrShape    = errors.New("wrong number of fields")
	ErrTrailing = errors.New("trailing bytes")
)

// handle is set up once and never changed: all encoders share it, and a handle is not safe for changes meanwhile.
var handle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.StructToArray = true
	h.MaxInitLen = 64 // a length that a hostile sender claims reserves no memory
	return h
}()

// Append encodes a struct behind what b holds.
func Append(b []byte, msg any) ([]byte, error) {
	var body []byte
	if err := codec.NewEncoderBytes(&body, handle).Encode(msg); err != nil {
		return b, err
	}
	return append(b, body...), nil
}

// Decode reads b, exactly one array of fields elements (at most 15), into msg. The codec by itself takes shorter arrays and
// trailing bytes in silence, and so would read a message of another version as one of this.
func Decode(b []byte, fields int, msg any) error {
	if len(b) == 0 || b[0] != 0x90|byte(fields) {
		return ErrShape
	}
	d := codec.NewDecoderBytes(b, handle)
	if err := d.Decode(msg); err != nil {
		return err
	}
	if d.NumBytesRead() != len(b) {
		return ErrTrailing
	}
	return nil
}
