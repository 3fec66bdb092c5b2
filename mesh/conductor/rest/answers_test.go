package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/internal/sim/conductorsim"
	"banmesh/internal/sim/conductorsim/history"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

// logins counts the refused logins of a history.
func (c *lab) refusedLogins() int {
	n := 0
	for _, e := range c.History().Events() {
		if e.Kind == history.Login {
			n++
		}
	}
	return n
}

func TestWrongAnswersAreTypedAndClear(t *testing.T) {
	answers := map[string]struct {
		fault conductorsim.Fault
		want  error
		text  string
	}{
		"401 for ever":  {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 401}, conductor.ErrLogin, "a new token is refused as well"},
		"403":           {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/running", N: 403, Body: `{"message":"not allowed"}`}, conductor.ErrForbidden, "not allowed; give the user's role"},
		"404 for login": {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/login", N: 404}, nil, "is this a conductor"},
		"404 for all":   {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 404}, conductor.ErrProtocol, "is this a conductor"},
		"429":           {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 429, For: conductorsim.Duration(time.Minute)}, conductor.ErrBusy, "waiting 1m0s"},
		"500":           {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 500, Body: "<html>oops</html>"}, conductor.ErrUnreachable, "500 Internal Server Error"},
		"503":           {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 503, For: conductorsim.Duration(time.Minute), Body: "starting\nup"}, conductor.ErrUnreachable, "503 Service Unavailable: starting up"},
		"HTML":          {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 200, Body: "<!DOCTYPE html><p>hello"}, conductor.ErrProtocol, "HTML instead of JSON"},
		"no JSON":       {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 200, Body: `{"a":1} {`}, conductor.ErrProtocol, "no JSON"},
		"nothing":       {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/running", N: 200, Body: " "}, conductor.ErrProtocol, "answered nothing"},
		"another kind":  {conductorsim.Fault{Kind: conductorsim.FaultRESTAnswer, Op: "/config/running", N: 200, Body: `["x"]`}, conductor.ErrProtocol, "not of the expected kind"},
		"truncated":     {conductorsim.Fault{Kind: conductorsim.FaultRESTTruncated}, conductor.ErrProtocol, "ends in the middle"},
		"redirect":      {conductorsim.Fault{Kind: conductorsim.FaultRESTRedirect, Op: "/config", Body: "https://evil.example/api/v1/login"}, conductor.ErrProtocol, "a redirect, to evil.example; it is not followed"},
		"2 GB":          {conductorsim.Fault{Kind: conductorsim.FaultHugeReply, N: 2 << 30}, conductor.ErrProtocol, "more than 1048576 bytes"},
		"unreachable":   {conductorsim.Fault{Kind: conductorsim.FaultUnreachable}, conductor.ErrUnreachable, ""},
	}
	for name, a := range answers {
		t.Run(name, func(t *testing.T) {
			c := serve(t)
			r := c.client(func(cfg *rest.Config) { cfg.MaxReply = 1 << 20 })
			if err := c.Inject(a.fault); err != nil {
				t.Fatal(err)
			}
			_, err := r.Read(t.Context())
			if err == nil || a.want != nil && !errors.Is(err, a.want) || !strings.Contains(fmt.Sprint(err), a.text) {
				t.Errorf("read: %v, want %v with %q", err, a.want, a.text)
			}
			if s := fmt.Sprint(err); strings.Contains(s, "s3cret") || strings.ContainsAny(s, "\n\r") {
				t.Errorf("unfit for a log: %q", s)
			}
			if err := change(t.Context(), r, conductor.Permit{}, prefixes("192.0.2.1/32"), nil); err == nil {
				t.Error("a change went through")
			}
			if n := c.History().Commits(); n != 0 {
				t.Errorf("%d commits", n)
			}
		})
	}
}

func TestARefusedPasswordIsTriedOncePerCall(t *testing.T) {
	c := serve(t)
	r := c.client(func(cfg *rest.Config) { cfg.PasswordFile = c.secret("wrong", "s4cret") })
	_, err := r.Read(t.Context())
	if !errors.Is(err, conductor.ErrLogin) || strings.Contains(err.Error(), "s4cret") {
		t.Errorf("%v", err)
	}
	if n := c.refusedLogins(); n != 1 {
		t.Errorf("%d logins were refused for one call", n)
	}
}

