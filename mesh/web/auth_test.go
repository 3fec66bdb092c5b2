package web

import (
	"bytes"
	"encoding/base64"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	goodToken  = "0123456789abcdef0123456789abcdef"
	otherToken = "fedcba9876543210fedcba9876543210"
)

// tokens makes a token file.
func tokens(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	write(t, path, content, mode)
	return path
}

func write(t *testing.T, path, content string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func basic(user, password string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
}

func TestTokenLetsIn(t *testing.T) {
	ok := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("in")) })
	h := newServer(t, Config{Set: mixed(), Page: ok, Metrics: ok, TokenFile: tokens(t, otherToken+"\n\n"+goodToken+"\n", 0o640)}).handler(loopback)
	for _, path := range []string{"/", "/metrics", "/feed/plain", "/feed/json", "/feed/srx", "/assets/x.js", "/nothing"} {
		for credentials, status := range map[string]int{
			"Bearer " + goodToken:        200,
			"bearer  " + otherToken:      200,
			basic("anybody", goodToken):  200,
			basic("", otherToken):        200,
			"":                           401,
			"Bearer":                     401,
			"Bearer " + goodToken + "0":  401,
			"Bearer " + goodToken[:31]:   401,
			"Bearer " + "wrong":          401,
			"Basic " + goodToken:         401,
			basic(goodToken, "password"): 401,
			"Digest " + goodToken:        401,
		} {
			var header []string
			if credentials != "" {
				header = []string{"Authorization", credentials}
			}
			a := ask(t, h, "GET", path, append(header, "Host", "router1.example:7980")...)
			if a.status != status {
				t.Errorf("%s with %q: %d, want %d", path, credentials, a.status, status)
			}
			if status != 401 {
				continue
			}
			if schemes := strings.Join(a.header.Values("WWW-Authenticate"), ", "); !strings.Contains(schemes, "Basic realm=") || !strings.Contains(schemes, "Bearer realm=") {
				t.Errorf("%s: WWW-Authenticate %q names not both ways", path, schemes)
			}
			if a.header.Get("Connection") != "close" || strings.Contains(a.body, "10.0.0.9") || a.body == "in" {
				t.Errorf("%s with %q: %+v", path, credentials, a)
			}
		}
	}
}

func TestHealthNeedsNoTokenAndTellsNoFiles(t *testing.T) {
	full := errors.New("write /var/lib/banmesh/store.db: no space left on device")
	h := newServer(t, Config{Health: func() error { return full }, TokenFile: tokens(t, goodToken, 0o600)}).handler(loopback)
	for _, path := range []string{"/healthz", "/readyz"} {
		if a := ask(t, h, "GET", path); a.status != 503 || a.body != "the store takes no writes\n" {
			t.Errorf("%s without a token: %d %q", path, a.status, a.body)
		}
		if a := ask(t, h, "GET", path, "Authorization", "Bearer "+goodToken); a.status != 503 || !strings.Contains(a.body, "no space left") {
			t.Errorf("%s with the token: %d %q, want why", path, a.status, a.body)
		}
	}
}

