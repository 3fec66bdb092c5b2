package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/mesh/conductor"
)

// apiRoot is the path of the device's REST API.
const apiRoot = "/api/v1"

const (
	maxError   = 64 << 10         // bytes read of an answer that is an error
	maxAttempt = 3                // attempts of one call when the conductor asks to wait
	maxPause   = 10 * time.Second // longest wait inside a call; longer ones are left to the caller
	maxAfter   = time.Hour        // longest Retry-After that is believed
)

// node is one conductor node: how to reach it, its token, and what it was found to do. The holder of login replaces the
// token; mu protects the fields below it.
type node struct {
	url    string // https://host[:port]
	cfg    *Config
	client *http.Client
	now    func() time.Time
	trust  *trust

	login chan struct{} // holds one value while nobody logs in: receive it to log in, then put it back

	room room

	mu        sync.Mutex
	token     string
	accepted  bool      // a call succeeded with this token
	replaced  time.Time // when a token was last replaced after a 403
	notBefore time.Time // the conductor asked not to be called before
	about     about
}

// newNode keeps one client for the node, so that a commit's calls share a connection. Keep-alive probes find
// a dead one within half a minute.
func newNode(u *url.URL, cfg *Config, t *trust, now func() time.Time) *node {
	dialer := &net.Dialer{Timeout: cfg.DialTimeout,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	n := &node{url: u.String(), cfg: cfg, now: now, trust: t, login: make(chan struct{}, 1)}
	n.login <- struct{}{}
	dial := cfg.Dial
	if dial == nil {
		dial = dialer.DialContext
	}
	n.client = &http.Client{
		Transport: &http.Transport{
			// No Proxy, whatever the environment names: the token is for the conductor alone. With a dialer and a
			// TLS configuration of its own, net/http speaks HTTP/1.1 only.
			DialContext:            dial,
			TLSClientConfig:        t.config(hostPort(u), u.Hostname()),
			TLSHandshakeTimeout:    cfg.DialTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true, // a small body could become a large one
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        30 * time.Second,
		},
		CheckRedirect: redirected,
	}
	return n
}

// redirected follows a redirect only if it stays within the API and repeats the same request, as from servers that add a
// slash to the path: the token must go to nobody else, and another method would do something else.
func redirected(to *http.Request, via []*http.Request) error {
	first := via[0]
	if len(via) > 3 || to.URL.Scheme != first.URL.Scheme || to.URL.Host != first.URL.Host || to.Method != first.Method ||
		!strings.HasPrefix(to.URL.Path, apiRoot+"/") {
		// The redirect itself becomes the answer, and refusal says where it points.
		return http.ErrUseLastResponse
	}
	return nil
}

// failure is an error that says whether the conductor can have seen the request.
type failure struct {
	err  error
	sent bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// sent reports whether a failed call may have had an effect.
func sent(err error) bool {
	var f *failure
	return errors.As(err, &f) && f.sent
}

// call makes one call with the token and returns the answer: at most MaxReply bytes, JSON unless blank. It renews the token once
// if it is refused. If the conductor asks for a short wait, it waits. Errors: *statusError, *conductor.BusyError (409, 429),
// conductor.ErrLogin, conductor.ErrSecret, *CertificateError, conductor.ErrUnreachable, conductor.ErrProtocol.
func (n *node) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	return n.callInto(ctx, method, path, body, nil)
}

// callInto is call with a buffer to use for the answer if it fits.
func (n *node) callInto(ctx context.Context, method, path string, body any, into []byte) ([]byte, error) {
	renewed := false
	for attempt := 1; ; attempt++ {
		if err := n.pause(ctx); err != nil {
			return nil, err
		}
		token, err := n.takeToken(ctx, "")
		if err != nil {
			return nil, err
		}
		a, err := n.send(ctx, method, path, body, token, into)
		var status *statusError
		if !errors.As(err, &status) {
			if err == nil {
				n.learn(func(*about) { n.accepted = true })
			}
			return a, err
		}
		switch status.Status {
		case http.StatusForbidden:
			// Some servers answer 403 for an expired token. If it is the role that lacks rights, a new token is refused as
			// well.
			if renewed || !n.mayBeOver(token) {
				return a, err
			}
			renewed = true
			if _, renewErr := n.takeToken(ctx, token); renewErr != nil {
				return a, err
			}
		case http.StatusUnauthorized:
			if renewed {
				return a, fmt.Errorf("a new token is refused as well: %w", err)
			}
			renewed = true
			if _, renewErr := n.takeToken(ctx, token); renewErr != nil {
				return a, fmt.Errorf("%w; the token cannot be renewed: %w", err, renewErr)
			}
		// Turned away for the rate of the calls (RFC 6585 section 4), so any may be repeated.
		case http.StatusTooManyRequests:
			if n.hold(status) > maxPause || attempt == maxAttempt {
				return a, &conductor.BusyError{After: status.RetryAfter, Detail: status.Error(), Err: err}
			}
		// Only a reading is repeated: a change may have been made before this answer.
		case http.StatusServiceUnavailable:
			wait := n.hold(status)
			if status.RetryAfter == 0 || wait > maxPause || method != http.MethodGet || attempt == maxAttempt {
				return a, err
			}
		case http.StatusConflict:
			return a, &conductor.BusyError{Detail: status.Error(), Err: err}
		default:
			return a, err
		}
	}
}

// hold remembers how long the conductor wants to be left alone.
func (n *node) hold(e *statusError) time.Duration {
	wait := e.RetryAfter
	// RFC 6585 section 4 leaves it to the server whether it names a time.
	if wait == 0 && e.Status == http.StatusTooManyRequests {
		wait = time.Second
	}
	if wait == 0 {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if until := n.now().Add(wait); until.After(n.notBefore) {
		n.notBefore = until
	}
	return wait
}

// pause waits until the conductor may be asked again, or returns an error if that takes too long.
func (n *node) pause(ctx context.Context) error {
	n.mu.Lock()
	wait := n.notBefore.Sub(n.now())
	n.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	// Said at once: a wait that cannot end in time would hold up the caller for nothing.
	deadline, bounded := ctx.Deadline()
	if wait > maxPause || bounded && time.Until(deadline) < wait {
		return &conductor.BusyError{After: wait, Detail: n.url + " asked to be left alone"}
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", conductor.ErrUnreachable, context.Cause(ctx))
	case <-t.C:
		return nil
	}
}

// takeToken returns the current token, or a new one if the current one is stale.
func (n *node) takeToken(ctx context.Context, stale string) (string, error) {
	select {
	case <-n.login:
	case <-ctx.Done():
		return "", fmt.Errorf("%w: %w", conductor.ErrUnreachable, context.Cause(ctx))
	}
	defer func() { n.login <- struct{}{} }()
	n.mu.Lock()
	token := n.token
	n.mu.Unlock()
	// A caller that waited for login finds the token that the one before it has got.
	if token != "" && token != stale {
		return token, nil
	}
	var err error
	if n.cfg.TokenFile != "" {
		// Read anew each time: the operator may have put another one there since.
		if token, err = readSecret(n.cfg.TokenFile); err != nil {
			return "", err
		}
		if token == stale {
			return "", fmt.Errorf("%w: the token in %s is refused; write a new one to it", conductor.ErrLogin, n.cfg.TokenFile)
		}
	} else if token, err = n.logIn(ctx); err != nil {
		return "", err
	}
	n.mu.Lock()
	n.token, n.accepted = token, false
	n.mu.Unlock()
	return token, nil
}

// anew is the least time between two replacements of a token after a 403.
const anew = time.Minute

// mayBeOver reports whether a token that was accepted before may have expired. It says so once a minute at most.
func (n *node) mayBeOver(token string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	// A token from a file is not ours to renew; one that never worked lacks rights and is not over.
	if n.cfg.TokenFile != "" || token != n.token || !n.accepted || n.now().Sub(n.replaced) < anew {
		return false
	}
	n.replaced = n.now()
	return true
}

// logIn exchanges user and password for a token.
func (n *node) logIn(ctx context.Context) (string, error) {
	field, secret, err := readCredential(n.cfg.PasswordFile)
	if err != nil {
		return "", err
	}
	a, err := n.send(ctx, http.MethodPost, "/login", map[string]string{"username": n.cfg.User, field: secret}, "", nil)
	var status *statusError
	switch {
	case errors.As(err, &status) && status.Status == http.StatusTooManyRequests:
		n.hold(status)
		return "", &conductor.BusyError{After: status.RetryAfter, Detail: status.Error(), Err: err}
	// 404 is not about the password: nothing there is a conductor's API.
	case errors.As(err, &status) && status.Status >= 400 && status.Status < 500 && status.Status != http.StatusNotFound:
		return "", fmt.Errorf("%w: user %s: %w", conductor.ErrLogin, n.cfg.User, err)
	case err != nil:
		return "", err
	}
	var reply struct{ Token string }
	// It becomes a header, so control characters must not be in it.
	if err := json.Unmarshal(a, &reply); err != nil || reply.Token == "" || !conductor.PlainText(reply.Token) {
		return "", fmt.Errorf("%w: POST /login answered no token", conductor.ErrProtocol)
	}
	return reply.Token, nil
}

// send makes one request. Its errors never contain secrets.
func (n *node) send(ctx context.Context, method, path string, body any, token string, into []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, n.cfg.Timeout,
		fmt.Errorf("no answer within %v: %w", n.cfg.Timeout, context.DeadlineExceeded))
	defer cancel()
	var wrote atomic.Bool
	// From then on the server may act on the request, whatever becomes of the connection.
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteHeaders: func() { wrote.Store(true) }})
	fail := func(err error) ([]byte, error) { return nil, &failure{err: err, sent: wrote.Load()} }

	var payload io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fail(fmt.Errorf("write %s %s: %w", method, path, err))
		}
		payload = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, n.url+apiRoot+path, payload)
	if err != nil {
		return fail(fmt.Errorf("write %s %s: %w", method, path, err))
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "identity") // without it any coding is acceptable (RFC 9110 §12.5.3)
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if method != http.MethodGet {
		// On a kept connection that the server is just closing, nobody could tell whether the call was carried out.
		n.client.CloseIdleConnections()
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return fail(n.broken(ctx, method, path, err))
	}
	defer resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return fail(n.refusal(method, path, resp))
	}
	// Read one byte over the limit, to tell a body that ends there from a longer one. The rest of a longer body is not read:
	// closing the body closes the connection.
	what := method + " " + pathOnly(path)
	content, err := decoding(resp)
	if err != nil {
		return fail(fmt.Errorf("%w: %s: %w", conductor.ErrProtocol, what, err))
	}
	b, err := readAll(io.LimitReader(content, int64(n.cfg.MaxReply)+1), into, min(resp.ContentLength, int64(n.cfg.MaxReply)))
	switch {
	case len(b) > n.cfg.MaxReply:
		return fail(fmt.Errorf("%w: %s answered more than %d bytes", conductor.ErrProtocol, what, n.cfg.MaxReply))
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fail(fmt.Errorf("%w: %s: the answer is cut off after %d bytes", conductor.ErrUnreachable, what, len(b)))
	case err != nil:
		return fail(n.broken(ctx, method, path, err))
	case ctx.Err() != nil && len(bytes.TrimSpace(b)) == 0:
		// A server that sees the connection close may still send an empty answer, which means nothing.
		return fail(n.broken(ctx, method, path, ctx.Err()))
	}
	b = bytes.TrimPrefix(b, []byte("\ufeff")) // JSON must not start with a byte order mark, but some servers send one (RFC 8259 §8.1)
	// These two are asked for data, in place of which a sentence is an error.
	if method != http.MethodGet && path != "/login" && path != "/graphql" {
		b = asMessage(b)
	}
	if err := checkJSON(b); err != nil {
		return fail(fmt.Errorf("%w: %s: %w", conductor.ErrProtocol, what, err))
	}
	return b, nil
}

