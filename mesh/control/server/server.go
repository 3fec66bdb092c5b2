package server

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"banmesh/mesh/control"
)

// Bounds of a request body, in bytes. bulkBody holds the most prefixes that one call may carry (control's maxPrefixes), each
// in its longest form.
const (
	bulkBody  = 16 << 20
	smallBody = 128 << 10
)

// slowReader is how long a reader of events may leave one unread.
const slowReader = 10 * time.Second

// Config configures a Server.
type Config struct {
	Agent  Agent
	Logger *slog.Logger
}

// Server answers the commands on this machine. The socket's mode decides who may connect.
type Server struct {
	agent  Agent
	logger *slog.Logger
	http   *http.Server
	users  *users
	// stopping ends the streams, for which a clean shutdown would wait.
	stopping chan struct{}
}

// New returns a Server that does nothing before Serve.
func New(c Config) (*Server, error) {
	if c.Agent == nil {
		return nil, errors.New("control server: no agent")
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Server{agent: c.Agent, logger: c.Logger, stopping: make(chan struct{}), users: newUsers(c.Logger)}
	s.http = &http.Server{
		Handler:           s.users.turn(s.routes()),
		ConnContext:       withPeer,
		ConnState:         s.users.connState,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       time.Minute,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
		ErrorLog:          slogLine(c.Logger),
	}
	return s, nil
}

func slogLine(l *slog.Logger) *log.Logger { return slog.NewLogLogger(l.Handler(), slog.LevelDebug) }

// Serve answers on ln until ctx ends, then gives calls under way a second, cuts event streams at once and closes ln. It may
// be called once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	// A call under way is not cut off by the end of ctx: it may be in the middle of a write. Shutdown bounds
	// it.
	s.http.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(ln) }()
	select {
	case err := <-served:
		return fmt.Errorf("control socket: %w", err)
	case <-ctx.Done():
	}
	close(s.stopping)
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	// It did not end in time.
	if s.http.Shutdown(last) != nil {
		s.http.Close()
	}
	<-served
	return nil
}

// routes names every call that an agent takes. Its bodies are bounded by kind: a hook's call is small, a list
// of prefixes may be large. docs/interfaces.md describes them, and a test compares the two.
func (s *Server) routes() http.Handler {
	m := http.NewServeMux()
	a := s.agent
	m.HandleFunc("POST "+control.PathBan, change(s, bulkBody, a.Ban))
	m.HandleFunc("POST "+control.PathUnban, change(s, bulkBody, a.Unban))
	m.HandleFunc("POST "+control.PathAllow, change(s, bulkBody, a.Allow))
	m.HandleFunc("POST "+control.PathAllowRemove, change(s, bulkBody, a.DropAllow))
	m.HandleFunc("POST "+control.PathFail2ban, change(s, smallBody, a.Fail2ban))
	m.HandleFunc("POST "+control.PathTakeIn, change(s, bulkBody, a.TakeIn))
	m.HandleFunc("POST "+control.PathCommit, change(s, smallBody, a.Commit))
	m.HandleFunc("POST "+control.PathJoin, change(s, smallBody, a.Join))
	m.HandleFunc("POST "+control.PathInvite, change(s, smallBody, a.Invite))
	m.HandleFunc("GET "+control.PathInvite, read(s, list(a.Invitations)))
	m.HandleFunc("POST "+control.PathUninvite, change(s, smallBody, a.Uninvite))
	m.HandleFunc("POST "+control.PathRevoke, change(s, smallBody, a.Revoke))
	m.HandleFunc("POST "+control.PathKeyring, change(s, smallBody, a.Keyring))
	m.HandleFunc("POST "+control.PathLeave, change(s, smallBody, plain(a.Leave)))
	m.HandleFunc("POST "+control.PathForget, change(s, smallBody, func(ctx context.Context, c control.ForgetCall) (struct{}, error) { return struct{}{}, a.Forget(ctx, c) }))
	m.HandleFunc("POST "+control.PathFreeze, change(s, smallBody, plain(a.Freeze)))
	m.HandleFunc("POST "+control.PathThaw, change(s, smallBody, plain(a.Thaw)))
	m.HandleFunc("GET "+control.PathAllow, read(s, list(a.Allows)))
	m.HandleFunc("GET "+control.PathMembers, read(s, list(a.Members)))
	m.HandleFunc("GET "+control.PathStatus, read(s, func(ctx context.Context) (control.Status, error) {
		st, err := a.Status(ctx)
		st.Warnings = never(st.Warnings)
		return st, err
	}))
	m.HandleFunc("GET "+control.PathDiff, read(s, a.Diff))
	m.HandleFunc("GET "+control.PathWhy, s.why)
	m.HandleFunc("GET "+control.PathBans, s.bans)
	m.HandleFunc("GET "+control.PathHistory, asked(s, control.ParseHistoryQuery, a.History))
	m.HandleFunc("GET "+control.PathStats, asked(s, control.ParseStatsQuery, a.Stats))
	m.HandleFunc("GET "+control.PathEvents, s.events)
	m.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, control.Errorf(control.CodeNotFound, "%s %s is unknown to this agent: is the command newer than the agent?", r.Method, r.URL.Path))
	})
	return m
}

