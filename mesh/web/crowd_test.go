package web

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestOneHostCannotHoldOthersOff: idle connections of one host, and one of another.
func TestOneHostCannotHoldOthersOff(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	ln := newCrowd(inner, 16, 3)
	taken := make(chan net.Conn, 16)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			taken <- c
		}
	}()
	dial := func(from string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		c, err := d.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	next := func() net.Conn {
		t.Helper()
		select {
		case c := <-taken:
			return c
		case <-time.After(20 * time.Second):
			t.Fatal("a connection is not taken")
			return nil
		}
	}
	asked := make([]*crowdConn, 3)
	for i := range asked {
		dial("127.0.0.1")
		asked[i] = next().(*crowdConn)
		asked[i].answering(1)
	}
	refused := dial("127.0.0.1")
	_ = refused.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := refused.Read(make([]byte, 1)); err == nil {
		t.Errorf("a fourth connection of one host is read from: %d bytes", n)
	}
	dial("127.0.0.2")
	if at := next().RemoteAddr().(*net.TCPAddr).IP.String(); at != "127.0.0.2" {
		t.Errorf("the one taken is from %s, want the other host's", at)
	}
	asked[0].Close()
	asked[0].Close() // twice gives back one place
	dial("127.0.0.1")
	next().(*crowdConn).answering(1)
	dial("127.0.0.1")
	select {
	case c := <-taken:
		t.Errorf("one more than its share is taken of %v", c.RemoteAddr())
	case <-time.After(50 * time.Millisecond):
	}
}

// TestIdleConnectionsKeepNobodyOfTheSameHostOut: on loopback, any user of this machine can open all that one host may have.
func TestIdleConnectionsKeepNobodyOfTheSameHostOut(t *testing.T) {
	base, _ := serve(t, newServer(t, Config{}), "127.0.0.1:0")
	for range 2 * maxPerHost {
		c, err := net.DialTimeout("tcp", base[len("http://"):], 20*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_, _ = c.Write([]byte("G"))
	}
	c := http.Client{Timeout: readWithin * 3 / 5, Transport: &http.Transport{DisableKeepAlives: true}}
	for range 3 {
		r, err := c.Get(base + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
	}
}

// A hundred hosts hold more connections than there is room for, each with the first byte of a request that never comes. Whoever
// asks something is answered, at once and not when theirs have timed out; what is being answered goes on.
func TestManyHostsCannotHoldOthersOff(t *testing.T) {
	held, answer := make(chan struct{}), make(chan struct{})
	s := newServer(t, Config{Page: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(held)
			<-answer
		}
		fmt.Fprint(w, "well")
	})})
	base, _ := serve(t, s, "127.0.0.1:0")
	addr := base[len("http://"):]
	get := func(path string, within time.Duration) error {
		c := http.Client{Timeout: within, Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := c.Get(base + path)
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); string(b) != "well" {
			return fmt.Errorf("%q, %w", b, err)
		}
		return nil
	}
	slow := make(chan error, 1)
	go func() { slow <- get("/slow", time.Minute) }()
	<-held
	for round := range 2 {
		for i := range 2 * maxConns {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i%100+1))}, Timeout: 20 * time.Second}
			c, err := d.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = c.Write([]byte("G"))
		}
		began := time.Now()
		if err := get("/fast", readWithin*3/5); err != nil {
			t.Errorf("round %d, after %v: %v", round, time.Since(began), err)
		}
	}
	close(answer)
	if err := <-slow; err != nil {
		t.Errorf("what was being answered: %v", err)
	}
}

// Where all are being answered the newest is turned away, else the oldest of the host with the most gives way.
func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	l := newCrowd(inner, 3, 3)
	of := func(host string) *crowdConn {
		c, _ := net.Pipe()
		return &crowdConn{Conn: c, crowd: l, host: host}
	}
	a1, b1, b2, c1 := of("a"), of("b"), of("b"), of("c")
	for _, c := range []*crowdConn{a1, b1, b2} {
		if gone, ok := l.enter(c); gone != nil || !ok {
			t.Fatalf("%v, %v where there is room", gone, ok)
		}
	}
	if gone, ok := l.enter(c1); gone != b1 || !ok {
		t.Errorf("%v gives way, want the older one of b", gone)
	}
	for _, c := range []*crowdConn{a1, b2, c1} {
		c.answering(1)
	}
	if gone, ok := l.enter(of("d")); gone != nil || ok {
		t.Errorf("%v gives way while all are being answered, %v", gone, ok)
	}
	a1.answering(-1)
	c1.answering(-1)
	if gone, ok := l.enter(of("d")); gone != a1 || !ok {
		t.Errorf("%v gives way, want the one that was answered first", gone)
	}
	_ = b2.Close()
	_ = b2.Close() // twice gives back one place
	if len(l.open) != 2 || l.hosts["b"] != 0 {
		t.Errorf("%d are open, %v", len(l.open), l.hosts)
	}
}

// A viewer's stream does not make the viewer's next connection give way before older ones that ask nothing.
func TestAStreamDoesNotCountAgainstItsHost(t *testing.T) {
	l := newCrowd(nil, 4, 4)
	of := func(host string) *crowdConn {
		c, _ := net.Pipe()
		return &crowdConn{Conn: c, crowd: l, host: host}
	}
	stream, first := of("viewer"), of("a")
	l.enter(stream)
	stream.answering(1)
	for _, c := range []*crowdConn{first, of("b"), of("viewer")} {
		l.enter(c)
	}
	if gone, ok := l.enter(of("c")); gone != first || !ok {
		t.Errorf("%v gives way, want the oldest that asks nothing", gone)
	}
}
