package web

import (
	"net"
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
	ln := newPerHost(inner, 3)
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
	var first net.Conn
	for range 3 {
		dial("127.0.0.1")
		first = next()
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
	first.Close()
	first.Close() // twice gives back one place
	dial("127.0.0.1")
	next()
	dial("127.0.0.1")
	select {
	case c := <-taken:
		t.Errorf("one more than its share is taken of %v", c.RemoteAddr())
	case <-time.After(50 * time.Millisecond):
	}
}