func TestTokenFileIsRefused(t *testing.T) {
	tests := []struct{ what, content, want string }{
		{"empty", "\n \n", "no token"},
		{"too short", "secret\n", "has 16 to 1024 characters"},
		{"too long", strings.Repeat("x", maxToken+1), "has 16 to 1024 characters"},
		{"blanks", "two words that are long enough", "no blanks"},
		{"not ASCII", "pässwörter-sind-hier", "no blanks and only ASCII"},
		{"too many", strings.Repeat(goodToken+"\n", maxTokens+1), "more than 16 tokens"},
		{"huge", strings.Repeat("\n", 1<<20), "too many"},
	}
	for _, tt := range tests {
		_, err := New(Config{Set: &fakeSet{}, TokenFile: tokens(t, tt.content, 0o600)})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), "http.token_file") {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		} else if strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "two words") {
			t.Errorf("%s: the error shows the token: %v", tt.what, err)
		}
	}
	for _, mode := range []os.FileMode{0o644, 0o660, 0o602, 0o601} {
		if _, err := New(Config{Set: &fakeSet{}, TokenFile: tokens(t, goodToken, mode)}); err == nil || !strings.Contains(err.Error(), "others can read or change it") {
			t.Errorf("mode %#o: %v", mode, err)
		}
	}
	if _, err := New(Config{Set: &fakeSet{}, TokenFile: t.TempDir()}); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := New(Config{Set: &fakeSet{}, TokenFile: filepath.Join(t.TempDir(), "none")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

func TestTokenFileIsReadAgain(t *testing.T) {
	var log bytes.Buffer
	path := tokens(t, goodToken, 0o600)
	server := newServer(t, Config{TokenFile: path, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h := server.handler(loopback)
	warns := func(want string) {
		t.Helper()
		if w := strings.Join(server.Warnings(), "\n"); want == "" && w != "" || !strings.Contains(w, want) {
			t.Errorf("warns of %q, want %q", w, want)
		}
	}
	in := func(token string) bool {
		t.Helper()
		return ask(t, h, "GET", "/", "Authorization", "Bearer "+token).status == 200
	}
	if !in(goodToken) || in(otherToken) {
		t.Fatal("not the token of the file")
	}
	write(t, path, otherToken+"\n"+goodToken+"\n", 0o600)
	if !in(goodToken) || !in(otherToken) {
		t.Error("a second token does not count")
	}
	write(t, path, otherToken, 0o600)
	if in(goodToken) || !in(otherToken) {
		t.Error("the old token still counts, or the new one does not")
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	warns("run: chmod g-w,o= " + path)
	if in(otherToken) {
		t.Error("a file that everybody can read still counts")
	}
	in(otherToken)
	if n := strings.Count(log.String(), "nobody is let in"); n != 1 {
		t.Errorf("told %d times, want once:\n%s", n, &log)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	warns("")
	if !in(otherToken) {
		t.Error("a fixed file does not count")
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if in(otherToken) {
		t.Error("a file that is gone still counts")
	}
	warns("nobody is let in until it is fixed")
	if s := log.String(); strings.Contains(s, goodToken) || strings.Contains(s, otherToken) {
		t.Errorf("a token is in the log:\n%s", s)
	}
}

func TestWrongTokensAreLoggedNotTooOften(t *testing.T) {
	var log bytes.Buffer
	c := newClock()
	a := newAttempts(c.now, slog.New(slog.NewTextHandler(&log, nil)))
	lines := func() []string {
		defer log.Reset()
		return strings.Split(strings.TrimSpace(log.String()), "\n")
	}
	for range 1000 {
		a.note("192.0.2.1:1234")
	}
	a.note("[2001:db8::1]:99")
	if got := lines(); len(got) != 2 || !strings.Contains(got[0], "remote=192.0.2.1 unlogged_before=0") || !strings.Contains(got[1], "remote=2001:db8::1") {
		t.Errorf("logged %q, want each address once", got)
	}
	c.pass(logEvery)
	a.note("192.0.2.1:5678")
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "unlogged_before=999") {
		t.Errorf("logged %q, want how many were not logged", got)
	}
	for i := range 10_000 {
		a.note("10.0." + string([]byte{byte('0' + i/1000%10)}) + "." + string([]byte{byte('0' + i/100%10), byte('0' + i/10%10), byte('0' + i%10)}) + ":1")
	}
	if len(a.from) > maxAttempts+1 {
		t.Errorf("%d addresses are remembered, want at most %d", len(a.from), maxAttempts+1)
	}
	if got := lines(); len(got) > maxAttempts+1 {
		t.Errorf("%d lines for as many addresses", len(got))
	}
	c.pass(time.Minute)
	a.note("203.0.113.1:1")
	if got := lines(); len(got) != 1 || !strings.Contains(got[0], "remote=203.0.113.1") {
		t.Errorf("after a minute: %q, want the address", got)
	}
}

func TestNoTokenShownIsNoWrongToken(t *testing.T) {
	var log bytes.Buffer
	h := newServer(t, Config{TokenFile: tokens(t, goodToken, 0o600), Logger: slog.New(slog.NewTextHandler(&log, nil))}).handler(loopback)
	ask(t, h, "GET", "/")
	if log.Len() > 0 {
		t.Errorf("a browser's first request is logged as a wrong token: %s", &log)
	}
	ask(t, h, "GET", "/", "Authorization", basic("x", otherToken))
	if !strings.Contains(log.String(), "wrong token") || !strings.Contains(log.String(), "remote=192.0.2.1") {
		t.Errorf("a wrong token is not logged with its address: %q", &log)
	}
}
