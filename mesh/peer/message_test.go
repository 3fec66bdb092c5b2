package peer

import (
	"errors"
	"testing"
)

func TestMessagesOfOthersAreReadWithCare(t *testing.T) {
	message, err := encodeMessage(messageForward, &forwardRequest{ID: 7, Force: true})
	if err != nil {
		t.Fatal(err)
	}
	var got forwardRequest
	if err := decodeMessage(message[1:], forwardFields, &got); err != nil || got.ID != 7 || !got.Force {
		t.Fatalf("decoded %+v, %v", got, err)
	}
	for name, bad := range map[string][]byte{
		"empty": {}, "version": {9, 0x92, 1, 0xc3}, "short array": {1, 0x91, 1}, "long array": {1, 0x93, 1, 0xc3, 1},
		"truncated": message[1 : len(message)-1], "trailing": append(message[1:len(message):len(message)], 0),
		"huge": append([]byte{1}, make([]byte, 2000)...),
	} {
		if err := decodeMessage(bad, forwardFields, new(forwardRequest)); !errors.Is(err, errMessage) {
			t.Errorf("%s: error %v, want errMessage", name, err)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for kind, body := range map[byte]any{messageReport: &Report{State: "idle"}, messageForward: &forwardRequest{ID: 1}, messageResult: &forwardResult{Error: "x"}} {
		b, err := encodeMessage(kind, body)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b[1:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_ = decodeMessage(b, reportFields, new(Report))
		_ = decodeMessage(b, forwardFields, new(forwardRequest))
		_ = decodeMessage(b, resultFields, new(forwardResult))
	})
}
