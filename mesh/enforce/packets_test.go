//go:build linux

package enforce

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"banmesh/store"
)

const (
	receiver4  = "198.18.0.1"
	packetPort = 9999
)

// wire joins two namespaces. What is sent from one, the other's kernel works off before the sending returns, on the same
// core.
type wire struct {
	t        testing.TB
	from, to *space
	mac      net.HardwareAddr // of the receiver
	mark     byte             // of the packets that are sent from now on
}

func newWire(t testing.TB) *wire {
	t.Helper()
	w := &wire{t: t, from: newSpace(t), to: newSpace(t), mac: net.HardwareAddr{2, 0, 0, 0, 0, 1}}
	w.to.run("", "ip", "link", "add", "in0", "address", w.mac.String(), "type", "veth", "peer", "name", "out0")
	w.to.run("", "ip", "link", "set", "out0", "netns", w.from.file())
	w.to.run("", "sh", "-c", "echo 0 > /proc/sys/net/ipv4/conf/all/rp_filter; echo 0 > /proc/sys/net/ipv4/conf/in0/rp_filter")
	w.to.run("", "ip", "addr", "add", receiver4+"/24", "dev", "in0")
	w.to.run("", "ip", "link", "set", "in0", "up")
	w.to.run("", "ip", "route", "add", "default", "dev", "in0") // so that no source is out of place
	w.from.run("", "ip", "link", "set", "out0", "up")
	return w
}

// within runs f on a thread of its own in a namespace.
func (s *space) within(f func() error) {
	s.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		err := netns.Set(s.fd)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
}

// send sends packets until more says no, each from the address that source gives, and returns how many.
func (w *wire) send(source func(i int) uint32, more func(i int) bool) (n int) {
	w.t.Helper()
	w.from.within(func() error {
		link, err := net.InterfaceByName("out0")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		to := &unix.SockaddrLinklayer{Ifindex: link.Index, Protocol: 0x0008}
		p := make([]byte, 64)
		copy(p, w.mac)
		copy(p[6:], link.HardwareAddr)
		copy(p[12:], []byte{8, 0, 0x45, 0, 0, 50, 0, 0, 0, 0, 64, unix.IPPROTO_UDP})
		copy(p[30:], netip.MustParseAddr(receiver4).AsSlice())
		binary.BigEndian.PutUint16(p[34:], 1234)
		binary.BigEndian.PutUint16(p[36:], packetPort)
		binary.BigEndian.PutUint16(p[38:], 30)
		p[42] = w.mark
		for ; more(n); n++ {
			binary.BigEndian.PutUint32(p[26:], source(n))
			p[24], p[25] = 0, 0
			sum := uint32(0)
			for i := 14; i < 34; i += 2 {
				sum += uint32(binary.BigEndian.Uint16(p[i:]))
			}
			for sum > 0xffff {
				sum = sum>>16 + sum&0xffff
			}
			binary.BigEndian.PutUint16(p[24:], ^uint16(sum))
			if err := unix.Sendto(fd, p, 0, to); err != nil && err != unix.ENOBUFS {
				return err
			}
		}
		return nil
	})
	return n
}

// listen counts the packets that come through, by their mark, until the test ends.
func (w *wire) listen() (came func(mark byte) int64) {
	w.t.Helper()
	var conn *net.UDPConn
	w.to.within(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: packetPort})
		return err
	})
	n, done := new([256]atomic.Int64), make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 64); ; {
			if _, _, err := conn.ReadFromUDP(b); err != nil {
				return
			}
			n[b[0]].Add(1)
		}
	}()
	w.t.Cleanup(func() { conn.Close(); <-done })
	return func(mark byte) int64 { return n[mark].Load() }
}

