package simnet

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Host is one host's end of the network.
type Host struct {
	net     *Network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}

	// under the network's lock
	gone    bool
	crashed bool
	dialled uint // streams, for their ports
	conns   map[*stream]struct{}
	last    map[netip.AddrPort]time.Time // latest arrival of a packet sent there, to keep the order

	once sync.Once
}

var _ memberlist.Transport = (*Host)(nil)

// Queues about as deep as a kernel's.
const (
	packetQueue = 2048
	streamQueue = 128
)

func newHost(n *Network, addr netip.AddrPort) *Host {
	return &Host{
		net: n, addr: addr,
		packets: make(chan *memberlist.Packet, packetQueue),
		streams: make(chan net.Conn, streamQueue),
		done:    make(chan struct{}),
		conns:   make(map[*stream]struct{}),
		last:    make(map[netip.AddrPort]time.Time),
	}
}

// Addr is the host's address.
func (h *Host) Addr() netip.AddrPort { return h.addr }

// Crash takes the host off the network without notice. Packets under way still arrive, and its streams fall silent. What runs
// on it only sees errors, and can be stopped without the others noticing.
func (h *Host) Crash() {
	h.net.mu.Lock()
	h.crashed = true
	h.leave()
	open := slices.Collect(maps.Keys(h.conns))
	h.net.mu.Unlock()
	for _, s := range open {
		s.fail(errCrashed)
	}
	h.once.Do(func() { close(h.done) })
}

// leave frees the address. The caller holds the network's lock.
func (h *Host) leave() {
	if !h.gone {
		h.gone = true
		delete(h.net.hosts, h.addr)
	}
}

var errCrashed = errors.New("the host is down")

// FinalAdvertiseAddr implements memberlist.Transport.
func (h *Host) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return net.IP(h.addr.Addr().AsSlice()), int(h.addr.Port()), nil
}

// PacketCh implements memberlist.Transport.
func (h *Host) PacketCh() <-chan *memberlist.Packet { return h.packets }

// StreamCh implements memberlist.Transport.
func (h *Host) StreamCh() <-chan net.Conn { return h.streams }

// Shutdown implements memberlist.Transport. The host stops listening; its users close open streams.
func (h *Host) Shutdown() error {
	h.net.mu.Lock()
	h.leave()
	h.net.mu.Unlock()
	h.once.Do(func() { close(h.done) })
	return nil
}

// WriteTo implements memberlist.Transport.
func (h *Host) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %q: %w", addr, err)
	}
	n := h.net
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if h.gone || n.closed {
		return now, errCrashed
	}
	n.counts.Packets++
	n.counts.Bytes += uint64(len(b))
	if n.chance(n.cfg.Loss) {
		n.counts.Lost++
		return now, nil
	}
	b = append([]byte(nil), b...)
	h.deliver(to, b)
	if n.chance(n.cfg.Duplicate) {
		n.counts.Duplicated++
		h.deliver(to, b)
	}
	return now, nil
}

// deliver sends one copy on its way. The caller holds the network's lock.
func (h *Host) deliver(to netip.AddrPort, b []byte) {
	n := h.net
	d := n.delay()
	if n.chance(n.cfg.Reorder) {
		d += time.Duration(n.rng.Int64N(3*int64(n.cfg.Latency) + 1))
	} else {
		at := time.Now().Add(d)
		if last := h.last[to]; at.Before(last) {
			at = last
			d = time.Until(at)
		}
		h.last[to] = at
	}
	n.after(d, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		dst := n.hosts[to]
		if dst == nil || !n.passes(h.addr.Addr(), to.Addr()) {
			n.counts.Dropped++
			return
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), b...), From: net.UDPAddrFromAddrPort(h.addr), Timestamp: time.Now()}
		select {
		case dst.packets <- p:
		default:
			n.counts.Dropped++
		}
	})
}

var errRefused = errors.New("connection refused")

// DialTimeout implements memberlist.Transport. If the way is cut it waits for its whole timeout; if nobody listens it is
// refused after a round trip.
func (h *Host) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("dial %q: %w", addr, err)
	}
	fail := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: net.TCPAddrFromAddrPort(to), Err: err}
	}
	n := h.net
	answer := make(chan error, 1)
	n.mu.Lock()
	if h.gone || n.closed {
		n.mu.Unlock()
		return fail(errCrashed)
	}
	local, remote := newPair(h, to)
	syn := func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		back := func(err error) {
			n.after(n.delay(), func() {
				n.mu.Lock()
				ok := n.open(to.Addr(), h.addr.Addr())
				n.mu.Unlock()
				if ok {
					answer <- err
				}
			})
		}
		if !n.open(h.addr.Addr(), to.Addr()) {
			return
		}
		dst := n.hosts[to]
		if dst == nil {
			back(errRefused)
			return
		}
		remote.host = dst
		select {
		case dst.streams <- remote:
			n.counts.Streams++
			dst.conns[remote] = struct{}{}
			back(nil)
		default:
			back(errRefused)
		}
	}
	wait := n.delay()
	if n.chance(n.cfg.Loss) {
		wait += time.Second // first retransmission of a SYN
	}
	n.after(wait, syn)
	h.conns[local] = struct{}{}
	n.mu.Unlock()

	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case err = <-answer:
	case <-timer.C:
		err = os.ErrDeadlineExceeded
	case <-h.done:
		err = errCrashed
	case <-n.done:
		err = errCrashed
	}
	if err != nil {
		local.abandon()
		return fail(err)
	}
	return local, nil
}
