package simnet_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/internal/sim/simnet"
)

func addr(i byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, i}), 7946)
}

// pair runs f with two hosts.
func pair(t *testing.T, cfg simnet.Config, f func(t *testing.T, n *simnet.Network, a, b *simnet.Host)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := simnet.New(cfg)
		defer n.Close()
		a, err := n.Attach(addr(1))
		if err != nil {
			t.Fatal(err)
		}
		b, err := n.Attach(addr(2))
		if err != nil {
			t.Fatal(err)
		}
		f(t, n, a, b)
	})
}

// received counts the packets that came within a second, by their first byte.
func received(h *simnet.Host) (order []byte, first time.Duration) {
	began := time.Now()
	end := time.After(time.Second)
	for {
		select {
		case p := <-h.PacketCh():
			if order == nil {
				first = p.Timestamp.Sub(began)
			}
			order = append(order, p.Buf[0])
		case <-end:
			return order, first
		}
	}
}

func send(t *testing.T, h *simnet.Host, to netip.AddrPort, n int) {
	t.Helper()
	for i := range n {
		if _, err := h.WriteTo([]byte{byte(i)}, to.String()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPacketsTakeTheirTimeAndKeepTheirOrder(t *testing.T) {
	pair(t, simnet.Config{Seed: 1, Latency: 20 * time.Millisecond, Jitter: 10 * time.Millisecond}, func(t *testing.T, n *simnet.Network, a, b *simnet.Host) {
		send(t, a, b.Addr(), 100)
		got, first := received(b)
		want := make([]byte, 100)
		for i := range want {
			want[i] = byte(i)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("arrived as %v", got)
		}
		if first < 20*time.Millisecond || first > 30*time.Millisecond {
			t.Errorf("the first took %v, want 20 to 30 ms", first)
		}
	})
}

func TestPacketsAreLostDuplicatedAndReordered(t *testing.T) {
	pair(t, simnet.Config{Seed: 1, Latency: time.Millisecond, Loss: 0.2, Duplicate: 0.1, Reorder: 0.2}, func(t *testing.T, n *simnet.Network, a, b *simnet.Host) {
		for range 10 {
			send(t, a, b.Addr(), 100)
			time.Sleep(10 * time.Millisecond)
		}
		got, _ := received(b)
		c := n.Counts()
		if c.Lost < 150 || c.Lost > 250 || c.Duplicated < 50 || c.Duplicated > 120 {
			t.Errorf("of 1,000 packets %d were lost and %d doubled, want about 200 and 80", c.Lost, c.Duplicated)
		}
		if len(got) != int(1000-c.Lost+c.Duplicated) {
			t.Errorf("%d arrived, want %d", len(got), 1000-c.Lost+c.Duplicated)
		}
		swapped := 0
		for i := 1; i < len(got); i++ {
			if got[i] < got[i-1] {
				swapped++
			}
		}
		if swapped < 50 {
			t.Errorf("%d of %d came out of order, want more", swapped, len(got))
		}
	})
}

func TestACutIsOneWay(t *testing.T) {
	pair(t, simnet.Config{Latency: time.Millisecond}, func(t *testing.T, n *simnet.Network, a, b *simnet.Host) {
		n.Cut(a.Addr().Addr(), b.Addr().Addr())
		send(t, a, b.Addr(), 1)
		send(t, b, a.Addr(), 1)
		if got, _ := received(b); len(got) != 0 {
			t.Error("a packet passed the cut")
		}
		if got, _ := received(a); len(got) != 1 {
			t.Error("the other way is cut as well")
		}
		began := time.Now()
		_, err := a.DialTimeout(b.Addr().String(), 3*time.Second)
		if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 3*time.Second {
			t.Errorf("dial through a cut: %v after %v, want its timeout of 3s", err, time.Since(began))
		}
		n.Uncut(a.Addr().Addr(), b.Addr().Addr())
		send(t, a, b.Addr(), 1)
		if got, _ := received(b); len(got) != 1 {
			t.Error("nothing passes after Uncut")
		}
	})
}

// connect opens a stream from a to b.
func connect(t *testing.T, a, b *simnet.Host) (client, server net.Conn) {
	t.Helper()
	client, err := a.DialTimeout(b.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return client, <-b.StreamCh()
}

func TestAStreamBringsEverythingInOrderThroughLossAndCuts(t *testing.T) {
	pair(t, simnet.Config{Seed: 1, Latency: 5 * time.Millisecond, Jitter: 5 * time.Millisecond, Loss: 0.2}, func(t *testing.T, n *simnet.Network, a, b *simnet.Host) {
		client, server := connect(t, a, b)
		sent := make([]byte, 3<<20)
		for i := range sent {
			sent[i] = byte(i * 7 / 3)
		}
		go func() {
			for range 5 {
				time.Sleep(100 * time.Millisecond)
				n.Cut(a.Addr().Addr(), b.Addr().Addr())
				time.Sleep(100 * time.Millisecond)
				n.Heal()
			}
		}()
		go func() {
			_, _ = client.Write(sent)
			_ = client.Close()
		}()
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("%d of %d bytes arrived as sent, %v", len(got), len(sent), err)
		}
		_ = server.Close()
		time.Sleep(time.Minute)
	})
}

func TestStreamDeadlinesAndRefusals(t *testing.T) {
	pair(t, simnet.Config{Latency: time.Millisecond}, func(t *testing.T, n *simnet.Network, a, b *simnet.Host) {
		client, server := connect(t, a, b)
		_ = client.SetReadDeadline(time.Now().Add(time.Second))
		var ne net.Error
		if _, err := client.Read(make([]byte, 1)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("read past the deadline: %v", err)
		}
		_ = client.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := client.Write(make([]byte, 1<<20)); !errors.As(err, &ne) || !ne.Timeout() {
			t.Errorf("write to one who does not read: %v", err)
		}
		_ = server.Close() // with unread data: a reset
		time.Sleep(time.Second)
		_ = client.SetDeadline(time.Time{})
		if _, err := client.Write([]byte{1}); err == nil {
			t.Error("write after a reset succeeded")
		}
		_ = b.Shutdown()
		began := time.Now()
		if _, err := a.DialTimeout(b.Addr().String(), time.Minute); err == nil || time.Since(began) != 2*time.Millisecond {
			t.Errorf("dial of one who does not listen: %v after %v, want a refusal after a round trip", err, time.Since(began))
		}
		if _, err := n.Attach(b.Addr()); err != nil {
			t.Errorf("the address of a stopped host is not free: %v", err)
		}
		if _, err := n.Attach(a.Addr()); err == nil {
			t.Error("an address was given twice")
		}
	})
}

func TestACrashIsSilent(t *testing.T) {
	pair(t, simnet.Config{Latency: time.Millisecond}, func(t *testing.T, n *simnet.Network, a, b *simnet.Host) {
		client, server := connect(t, a, b)
		b.Crash()
		if _, err := server.Read(make([]byte, 1)); err == nil {
			t.Error("a stream on the crashed host still works")
		}
		if _, err := b.WriteTo([]byte{1}, a.Addr().String()); err == nil {
			t.Error("the crashed host still sends")
		}
		_ = client.SetReadDeadline(time.Now().Add(time.Minute))
		began := time.Now()
		if _, err := client.Read(make([]byte, 1)); err == nil || time.Since(began) != time.Minute {
			t.Errorf("the other side heard %v after %v, want nothing until its deadline", err, time.Since(began))
		}
	})
}
