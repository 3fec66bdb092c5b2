package conductorsim

import (
	"bytes"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"banmesh/internal/sim/conductorsim/history"
)

// apiRoot is the path of the device's REST API.
const apiRoot = "/api/v1"

// restFront is the REST API of one node.
type restFront struct {
	sim  *Sim
	node int
}

// restError is an answer other than success.
type restError struct {
	status  int
	message string
}

func (e *restError) Error() string { return e.message }

// ServeREST answers REST over TLS on ln as the given node until Close, or until ln is closed. Then it returns nil.
func (s *Sim) ServeREST(node int, ln net.Listener) error {
	if node < 1 || node > s.cfg.Nodes {
		return fmt.Errorf("serve node %d: there are %d", node, s.cfg.Nodes)
	}
	if err := s.prepare(true, ln.Addr()); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	if !s.hold(ln) {
		ln.Close()
		return nil
	}
	defer s.drop(ln)
	server := &http.Server{
		Handler:           &restFront{s, node},
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{s.cert}, MinVersion: tls.VersionTLS12},
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1: connections can be dropped
		ReadHeaderTimeout: handshakeTimeout,
		ErrorLog:          slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelInfo),
	}
	err := server.ServeTLS(faultyListener{ln, s, node}, "", "")
	server.Close()
	if errors.Is(err, net.ErrClosed) || s.ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve REST on %s: %w", ln.Addr(), err)
}

// faultyListener closes connections at once while the node is unreachable by a fault.
type faultyListener struct {
	net.Listener
	sim  *Sim
	node int
}

func (l faultyListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if _, gone := l.sim.faults.fires(FaultUnreachable, l.node); !gone {
			return conn, nil
		}
		conn.Close()
	}
}

// ExpireTokens invalidates all REST logins: the next call of each gets a 401.
func (s *Sim) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// login returns a new token for user.
func (s *Sim) login(user string, node int) string {
	token := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nextID++
	s.tokens[token] = Actor{Session: s.nextID, User: user, Via: "rest", Node: node}
	return token
}

// bearer returns the owner of a call's token.
func (f *restFront) bearer(r *http.Request) (Actor, bool) {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return Actor{}, false
	}
	s := f.sim
	if s.cfg.Token != "" && subtle.ConstantTimeCompare([]byte(token), []byte(s.cfg.Token)) == 1 {
		return Actor{User: s.cfg.Users[0], Via: "rest", Node: f.node}, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, ok := s.tokens[token]
	a.Node = f.node
	return a, ok
}

// ServeHTTP answers one call, with the faults in force.
func (f *restFront) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := f.sim
	path, ok := strings.CutPrefix(r.URL.EscapedPath(), apiRoot)
	if !ok {
		f.send(w, "", http.StatusNotFound, map[string]string{"message": "the API is at " + apiRoot})
		return
	}
	op := operationOf(r.Method, path)
	if s.thaw(r.Context(), f.node, op) != nil {
		return
	}
	about := func(g Fault) bool { return strings.Contains(path, g.Op) }
	if g, fires := s.faults.fires(FaultRESTAnswer, f.node, about); fires {
		if g.For > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(int((time.Duration(g.For)+time.Second-1)/time.Second)))
		}
		w.WriteHeader(int(min(max(g.N, 100), 999)))
		_, _ = io.WriteString(w, g.Body) // the client is told what it is told
		return
	}
	if g, fires := s.faults.fires(FaultRESTRedirect, f.node, about); fires {
		http.Redirect(w, r, g.Body, http.StatusTemporaryRedirect)
		return
	}
	g, drop := s.faults.fires(FaultDrop, f.node, forOp(op))
	killed := false
	if !drop {
		g, killed = s.faults.fires(FaultKilled, f.node, forOp(op))
		drop = killed
	}
	if drop && g.At == "before" {
		if killed {
			s.restart()
		}
		hangUp(w)
		return
	}
	if drop && g.At == "in" {
		// The call takes effect all the same: the connection is closed while it runs.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.cfg.MaxMessage)))
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		hangUp(w)
	}
	status, answer, err := f.call(r, path)
	if drop {
		if killed {
			s.restart()
		}
		if g.At == "after" {
			hangUp(w)
		}
		return
	}
	if s.thaw(r.Context(), f.node, "") != nil {
		return
	}
	var re *restError
	if errors.As(err, &re) {
		status, answer = re.status, map[string]string{"message": re.message}
	} else if err != nil {
		status, answer = refusalStatus(err), messages(err)
	}
	f.send(w, op, status, answer)
}

