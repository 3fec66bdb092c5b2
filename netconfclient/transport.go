package netconfclient

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/Juniper/go-netconf/netconf"
	"golang.org/x/crypto/ssh"
)

const (
	maxHello = 8 << 20 // bytes; a hello lists capabilities only, but one for each module and submodule

	keepaliveEvery = 15 * time.Second
	keepaliveWait  = 45 * time.Second // a server silent for that long is gone

	version11 = "v1.1" // netconf.NewSession passes these names to SetVersion
)

var _ netconf.Transport = (*transport)(nil)

// transport is a NETCONF transport over SSH (RFC 6242). Methods that wait return when abort is called, because it closes the
// connection.
type transport struct {
	conn    net.Conn
	client  *ssh.Client
	channel ssh.Channel
	frames  frameReader
	chunked bool // for what we send
	limit   int  // size limit of a reply in bytes

	working   atomic.Bool // an operation waits for its reply; its context bounds the wait
	helloSent time.Time
	helloErr  error // kept here because netconf.NewSession drops it

	mu      sync.Mutex
	aborted error // why the connection was closed early
	done    chan struct{}
	closing sync.Once
	wg      sync.WaitGroup
}

// dialTransport connects, checks the host key, logs in, opens the subsystem and sends our hello. The hello goes out before
// the server's is read: one server never answers a first operation that reaches it together with the hello.
func dialTransport(ctx context.Context, d DialConfig) (*transport, error) {
	// The files first: what is wrong with them can be told without a server.
	signers, err := loadSigners(d.KeyFile)
	if err != nil {
		return nil, err
	}
	keys, err := loadHostKeys(d.Address, d.KnownHosts)
	if err != nil {
		return nil, err
	}
	keys.dial = d.Dial
	conn, stop, err := connect(ctx, d.Dial, d.Address)
	if err != nil {
		return nil, err
	}
	t := &transport{conn: conn, limit: d.MaxReply, done: make(chan struct{})}
	err = t.open(d, &ssh.ClientConfig{
		User:              d.User,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(signers...)},
		HostKeyCallback:   keys.callback,
		HostKeyAlgorithms: keys.algorithms(d.HostKeyAlgorithms),
		ClientVersion:     "SSH-2.0-banmesh",
	})
	// From here on each operation has its own context; this one must not close the connection any more.
	if err == nil && !stop() {
		err = context.Cause(ctx)
	}
	if err == nil {
		return t, nil
	}
	stop()
	t.Close()
	if other := keys.otherType(ctx, err); other != nil {
		return nil, other
	}
	switch {
	case keys.failed != nil:
		return nil, keys.failed
	case keys.passed && loginRefused(err):
		return nil, fmt.Errorf("%w: user %s with key %s at %s: %w", ErrLogin, d.User, d.KeyFile, d.Address, err)
	default:
		return nil, fmt.Errorf("open NETCONF at %s: %w: %w", d.Address, ErrUnreachable, cause(ctx, err))
	}
}

// loginRefused recognises a refusal by its text, as the library has no type for it. The second text is OpenSSH's.
func loginRefused(err error) bool {
	s := err.Error()
	return strings.Contains(s, "unable to authenticate") || strings.Contains(s, "oo many authentication failures")
}

// open logs in, starts the subsystem and sends the hello without waiting for the server's: RFC 6241 section
// 8.1 has both sides send at once.
func (t *transport) open(d DialConfig, config *ssh.ClientConfig) error {
	c, channels, requests, err := ssh.NewClientConn(t.conn, d.Address, config)
	if err != nil {
		return err
	}
	t.client = ssh.NewClient(c, channels, requests)
	channel, chRequests, err := t.client.OpenChannel("session", nil)
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	t.channel = channel
	t.frames.r = bufio.NewReaderSize(channel, 64<<10)
	// Both have to be drained although nobody needs them: what is not taken would stall the connection.
	t.wg.Go(func() { ssh.DiscardRequests(chRequests) })
	t.wg.Go(func() { io.Copy(io.Discard, channel.Stderr()) })
	t.wg.Go(func() { t.keepalive(cmp.Or(d.keepaliveEvery, keepaliveEvery), cmp.Or(d.keepaliveWait, keepaliveWait)) })
	ok, err := channel.SendRequest("subsystem", true, ssh.Marshal(struct{ Name string }{"netconf"}))
	if err != nil {
		return fmt.Errorf("request subsystem netconf: %w", err)
	}
	if !ok {
		return errors.New("the server has no subsystem netconf: is NETCONF enabled there?")
	}
	hello, err := xml.Marshal(&netconf.HelloMessage{Capabilities: netconf.DefaultCapabilities})
	if err != nil {
		return err
	}
	t.helloSent = time.Now()
	return t.Send(hello)
}

