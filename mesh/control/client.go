package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// maxReply bounds a reply that is read whole, in bytes.
const maxReply = 64 << 20

// maxError bounds the reply to a failed call, in bytes.
const maxError = 128 << 10

// Client talks to the agent behind one socket, with a connection for each call. It writes HTTP itself: loading net/http costs
// a short-lived command more than the call. The context's deadline bounds each call. If the agent is not there or does not
// answer in time, the error is ErrNoAgent.
type Client struct{ socket string }

// NewClient returns a Client for the socket at that path. It connects at the first call.
func NewClient(socket string) *Client { return &Client{socket: socket} }

// Ban asks for bans.
func (c *Client) Ban(ctx context.Context, call BanCall) (BanReply, error) {
	b, err := call.encode()
	if err != nil {
		return BanReply{}, fmt.Errorf("encode the call: %w", err)
	}
	return receive[BanReply](ctx, c, "POST", PathBan, b)
}

// Unban asks to lift bans.
func (c *Client) Unban(ctx context.Context, call UnbanCall) (UnbanReply, error) {
	return ask[UnbanReply](ctx, c, PathUnban, call)
}

// Fail2ban passes on the call of a hook.
func (c *Client) Fail2ban(ctx context.Context, call HookCall) (HookReply, error) {
	return ask[HookReply](ctx, c, PathFail2ban, call)
}

// TakeIn gives the agent the bans that the local fail2ban already holds.
func (c *Client) TakeIn(ctx context.Context, call TakeInCall) (TakeInReply, error) {
	return ask[TakeInReply](ctx, c, PathTakeIn, call)
}

// Allow adds to the allow-list.
func (c *Client) Allow(ctx context.Context, call AllowCall) (AllowReply, error) {
	return ask[AllowReply](ctx, c, PathAllow, call)
}

// DropAllow removes from the allow-list.
func (c *Client) DropAllow(ctx context.Context, call DropAllowCall) (DropAllowReply, error) {
	return ask[DropAllowReply](ctx, c, PathAllowRemove, call)
}

// Allows returns the allow-list.
func (c *Client) Allows(ctx context.Context) ([]Allow, error) { return get[[]Allow](ctx, c, PathAllow) }

// Why returns everything that covers an address or network.
func (c *Client) Why(ctx context.Context, p netip.Prefix) (Why, error) {
	return get[Why](ctx, c, PathWhy+"?ip="+Bare(p.String()))
}

// History returns past events.
func (c *Client) History(ctx context.Context, q HistoryQuery) (History, error) {
	return get[History](ctx, c, withQuery(PathHistory, q.encode()))
}

// Stats returns statistics of the offences.
func (c *Client) Stats(ctx context.Context, q StatsQuery) (Stats, error) {
	return get[Stats](ctx, c, withQuery(PathStats, q.encode()))
}

func withQuery(path, query string) string {
	if query == "" {
		return path
	}
	return path + "?" + query
}

// Members returns the members.
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	return get[[]Member](ctx, c, PathMembers)
}

// Status returns the agent's status.
func (c *Client) Status(ctx context.Context) (Status, error) { return get[Status](ctx, c, PathStatus) }

// Diff returns what the next commit would change.
func (c *Client) Diff(ctx context.Context) (Diff, error) { return get[Diff](ctx, c, PathDiff) }

// Commit asks for a commit now and waits for it.
func (c *Client) Commit(ctx context.Context, call CommitCall) (CommitReply, error) {
	return ask[CommitReply](ctx, c, PathCommit, call)
}

// Join adds members.
func (c *Client) Join(ctx context.Context, call JoinCall) (JoinReply, error) {
	return ask[JoinReply](ctx, c, PathJoin, call)
}

// Invite makes a token that lets one machine into the mesh.
func (c *Client) Invite(ctx context.Context, call InviteCall) (InviteReply, error) {
	return ask[InviteReply](ctx, c, PathInvite, call)
}

// Invitations returns the open invitations that the agent has made.
func (c *Client) Invitations(ctx context.Context) ([]Invitation, error) {
	return get[[]Invitation](ctx, c, PathInvite)
}

// Uninvite cancels invitations.
func (c *Client) Uninvite(ctx context.Context, call UninviteCall) (UninviteReply, error) {
	return ask[UninviteReply](ctx, c, PathUninvite, call)
}

// Leave makes the agent leave the mesh and stop.
func (c *Client) Leave(ctx context.Context) error { return c.order(ctx, PathLeave) }

// Forget makes all members forget a failed one.
func (c *Client) Forget(ctx context.Context, call ForgetCall) error {
	_, err := ask[struct{}](ctx, c, PathForget, call)
	return err
}