func TestARefusedPasswordIsNotTriedAtTheOtherNode(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Nodes = 2 })
	r := c.client(func(cfg *rest.Config) { cfg.PasswordFile = c.secret("wrong", "s4cret") })
	if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrLogin) {
		t.Errorf("%v", err)
	}
	if n := c.refusedLogins(); n != 1 {
		t.Errorf("%d logins were refused for one call", n)
	}
}

func TestAnExpiredTokenIsRenewed(t *testing.T) {
	c := serve(t)
	r, ctx := c.client(), t.Context()
	e, err := r.Begin(ctx, conductor.Permit{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close(ctx)
	c.ExpireTokens()
	if err := e.Apply(ctx, prefixes("192.0.2.1/32"), nil); err != nil {
		t.Fatal(err)
	}
	c.ExpireTokens()
	if err := e.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	c.want("192.0.2.1/32")
}

func TestATokenFileIsReadAgainWhenItsTokenIsRefused(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.Token = "the-new-one" })
	file := c.secret("token", "the-old-one\n")
	r := c.client(func(cfg *rest.Config) { cfg.PasswordFile, cfg.TokenFile = "", file })
	_, err := r.Read(t.Context())
	if !errors.Is(err, conductor.ErrLogin) || !strings.Contains(err.Error(), "write a new one to it") || strings.Contains(err.Error(), "the-old-one") {
		t.Errorf("%v", err)
	}
	c.secret("token", "the-new-one\n")
	c.seed(r, "192.0.2.1/32")
	c.want("192.0.2.1/32")
	if n := c.refusedLogins(); n != 0 {
		t.Errorf("%d logins", n)
	}
}

func TestSecretsAreReadFromPrivateFilesOnly(t *testing.T) {
	c := serve(t)
	for name, prepare := range map[string]func(path string) error{
		"others can read it":    func(p string) error { return os.Chmod(p, 0o644) },
		"is empty":              func(p string) error { return os.WriteFile(p, []byte("\n"), 0o600) },
		"more than one line":    func(p string) error { return os.WriteFile(p, []byte("a\nb\n"), 0o600) },
		"is not a regular file": func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) },
		"no such file":          os.Remove,
		"control characters":    func(p string) error { return os.WriteFile(p, []byte("a\tb\n"), 0o600) },
		"too many for a secret": func(p string) error { return os.WriteFile(p, make([]byte, 65<<10), 0o600) },
	} {
		file := c.secret("bad", "s3cret\n")
		if err := prepare(file); err != nil {
			t.Fatal(err)
		}
		r := c.client(func(cfg *rest.Config) { cfg.PasswordFile = file })
		if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrSecret) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
		os.RemoveAll(file)
	}
}

func TestCertificates(t *testing.T) {
	c := serve(t)
	pem, pin := c.Certificate()
	ca := filepath.Join(c.dir, "ca.pem")
	if err := os.WriteFile(ca, pem, 0o644); err != nil {
		t.Fatal(err)
	}
	other := serve(t)
	otherPEM, otherPin := other.Certificate()
	otherCA := filepath.Join(c.dir, "other.pem")
	if err := os.WriteFile(otherCA, otherPEM, 0o644); err != nil {
		t.Fatal(err)
	}
	colons := strings.ToUpper(pin[:2])
	for i := 2; i < len(pin); i += 2 {
		colons += ":" + strings.ToUpper(pin[i:i+2])
	}
	for name, x := range map[string]struct {
		pin, ca string
		text    string // of the refusal; "" is none
	}{
		"pin":                {pin: pin},
		"pin with colons":    {pin: "SHA256:" + colons},
		"one of two pins":    {pin: otherPin + ", " + pin},
		"authority":          {ca: ca},
		"both":               {pin: pin, ca: ca},
		"another pin":        {pin: otherPin, text: "is not the pinned one"},
		"another authority":  {ca: otherCA, text: "is not signed by anybody in the ca_file"},
		"pin, not authority": {pin: pin, ca: otherCA, text: "is not signed by anybody"},
	} {
		r := c.client(func(cfg *rest.Config) { cfg.PinSHA256, cfg.CAFile = x.pin, x.ca })
		_, err := r.Read(t.Context())
		var refused *rest.CertificateError
		switch {
		case x.text == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case x.text == "":
		case !errors.As(err, &refused) || !errors.Is(err, rest.ErrCertificate) || !strings.Contains(err.Error(), x.text):
			t.Errorf("%s: %v", name, err)
		case refused.Certificate.Fingerprint != pin:
			t.Errorf("%s: offered %s", name, refused.Certificate.Fingerprint)
		}
	}
}

