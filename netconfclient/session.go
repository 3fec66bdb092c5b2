package netconfclient

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/Juniper/go-netconf/netconf"
)

// The capabilities that decide how a server is edited (RFC 6241 §8).
const (
	capBase10     = "urn:ietf:params:netconf:base:1.0"
	CapBase11     = "urn:ietf:params:netconf:base:1.1"
	CapCandidate  = "urn:ietf:params:netconf:capability:candidate:1.0"
	CapWritable   = "urn:ietf:params:netconf:capability:writable-running:1.0"
	CapStartup    = "urn:ietf:params:netconf:capability:startup:1.0"
	CapRollback   = "urn:ietf:params:netconf:capability:rollback-on-error:1.0"
	CapValidate   = "urn:ietf:params:netconf:capability:validate:1.0"
	CapValidate11 = "urn:ietf:params:netconf:capability:validate:1.1"
)

// Datastore names a NETCONF configuration datastore.
type Datastore string

// The datastores in use.
const (
	RunningStore   Datastore = "running"
	CandidateStore Datastore = "candidate"
	StartupStore   Datastore = "startup"
)

// helloPause is the least time between our hello and the first operation.
const helloPause = 50 * time.Millisecond

// DialConfig says how to reach one NETCONF server.
type DialConfig struct {
	Address    string // host:port
	User       string
	KeyFile    string
	KnownHosts string
	// HostKeyAlgorithms are accepted besides the usual ones: ssh-rsa, for a server that has no other.
	HostKeyAlgorithms []string
	MaxReply          int // size limit of a reply in bytes; 0 means 64 MiB
	// Dial opens the connection; nil uses the network.
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	Logger *slog.Logger

	keepaliveEvery, keepaliveWait time.Duration // 0 means the default; for tests
}

// A Session is one NETCONF session. Operations run one at a time. When the context of one ends before its reply has come, the
// connection is closed: a late reply must never be taken for that of another operation. Every operation fails with RPCErrors
// if the server refused it, and with ErrUnreachable or ErrProtocol if the session broke.
type Session struct {
	nc     *netconf.Session
	t      *transport
	addr   string
	log    *slog.Logger
	mu     sync.Mutex // held during an operation
	broken error      // guarded by mu

	greeted bool // awaitHello has waited; guarded by mu
}

// Dial connects, logs in and exchanges hellos; the context bounds all of it. Errors: ErrKeyFile, ErrHostKey,
// ErrLogin, ErrUnreachable, ErrProtocol.
func Dial(ctx context.Context, d DialConfig) (*Session, error) {
	if d.MaxReply <= 0 {
		d.MaxReply = 64 << 20
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	t, err := dialTransport(ctx, d)
	if err != nil {
		return nil, err
	}
	stop := t.bound(ctx)
	nc := netconf.NewSession(t)
	err = t.helloErr
	// The context ended as the hello arrived, and has closed the connection.
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		t.Close()
		if errors.Is(err, ErrProtocol) {
			return nil, fmt.Errorf("open NETCONF at %s: %w", d.Address, err)
		}
		return nil, fmt.Errorf("open NETCONF at %s: %w: %w", d.Address, ErrUnreachable, err)
	}
	return &Session{nc: nc, t: t, addr: d.Address, log: d.Logger.With("conductor", d.Address, "session", nc.SessionID)}, nil
}

// ID returns the session-id that the server assigned.
func (s *Session) ID() uint64 { return uint64(s.nc.SessionID) }

// Address returns the host:port of the server.
func (s *Session) Address() string { return s.addr }

// Capabilities returns those of the server's hello.
func (s *Session) Capabilities() []string { return s.nc.ServerCapabilities }

// Offers reports whether the server's hello has the capability, with any parameters.
func (s *Session) Offers(capability string) bool {
	for _, c := range s.nc.ServerCapabilities {
		if name, _, _ := strings.Cut(c, "?"); name == capability {
			return true
		}
	}
	return false
}

// Lock locks a datastore (RFC 6241 §7.5).
func (s *Session) Lock(ctx context.Context, target Datastore) error {
	_, err := s.exec(ctx, El("lock", El("target", El(string(target)))))
	return err
}