// Freeze stops commits and enforcement of the whole mesh.
func (c *Client) Freeze(ctx context.Context) error { return c.order(ctx, PathFreeze) }

// Thaw ends the freezes that the agent has seen.
func (c *Client) Thaw(ctx context.Context) error { return c.order(ctx, PathThaw) }

// Revoke lifts one router's bans.
func (c *Client) Revoke(ctx context.Context, call RevokeCall) (RevokeReply, error) {
	return ask[RevokeReply](ctx, c, PathRevoke, call)
}

// Keyring lists or changes the gossip keys.
func (c *Client) Keyring(ctx context.Context, call KeyringCall) (KeyringReply, error) {
	return ask[KeyringReply](ctx, c, PathKeyring, call)
}

// ListJSON copies the bans as the JSON array that the agent sends.
func (c *Client) ListJSON(ctx context.Context, q ListQuery, to io.Writer) error {
	body, err := c.bans(ctx, q)
	if err != nil {
		return err
	}
	defer body.Close()
	var last lastBytes
	if _, err := io.Copy(io.MultiWriter(to, &last), &plainReader{from: body}); err != nil {
		return fmt.Errorf("list: %w", c.cut(err))
	}
	// An answer without a length ends with its connection, so a break would look like its end.
	if string(last[:]) != "]\n" {
		return fmt.Errorf("list: %w", c.cut(io.ErrUnexpectedEOF))
	}
	return nil
}

// lastBytes keeps the last bytes written: they tell whether the whole list came.
type lastBytes [2]byte

func (l *lastBytes) Write(b []byte) (int, error) {
	for _, c := range b[max(0, len(b)-len(l)):] {
		l[0], l[1] = l[1], c
	}
	return len(b), nil
}

// List calls each with the bans in order until it returns an error.
func (c *Client) List(ctx context.Context, q ListQuery, each func(Ban) error) error {
	body, err := c.bans(ctx, q)
	if err != nil {
		return err
	}
	defer body.Close()
	shown := func(b Ban) error { plain(&b); return each(b) }
	if err := readBans(bufio.NewReaderSize(body, 64<<10), shown); err != nil {
		var broken *readError
		if errors.As(err, &broken) {
			if broken.cut {
				return fmt.Errorf("list: %w", c.cut(broken.error))
			}
			return fmt.Errorf("list: reply of the agent at %s: %w", c.socket, broken.error)
		}
		return err
	}
	return nil
}

func (c *Client) bans(ctx context.Context, q ListQuery) (io.ReadCloser, error) {
	return c.do(ctx, "GET", withQuery(PathBans, q.encode()), nil)
}

// Events calls each with every event from now on, until ctx ends, each returns an error or the agent stops (io.EOF).
func (c *Client) Events(ctx context.Context, each func(Event) error) error {
	body, err := c.do(ctx, "GET", PathEvents, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	dec := json.NewDecoder(body)
	for {
		var e Event
		if err := dec.Decode(&e); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				return io.EOF
			}
			return fmt.Errorf("events: %w", c.cut(err))
		}
		plain(&e)
		if err := each(e); err != nil {
			return err
		}
	}
}

// order is for calls whose answer says nothing but that they were done.
func (c *Client) order(ctx context.Context, path string) error {
	_, err := ask[struct{}](ctx, c, path, struct{}{})
	return err
}

// ask makes a call that changes something: POST with the call as JSON.
func ask[R any](ctx context.Context, c *Client, path string, call any) (R, error) {
	var reply R
	b, err := json.Marshal(call)
	if err != nil {
		return reply, fmt.Errorf("encode the call: %w", err)
	}
	return receive[R](ctx, c, "POST", path, b)
}

func get[R any](ctx context.Context, c *Client, path string) (R, error) {
	return receive[R](ctx, c, "GET", path, nil)
}

// receive decodes one reply of bounded size and cleans its texts, which come from other members, for the
// terminal.
func receive[R any](ctx context.Context, c *Client, method, path string, body []byte) (R, error) {
	var reply R
	r, err := c.do(ctx, method, path, body)
	if err != nil {
		return reply, err
	}
	defer r.Close()
	// A longer one is cut off, and then is no JSON.
	b, err := io.ReadAll(io.LimitReader(r, maxReply))
	if err != nil {
		return reply, c.cut(err)
	}
	if err := json.Unmarshal(b, &reply); err != nil {
		return reply, fmt.Errorf("reply of the agent at %s: %w", c.socket, err)
	}
	plain(&reply)
	return reply, nil
}