func TestACertificateForAnotherNameIsRefused(t *testing.T) {
	s := httptest.NewTLSServer(http.NotFoundHandler()) // for example.com and 127.0.0.1
	defer s.Close()
	c := serve(t)
	ca := filepath.Join(c.dir, "ca.pem")
	cert, err := rest.FetchCertificate(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, []byte(cert.PEM), 0o644); err != nil {
		t.Fatal(err)
	}
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	r := c.client(func(cfg *rest.Config) {
		cfg.URLs, cfg.PinSHA256, cfg.CAFile = []string{"https://localhost" + port}, "", ca
	})
	if _, err := r.Read(t.Context()); !errors.Is(err, rest.ErrCertificate) || !strings.Contains(err.Error(), "not for localhost") {
		t.Errorf("%v", err)
	}
}

func TestAnExpiredCertificateIsRefused(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) { cfg.ExpiredCertificate = true })
	for _, pinned := range []bool{true, false} {
		r := c.client(func(cfg *rest.Config) {
			if !pinned {
				pem, _ := c.Certificate()
				cfg.PinSHA256, cfg.CAFile = "", filepath.Join(c.dir, "ca.pem")
				if err := os.WriteFile(cfg.CAFile, pem, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
		if _, err := r.Read(t.Context()); !errors.Is(err, rest.ErrCertificate) || !strings.Contains(err.Error(), "expired on ") {
			t.Errorf("pinned %v: %v", pinned, err)
		}
	}
}

func TestFetchCertificateShowsWhatIsOffered(t *testing.T) {
	c := serve(t)
	pem, pin := c.Certificate()
	for _, addr := range []string{c.urls[0], strings.TrimPrefix(c.urls[0], "https://")} {
		got, err := rest.FetchCertificate(t.Context(), addr)
		if err != nil || got.Fingerprint != pin || got.PEM != string(pem) || got.Subject != "CN=conductor" || !got.NotAfter.After(time.Now()) {
			t.Errorf("%s: %+v, %v", addr, got, err)
		}
	}
	if _, err := rest.FetchCertificate(t.Context(), "http://127.0.0.1:1"); err == nil {
		t.Error("a certificate without TLS")
	}
	if _, err := rest.FetchCertificate(t.Context(), "127.0.0.1:1"); !errors.Is(err, conductor.ErrUnreachable) {
		t.Errorf("%v", err)
	}
}

// A fake conductor answers what the simulated one does not do.
func fake(t *testing.T, handler http.HandlerFunc, change ...func(*rest.Config)) *conductor.Conductor {
	t.Helper()
	s := httptest.NewTLSServer(handler)
	t.Cleanup(s.Close)
	cert, err := rest.FetchCertificate(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := rest.DefaultConfig()
	cfg.URLs, cfg.PinSHA256, cfg.PasswordFile = []string{s.URL}, cert.Fingerprint, password
	for _, f := range change {
		f(&cfg)
	}
	return open(t, cfg)
}

func TestRetryAfterIsHonoured(t *testing.T) {
	var calls, early atomic.Int64
	var until atomic.Int64
	r := fake(t, func(w http.ResponseWriter, req *http.Request) {
		if time.Now().UnixNano() < until.Load() {
			early.Add(1)
		}
		switch {
		case strings.HasSuffix(req.URL.Path, "/login"):
			fmt.Fprint(w, `{"token":"t"}`)
		case calls.Add(1) == 1:
			until.Store(time.Now().Add(900 * time.Millisecond).UnixNano())
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case strings.HasSuffix(req.URL.Path, "/version"):
			fmt.Fprint(w, `{}`)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	})
	if _, err := r.Read(t.Context()); err != nil {
		t.Errorf("a short wait is not waited for: %v", err)
	}
	if n := early.Load(); n != 0 {
		t.Errorf("asked %d times before the time", n)
	}
}

func TestALongRetryAfterIsLeftToTheCaller(t *testing.T) {
	var calls atomic.Int64
	at := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	r := fake(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "/login") {
			fmt.Fprint(w, `{"token":"t"}`)
			return
		}
		calls.Add(1)
		w.Header().Set("Retry-After", at)
		w.WriteHeader(http.StatusTooManyRequests)
	})
	for range 3 {
		_, err := r.Read(t.Context())
		var busy *conductor.BusyError
		if !errors.As(err, &busy) || busy.After < 59*time.Minute || busy.After > time.Hour {
			t.Errorf("%v", err)
		}
	}
	if n := calls.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestARedirectTakesTheTokenNowhere(t *testing.T) {
	var reached atomic.Int64
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached.Add(1) }))
	defer other.Close()
	c := serve(t)
	if err := c.Inject(conductorsim.Fault{Kind: conductorsim.FaultRESTRedirect, Body: other.URL + "/api/v1/config"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client().Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) {
		t.Errorf("%v", err)
	}
	if reached.Load() != 0 {
		t.Error("the redirect was followed")
	}
}

// A redirect that stays within the API is followed (TestAStrangersAPI), but not one that leaves it, or asks for something else.
func TestARedirectIsTheSameCallOrNone(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		to     string
	}{
		"out of the API":     {http.StatusPermanentRedirect, "/portal/login"},
		"another method":     {http.StatusFound, "/api/v1/other"},
		"without a place":    {http.StatusPermanentRedirect, ""},
		"round and round":    {http.StatusTemporaryRedirect, "/api/v1/login"},
		"no password by GET": {http.StatusSeeOther, "/api/v1/login?again"},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int64
			r := fake(t, func(w http.ResponseWriter, req *http.Request) {
				calls.Add(1)
				if req.Method != http.MethodPost || req.URL.Path != "/api/v1/login" {
					t.Errorf("%s %s was asked for", req.Method, req.URL)
				}
				if c.to != "" {
					w.Header().Set("Location", c.to)
				}
				w.WriteHeader(c.status)
			})
			if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) && !errors.Is(err, conductor.ErrUnreachable) || err == nil {
				t.Errorf("%v", err)
			}
			if n := calls.Load(); n > 4 {
				t.Errorf("%d calls", n)
			}
		})
	}
}