// nothing is the body of a change without parameters.
type nothing struct{}

func (nothing) Validate() error { return nil }

func plain(do func(context.Context) error) func(context.Context, nothing) (struct{}, error) {
	return func(ctx context.Context, _ nothing) (struct{}, error) { return struct{}{}, do(ctx) }
}

// never turns a nil slice into an empty one: readers are promised [], not null.
func never[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// list answers [] instead of null when there is nothing.
func list[T any](get func(context.Context) ([]T, error)) func(context.Context) ([]T, error) {
	return func(ctx context.Context) ([]T, error) {
		out, err := get(ctx)
		return never(out), err
	}
}

// change answers a POST: it decodes and checks the call, asks the agent and logs the caller.
func change[C interface{ Validate() error }, R any](s *Server, limit int64, do func(context.Context, C) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var call C
		if err := decode(http.MaxBytesReader(w, r.Body, limit), r.ContentLength, limit, &call); err != nil {
			s.fail(w, err)
			return
		}
		// Here as well as in the command: other programs use the socket too.
		if err := call.Validate(); err != nil {
			s.fail(w, control.Errorf(control.CodeInvalid, "%v", err))
			return
		}
		began := time.Now()
		reply, err := do(r.Context(), call)
		s.logger.Info("call", "path", r.URL.Path, peerAttr(r.Context()), "took", time.Since(began).Round(time.Microsecond), "error", errText(err))
		if err != nil {
			s.fail(w, err)
			return
		}
		s.reply(w, http.StatusOK, reply)
	}
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// read is for calls that change nothing and so need no body.
func read[R any](s *Server, get func(context.Context) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		reply, err := get(r.Context())
		if err != nil {
			s.fail(w, err)
			return
		}
		s.reply(w, http.StatusOK, reply)
	}
}

// asked answers a GET with a query.
func asked[Q, R any](s *Server, parse func(func(string) string) (Q, error), get func(context.Context, Q) (R, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q, err := parse(r.URL.Query().Get)
		if err != nil {
			s.fail(w, control.Errorf(control.CodeInvalid, "%v", err))
			return
		}
		read(s, func(ctx context.Context) (R, error) { return get(ctx, q) })(w, r)
	}
}

// decode reads one JSON object and nothing after it. An empty body is an empty object.
func decode(body io.Reader, length, limit int64, into any) error {
	if length > limit {
		return control.Errorf(control.CodeTooLarge, "the call has %d bytes: at most %d", length, limit)
	}
	buf := make([]byte, 0, max(512, min(length, limit)+1))
	for {
		n, err := body.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			break
		}
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			return control.Errorf(control.CodeTooLarge, "the call has more than %d bytes", limit)
		}
		if err != nil {
			return control.Errorf(control.CodeInvalid, "read the call: %v", err)
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
	if len(buf) == 0 {
		return nil
	}
	// The fast way for long lists, which gives up on anything unusual; encoding/json then words the error.
	if call, ok := into.(interface{ ReadJSON(b []byte) bool }); ok && call.ReadJSON(buf) {
		return nil
	}
	if err := json.Unmarshal(buf, into); err != nil {
		return control.Errorf(control.CodeInvalid, "%v", err)
	}
	return nil
}