// Unlock unlocks a datastore (RFC 6241 §7.6).
func (s *Session) Unlock(ctx context.Context, target Datastore) error {
	_, err := s.exec(ctx, El("unlock", El("target", El(string(target)))))
	return err
}

// A Filter is a subtree filter (RFC 6241 §6). The zero value selects everything.
type Filter struct{ Content []Element }

// GetConfig reads a datastore (RFC 6241 §7.1); the reply has data.
func (s *Session) GetConfig(ctx context.Context, source Datastore, f Filter) (*Reply, error) {
	op := El("get-config", El("source", El(string(source))))
	if len(f.Content) > 0 {
		op = op.With(El("filter", f.Content...).attr("type", "subtree"))
	}
	r, err := s.exec(ctx, op)
	if err != nil {
		return nil, err
	}
	// An empty datastore has an empty <data>. Without any the reply must not pass for one.
	if r.data == 0 {
		return nil, s.Breach(errors.New("get-config: the reply has no data"))
	}
	return r, nil
}

// EditOptions are the parameters of edit-config (RFC 6241 §7.2); an empty one is not sent.
type EditOptions struct {
	Default string // default-operation: merge, replace, none
	Test    string // test-option: test-then-set, set, test-only
	Error   string // error-option: stop-on-error, continue-on-error, rollback-on-error
}

// EditConfig sends a change of configuration, whose elements can carry an Operation. On running it fails like Commit.
func (s *Session) EditConfig(ctx context.Context, target Datastore, o EditOptions, config Element) error {
	op := El("edit-config", El("target", El(string(target))))
	for _, opt := range [...]Element{Leaf("default-operation", o.Default), Leaf("test-option", o.Test), Leaf("error-option", o.Error)} {
		if opt.Text != "" {
			op = op.With(opt)
		}
	}
	_, err := s.exec(ctx, op.With(El("config", config).attr("xmlns:nc", nsNetconf)))
	if target == RunningStore {
		return outcome(err)
	}
	return err
}

// CopyConfig makes one datastore a copy of another (RFC 6241 §7.3).
func (s *Session) CopyConfig(ctx context.Context, target, source Datastore) error {
	_, err := s.exec(ctx, El("copy-config", El("target", El(string(target))), El("source", El(string(source)))))
	return err
}

// Validate has the server check a datastore (RFC 6241 §8.6).
func (s *Session) Validate(ctx context.Context, source Datastore) error {
	_, err := s.exec(ctx, El("validate", El("source", El(string(source)))))
	return err
}

// Commit makes the candidate the running configuration (RFC 6241 §8.3.4); parameters are additions of the server's model. If
// the session breaks after the operation was sent, the error is ErrUnknownOutcome.
func (s *Session) Commit(ctx context.Context, parameters ...Element) error {
	_, err := s.exec(ctx, El("commit", parameters...))
	return outcome(err)
}

// outcome marks the failure of an operation that changes running as ErrUnknownOutcome, unless nothing was sent.
// An rpc-error is an answer, so that the outcome is known. Anything else after sending is not.
func outcome(err error) error {
	var unsent *unsentError
	if err == nil || errors.As(err, new(RPCErrors)) || errors.As(err, &unsent) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
}

// DiscardChanges resets the candidate to running (RFC 6241 §8.3.4.2).
func (s *Session) DiscardChanges(ctx context.Context) error {
	_, err := s.exec(ctx, El("discard-changes"))
	return err
}

// KillSession ends another session and frees its locks (RFC 6241 §7.9).
func (s *Session) KillSession(ctx context.Context, id uint64) error {
	_, err := s.exec(ctx, El("kill-session", Leaf("session-id", strconv.FormatUint(id, 10))))
	return err
}

// CloseSession ends the session by close-session (RFC 6241 §7.8), then closes the connection. Some servers close it without an
// answer.
func (s *Session) CloseSession(ctx context.Context) error {
	_, err := s.exec(ctx, El("close-session"))
	if !errors.As(err, new(RPCErrors)) {
		err = nil
	}
	return errors.Join(err, s.Close())
}