// keepalive checks that the server is alive. A missing answer ends an idle session only: a server may be silent for minutes
// while it commits. The operation's context bounds that, and TCP's own keepalive detects a dead host.
func (t *transport) keepalive(every, patience time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-t.done:
			return
		case <-tick.C:
		}
		answer := make(chan error, 1)
		go func() {
			// It returns with the connection at the latest, so abort ends this goroutine too.
			_, _, err := t.client.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		for late := time.NewTimer(patience); late != nil; {
			select {
			case <-t.done:
				return
			case err := <-answer:
				if err != nil {
					return
				}
				late.Stop()
				late = nil
			case <-late.C:
				if !t.working.Load() {
					t.abort(errors.New("no answer to keepalive"))
					return
				}
				late.Reset(patience)
			}
		}
	}
}

// abort closes the connection; calls that wait return err.
func (t *transport) abort(err error) {
	t.mu.Lock()
	if t.aborted == nil {
		t.aborted = err
	}
	t.mu.Unlock()
	t.conn.Close()
}

// bound closes the connection when the context ends, until stop is called. Waiting calls then return the context's error.
func (t *transport) bound(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { t.abort(context.Cause(ctx)) })
}

// why returns the reason of an abort, if there was one, rather than the error of the stream.
func (t *transport) why(err error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.aborted != nil:
		return t.aborted
	case errors.Is(err, io.EOF):
		return errors.New("the server closed the connection")
	}
	return err
}

// Send sends one message.
func (t *transport) Send(msg []byte) error {
	out, err := frame(msg, t.chunked)
	if err != nil {
		return err
	}
	if _, err := t.channel.Write(out); err != nil {
		return fmt.Errorf("send: %w", t.why(err))
	}
	return nil
}

// Receive receives one message of at most the configured size.
func (t *transport) Receive() ([]byte, error) {
	msg, err := t.frames.read(t.limit)
	if err != nil {
		return nil, fmt.Errorf("receive: %w", t.why(err))
	}
	return msg, nil
}

// ReceiveHello reads the server's hello. The result is never nil, because netconf.NewSession ignores the error; that is kept
// in helloErr.
func (t *transport) ReceiveHello() (*netconf.HelloMessage, error) {
	msg, err := t.frames.read(maxHello)
	if err != nil {
		t.helloErr = fmt.Errorf("receive hello: %w", t.why(err))
		return &netconf.HelloMessage{}, t.helloErr
	}
	hello, err := parseHello(tolerate(msg))
	if err != nil {
		t.helloErr = err
		return &netconf.HelloMessage{}, err
	}
	return hello, nil
}

// SendHello does nothing: our hello went out when the connection was opened.
func (t *transport) SendHello(*netconf.HelloMessage) error { return nil }

// SetVersion sets the framing of everything after the hellos.
func (t *transport) SetVersion(version string) {
	t.chunked = version == version11
	t.frames.chunked, t.frames.first = t.chunked, true
}

// Close closes the connection and waits until its goroutines have ended.
func (t *transport) Close() error {
	t.closing.Do(func() {
		close(t.done)
		t.conn.Close()
		if t.client != nil {
			t.client.Wait()
		}
		t.wg.Wait()
	})
	return nil
}

// parseHello checks what later steps depend on: a session-id and a base version that we speak.
func parseHello(msg []byte) (*netconf.HelloMessage, error) {
	bad := func(format string, args ...any) (*netconf.HelloMessage, error) {
		return nil, fmt.Errorf("%w: hello: %w", ErrProtocol, fmt.Errorf(format, args...))
	}
	hello := &netconf.HelloMessage{}
	if err := xml.Unmarshal(bytes.TrimSpace(msg), hello); err != nil {
		return bad("%w", err)
	}
	// RFC 6241 has session-ids from 1 to 2^32-1. Ours is announced to the other members, who may have to end
	// it.
	if hello.SessionID <= 0 || int64(hello.SessionID) > 1<<32-1 {
		return bad("session-id %d", hello.SessionID)
	}
	base := false
	for i, c := range hello.Capabilities {
		c = strings.TrimSpace(c)
		hello.Capabilities[i] = c
		name, _, _ := strings.Cut(c, "?")
		base = base || name == capBase10 || name == CapBase11
	}
	if !base {
		return bad("neither base:1.0 nor base:1.1 is offered")
	}
	return hello, nil
}

// logWarnings logs the rpc-errors of severity warning.
func logWarnings(log *slog.Logger, operation string, warnings []rpcError) {
	for _, w := range warnings {
		log.Warn("conductor warns", "operation", operation, "warning", w.Error())
	}
}
