package leader

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"banmesh/mesh/packed"
)

func TestHeartbeatComesBackAsItWasSent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := Heartbeat{
			Seq:      rapid.Uint64().Draw(t, "seq"),
			Term:     rapid.Uint64Max(maxTerm).Draw(t, "term"),
			Name:     rapid.StringMatching(`[a-z0-9-]{1,40}`).Draw(t, "name"),
			Priority: rapid.IntRange(-1000, 1000).Draw(t, "priority"),
			session:  Session{rapid.StringMatching(`[a-z0-9.:]{0,40}`).Draw(t, "node"), rapid.Uint64().Draw(t, "session")},
			state:    State(rapid.IntRange(0, len(stateNames)-1).Draw(t, "state")),
			detail:   rapid.StringN(0, 60, maxDetail).Draw(t, "detail"),
			age:      time.Duration(rapid.IntRange(0, 100_000).Draw(t, "age")) * time.Millisecond,
		}
		if ms := rapid.Int64Range(0, 4e12).Draw(t, "until"); ms != 0 {
			want.until = time.UnixMilli(ms)
		}
		b, err := want.Encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decode(b)
		if err != nil || got != want {
			t.Fatalf("Decode = %+v, %v, want %+v", got, err, want)
		}
	})
}

func TestHeartbeatFitsAPacketWhateverItSays(t *testing.T) {
	h := Heartbeat{Term: maxTerm, Name: strings.Repeat("n", maxName), detail: strings.Repeat("é", 4000), session: Session{strings.Repeat("c", 4000), 1 << 63}, state: Waiting, until: time.Now(), age: maxAge}
	b, err := h.Encode()
	if err != nil || len(b) > maxPayload {
		t.Fatalf("Encode = %d bytes, %v, want at most %d", len(b), err, maxPayload)
	}
	if got, err := decode(b); err != nil || len(got.detail) != maxDetail {
		t.Fatalf("Decode = detail of %d bytes, %v, want %d", len(got.detail), err, maxDetail)
	}
}

func TestDecodeRefusesWhatIsNotOneHeartbeat(t *testing.T) {
	good, err := Heartbeat{Term: 7, Name: "a", state: Idle}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	encode := func(h Heartbeat) []byte {
		b, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	wire := func(w wireHeartbeat) []byte {
		b, err := packed.Append([]byte{heartbeatVersion}, &w)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"nothing":         nil,
		"a version only":  {heartbeatVersion},
		"another version": append([]byte{9}, good[1:]...),
		"cut short":       good[:len(good)-2],
		"more after it":   append(append([]byte{}, good...), 0),
		"a shorter array": append([]byte{heartbeatVersion, 0x98}, good[2:len(good)-1]...),
		"a huge name":     {heartbeatVersion, 0x99, 1, 7, 0xdb, 0xff, 0xff, 0xff, 0xff},
		"no name":         encode(Heartbeat{Term: 1}),
		"a wild term":     encode(Heartbeat{Term: maxTerm + 1, Name: "a"}),
		"no such state":   encode(Heartbeat{Name: "a", state: State(len(stateNames))}),
		"a long node":     wire(wireHeartbeat{Name: "a", Node: strings.Repeat("n", maxName+1)}),
		"a long detail":   wire(wireHeartbeat{Name: "a", Detail: strings.Repeat("d", maxDetail+1)}),
		"a negative age":  encode(Heartbeat{Name: "a", age: -time.Millisecond}),
		"too much":        make([]byte, maxPayload+1),
	} {
		if h, err := decode(b); !errors.Is(err, errHeartbeat) {
			t.Errorf("%s: decode = %+v, %v, want errHeartbeat", name, h, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, h := range []Heartbeat{{Term: 7, Name: "a"}, {Term: 1 << 40, Name: "router-1", state: Waiting, detail: "session 12", session: Session{"192.0.2.1:830", 99}, until: time.UnixMilli(1e12)}} {
		b, err := h.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decode(b)
		if err != nil {
			return
		}
		again, err := h.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := decode(again); err != nil || got != h {
			t.Fatalf("Decode(Encode(%+v)) = %+v, %v", h, got, err)
		}
	})
}