// reply encodes before it writes, so that an error can still become a status.
func (s *Server) reply(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		s.logger.Error("encode reply", "error", err)
		status, b = http.StatusInternalServerError, []byte(`{"error":"the reply could not be encoded","code":"failed"}`)
	}
	b = append(b, '\n')
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(b))) // tells an HTTP/1.0 client whether all of it came
	w.WriteHeader(status)
	w.Write(b)
}

// fail answers with the shape that control.Error documents, whatever went wrong.
func (s *Server) fail(w http.ResponseWriter, err error) {
	e := asError(err)
	s.reply(w, statusOf[e.Code], e)
}

func (s *Server) why(w http.ResponseWriter, r *http.Request) {
	p, err := control.ParsePrefix(r.URL.Query().Get("ip"))
	if err != nil {
		s.fail(w, control.Errorf(control.CodeInvalid, "ip: %v", err))
		return
	}
	y, err := s.agent.Why(r.Context(), p)
	if err != nil {
		s.fail(w, err)
		return
	}
	y.Bans, y.Lifts, y.Allows, y.NeverBans = never(y.Bans), never(y.Lifts), never(y.Allows), never(y.NeverBans)
	s.reply(w, http.StatusOK, y)
}

// bans streams the list, so that the text of a hundred thousand bans is never in memory at once.
func (s *Server) bans(w http.ResponseWriter, r *http.Request) {
	q, err := control.ParseListQuery(r.URL.Query().Get)
	if err != nil {
		s.fail(w, control.Errorf(control.CodeInvalid, "%v", err))
		return
	}
	// Errors come before the first byte: after it the status cannot be changed any more.
	bans, _, err := s.agent.List(r.Context(), q)
	if err != nil {
		s.fail(w, err)
		return
	}
	// A reader that stops reading must not keep the list in memory for ever.
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Minute))
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 64<<10)
	var buf []byte
	sep := byte('[')
	for b := range bans {
		buf = b.AppendJSON(append(buf[:0], sep))
		buf = append(buf, '\n')
		if _, err := out.Write(buf); err != nil {
			return
		}
		sep = ','
	}
	if sep == '[' {
		out.WriteByte('[')
	}
	out.WriteString("]\n")
	out.Flush()
}

// events streams one object per line until the caller goes or the agent stops.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		select {
		case <-s.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	stream := http.NewResponseController(w)
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	// Send the head at once: it tells the caller that it misses no event from now on.
	stream.Flush()
	enc := json.NewEncoder(w)
	err := s.agent.Events(ctx, func(e control.Event) error {
		stream.SetWriteDeadline(time.Now().Add(slowReader))
		if err := enc.Encode(e); err != nil {
			return err
		}
		return stream.Flush()
	})
	if err != nil && ctx.Err() == nil {
		s.logger.Debug("events ended", "error", err)
	}
}

// statusOf serves readers that know only HTTP; the client of this repository goes by the code.
var statusOf = map[control.Code]int{
	control.CodeInvalid: http.StatusBadRequest, control.CodeDenied: http.StatusForbidden, control.CodeNotFound: http.StatusNotFound, control.CodeConflict: http.StatusConflict,
	control.CodeTooLarge: http.StatusRequestEntityTooLarge, control.CodeInternal: http.StatusInternalServerError, control.CodeUnavailable: http.StatusServiceUnavailable,
}

// asError turns any error into the one that travels.
func asError(err error) *control.Error {
	var e *control.Error
	if errors.As(err, &e) {
		// The whole error's text, which says more than the innermost one; the code is its.
		if _, known := statusOf[e.Code]; known {
			return &control.Error{Code: e.Code, Message: err.Error()}
		}
	}
	return &control.Error{Code: control.CodeInternal, Message: err.Error()}
}
