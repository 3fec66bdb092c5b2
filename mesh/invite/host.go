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

	"banmesh/internal/shell"
)

// Config configures a Host.
type Config struct {
	// Save stores the invitations on disk before it returns. Saved is what it last stored.
	Save  func(context.Context, []byte) error
	Saved []byte
	Now   func() time.Time
	// Taken reports whether a member has that name.
	Taken func(name string) bool
	// Ours reports whether one of the keys, given by name, belongs to the mesh.
	Ours func(names []string) bool
	// Welcome returns the answer to a machine that takes that name. The machine is told its error.
	Welcome func(name string) (*Welcome, error)
	Logger  *slog.Logger
}

// Host is the member's side: it makes tokens and admits machines that show one. Its methods may be called concurrently.
type Host struct {
	cfg   Config
	book  *book
	guard *guard
	lines sparse // about machines without a token
	known sparse // about machines with a token, which others must not keep out of the log
	log   *slog.Logger
}

// NewHost returns a Host with the saved invitations.
func NewHost(c Config) (*Host, error) {
	h := &Host{cfg: c, book: newBook(c.Save, c.Now), guard: newGuard(c.Now), lines: sparse{now: c.Now}, known: sparse{now: c.Now}, log: c.Logger}
	return h, h.book.load(c.Saved)
}

// Bounds of a token's validity.
const (
	shortest = time.Second
	longest  = 7 * 24 * time.Hour
)

// Invite makes a token for a machine that takes that name, or with "" any name.
func (h *Host) Invite(ctx context.Context, name, label string, addrs []string, life time.Duration) (*Token, error) {
	if life < shortest || life > longest {
		return nil, fmt.Errorf("a token is good for %v to %v, not for %v", shortest, longest, life)
	}
	if name != "" && h.cfg.Taken(name) {
		return nil, fmt.Errorf("a member named %s already exists: a name belongs to one machine; if that one is gone for good, run `banmesh forget %s` first", name, shell.Argument(name))
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

// Open returns the open invitations in the order in which they were made.
func (h *Host) Open() []Invitation {
	now := h.cfg.Now()
	return slices.DeleteFunc(h.book.list(), func(i Invitation) bool { return !i.open(now) })
}

// Cancel cancels the open invitations for a name, or the one with that id, durably, and returns them.
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

// Serve answers one stream that begins with First, and closes it. The limits count per host: an address, or its network. It
// blocks while the stream lasts, 10 s at most, and returns when ctx ends, whatever the disk does.
func (h *Host) Serve(ctx context.Context, conn net.Conn, host string) {
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if reason := h.guard.enter(host); reason != "" {
		h.refused(conn, reason, nil)
		return
	}
	if h.book.empty() {
		h.guard.leave(host, false)
		return // nobody is invited, so callers get no answer
	}
	// A deadline in the past ends a read or write that is under way; crypto/tls knows no context there.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	failed, pending := h.admit(ctx, conn)
	if pending == nil {
		h.guard.leave(host, failed)
		return
	}
	// A hanging disk delays the decision. The stream counts as open until then, so that a caller cannot pile up such waits.
	go func() { <-pending; h.guard.leave(host, failed) }()
}

// admit leads one caller from the handshake to its answer. failed means that the caller showed no open token. pending is
// nil unless time ran out first: it delivers once the decision has been made after all.
func (h *Host) admit(ctx context.Context, conn net.Conn) (failed bool, pending <-chan *Welcome) {
	s, id, err := h.handshake(ctx, conn)
	if err != nil {
		h.refused(conn, whyNoHandshake(err), err)
		return true, nil
	}
	// The caller has proved that it holds the token: whatever fails from here on was not a guess at one.
	var r Request
	if err := readMessage(s, maxRequest, &r); err != nil {
		h.refused(conn, "the request did not come whole", err, "invitation", id)
		return false, nil
	}
	decided := h.decide(ctx, id, r, conn.RemoteAddr().String())
	select {
	case w := <-decided:
		if w.Refused != nil {
			h.refused(conn, w.Refused.Message, nil, "invitation", id, "code", string(w.Refused.Code), "name", r.Name)
		}
		h.reply(s, w, id)
		return false, nil
	case <-ctx.Done():
		h.refused(conn, "the answer was not ready in time", ctx.Err(), "invitation", id)
		return false, decided
	}
}

// handshake has both sides prove that they hold the secret of one open invitation, whose id it returns. The caller names the
// invitation in the server name, the only thing that TLS sends before the keys are chosen.
func (h *Host) handshake(ctx context.Context, conn net.Conn) (s *tls.Conn, id string, err error) {
	s = tls.Server(conn, &tls.Config{
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
	err = s.HandshakeContext(ctx)
	return s, id, err
}

// errUnknown means that the caller named no open invitation.
var errUnknown = errors.New("no invitation has that id")

// whyNoHandshake tells a wrong token from a scanner, for the log. The other side is told nothing.
func whyNoHandshake(err error) string {
	switch {
	case errors.Is(err, errUnknown):
		return "unknown token"
	case errors.Is(err, errStranger):
		return "the token's id without its secret"
	}
	return "the stream is not one of banmesh join, or ended early"
}

// decide answers the request on a goroutine of its own: the answer needs the disk, and a call to a hung disk cannot be ended.
// The channel always delivers one answer, so the goroutine ends even if nobody waits any longer.
func (h *Host) decide(ctx context.Context, id string, r Request, from string) <-chan *Welcome {
	decided := make(chan *Welcome, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, decideWithin)
		defer cancel()
		decided <- h.answer(ctx, id, r, from)
	}()
	return decided
}

// reply sends the answer. A machine that missed its answer may ask again: the token remembers it, see book.use.
func (h *Host) reply(s *tls.Conn, w *Welcome, id string) {
	b, err := json.Marshal(w)
	if err == nil {
		_, err = s.Write(b)
	}
	if err == nil {
		err = s.CloseWrite()
	}
	from := s.RemoteAddr().String()
	switch {
	case w.Refused != nil: // it is logged
	case err != nil:
		h.log.Warn("the answer to a machine that joins was not taken; it may ask again", "invitation", id, "name", w.Name, "from", from, "error", err)
	default:
		h.log.Info("a machine was let in by invitation", "invitation", id, "name", w.Name, "from", from)
	}
}

// answer decides on a request whose sender knows the secret.
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
			return "", refuse(CodeNameTaken, "a member named %s already exists: join with another --name, or run `banmesh forget %s` at a member if that one is gone for good; the token is still good", name, shell.Argument(name))
		}
		var err error
		w, err = h.cfg.Welcome(name) // before the token is marked as used
		return name, err
	})
	if err == nil && w == nil { // the same machine again
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

// refused bounds what strangers can log, apart from those who had a valid token: those lines must not be lost
// among the others.
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