// TestNoPacketPassesThroughTenThousandChanges: of two sources that stay banned, by themselves or by a prefix, now by prefixes around that
// come, go, widen and narrow, while somebody puts more into the table and the agent takes it out, and while it is restarted.
func TestNoPacketPassesThroughTenThousandChanges(t *testing.T) {
	w := newWire(t)
	came := w.listen()
	source := func(i int) uint32 { return 20<<24 | [2]uint32{77, 70}[i%2] }
	late := time.Now().Add(30 * time.Second)
	if w.send(source, func(int) bool { return came(0) == 0 && time.Now().Before(late) }); came(0) == 0 {
		t.Fatal("no packet comes through before the ban")
	}
	set := newFakeSet(time.Now)
	day := store.At(time.Now().Add(24 * time.Hour))
	set.ban("20.0.0.77/32", day)
	set.ban("20.0.0.64/29", day)
	var e *Enforcer
	start := func() (stop func()) {
		e = New(Config{Set: set, Driver: w.to.driver(), Settled: func() bool { return true }})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		return func() { cancel(); <-done }
	}
	awaits := func(what string, cond func() bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !cond(); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", what, e.Status())
			}
		}
	}
	stop := start()
	awaits("the ban", func() bool { return e.Status().State == On && e.Status().Elements == 2 })

	w.mark = 1
	var over atomic.Bool
	sent := make(chan int)
	go func() { sent <- w.send(source, func(int) bool { return !over.Load() }) }()
	const changes = 10_000
	for i := range changes {
		prefix := fmt.Sprintf("20.0.0.64/%d", 26+i/2%3)
		switch i % 6 {
		case 0, 2, 4:
			e.Changed(set.ban(prefix, day+store.Millis(i-5000)*1000)) // sometimes longer than the ban inside, sometimes shorter
		case 1, 5:
			e.Changed(set.lift(prefix))
		case 3:
			e.Changed(set.ban("20.0.0.77/32", day+store.Millis(i-5000)*1000))
		}
		if i%100 == 0 { // so that they are not all one batch
			n := e.Status().Batches
			awaits("the change", func() bool { return e.Status().Batches > n || e.Status().Behind == 0 })
		}
		switch i {
		case changes / 4:
			w.to.run("add set inet banmesh more { type ipv4_addr; }\nadd chain inet banmesh more\nadd rule inet banmesh prerouting jump more\n", "nft", "-f", "-")
			awaits("what was put into the table to go", func() bool { return !strings.Contains(w.to.nft("list", "table", "inet", "banmesh"), "more") })
		case changes / 2:
			stop()
			stop = start()
			awaits("a restart", func() bool { return e.Status().State == On })
		}
	}
	awaits("all changes", func() bool { return e.Status().Behind == 0 })
	over.Store(true)
	n := <-sent
	stop()
	if got := came(1); got != 0 || n < 1000 {
		t.Errorf("%d of %d packets of a banned source came through", got, n)
	}
	t.Logf("%d packets, %d changes", n, changes)
}

// TestNoPacketPassesWhileTheTableIsReplaced: what drops is of an earlier version at the agent's start, which cannot take over its
// elements.
func TestNoPacketPassesWhileTheTableIsReplaced(t *testing.T) {
	w := newWire(t)
	came := w.listen()
	set := newFakeSet(time.Now)
	day := store.At(time.Now().Add(24 * time.Hour))
	set.ban("20.0.0.77/32", day)
	set.ban("20.0.1.0/24", day)
	for i := range 1000 { // so that it takes a while
		set.ban(fmt.Sprintf("30.%d.%d.0/29", i/250, i%250), day)
	}
	sources := []uint32{20<<24 | 77, 20<<24 | 256 + 7}
	for round := range 10 {
		w.to.run("add table inet banmesh\n"+oldLayout+"\nadd element inet banmesh banned4 { 20.0.0.77, 20.0.1.0/24 }\n", "nft", "-f", "-")
		w.mark = byte(1 + round)
		var over atomic.Bool
		sent := make(chan int)
		go func() {
			sent <- w.send(func(i int) uint32 { return sources[i%len(sources)] }, func(int) bool { return !over.Load() })
		}()
		e := New(Config{Set: set, Driver: w.to.driver(), Settled: func() bool { return true }})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- e.Run(ctx) }()
		for deadline := time.Now().Add(30 * time.Second); e.Status().State != On; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the start: %+v", e.Status())
			}
		}
		over.Store(true)
		n := <-sent
		cancel()
		<-done
		if list := w.to.nft("list", "tables"); list != "table inet banmesh\n" {
			t.Fatalf("there are the tables\n%s", list)
		}
		if got := came(w.mark); got != 0 {
			t.Errorf("round %d: %d of %d packets of banned sources came through", round, got, n)
		}
	}
}

// TestFiguresDroppedPacketsASecond: by one core, from 65,536 banned sources, against what a firewall with connection tracking
// needs to drop the same by its own default.
func TestFiguresDroppedPacketsASecond(t *testing.T) {
	w := newWire(t)
	w.to.run("table inet firewall {\n\tchain input {\n\t\ttype filter hook input priority filter; policy drop;\n\t\tct state established,related accept\n\t}\n}\n", "nft", "-f", "-")
	const sources, packets = 65_536, 300_000
	elements := make([]Element, sources)
	for i := range elements {
		a := netip.AddrFrom4([4]byte{20, 0, byte(i >> 8), byte(i)})
		elements[i] = Element{From: a, To: a, Left: time.Hour}
	}
	rate := func() float64 {
		began := time.Now()
		w.send(func(i int) uint32 { return 20<<24 | uint32(i*40503)%sources }, func(i int) bool { return i < packets })
		return packets / time.Since(began).Seconds()
	}
	n := w.to.driver()
	var firewall, ours []float64
	for range 7 {
		firewall = append(firewall, rate())
		if err := n.Apply(t.Context(), Change{Anew: true, Add: elements}); err != nil {
			t.Fatal(err)
		}
		ours = append(ours, rate())
		d, err := n.Dropped(t.Context())
		if err != nil || d.Packets < packets*99/100 {
			t.Fatalf("%d of %d packets are dropped by us: %v", d.Packets, packets, err)
		}
		if err := n.Remove(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(firewall)
	slices.Sort(ours)
	ratio := ours[3] / firewall[3]
	t.Logf("a firewall's default %.0f a second, ours %.0f: %.2f of it", firewall[3], ours[3], ratio)
	if ratio < 1 {
		t.Errorf("%.2f of what a firewall's default drops, want as much", ratio)
	}
}