// do sends one request and returns the body of a successful reply. Closing the body closes the connection.
func (c *Client) do(ctx context.Context, method, path string, body []byte) (io.ReadCloser, error) {
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	// A deadline in the past, and not Close: what waits then fails with a timeout, which cut knows.
	closing := closer{conn: conn, stop: context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })}
	req := make([]byte, 0, 160+len(body))
	req = append(req, method...)
	req = append(req, ' ')
	req = append(req, path...)
	// HTTP/1.0 ends a reply by its length or by closing the connection (RFC 9112 §6.3), so chunks need not be parsed.
	req = append(req, " HTTP/1.0\r\nHost: banmesh\r\nContent-Type: application/json\r\nContent-Length: "...)
	req = strconv.AppendInt(req, int64(len(body)), 10)
	req = append(req, "\r\n\r\n"...)
	req = append(req, body...)
	_, sent := conn.Write(req)
	// A server that refuses a body may answer before it has read all of it. Prefer its answer to the broken pipe.
	status, reply, err := readReply(bufio.NewReader(conn))
	if err != nil {
		closing.Close()
		if sent != nil {
			err = sent
		}
		return nil, c.cut(err)
	}
	closing.Reader = reply
	if status == 200 {
		return closing, nil
	}
	defer closing.Close()
	b, err := io.ReadAll(io.LimitReader(reply, maxError))
	if err != nil {
		return nil, c.cut(err)
	}
	var e Error
	if json.Unmarshal(b, &e) != nil || e.Message == "" {
		return nil, fmt.Errorf("agent at %s: unexpected reply, status %d", c.socket, status)
	}
	plain(&e)
	return nil, &e
}

// readReply reads the head of a reply and returns the body, which ends with io.ErrUnexpectedEOF if it is shorter than
// announced.
func readReply(r *bufio.Reader) (status int, body io.Reader, err error) {
	var length int64 = -1
	for first := true; ; first = false {
		// A line that does not fit the reader's buffer is an error, so the head is bounded line by line.
		b, err := r.ReadSlice('\n')
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return 0, nil, err
		}
		line := strings.TrimRight(string(b), "\r\n")
		if first {
			version, rest, _ := strings.Cut(line, " ")
			code, _, _ := strings.Cut(rest, " ")
			if status, err = strconv.Atoi(code); err != nil || !strings.HasPrefix(version, "HTTP/1.") {
				return 0, nil, fmt.Errorf("not a reply in HTTP: %s", Show(line))
			}
			continue
		}
		if line == "" {
			break
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Content-Length") {
			if length, err = strconv.ParseInt(strings.TrimSpace(value), 10, 64); err != nil || length < 0 {
				return 0, nil, fmt.Errorf("not a length: %s", Show(line))
			}
		}
	}
	// Such as a stream of events: it ends with the connection.
	if length < 0 {
		return status, r, nil
	}
	return status, &exactly{r, length}, nil
}

// exactly is a body of known length.
type exactly struct {
	r    io.Reader
	left int64
}

// Read turns an end before the promised length into an error: a list cut short must not pass for a whole one.
func (e *exactly) Read(b []byte) (int, error) {
	if e.left == 0 {
		return 0, io.EOF
	}
	n, err := e.r.Read(b[:min(int64(len(b)), e.left)])
	e.left -= int64(n)
	if err == io.EOF && e.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// dial says in words why there is no agent: each reason has another remedy. ErrNoAnswer is kept apart, since
// somebody does listen then.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", c.socket)
	if err == nil {
		return conn, nil
	}
	var errno syscall.Errno
	switch {
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return nil, fmt.Errorf("%w at %s: permission denied: run as root or as a member of the socket's group", ErrNoAgent, c.socket)
	case errors.Is(err, syscall.ENOENT):
		return nil, fmt.Errorf("%w at %s: no such socket: is the agent running?", ErrNoAgent, c.socket)
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("%w at %s: the agent is not running", ErrNoAgent, c.socket)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return nil, fmt.Errorf("%w at %s: it does not answer in time", ErrNoAnswer, c.socket)
	case errors.As(err, &errno):
		return nil, fmt.Errorf("%w at %s: %s", ErrNoAgent, c.socket, errno.Error())
	}
	return nil, fmt.Errorf("%w at %s: %w", ErrNoAgent, c.socket, err)
}

// cut turns the error of an interrupted call into one that callers know.
func (c *Client) cut(err error) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("%w at %s: it does not answer in time", ErrNoAnswer, c.socket)
	}
	return fmt.Errorf("%w at %s: it ended the conversation: %w", ErrNoAgent, c.socket, err)
}

// closer closes the connection with the body.
type closer struct {
	io.Reader
	conn net.Conn
	stop func() bool
}

func (c closer) Close() error {
	c.stop()
	return c.conn.Close()
}
