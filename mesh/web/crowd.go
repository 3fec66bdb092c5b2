package web

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"banmesh/internal/ipranges"
)

// crowd is a listener that limits the simultaneous connections, of one host and of all. Who holds connections open must not keep
// others out, those on the same host included: on loopback all users of this machine are one host. So where there is no room, a
// connection whose request is not being answered gives way. That is the oldest of the host that has its share, or else of the
// host that has most of those; the one that has just come asks at once and is answered, as long as those that
// gave way do not come back faster than it can ask. A host's requests that are being answered do not count: a viewer who follows
// the page's stream must not lose the next request to hosts with one idle connection each.
type crowd struct {
	net.Listener
	most, perHost int

	mu    sync.Mutex
	open  map[*crowdConn]struct{}
	hosts map[string]int
	turn  uint64
}

func newCrowd(ln net.Listener, most, perHost int) *crowd {
	return &crowd{Listener: ln, most: most, perHost: perHost, open: make(map[*crowdConn]struct{}), hosts: make(map[string]int)}
}

// crowdConn is a connection that counts towards its host and towards all.
type crowdConn struct {
	net.Conn
	crowd *crowd
	host  string

	// The crowd's lock guards these.
	turn uint64 // grows with each connection and each answer
	busy int    // requests that are being answered
}

// Accept closes an idle connection of the host that has most, if need be, to make room for a new one, so that
// one host cannot keep the others out.
func (l *crowd) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		taken := &crowdConn{Conn: c, crowd: l, host: sourceOf(c.RemoteAddr())}
		gone, ok := l.enter(taken)
		if gone != nil {
			_ = gone.Conn.Close()
		}
		if ok {
			return taken, nil
		}
		// Closed without an answer: writing one could block, and costs more than the caller spent.
		_ = c.Close()
	}
}

// enter makes room for a connection, and returns the one that gives way, if any.
func (l *crowd) enter(c *crowdConn) (gone *crowdConn, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if crowded := l.hosts[c.host] >= l.perHost; crowded || len(l.open) >= l.most {
		among := ""
		if crowded {
			among = c.host
		}
		if gone = l.idlest(among); gone == nil {
			return nil, false
		}
		l.remove(gone)
	}
	l.turn++
	c.turn = l.turn
	l.open[c] = struct{}{}
	l.hosts[c.host]++
	return gone, true
}

// idlest is the connection that gives way, of one host unless that is "", nil where all requests are being answered. Called with
// the lock held.
func (l *crowd) idlest(host string) (found *crowdConn) {
	idle := make(map[string]int)
	for c := range l.open {
		if c.busy == 0 {
			idle[c.host]++
		}
	}
	for c := range l.open {
		if c.busy > 0 || host != "" && c.host != host {
			continue
		}
		if found == nil || idle[c.host] > idle[found.host] || idle[c.host] == idle[found.host] && c.turn < found.turn {
			found = c
		}
	}
	return found
}

// remove forgets a connection. Called with the lock held.
func (l *crowd) remove(c *crowdConn) {
	if _, there := l.open[c]; !there {
		return
	}
	delete(l.open, c)
	if l.hosts[c.host]--; l.hosts[c.host] <= 0 {
		delete(l.hosts, c.host)
	}
}

// Close takes the connection out of the count first: it is closed as far as the limit goes, even if the close
// itself takes a while.
func (c *crowdConn) Close() error {
	c.crowd.mu.Lock()
	c.crowd.remove(c)
	c.crowd.mu.Unlock()
	return c.Conn.Close()
}

// answering notes that a request begins (1) or ends (-1) to be answered.
func (c *crowdConn) answering(n int) {
	l := c.crowd
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turn++
	c.turn = l.turn
	c.busy += n
}

type crowdKey struct{}

// connContext is http.Server's: it lets answered find the connection of a request.
func (l *crowd) connContext(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, crowdKey{}, c)
}

// answered keeps the connection of each request until its answer is written.
func answered(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(crowdKey{}).(*crowdConn); ok {
			c.answering(1)
			defer c.answering(-1)
		}
		next.ServeHTTP(w, r)
	})
}

// sourceOf returns the host that an address belongs to.
func sourceOf(addr net.Addr) string {
	ap, err := netip.ParseAddrPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return ipranges.Host(ap.Addr()).String()
}