// A conductor named by its IPv6 address is one like any other.
func TestAnIPv6AddressIsAHost(t *testing.T) {
	c := serveOn(t, func() (net.Listener, error) { return net.Listen("tcp", "[::1]:0") }, nil)
	cert, err := rest.FetchCertificate(t.Context(), c.urls[0])
	if err != nil || cert.Fingerprint != c.pin {
		t.Errorf("certificate: %+v, %v", cert, err)
	}
	r := c.client()
	c.seed(r, "192.0.2.1/32")
	c.want("192.0.2.1/32")
	if !strings.Contains(r.Features(), "https://[::1]:") {
		t.Errorf("features %q", r.Features())
	}
}

func TestPlainHTTPIsRecognised(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	c := serve(t)
	r := c.client(func(cfg *rest.Config) { cfg.URLs = []string{"https" + strings.TrimPrefix(s.URL, "http")} })
	if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrProtocol) || !strings.Contains(err.Error(), "speaks HTTP") {
		t.Errorf("%v", err)
	}
}

func TestMembersThatTheTenantDoesNotShowAreReadByThemselves(t *testing.T) {
	for name, shown := range map[string]string{
		"not shown": `{"name":"blacklist-fail2ban"}`,
		"by name":   `{"name":"blacklist-fail2ban","member":["internet"]}`,
		"empty":     `{"name":"blacklist-fail2ban","member":[{"neighborhood":"internet"}]}`,
	} {
		r := fake(t, func(w http.ResponseWriter, req *http.Request) {
			switch {
			case strings.HasSuffix(req.URL.Path, "/login"):
				fmt.Fprint(w, `{"token":"t"}`)
			case strings.HasSuffix(req.URL.Path, "/member/internet"):
				fmt.Fprint(w, `{"neighborhood":"internet","address":["192.0.2.1/32"]}`)
			case strings.HasSuffix(req.URL.Path, "/tenant/blacklist-fail2ban"):
				fmt.Fprint(w, shown)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		})
		got, err := r.Read(t.Context())
		if err != nil || fmt.Sprint(got.Addresses) != "[192.0.2.1/32]" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if f := r.Features(); !strings.Contains(f, "taken as for all") {
			t.Errorf("%s: features %q", name, f)
		}
	}
}

// An API that shows no more of a list than names hides another administrator's edits: then the export decides, and where
// there is none, the flag.
func TestHiddenEditsAreNotTakenForNone(t *testing.T) {
	const names = `{"service":[{"name":"web"}]}`
	for name, x := range map[string]struct {
		version, candidate string
		busy               bool
	}{
		"flag":           {version: `{"isDirty":true}`, busy: true},
		"clean":          {version: `{"isDirty":false}`},
		"export":         {version: `{"isDirty":false}`, candidate: `{"authority":{"service":[{"name":"web","enabled":false}]}}`, busy: true},
		"export, lying":  {version: `{"isDirty":true}`, candidate: `{"authority":{"service":[{"name":"web"}]}}`},
		"export, tenant": {version: `{"isDirty":true}`, candidate: `{"authority":{"tenant":[{"name":"blacklist-fail2ban"}],"service":[{"name":"web"}]}}`, busy: true},
	} {
		r := fake(t, func(w http.ResponseWriter, req *http.Request) {
			switch path := strings.TrimPrefix(req.URL.Path, "/api/v1"); {
			case path == "/login":
				fmt.Fprint(w, `{"token":"t"}`)
			case path == "/config/version":
				fmt.Fprint(w, x.version)
			case path == "/config/running/authority", path == "/config/candidate/authority":
				fmt.Fprint(w, names)
			case path == "/config/getJSON" && x.candidate != "" && req.URL.RawQuery == "source=candidate":
				fmt.Fprint(w, x.candidate)
			case path == "/config/getJSON" && x.candidate != "":
				fmt.Fprint(w, `{"authority":{"service":[{"name":"web"}]}}`)
			default:
				w.WriteHeader(http.StatusNotFound)
			}
		})
		e, err := r.Begin(t.Context(), conductor.Permit{})
		if errors.Is(err, conductor.ErrBusy) != x.busy || err != nil && !x.busy {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			e.Close(t.Context())
		}
	}
}

func TestConfigurationsThatCannotWorkAreNamed(t *testing.T) {
	c := serve(t)
	for want, change := range map[string]func(*rest.Config){
		"at least one https URL":       func(cfg *rest.Config) { cfg.URLs = nil },
		"must be https://HOST":         func(cfg *rest.Config) { cfg.URLs = []string{"http://192.0.2.1"} },
		"must not hold user":           func(cfg *rest.Config) { cfg.URLs = []string{"https://a:b@192.0.2.1"} },
		"without a path":               func(cfg *rest.Config) { cfg.URLs = []string{"https://192.0.2.1/x"} },
		"is needed, or a token file":   func(cfg *rest.Config) { cfg.PasswordFile = "" },
		"together with a token file":   func(cfg *rest.Config) { cfg.TokenFile = "x" },
		"no certificate is accepted":   func(cfg *rest.Config) { cfg.PinSHA256 = "" },
		"no SHA-256 in hexadecimal":    func(cfg *rest.Config) { cfg.PinSHA256 = "abc" },
		"tenant \"a.b\"":               func(cfg *rest.Config) { cfg.Tenant = "a.b" },
		"validate \"test-then-set\"":   func(cfg *rest.Config) { cfg.ValidateMode = "test-then-set" },
		"at least 4096 bytes":          func(cfg *rest.Config) { cfg.MaxReply = 1 },
		"one of local, distributed":    func(cfg *rest.Config) { cfg.Validation = "both" },
		"user \"\": must be":           func(cfg *rest.Config) { cfg.User = "" },
		"holds no certificate in PEM":  func(cfg *rest.Config) { cfg.CAFile = cfg.PasswordFile },
		"neighborhood \"a b\"":         func(cfg *rest.Config) { cfg.Neighborhood = "a b" },
		"port must be 1 to 65535":      func(cfg *rest.Config) { cfg.URLs = []string{"https://192.0.2.1:0"} },
		"ca_file: open":                func(cfg *rest.Config) { cfg.CAFile = "/does/not/exist" },
		"must be positive":             func(cfg *rest.Config) { cfg.Timeout = -1 },
		"at most 1024 bytes of plain ": func(cfg *rest.Config) { cfg.Description = "a\nb" },
	} {
		cfg := c.config()
		change(&cfg)
		if _, err := rest.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := url.Parse(c.urls[0]); err != nil {
		t.Error(err)
	}
}

func TestNothingIsLeftOf1000FailedAttempts(t *testing.T) {
	c := serve(t)
	r := c.client(func(cfg *rest.Config) { cfg.DialTimeout = time.Second })
	c.seed(r, "192.0.2.1/32")
	faults := []conductorsim.Fault{
		{Kind: conductorsim.FaultUnreachable},
		{Kind: conductorsim.FaultRESTAnswer, Op: "/config", N: 500},
		{Kind: conductorsim.FaultRESTTruncated},
		{Kind: conductorsim.FaultCommitFails},
		{Kind: conductorsim.FaultDrop, At: "before", Op: "get-config"},
	}
	before := settled(t, 0)
	for i := range 1000 {
		if i%200 == 0 {
			c.Clear()
			if err := c.Inject(faults[i/200]); err != nil {
				t.Fatal(err)
			}
		}
		if err := change(context.Background(), r, conductor.Permit{}, prefixes("192.0.2.2/32"), nil); err == nil {
			t.Fatalf("attempt %d succeeded", i)
		}
	}
	c.Clear()
	c.wantCleanCandidate("admin", 1)
	if after := settled(t, before); after > before {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after\n%s", before, after, buf[:runtime.Stack(buf, true)])
	}
}

// settled waits until no more goroutines than that run, or what runs stays the same.
func settled(t *testing.T, most int) int {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	last, since := runtime.NumGoroutine(), time.Now()
	for time.Now().Before(deadline) {
		<-time.After(5 * time.Millisecond)
		n := runtime.NumGoroutine()
		if n <= most {
			return n
		}
		if n != last {
			last, since = n, time.Now()
		}
		if most == 0 && time.Since(since) > 200*time.Millisecond {
			return n
		}
	}
	return runtime.NumGoroutine()
}

// On the conductor itself an agent can log in by the conductor's own key, as the vendor's tools do.
func TestTheConductorsOwnKeyIsALogin(t *testing.T) {
	const key = "-----BEGIN OPENSSH PRIVATE KEY-----\nabc\n-----END OPENSSH PRIVATE KEY-----\n"
	var got map[string]string
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := json.NewDecoder(req.Body).Decode(&got); err != nil {
			t.Error(err)
		}
		w.WriteHeader(http.StatusUnauthorized)
	}))
	defer s.Close()
	c := serve(t)
	cert, err := rest.FetchCertificate(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := c.client(func(cfg *rest.Config) {
		cfg.URLs, cfg.PinSHA256, cfg.PasswordFile = []string{s.URL}, cert.Fingerprint, c.secret("pdc_ssh_key", key)
	})
	if _, err := r.Read(t.Context()); !errors.Is(err, conductor.ErrLogin) || strings.Contains(err.Error(), "abc") {
		t.Errorf("%v", err)
	}
	if got["username"] != "admin" || got["local"] != key || got["password"] != "" {
		t.Errorf("logged in with %q", got)
	}
}
