//go:build linux

package enforce

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// bridged puts a bridge of a third namespace, with the port lan0 towards the sender, into a wire.
func bridged(w *wire) *space {
	b := newSpace(w.t)
	w.from.run("", "ip", "link", "set", "out0", "netns", b.file())
	b.run("", "ip", "link", "add", "br0", "type", "bridge")
	b.run("", "ip", "link", "set", "out0", "master", "br0", "up")
	b.run("", "ip", "link", "set", "br0", "up")
	plug(w, b)
	return b
}

// plug makes the port lan0 and what it leads to.
func plug(w *wire, b *space) {
	b.run("", "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "new0")
	b.run("", "ip", "link", "set", "new0", "netns", w.from.file())
	w.from.run("", "ip", "link", "set", "new0", "name", "out0", "up")
	b.run("", "ip", "link", "set", "lan0", "master", "br0", "up")
}

// TestAtIngressWhatABridgeTakesIsDropped: the frames never come to a chain at prerouting.
func TestAtIngressWhatABridgeTakesIsDropped(t *testing.T) {
	w := newWire(t)
	b := bridged(w)
	came := w.listen()
	send := func(source string, mark byte, more func(i int) bool) int {
		t.Helper()
		w.mark = mark
		n := binary.BigEndian.Uint32(netip.MustParseAddr(source).AsSlice())
		return w.send(func(int) uint32 { return n }, more)
	}
	// through sends from a source that is not banned until a packet has come through, after n of one that is.
	through := func(mark byte, n int) {
		t.Helper()
		send("20.0.0.77", mark, func(i int) bool { return i < n })
		if send("20.0.0.78", mark+1, func(i int) bool { return i < 100_000 && came(mark+1) == 0 }); came(mark+1) == 0 {
			t.Fatal("nothing comes over the bridge")
		}
	}
	through(0, 1)

	d := b.driver("lan0", "gone0")
	applied(t, d, element("20.0.0.77", "20.0.0.77", 0), element("20.0.1.0", "20.0.1.255", 0))
	if c := d.Caveat(); !strings.Contains(c, "no interface gone0") {
		t.Errorf("the caveat is %q, want the interface that is not there", c)
	}
	if err := d.Fix(t.Context()); err != nil {
		t.Errorf("Fix: %v", err)
	}
	const sent = 1000
	through(2, sent)
	if got := came(2); got != 0 {
		t.Errorf("%d of %d packets of a banned source came over the bridge", got, sent)
	}
	if n, err := d.Dropped(t.Context()); err != nil || n.Packets != sent {
		t.Errorf("Dropped: %d packets, %v, want %d", n.Packets, err, sent)
	}

	// Somebody deletes the chain.
	b.nft("delete", "chain", "inet", "banmesh", "ingress")
	if err := d.Fix(t.Context()); err != nil {
		t.Fatalf("Fix: %v", err)
	}
	if through(4, sent); came(4) != 0 {
		t.Errorf("%d packets came through after the chain had been deleted and made anew", came(4))
	}

	// The port goes and comes.
	b.run("", "ip", "link", "del", "lan0")
	if err := d.Fix(t.Context()); err != nil {
		t.Fatalf("Fix without the port: %v", err)
	}
	if c := d.Caveat(); !strings.Contains(c, "no interface gone0, lan0") && !strings.Contains(c, "no interface lan0, gone0") {
		t.Errorf("the caveat is %q, want both interfaces", c)
	}
	plug(w, b)
	if err := d.Fix(t.Context()); err != nil {
		t.Fatalf("Fix with a new port: %v", err)
	}
	if through(6, sent); came(6) != 0 {
		t.Errorf("%d packets came through a new port", came(6))
	}

	// A driver that is to drop at no interface takes the chain away.
	plain := b.driver()
	if err := plain.Fix(t.Context()); err != nil {
		t.Fatal(err)
	}
	if list := b.nft("list", "table", "inet", "banmesh"); strings.Contains(list, "ingress") {
		t.Errorf("the chain is still there:\n%s", list)
	}
	if err := plain.Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Fix(t.Context()); !errors.Is(err, ErrAbsent) {
		t.Errorf("Fix after Remove: %v, want ErrAbsent", err)
	}
}