// operationOf maps a call to the name of the equivalent NETCONF operation, for the faults.
func operationOf(method, path string) string {
	switch {
	case path == "/login":
		return "login"
	case path == "/config/validate":
		return "validate"
	case path == "/config/commit":
		return "commit"
	case path == "/config/revertToRunning":
		return "discard-changes"
	case method == http.MethodGet:
		return "get-config"
	}
	return "edit-config"
}

// hangUp closes a call's connection without an answer.
func hangUp(w http.ResponseWriter) {
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		conn.Close()
	}
}

// send answers with JSON, or with what a fault makes of it.
func (f *restFront) send(w http.ResponseWriter, op string, status int, answer any) {
	b, err := json.Marshal(answer)
	if err != nil {
		status, b = http.StatusInternalServerError, []byte(`{"message":"the answer cannot be written"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	if _, fires := f.sim.faults.fires(FaultRESTTruncated, f.node); fires {
		b = b[:len(b)/2]
	}
	if cut, fires := f.sim.faults.fires(FaultCutReply, f.node, forOp(op)); fires {
		w.Header().Set("Content-Length", strconv.Itoa(len(b)))
		w.WriteHeader(status)
		_, _ = w.Write(b[:max(cut.N, 0)%int64(len(b))])
		panic(http.ErrAbortHandler) // closes the connection
	}
	huge, fires := f.sim.faults.fires(FaultHugeReply, f.node)
	w.WriteHeader(status)
	// What goes wrong from here on is the connection's end, which the client sees as well.
	if fires {
		blanks := bytes.Repeat([]byte(" "), 64<<10)
		for n := huge.N; n > 0; n -= int64(len(blanks)) {
			if _, err := w.Write(blanks); err != nil {
				return
			}
		}
	}
	_, _ = w.Write(b)
}

// messages lists the reasons of a refusal, in the form of validate and commit.
func messages(err error) []map[string]string {
	out := []map[string]string{}
	var errs RPCErrors
	if !errors.As(err, &errs) {
		return append(out, map[string]string{"message": err.Error()})
	}
	for _, e := range errs {
		text := e.Message
		if e.Path != "" {
			text += " (" + e.Path + ")"
		}
		out = append(out, map[string]string{"message": text})
	}
	return out
}

// refusalStatus returns the HTTP status of a refused edit.
func refusalStatus(err error) int {
	var errs RPCErrors
	if errors.As(err, &errs) && len(errs) > 0 {
		switch errs[0].Tag {
		case "data-exists", "in-use", "lock-denied":
			return http.StatusConflict
		case "data-missing":
			return http.StatusNotFound
		}
	}
	return http.StatusBadRequest
}

// call executes a call.
func (f *restFront) call(r *http.Request, path string) (status int, answer any, err error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, int64(f.sim.cfg.MaxMessage)))
	if err != nil {
		return 0, nil, &restError{http.StatusRequestEntityTooLarge, "the request cannot be read"}
	}
	if path == "/login" && r.Method == http.MethodPost {
		return f.login(body)
	}
	actor, ok := f.bearer(r)
	if !ok {
		return 0, nil, &restError{http.StatusUnauthorized, "log in first"}
	}
	stores := f.sim.stores
	switch {
	case path == "/graphql" && r.Method == http.MethodPost:
		return f.graphql(body)
	case strings.HasSuffix(path, "/traffic/session") && r.Method == http.MethodDelete:
		if !f.sim.traffic.cut(path, r.URL.Query()) {
			return 0, nil, &restError{http.StatusNotFound, "there is no such session"}
		}
		stores.record(actor, history.Event{Kind: history.Cut, Detail: clip(path + "?" + r.URL.RawQuery + " " + string(body))})
		return http.StatusOK, map[string]any{}, nil
	case path == "/system" && r.Method == http.MethodGet:
		return http.StatusOK, map[string]any{"softwareVersion": string(f.sim.cfg.Style)}, nil
	case path == "/config/version" && r.Method == http.MethodGet:
		return f.version(actor, r.URL.Query())
	case r.Method == http.MethodPost && path == "/config/validate":
		return f.verdict(stores.Validate(actor, nil))
	case r.Method == http.MethodPost && path == "/config/commit":
		return f.commit(actor, body)
	case r.Method == http.MethodPost && path == "/config/revertToRunning":
		return http.StatusOK, map[string]any{}, stores.Discard(actor)
	}
	if rest, ok := strings.CutPrefix(path, "/config/candidate/"); ok {
		return f.resource(actor, StoreCandidate, r, rest, body)
	}
	if rest, ok := strings.CutPrefix(path, "/config/running/"); ok {
		return f.resource(actor, StoreRunning, r, rest, body)
	}
	return 0, nil, &restError{http.StatusNotFound, "there is no " + r.Method + " " + clip(path)}
}

func (f *restFront) login(body []byte) (int, any, error) {
	var who struct{ Username, Password string }
	if err := json.Unmarshal(body, &who); err != nil {
		return 0, nil, &restError{http.StatusBadRequest, "username and password are expected"}
	}
	known := false
	for _, u := range f.sim.cfg.Users {
		known = known || u == who.Username
	}
	right := subtle.ConstantTimeCompare([]byte(who.Password), []byte(f.sim.cfg.Password)) == 1
	_, refused := f.sim.faults.fires(FaultLoginRefused, f.node)
	if !known || !right || refused {
		f.sim.refusedLogin(f.node, who.Username, "wrong user or password")
		return 0, nil, &restError{http.StatusUnauthorized, "wrong user or password"}
	}
	return http.StatusOK, map[string]string{"token": f.sim.login(who.Username, f.node)}, nil
}

// version describes a datastore. The dirty flag may be wrong, as on the device.
func (f *restFront) version(actor Actor, query url.Values) (int, any, error) {
	dirty := false
	if query.Get("datastore") == string(StoreCandidate) {
		_, wrong := f.sim.faults.fires(FaultRESTDirtyFlag, f.node)
		dirty = wrong || f.sim.stores.Dirty(actor)
	}
	return http.StatusOK, map[string]any{"datastore": query.Get("datastore"), "isDirty": dirty}, nil
}

// verdict answers like validate and commit: an empty list means success.
func (f *restFront) verdict(err error) (int, any, error) {
	if err != nil {
		return f.sim.cfg.VerdictStatus, messages(err), nil
	}
	return http.StatusOK, []any{}, nil
}

func (f *restFront) commit(actor Actor, body []byte) (int, any, error) {
	options := struct {
		Distributed bool `json:"distributed"`
	}{f.sim.cfg.Style == Style52} // default until 5.3
	if len(bytes.TrimSpace(body)) > 0 {
		if err := json.Unmarshal(body, &options); err != nil {
			return 0, nil, &restError{http.StatusBadRequest, "this is no JSON object: " + err.Error()}
		}
	}
	// Not the call's context: a commit continues when its client has gone.
	return f.verdict(f.sim.stores.Commit(f.sim.ctx, actor, CommitOptions{Local: !options.Distributed}))
}

// resource executes GET, POST, PATCH, PUT and DELETE on a part of a configuration.
func (f *restFront) resource(actor Actor, s Store, r *http.Request, path string, body []byte) (int, any, error) {
	place, err := findPlace(path)
	if err != nil {
		return 0, nil, err
	}
	root := f.sim.stores.Read(actor, s)
	if r.Method == http.MethodGet {
		answer, found := place.read(f.sim.stores.Show(actor, s))
		if !found {
			return 0, nil, &restError{http.StatusNotFound, "there is no " + clip(path)}
		}
		return http.StatusOK, answer, nil
	}
	if s == StoreRunning {
		return 0, nil, &restError{http.StatusMethodNotAllowed, "running changes by commit only"}
	}
	if place.parent().node(root) == nil {
		return 0, nil, &restError{http.StatusNotFound, "there is nothing that " + clip(path) + " could be in"}
	}
	status := http.StatusOK
	var object map[string]any
	if r.Method != http.MethodDelete {
		if err := json.Unmarshal(body, &object); err != nil {
			return 0, nil, &restError{http.StatusBadRequest, "this is no JSON object: " + err.Error()}
		}
	}
	var edit *Element
	switch r.Method {
	case http.MethodPost:
		status = http.StatusCreated
		edit, err = place.create(object)
	case http.MethodPatch:
		edit, err = place.patch(root, object, f.sim.cfg.PatchReplaces)
	case http.MethodPut:
		if f.sim.faults.inForce(FaultRESTNoPut) {
			return 0, nil, &restError{http.StatusMethodNotAllowed, "PUT is not known"}
		}
		edit, err = place.put(object)
	case http.MethodDelete:
		edit, err = place.delete()
	default:
		err = &restError{http.StatusMethodNotAllowed, r.Method + " is not known"}
	}
	if err != nil {
		return 0, nil, err
	}
	if err := f.sim.stores.Edit(f.sim.ctx, actor, StoreCandidate, Edit{Config: edit}); err != nil {
		return 0, nil, err
	}
	answer := any(map[string]any{})
	if r.Method != http.MethodDelete {
		answer = maps.Clone(object)
	}
	return status, answer, nil
}
