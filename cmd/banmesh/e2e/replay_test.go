package e2e

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"

	"github.com/hashicorp/go-msgpack/v2/codec"
)

// parrot is a set that remembers every chunk it is sent, and says as its own news
// whatever it is told to say.
type parrot struct {
	*store.Store
	mu    sync.Mutex
	heard [][]byte
	says  [][]byte
}

func (p *parrot) Merge(chunk []byte) (store.Merged, error) {
	p.mu.Lock()
	p.heard = append(p.heard, bytes.Clone(chunk))
	p.mu.Unlock()
	return p.Store.Merge(chunk)
}

func (p *parrot) Head() store.Head {
	p.mu.Lock()
	defer p.mu.Unlock()
	return store.Head{Log: p.Store.Head().Log, Seq: uint64(len(p.says))}
}

func (p *parrot) Since(after uint64, _ int) (chunk []byte, last uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if after >= uint64(len(p.says)) {
		return nil, after
	}
	return p.says[after], after + 1
}

// said is what the parrot heard by packets.
func (p *parrot) said() [][]byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out [][]byte
	for _, c := range p.heard {
		if len(c) < 1000 { // what came by a stream fits no packet
			out = append(out, c)
		}
	}
	return out
}

// say has the chunks pushed to all, and waits until they are on their way.
func (p *parrot) say(r *rogue, chunks [][]byte) {
	r.t.Helper()
	p.mu.Lock()
	p.says = append(p.says, chunks...)
	p.mu.Unlock()
	before := r.mesh.Stats().Pushes
	r.mesh.Announce()
	eventually(r.t, 10*time.Second, "the rogue to have said all", func() bool {
		return r.mesh.Stats().Pushes >= before+uint64(len(chunks))
	})
}

// chunk is one record as it travels: version, [origin, epoch, [first, last], [record]].
func chunk(t testing.TB, origin string, epoch, seq uint64, record ...any) []byte {
	t.Helper()
	h := &codec.MsgpackHandle{WriteExt: true}
	b := []byte{1}
	var body []byte
	if err := codec.NewEncoderBytes(&body, h).Encode([]any{origin, epoch, []any{seq, seq}, []any{record}}); err != nil {
		t.Fatal(err)
	}
	return append(b, body...)
}

