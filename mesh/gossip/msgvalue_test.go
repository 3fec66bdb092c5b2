package gossip

import (
	"bufio"
	"bytes"
	"io"
	"testing"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// Whatever the codec writes is read to its end and no further.
func TestAValueIsReadAsItIs(t *testing.T) {
	for _, v := range []any{
		nil, true, false, 0, 127, 128, 1 << 20, uint64(1) << 63, -1, -200, -1 << 40, 1.5, float32(2.5), "", "a", string(make([]byte, 40)), string(make([]byte, 300)),
		make([]byte, 300), []int{1, 2, 3}, make([]int, 20), map[string]any{"a": []any{"b", map[string]int{"c": 70000}}, "d": nil},
		mlState{Name: "router1", Addr: []byte{192, 0, 2, 1}, Meta: make([]byte, 512), Vsn: []uint8{1, 5, 2, 0, 0, 0}},
	} {
		var b []byte
		if err := codec.NewEncoderBytes(&b, mlHandle).Encode(v); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(bytes.NewReader(append(bytes.Clone(b), "rest"...)))
		got, err := readValue(r, maxValue)
		if err != nil || !bytes.Equal(got, b) {
			t.Errorf("%.60v: %x, %v; want %x", v, got, err, b)
		}
		if rest, _ := io.ReadAll(r); string(rest) != "rest" {
			t.Errorf("%.60v: %q is left", v, rest)
		}
		for cut := range b {
			if _, err := readValue(bufio.NewReader(bytes.NewReader(b[:cut])), maxValue); err == nil {
				t.Errorf("%.60v cut after %d of %d bytes is taken", v, cut, len(b))
			}
		}
		if _, err := readValue(bufio.NewReader(bytes.NewReader(b)), len(b)-1); err == nil {
			t.Errorf("%.60v is taken beyond its limit", v)
		}
	}
}
