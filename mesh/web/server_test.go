package web

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// serve runs a server on a free port of an address until the test ends, or stop
// is called, which returns what Serve does.
func serve(t *testing.T, s *Server, addr string) (base string, stop func() error) {
	t.Helper()
	ln, err := Listen(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	stopped := false
	stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(10 * time.Second):
			return errors.New("Serve does not return")
		}
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + ln.Addr().String(), stop
}

func get(t *testing.T, url string) *http.Response {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

func TestCommonHeadersAreOnEveryAnswer(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'")
	})
	h := newServer(t, Config{Page: page}).handler(loopback)
	for _, a := range []answer{
		ask(t, h, "GET", "/healthz"), ask(t, h, "GET", "/feed/plain"), ask(t, h, "GET", "/feed/none"), ask(t, h, "POST", "/"),
		ask(t, h, "GET", "/", "Host", "stranger.example"),
	} {
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := a.header.Get(name); got != want {
				t.Errorf("%d %q: %s is %q, want %q", a.status, a.body, name, got, want)
			}
		}
		if a.header.Get("Cache-Control") == "" || a.header.Get("Access-Control-Allow-Origin") != "" || a.header.Get("Set-Cookie") != "" {
			t.Errorf("%d: %v", a.status, a.header)
		}
	}
	if got := ask(t, h, "GET", "/").header.Get("Content-Security-Policy"); got != "default-src 'self'" {
		t.Errorf("the page's policy: %q, want its own", got)
	}
}

func TestOnlyReadingIsAllowed(t *testing.T) {
	called := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("%s %s reached a handler", r.Method, r.URL) })
	h := newServer(t, Config{Page: called, Metrics: called}).handler(loopback)
	for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
		for _, path := range []string{"/", "/metrics", "/healthz", "/readyz", "/feed/plain", "/why"} {
			a := ask(t, h, method, path)
			if a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
				t.Errorf("%s %s: %d, Allow %q", method, path, a.status, a.header.Get("Allow"))
			}
		}
	}
}

func TestHostMustBeThisMachine(t *testing.T) {
	listen := netip.MustParseAddr("127.1.2.3")
	h := newServer(t, Config{}).handler(listen)
	for host, ok := range map[string]bool{
		"localhost": true, "localhost:7980": true, "LOCALHOST.:80": true, "127.0.0.1": true, "127.0.0.1:7980": true,
		"127.1.2.3:7980": true, "[::1]:7980": true, "[::ffff:127.0.0.1]:80": true,
		"": false, "router1": false, "localhost.stranger.example": false, "stranger.example:7980": false, "192.0.2.1": false,
		"127.0.0.1.nip.io": false, "[::2]": false, "0.0.0.0": false, "localhost@stranger.example": false,
	} {
		for _, path := range []string{"/", "/healthz", "/feed/plain"} {
			want := 200
			if !ok {
				want = http.StatusMisdirectedRequest
			}
			if a := ask(t, h, "GET", path, "Host", host); a.status != want {
				t.Errorf("Host %q of %s: %d, want %d", host, path, a.status, want)
			}
		}
	}
}

func TestPathsWithoutPageAndMetrics(t *testing.T) {
	h := newServer(t, Config{}).handler(loopback)
	a := ask(t, h, "GET", "/")
	for path := range strings.FieldsSeq(a.body) {
		if a := ask(t, h, "GET", path); a.status != 200 {
			t.Errorf("%s is listed and answers %d", path, a.status)
		}
	}
	if a.status != 200 || strings.Contains(a.body, "/metrics") {
		t.Errorf("%d %q", a.status, a.body)
	}
	for _, path := range []string{"/metrics", "/why", "/feed"} {
		if a := ask(t, h, "GET", path); a.status != 404 {
			t.Errorf("%s: %d, want 404", path, a.status)
		}
	}
}

func TestHealth(t *testing.T) {
	var sick, unready error
	h := newServer(t, Config{Health: func() error { return sick }, Ready: func() error { return unready }}).handler(loopback)
	look := func(path string, status int, body string) {
		t.Helper()
		if a := ask(t, h, "GET", path); a.status != status || a.body != body+"\n" {
			t.Errorf("%s: %d %q, want %d %q", path, a.status, a.body, status, body)
		}
		if a := ask(t, h, "HEAD", path); a.status != status {
			t.Errorf("HEAD %s: %d, want %d", path, a.status, status)
		}
	}
	look("/healthz", 200, "ok")
	look("/readyz", 200, "ready")
	unready = errors.New("not settled: too little has been heard of the other members")
	look("/healthz", 200, "ok")
	look("/readyz", 503, unready.Error())
	sick = errors.New("disk full")
	look("/healthz", 503, "the store takes no writes: disk full")
	look("/readyz", 503, "the store takes no writes: disk full")
}

func TestOpenToOthersNeedsAToken(t *testing.T) {
	ln, err := Listen(t.Context(), "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := newServer(t, Config{}).Serve(t.Context(), ln); err == nil || !strings.Contains(err.Error(), "http.token_file") {
		t.Errorf("Serve: %v, want that it needs a token", err)
	}
	if _, err := net.DialTimeout("tcp", strings.Replace(ln.Addr().String(), "[::]", "127.0.0.1", 1), time.Second); err == nil {
		t.Error("it listens all the same")
	}
	base, _ := serve(t, newServer(t, Config{TokenFile: tokens(t, goodToken, 0o600)}), "0.0.0.0:0")
	_, port, err := net.SplitHostPort(strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	if res := get(t, "http://127.0.0.1:"+port+"/"); res.StatusCode != 401 {
		t.Errorf("without a token: %d, want 401", res.StatusCode)
	}
}

func TestListenSaysWhatIsWrong(t *testing.T) {
	ln, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, addr := range []string{ln.Addr().String(), "localhost:7980", "7980", ""} {
		if _, err := Listen(t.Context(), addr); err == nil || !strings.Contains(err.Error(), "http.listen") {
			t.Errorf("Listen(%q): %v, want an error that names the key", addr, err)
		}
	}
}

// A stream of the page has no end of its own: it must not hold up a stop.
func TestStreamsEndAtOnceWhenTheAgentStops(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stream := http.NewResponseController(w)
		if err := stream.SetWriteDeadline(time.Now().Add(time.Hour)); err != nil {
			t.Errorf("a stream cannot move its deadline: %v", err)
		}
		fmt.Fprintln(w, "data: hello")
		if err := stream.Flush(); err != nil {
			t.Errorf("a stream cannot flush: %v", err)
		}
		<-r.Context().Done()
	})
	base, stop := serve(t, newServer(t, Config{Page: page}), "127.0.0.1:0")
	var streams []*bufio.Reader
	for range 5 {
		b := bufio.NewReader(get(t, base+"/live").Body)
		if line, err := b.ReadString('\n'); err != nil || line != "data: hello\n" {
			t.Fatalf("%q, %v", line, err)
		}
		streams = append(streams, b)
	}
	began := time.Now()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > stopWithin {
		t.Errorf("the stop took %v", took)
	}
	for _, b := range streams {
		if _, err := b.ReadByte(); err == nil {
			t.Error("a stream goes on")
		}
	}
}

func TestOversizedHeadersAreRefused(t *testing.T) {
	base, _ := serve(t, newServer(t, Config{}), "127.0.0.1:0")
	c, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX: %s\r\n\r\n", strings.Repeat("x", 2*maxHeader))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil || !strings.Contains(line, "431") {
		t.Errorf("a header of %d bytes: %q, %v; want 431", 2*maxHeader, line, err)
	}
}