// TestReplayedRecordsDoNoHarm: what honest members once said is said again later,
// in reverse, twice, and with times that nobody should have; all stays as it is.
func TestReplayedRecordsDoNoHarm(t *testing.T) {
	t.Parallel()
	all := trio(t, keyed(t, ""))
	var p *parrot
	r := enter(t, "rogue", all[0], func(s *store.Store) gossip.Set { p = &parrot{Store: s}; return p })
	awaitMembers(t, all, 4)
	equal(t, all, 20*time.Second)

	for i, a := range all {
		for j := range 12 {
			a.must("ban", fmt.Sprintf("203.0.%d.%d", i, j+1), "--for", "6h")
		}
	}
	all[0].must("allow", "add", "203.0.1.1", "--for", "6h")
	all[1].must("freeze")
	equal(t, all, 20*time.Second)
	eventually(t, 10*time.Second, "the rogue to have heard it", func() bool { return r.set.Counts().Live == 36 })
	for i, a := range all {
		for j := range 6 {
			a.must("unban", fmt.Sprintf("203.0.%d.%d", (i+1)%3, j+1))
		}
	}
	all[2].must("allow", "remove", "203.0.1.1")
	all[0].must("thaw")
	equal(t, all, 20*time.Second)
	was, _ := all[0].verdicts()
	root := all[0].status().Root
	if len(was) != 18 {
		t.Fatalf("%d effective, want the 18 that were not unbanned", len(was))
	}

	tape := p.said()
	if len(tape) < 40 {
		t.Fatalf("the rogue has recorded %d chunks, too few to prove anything", len(tape))
	}
	reversed := slices.Clone(tape)
	slices.Reverse(reversed)
	shuffled := slices.Concat(tape, reversed)
	for i := range shuffled { // the same each time, and no order at all
		j := (i*7919 + 13) % len(shuffled)
		shuffled[i], shuffled[j] = shuffled[j], shuffled[i]
	}
	for _, again := range [][][]byte{tape, reversed, shuffled} {
		p.say(r, again)
	}
	unchanged := func(what string) {
		t.Helper()
		equal(t, all, 20*time.Second)
		if frozen := read[state](all[0], "status").Frozen; frozen {
			t.Errorf("%s: the freeze is back", what)
		}
		for _, a := range all {
			if got, _ := a.verdicts(); difference(got, was) != "" {
				t.Errorf("%s: at %s: %s", what, a.name, difference(got, was))
			}
		}
	}
	unchanged("replayed")
	if got := all[0].status().Root; got != root {
		t.Error("the records are others than before the replay")
	}

	// Times that nobody should have. What is no time at all is refused; a ban from the future is one of the rogue's, and counts as such.
	addr := func(i int) []byte { return []byte{100, 0, 0, byte(i), 32} }
	ban := func(i int, start, life any) []byte {
		return chunk(t, "rogue", 99, uint64(i), 1, i, addr(i), start, life, "x", 1, "", 0)
	}
	future := time.Date(2106, 2, 7, 6, 28, 16, 0, time.UTC).UnixMilli()
	// A chunk that is none is dropped, a record that is none is set aside and told.
	aside := regexp.MustCompile(`(\d+) unreadable record`)
	refused := func() (n int) {
		for _, a := range all {
			n += dropped(a, "dropped_records:_time_out_of_bounds") + dropped(a, "dropped_records:_truncated")
			for _, w := range a.status().Warnings {
				if m := aside.FindStringSubmatch(w); m != nil {
					told, _ := strconv.Atoi(m[1])
					n += told
				}
			}
		}
		return n
	}
	before := refused()
	bad := [][]byte{
		ban(1, int64(math.MaxInt64), 1000), ban(2, uint64(math.MaxUint64), 1000), ban(3, int64(-1), 1000),
		ban(4, int64(math.MinInt64), 1000), ban(5, future, uint64(math.MaxUint64)), ban(6, future, int64(math.MaxInt64)),
		ban(7, int64(8e15), nil), chunk(t, "rogue", 99, 8, 6, 8, int64(-5)), chunk(t, "rogue", 99, 9, 7, 9, int64(math.MaxInt64), "router1"),
		chunk(t, "rogue", 99, math.MaxUint64, 6, uint64(math.MaxUint64), 5),
		binary.BigEndian.AppendUint64([]byte{1, 0x94}, 0),
	}
	p.say(r, bad)
	eventually(t, 10*time.Second, "all to have refused what is no time", func() bool { return refused() >= before+3*8 })
	unchanged("no time at all")

	p.say(r, [][]byte{
		chunk(t, "rogue", 98, 1, 1, 1, addr(1), future, 3600000, "x", 1, "", 0),
		chunk(t, "rogue", 98, 2, 2, 2, []byte{203, 0, 0, 12, 32}, future, nil, true, []any{"router1", "manual", future}, []any{}),
		chunk(t, "rogue", 98, 3, 3, 3, []byte{203, 0, 0, 12, 32}, int64(0), 1000, "", 0),
	})
	for _, a := range all {
		eventually(t, 10*time.Second, a.name+" to have the ban from the future", func() bool { return a.known("100.0.0.1") })
	}
	was["100.0.0.1/32"] = ""
	unchanged("a ban from the future, a lift of an offence to come, an allow of long ago")
	all[1].must("revoke", "--origin", "rogue", "--block", "--yes")
	delete(was, "100.0.0.1/32")
	for _, a := range all {
		eventually(t, 10*time.Second, a.name+" to be rid of it", func() bool { got, _ := a.verdicts(); return difference(got, was) == "" })
	}
}

// dropped is a counter of the replication.
func dropped(a *agent, name string) int {
	a.t.Helper()
	type counters struct {
		Replication struct {
			Counters map[string]int `json:"counters"`
		} `json:"replication"`
	}
	return read[counters](a, "status").Replication.Counters[name]
}