// decoding returns the decoded body. We ask for identity only, but some proxies compress all the same.
func decoding(resp *http.Response) (io.Reader, error) {
	switch coding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
		return resp.Body, nil
	case "gzip", "x-gzip":
		// No body is no gzip, whatever the header says.
		if resp.ContentLength == 0 || resp.StatusCode == http.StatusNoContent {
			return resp.Body, nil
		}
		// The caller limits what comes out of it, so a small body cannot become a huge answer.
		content, err := gzip.NewReader(resp.Body)
		if err != nil {
			return nil, fmt.Errorf("the answer calls itself gzip and is not: %w", err)
		}
		return content, nil
	default:
		return nil, fmt.Errorf("the answer is encoded as %s, which was not asked for; a proxy in between must not do that", conductor.OneLine(coding))
	}
}

// readAll reads all of r into b if it fits. expected is the announced length, 0 or less if unknown.
func readAll(r io.Reader, b []byte, expected int64) ([]byte, error) {
	const (
		most  = 32 << 20 // bounds how much is allocated because of an announced length
		large = 4 << 20
	)
	if expected = min(expected, most); int64(cap(b)) <= expected {
		b = make([]byte, 0, expected+bytes.MinRead)
	}
	b = b[:0]
	// Keep what does not fit in pieces and join them at the end: a growing buffer leaves several times as much garbage.
	var pieces [][]byte
	for into := &b; ; {
		if len(*into) == cap(*into) {
			pieces = append(pieces, make([]byte, 0, min(max(cap(*into), 16<<10), 512<<10)))
			into = &pieces[len(pieces)-1]
		}
		n, err := r.Read((*into)[len(*into):cap(*into)])
		*into = (*into)[:len(*into)+n]
		if err == nil {
			continue
		}
		if len(pieces) > 0 {
			size := len(b)
			for _, p := range pieces {
				size += len(p)
			}
			b = append(make([]byte, 0, size+size/16+bytes.MinRead), b...) // with room to grow for the next answer
			for _, p := range pieces {
				b = append(b, p...)
			}
			if pieces = nil; size > large {
				runtime.GC() // free the pieces now, so that the next answer finds their memory
			}
		}
		if err == io.EOF {
			err = nil
		}
		return b, err
	}
}

