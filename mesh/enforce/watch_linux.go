package enforce

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// watchRoom is how many bytes of news may wait to be read: about 20,000 messages. Only root can cause them.
const watchRoom = 16 << 20

// Watch follows the kernel's reports of changes to the packet filter. The kernel also reports the driver's own, which the
// socket's filter drops: loading a million elements causes as many messages.
func (n *nftTables) Watch(ctx context.Context, tell func(News)) error {
	err := n.watch(ctx, tell)
	if ctx.Err() != nil {
		return nil
	}
	return explain("follow the changes of the packet filter", err)
}

// watch ends with ctx, with the namespace or with an error. It reads the socket without package netlink, for which reports that the
// kernel dropped are a failed read: here they are news, which cost one reading of the tables and not the watch.
func (n *nftTables) watch(ctx context.Context, tell func(News)) error {
	if err := n.open(); err != nil {
		return err
	}
	c, _, err := n.dial()
	if err != nil {
		return err
	}
	defer c.Close()
	n.mu.Lock()
	port := n.port
	n.mu.Unlock()
	filter, err := notOf(port)
	if err != nil {
		return err
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if err := errors.Join(c.SetReadBuffer(watchRoom), c.SetBPF(filter)); err != nil {
		return err
	}
	if err := n.member.enter(c, tell); err != nil {
		return err
	}
	defer n.member.end()
	defer context.AfterFunc(ctx, func() { c.SetReadDeadline(time.Unix(1, 0)) })()
	ended := make(chan struct{})
	defer close(ended)
	// A namespace that is replaced reports nothing any more, and no error either.
	go n.stay(ended, func() { c.SetReadDeadline(time.Unix(1, 0)) })
	tell(News{Lost: true}) // whatever happened before
	buffer := make([]byte, dumpBuffer)
	for {
		var size int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			size, _, failed = unix.Recvfrom(int(fd), buffer, 0)
			return failed != unix.EAGAIN && failed != unix.EINTR
		})
		switch {
		case err != nil:
			return err
		// The kernel has dropped reports, and says so once.
		case failed == unix.ENOBUFS:
			tell(News{Lost: true})
			continue
		case failed != nil:
			return failed
		}
		messages, err := syscall.ParseNetlinkMessage(buffer[:size])
		if err != nil {
			return fmt.Errorf("read the kernel's news: %w", err)
		}
		var news News
		for i := range messages {
			if m := &messages[i]; m.Header.Pid != port {
				news.add(m.Header.Type, m.Data)
			}
		}
		if news.Layout || len(news.Elements) > 0 {
			tell(news)
		}
	}
}

// stay calls moved once the namespace has become another one, until ended.
func (n *nftTables) stay(ended <-chan struct{}, moved func()) {
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ticker.C:
			if n.leave() {
				moved()
				return
			}
		}
	}
}

// notOf is a program for the kernel that drops reports of changes made by one of our sockets. Messages that arrive together
// belong to one transaction, so the first one decides for all.
func notOf(port uint32) ([]bpf.RawInstruction, error) {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], port) // the program reads it in network byte order
	return bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: 12, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: binary.BigEndian.Uint32(b[:]), SkipTrue: 1},
		bpf.RetConstant{Val: 1 << 18},
		bpf.RetConstant{Val: 0},
	})
}

// add takes in a message about something that somebody has done.
func (n *News) add(kind uint16, data []byte) {
	if kind>>8 != unix.NFNL_SUBSYS_NFTABLES || len(data) < 4 || data[0] != unix.NFPROTO_INET || tableOf(data[4:]) != tableName {
		return
	}
	switch kind & 0xff {
	case unix.NFT_MSG_NEWSETELEM, unix.NFT_MSG_DELSETELEM:
		for _, f := range []family{v4, v6} {
			for _, m := range marksOf(f, data[4:], 0) {
				if m.end { // of the element before it
					m.at = m.at.prev()
				}
				n.Elements = append(n.Elements, m.at.in(f))
			}
		}
	case unix.NFT_MSG_NEWGEN:
	default:
		n.Layout = true
	}
}
