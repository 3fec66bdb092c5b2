package simnet

import (
	"context"
	"net"
	"time"
)

// Listener accepts the host's streams like a server's listener. Closing it takes the host off the network.
func (h *Host) Listener() net.Listener { return listener{h} }

type listener struct{ host *Host }

func (l listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.host.streams:
		return c, nil
	case <-l.host.done:
		return nil, net.ErrClosed
	}
}

func (l listener) Close() error   { return l.host.Shutdown() }
func (l listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.host.addr) }

// DialContext connects to another host, like net.Dialer's.
func (h *Host) DialContext(ctx context.Context, _, addr string) (net.Conn, error) {
	timeout := time.Minute
	if at, bounded := ctx.Deadline(); bounded {
		timeout = max(time.Until(at), 0)
	}
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		conn, err := h.DialTimeout(addr, timeout)
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.conn != nil {
				r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}