// Close closes the connection and waits until its goroutines have ended. The server frees the session's locks.
func (s *Session) Close() error {
	// Before the lock: the operation under way holds it until the connection ends.
	s.t.abort(ErrClosed)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = ErrClosed
	}
	return s.nc.Close()
}

// unsentError marks that nothing was sent, so that the outcome is known.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// exec runs one operation.
func (s *Session) exec(ctx context.Context, op Element) (*Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, &unsentError{fmt.Errorf("%s: %w", op.Name, s.broken)}
	}
	if ctx.Err() != nil {
		return nil, &unsentError{fmt.Errorf("%s: %w", op.Name, context.Cause(ctx))}
	}
	body, err := op.bytes()
	if err != nil {
		return nil, &unsentError{fmt.Errorf("%s: %w", op.Name, err)}
	}
	// It carries a message-id of its own, by which parseReply knows the reply (RFC 6241 section 4.1).
	rpc := netconf.NewRPCMessage([]netconf.RPCMethod{netconf.RawMethod(body)})
	msg, err := xml.Marshal(rpc)
	if err != nil {
		return nil, &unsentError{fmt.Errorf("%s: %w", op.Name, err)}
	}

	if err := s.awaitHello(ctx); err != nil {
		return nil, &unsentError{fmt.Errorf("%s: %w", op.Name, err)}
	}
	stop := s.t.bound(ctx)
	raw, err := s.roundTrip(msg)
	if !stop() && err == nil {
		// The reply came just before the context ended and closed the connection: it counts, but nothing can follow.
		s.broken = fmt.Errorf("%w: session %d at %s: %w", ErrUnreachable, s.ID(), s.addr, context.Cause(ctx))
	}
	if err != nil {
		s.t.Close()
		s.broken = fmt.Errorf("%w: session %d at %s: %w", ErrUnreachable, s.ID(), s.addr, err)
		if errors.Is(err, ErrProtocol) {
			s.broken = fmt.Errorf("session %d at %s: %w", s.ID(), s.addr, err)
		}
		return nil, fmt.Errorf("%s: %w", op.Name, s.broken)
	}
	reply, errs, err := parseReply(tolerate(raw), rpc.MessageID)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op.Name, s.breachLocked(err))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	logWarnings(s.log, op.Name, reply.warnings)
	return reply, nil
}

// awaitHello delays the first operation after our hello: one server never answers an operation that it reads together with the
// hello, and the protocol does not tell when it has read the hello.
func (s *Session) awaitHello(ctx context.Context) error {
	if s.greeted {
		return nil
	}
	s.greeted = true
	t := time.NewTimer(time.Until(s.t.helloSent.Add(helloPause)))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// roundTrip steps over notifications (RFC 5277), which a server may send although nobody subscribed.
func (s *Session) roundTrip(msg []byte) ([]byte, error) {
	s.t.working.Store(true)
	defer s.t.working.Store(false)
	if err := s.nc.Transport.Send(msg); err != nil {
		return nil, err
	}
	for {
		reply, err := s.nc.Transport.Receive()
		if err != nil || !isNotification(reply) {
			return reply, err
		}
	}
}

// isNotification reports whether a message is an event notification (RFC 5277 §2.2.1). We never subscribe, but some servers
// tell every session of each commit. Mistaken for a reply, such an event would leave the outcome of a commit unknown.
func isNotification(msg []byte) bool {
	// A longer one is a configuration, which is not searched for a word.
	const most = 1 << 20
	if len(msg) > most || !bytes.Contains(msg, []byte("notification")) {
		return false
	}
	root, err := rootElement(newDecoder(tolerate(msg)))
	return err == nil && root.Name == (xml.Name{Space: nsNotification, Local: "notification"})
}

// Breach closes the session of a server that broke the protocol.
func (s *Session) Breach(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.breachLocked(err)
}

// breachLocked ends the session after an answer that breaks the protocol: what follows cannot be told from
// the rest of it. Called with mu held.
func (s *Session) breachLocked(err error) error {
	if !errors.Is(err, ErrProtocol) {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	s.t.Close()
	s.broken = fmt.Errorf("session %d at %s: %w", s.ID(), s.addr, err)
	return s.broken
}

// Alive reports whether the session can still be used.
func (s *Session) Alive() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken == nil
}