// broken explains a call that got no answer.
func (n *node) broken(ctx context.Context, method, path string, err error) error {
	var refused *CertificateError
	if errors.As(err, &refused) {
		return refused
	}
	var wrapped *url.Error
	// The client names method and URL as well; below they are named once, without the query.
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	var tooNew interface{ Timeout() bool }
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	} else if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return fmt.Errorf("%w: %s speaks HTTP, not HTTPS", conductor.ErrProtocol, n.url)
	} else if errors.As(err, &tooNew) && tooNew.Timeout() {
		err = fmt.Errorf("no connection in time: %w", err)
	}
	return fmt.Errorf("%s %s: %w: %w", method, pathOnly(path), conductor.ErrUnreachable, err)
}

// refusal turns an answer that is not a success into an error.
func (n *node) refusal(method, path string, resp *http.Response) error {
	e := &statusError{Method: method, Path: pathOnly(path), Status: resp.StatusCode}
	if resp.StatusCode < 400 {
		to := resp.Header.Get("Location")
		// Some servers send a browser to log in instead of answering 401.
		if u, err := url.Parse(to); err == nil && path != "/login" && (u.Host == "" || "https://"+u.Host == n.url) && strings.HasSuffix(strings.TrimSuffix(u.Path, "/"), "/login") {
			e.Status, e.Message = http.StatusUnauthorized, "a redirect to the page to log in at"
			return e
		}
		// Only the host is shown: path and query may carry secrets of somebody's session.
		if u, err := url.Parse(to); err == nil && u.Host != "" {
			to = u.Host
		}
		e.Message = "a redirect, to " + conductor.OneLine(to) + "; it is not followed, because the token is for " + n.url + " alone"
		return e
	}
	e.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), n.now())
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxError))
	if err != nil && len(b) == 0 {
		return e
	}
	e.messages, e.page = saying(b), bytes.HasPrefix(bytes.TrimSpace(b), []byte("<"))
	e.Message = strings.Join(e.messages[:min(3, len(e.messages))], "; ")
	return e
}

// pathOnly keeps queries out of errors: they are long, and the path says what was asked.
func pathOnly(path string) string {
	path, _, _ = strings.Cut(path, "?")
	return path
}
