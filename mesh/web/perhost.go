package web

import (
	"net"
	"net/netip"
	"sync"
)

// perHost is a listener that limits the simultaneous connections of one host and closes further ones: a host that holds
// connections open must not keep everybody else out.
type perHost struct {
	net.Listener
	most int

	mu   sync.Mutex
	open map[string]int
}

func newPerHost(ln net.Listener, most int) *perHost {
	return &perHost{Listener: ln, most: most, open: make(map[string]int)}
}

func (l *perHost) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		host := sourceOf(c.RemoteAddr())
		if !l.enter(host) {
			// Closed without an answer: writing one could block, and costs more than the caller spent.
			_ = c.Close()
			continue
		}
		return &hostConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(host) })}, nil
	}
}

func (l *perHost) enter(host string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host] >= l.most {
		return false
	}
	l.open[host]++
	return true
}

func (l *perHost) leave(host string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open[host]--; l.open[host] <= 0 {
		delete(l.open, host)
	}
}

// sourceOf returns the address, or for IPv6 its /64, all of which one host can use.
func sourceOf(addr net.Addr) string {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	a := ap.Addr().Unmap().WithZone("")
	if p, err := a.Prefix(64); err == nil && a.Is6() {
		return p.String()
	}
	return a.String()
}

type hostConn struct {
	net.Conn
	leave func()
}

func (c *hostConn) Close() error {
	c.leave()
	return c.Conn.Close()
}
