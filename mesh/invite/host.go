package invite

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"
)

// Config is what a Host is made of.
type Config struct {
	// Save keeps the invitations on disk before it returns, Saved is what it kept last.
	Save  func(context.Context, []byte) error
	Saved []byte
	Now   func() time.Time
	// Taken reports whether a member has that name.
	Taken func(name string) bool
	// Ours reports whether one of the keys, by their names, is the mesh's.
	Ours func(names []string) bool
	// Welcome is the answer to a machine that takes that name. Its error is told to it.
	Welcome func(name string) (*Welcome, error)
	Logger  *slog.Logger
}

// Host is the member's side: it makes tokens and lets in who shows one. Its methods may be called at the same time.
type Host struct {
	cfg   Config
	book  *book
	guard *guard
	lines sparse // about strangers
	known sparse // about who has a token, whom a stranger must not keep out of the log
	log   *slog.Logger
}

// NewHost returns a Host with the invitations that were saved.
func NewHost(c Config) (*Host, error) {
	h := &Host{cfg: c, book: newBook(c.Save, c.Now), guard: newGuard(c.Now), lines: sparse{now: c.Now}, known: sparse{now: c.Now}, log: c.Logger}
	return h, h.book.load(c.Saved)
}

// Bounds of how long a token is good for.
const (
	shortest = time.Second
	longest  = 7 * 24 * time.Hour
)

// Invite makes a token, for the machine that takes that name or with "" for any.
func (h *Host) Invite(ctx context.Context, name, label string, addrs []string, life time.Duration) (*Token, error) {
	if life < shortest || life > longest {
		return nil, fmt.Errorf("a token is good for %v to %v, not for %v", shortest, longest, life)
	}
	if name != "" && h.cfg.Taken(name) {
		return nil, fmt.Errorf("a member named %s already exists: a name belongs to one machine; if that one is gone for good, run `banmesh forget %s` first", name, name)
	}
	t, err := newToken(addrs, label, name, h.cfg.Now().Add(life))
	if err != nil {
		return nil, err
	}
	if err := h.book.add(ctx, t); err != nil {
		return nil, err
	}
	h.log.Info("invitation made", "invitation", t.ID(), "for", name, "until", t.Until)
	return t, nil
}

// Open returns the invitations that are neither used nor over, in the order in which they were made.
func (h *Host) Open() []Invitation {
	now := h.cfg.Now()
	return slices.DeleteFunc(h.book.list(), func(i Invitation) bool { return !i.open(now) })
}

// Cancel takes back the open invitations for a name, or the one with an id, durably, and returns them.
func (h *Host) Cancel(ctx context.Context, which string) ([]Invitation, error) {
	ended, err := h.book.cancel(ctx, which)
	if err != nil {
		return nil, err
	}
	for _, i := range ended {
		h.log.Info("invitation taken back", "invitation", i.ID, "for", i.Name)
	}
	return ended, nil
}

