package invite

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

const (
	dialWithin = 5 * time.Second
	// within bounds a whole stream, at both ends. decideWithin is the inviter's part of it: it must refuse in time for the
	// refusal still to get through.
	within       = 10 * time.Second
	decideWithin = within * 8 / 10
)

// ErrLost says that the answer was cut off: the token may be used up, but the same machine may ask again.
var ErrLost = errors.New("the answer did not come whole")

// ErrNoAnswer says that no address of the token led to its inviter, so nobody was told anything.
var ErrNoAnswer = errors.New("no address of the token leads to its inviter")

// Ask shows a token to its inviter and returns the answer. It tries the addresses in turn. A *Refusal comes from the inviter;
// ErrNoAnswer means that nobody was reached who knows the token. The address that answered goes first in Join: the inviter
// may be behind a NAT without knowing that address.
func Ask(ctx context.Context, t *Token, r Request) (*Welcome, error) {
	r.Version = version
	var tried []error
	for _, addr := range t.Addrs {
		w, err := ask(ctx, t, addr, r)
		if err == nil {
			w.Join = append([]string{addr}, slices.DeleteFunc(w.Join, func(s string) bool { return s == addr })...)
		}
		var refused *Refusal
		if err == nil || errors.As(err, &refused) || ctx.Err() != nil {
			return w, err
		}
		tried = append(tried, fmt.Errorf("%s: %w", addr, err))
	}
	return nil, fmt.Errorf("%w: %w", ErrNoAnswer, errors.Join(tried...))
}

// ask talks to one address. The end of ctx ends it at once, by a deadline in the past.
func ask(ctx context.Context, t *Token, addr string, r Request) (*Welcome, error) {
	dialer := net.Dialer{Timeout: dialWithin}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, errors.New("nothing answers there: is the agent running, and is TCP to it open? (" + why(err) + ")")
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if err := conn.SetDeadline(time.Now().Add(within)); err != nil {
		return nil, err
	}
	return converse(ctx, conn, t, r)
}

// why shortens an error of package net to what its reader does not know yet.
func why(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		return op.Err.Error()
	}
	return err.Error()
}

// converse is the new machine's side of a stream.
func converse(ctx context.Context, conn net.Conn, t *Token, r Request) (*Welcome, error) {
	cfg, err := sealed(t.keys.client, t.keys.host.Public().(ed25519.PublicKey))
	if err != nil {
		return nil, err
	}
	cfg.ServerName = serverName(t.keys.id)
	s := tls.Client(conn, cfg)
	if err := s.HandshakeContext(ctx); err != nil {
		return nil, explain(err)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write(b); err != nil {
		return nil, explain(err)
	}
	if err := s.CloseWrite(); err != nil {
		return nil, explain(err)
	}
	var w Welcome
	if err := readMessage(s, maxWelcome, &w); err != nil {
		return nil, fmt.Errorf("%w: give the same command again (%w)", ErrLost, explain(err))
	}
	if w.Refused != nil {
		return nil, w.Refused
	}
	// An empty answer without a refusal: later versions may say more in fields that this one does not know.
	if len(w.Keyring) == 0 || len(w.Join) == 0 {
		return nil, errors.New("the answer holds no keys: is the inviter of a later version?")
	}
	return &w, nil
}

// explain says what a TLS error means here.
func explain(err error) error {
	var remote tls.AlertError
	var op *net.OpError
	var record tls.RecordHeaderError
	var ne net.Error
	switch {
	case errors.Is(err, errStranger):
		return errors.New("another machine answers there, one that does not know the token: it was told nothing")
	case errors.As(err, &remote), errors.As(err, &op) && op.Op == "remote error":
		return errors.New("the agent there does not know the token: it is of another mesh or member, was cancelled, or has long ended")
	case errors.As(err, &record):
		return errors.New("what answers there is no agent of banmesh")
	case errors.As(err, &ne) && ne.Timeout():
		return errors.New("it does not go on answering")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &op):
		return errors.New("it hangs up: no invitation is open there, it is of a version that knows none, or it has refused this host for a while")
	}
	return err
}
