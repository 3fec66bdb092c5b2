package gossip

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// link is the real network: one UDP socket and one TCP listener on the same port. It replaces memberlist's own transport, which
// allocates 64 KiB for each packet it reads.
type link struct {
	udp   *net.UDPConn
	tcp   *net.TCPListener
	bind  netip.AddrPort // with the actual port
	log   *slog.Logger
	count *counters

	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

var _ memberlist.Transport = (*link)(nil)

// receiveBuffer is the socket buffer requested from the kernel, which may grant less. A burst waits there while this process is
// busy.
const receiveBuffer = 4 << 20

// newLink listens on one port for both TCP and UDP, because memberlist advertises one.
func newLink(bind netip.AddrPort, log *slog.Logger, count *counters) (*link, error) {
	// The kernel picks a port that is free for TCP, but perhaps not for UDP.
	tries := 1
	if bind.Port() == 0 {
		tries = 10
	}
	var l *link
	var err error
	for range tries {
		if l, err = listen(bind, log, count); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	l.wg.Add(2)
	go l.readPackets()
	go l.accept()
	return l, nil
}

// listen takes the TCP port first: if bind's is 0 that decides which one UDP must get. A receive buffer that
// the kernel makes smaller than asked for is no error.
func listen(bind netip.AddrPort, log *slog.Logger, count *counters) (*link, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(bind))
	if err != nil {
		return nil, fmt.Errorf("listen for gossip on %s (TCP): %w", bind, err)
	}
	bind = netip.AddrPortFrom(bind.Addr(), tcp.Addr().(*net.TCPAddr).AddrPort().Port())
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(bind))
	if err != nil {
		_ = tcp.Close()
		return nil, fmt.Errorf("listen for gossip on %s (UDP): %w", bind, err)
	}
	_ = udp.SetReadBuffer(receiveBuffer)
	return &link{
		udp: udp, tcp: tcp, bind: bind, log: log, count: count,
		packets: make(chan *memberlist.Packet, 64),
		streams: make(chan net.Conn),
		done:    make(chan struct{}),
	}, nil
}

// readPackets blocks while its reader is slow: then the kernel's buffer fills and drops, which gossip is made
// to survive, instead of this process growing.
func (l *link) readPackets() {
	defer l.wg.Done()
	buf := make([]byte, 64<<10)
	for {
		n, from, err := l.udp.ReadFromUDPAddrPort(buf)
		at := time.Now()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			// An ICMP error caused by an earlier send; the socket is fine.
			l.count.drop("receive error")
			continue
		}
		if n == 0 || n > maxPacket {
			l.count.drop("packet size")
			continue
		}
		p := &memberlist.Packet{
			Buf:       append([]byte(nil), buf[:n]...),
			From:      net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.Addr().Unmap(), from.Port())),
			Timestamp: at,
		}
		select {
		case l.packets <- p:
		case <-l.done:
			return
		}
	}
}

// accept runs until the listener is closed; any other error is taken to pass.
func (l *link) accept() {
	defer l.wg.Done()
	for {
		c, err := l.tcp.AcceptTCP()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			l.log.Warn("accept gossip stream", "error", err)
			// Most likely out of file descriptors: wait until some are closed.
			select {
			case <-time.After(100 * time.Millisecond):
			case <-l.done:
				return
			}
			continue
		}
		select {
		case l.streams <- c:
		case <-l.done:
			_ = c.Close()
			return
		}
	}
}

// FinalAdvertiseAddr is memberlist's question which address to spread. An unspecified bind address is
// replaced by one that others may reach.
func (l *link) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip != "" {
		a, err := netip.ParseAddr(ip)
		if err != nil {
			return nil, 0, fmt.Errorf("advertise address %q is not an IP address", ip)
		}
		if port == 0 {
			port = int(l.bind.Port())
		}
		return net.IP(a.Unmap().AsSlice()), port, nil
	}
	addr := l.bind.Addr()
	if addr.IsUnspecified() {
		found, err := reachable()
		if err != nil {
			return nil, 0, err
		}
		addr = found
	}
	return net.IP(addr.Unmap().AsSlice()), int(l.bind.Port()), nil
}

// reachable picks the advertised address if the configuration leaves it open: a private one before a public one before
// one of IPv6 before loopback.
func reachable() (netip.Addr, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, fmt.Errorf("find an address to advertise: %w", err)
	}
	rank := func(a netip.Addr) int {
		switch {
		case a.IsLinkLocalUnicast(), a.IsMulticast(), a.IsUnspecified():
			return 0
		case a.IsLoopback():
			return 1
		case a.Is6():
			return 2
		case a.IsPrivate():
			return 4
		}
		return 3
	}
	var best netip.Addr
	for _, n := range list {
		p, err := netip.ParsePrefix(n.String())
		if err != nil {
			continue
		}
		if a := p.Addr().Unmap(); rank(a) > 0 && (!best.IsValid() || rank(a) > rank(best)) {
			best = a
		}
	}
	if !best.IsValid() {
		return best, errors.New("this host has no address that others could reach: set gossip.advertise")
	}
	return best, nil
}

// WriteTo is for packets; the time returned is when it was sent, by which memberlist measures round trips.
func (l *link) WriteTo(b []byte, addr string) (time.Time, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, fmt.Errorf("send to %q: %w", addr, err)
	}
	_, err = l.udp.WriteToUDPAddrPort(b, ap)
	return time.Now(), err
}

func (l *link) PacketCh() <-chan *memberlist.Packet { return l.packets }
func (l *link) StreamCh() <-chan net.Conn           { return l.streams }

func (l *link) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	// Closing must not wait for a silent address.
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-l.done:
			cancel()
		case <-stop:
		}
	}()
	return (&net.Dialer{}).DialContext(ctx, "tcp", addr)
}

// Shutdown returns when both readers have ended. It may be called more than once.
func (l *link) Shutdown() error {
	l.once.Do(func() {
		close(l.done)
		_ = l.tcp.Close()
		_ = l.udp.Close()
	})
	l.wg.Wait()
	return nil
}