// Serve answers one stream that begins with First, and closes it. host is what the bounds go by: an address, or its network.
// It blocks for as long as the stream takes, 10 s at most, and returns when ctx ends, whatever the disk does.
func (h *Host) Serve(ctx context.Context, conn net.Conn, host string) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if reason := h.guard.enter(host); reason != "" {
		h.refused(conn, reason, nil)
		return
	}
	failed, undecided := true, false
	defer func() {
		if !undecided {
			h.guard.leave(host, failed)
		}
	}()
	if h.book.empty() {
		failed = false
		return // nobody is invited: every caller hears nothing
	}
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	var id string
	s := tls.Server(conn, &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			named, ours := strings.CutSuffix(hello.ServerName, serverName(""))
			i, known := h.book.get(named)
			if !ours || !known {
				return nil, errUnknown
			}
			id = i.ID
			return sealed(ed25519.NewKeyFromSeed(i.Host), i.Client)
		},
	})
	if err := s.HandshakeContext(ctx); err != nil {
		reason := "the stream is not one of banmesh join, or ended early"
		switch {
		case errors.Is(err, errUnknown):
			reason = "unknown token"
		case errors.Is(err, errStranger):
			reason = "the token's id without its secret"
		}
		h.refused(conn, reason, err)
		return
	}
	// From here on it is somebody who has the token.
	failed = false
	var r Request
	if err := readMessage(s, maxRequest, &r); err != nil {
		h.refused(conn, "the request did not come whole", err, "invitation", id)
		return
	}
	decided := make(chan *Welcome, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, decideWithin)
		defer cancel()
		decided <- h.answer(ctx, id, r, conn.RemoteAddr().String())
	}()
	var w *Welcome
	select {
	case w = <-decided:
	case <-ctx.Done():
		undecided = true // a read of the keys, say, that a disk does not answer: it counts as inside for as long as that takes
		go func() { <-decided; h.guard.leave(host, false) }()
		h.refused(conn, "the answer was not ready in time", ctx.Err(), "invitation", id)
		return
	}
	if w.Refused != nil {
		h.refused(conn, w.Refused.Message, nil, "invitation", id, "code", string(w.Refused.Code), "name", r.Name)
	}
	b, err := json.Marshal(w)
	if err == nil {
		_, err = s.Write(b)
	}
	if err == nil {
		err = s.CloseWrite()
	}
	switch {
	case w.Refused != nil:
	case err != nil:
		h.log.Warn("the answer to a machine that joins was not taken; it may ask again", "invitation", id, "name", w.Name, "from", conn.RemoteAddr().String(), "error", err)
	default:
		h.log.Info("a machine was let in by invitation", "invitation", id, "name", w.Name, "from", conn.RemoteAddr().String())
	}
}

var errUnknown = errors.New("no invitation has that id")

// answer decides on a request of somebody who knows the secret.
func (h *Host) answer(ctx context.Context, id string, r Request, from string) *Welcome {
	var w *Welcome
	name, err := h.book.use(ctx, id, r, from, func(i Invitation) (string, error) {
		name := r.Name
		if i.Name != "" {
			name = i.Name
		}
		switch {
		case r.Version > version:
			return "", refuse(CodeMalformed, "the agent that invited speaks version %d of the protocol and not %d: upgrade it, or join with its version", version, r.Version)
		case r.Machine == "" || name == "":
			return "", refuse(CodeMalformed, "the request names no machine")
		case len(r.Keys) > 0 && !h.cfg.Ours(r.Keys):
			return "", refuse(CodeOtherMesh, "this machine has the keys of another mesh: leave that one first with `banmesh leave --uninstall`, or move its keyring away; the token is still good")
		case h.cfg.Taken(name):
			return "", refuse(CodeNameTaken, "a member named %s already exists: join with another --name, or run `banmesh forget %s` at a member if that one is gone for good; the token is still good", name, name)
		}
		var err error
		w, err = h.cfg.Welcome(name) // before the token is used up
		return name, err
	})
	if err == nil && w == nil { // the same machine once more
		w, err = h.cfg.Welcome(name)
	}
	if err != nil {
		var refused *Refusal
		if !errors.As(err, &refused) {
			refused = refuse(CodeFailed, "the agent that invited cannot let anybody in: %v", err)
		}
		return &Welcome{Version: version, Refused: refused}
	}
	w.Version, w.Name = version, name
	return w
}

func (h *Host) refused(conn net.Conn, reason string, err error, more ...any) {
	lines := &h.lines
	if len(more) > 0 {
		lines = &h.known
	}
	held, ok := lines.allow()
	if !ok {
		return
	}
	attrs := append([]any{"from", conn.RemoteAddr().String(), "reason", reason}, more...)
	if err != nil {
		attrs = append(attrs, "error", err)
	}
	if held > 0 {
		attrs = append(attrs, "unlogged_before", held)
	}
	h.log.Warn("nobody was let in by invitation", attrs...)
}
