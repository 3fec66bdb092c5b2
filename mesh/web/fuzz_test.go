package web

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// FuzzRequest sends what a stranger may send: nothing of it lets him in, breaks
// the server, or gets an answer that is not foreseen.
func FuzzRequest(f *testing.F) {
	f.Add("GET", "/feed/plain", "family=4&aggregate=1", "Basic eDp5", "gzip;q=0, *", `W/"x", *`)
	f.Add("HEAD", "/feed/srx.tgz", "cidr=1", "Bearer ", "", `"`)
	f.Add("POST", "//metrics", "%", "Bearer "+goodToken[:31], ",;=q", "")
	f.Add("GET", "/../feed/json", "family=", "basic "+goodToken, "gzip;q=", "Mon, 01 Jan 2001 00:00:00 GMT")
	in := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	set := mixed()
	path := f.TempDir() + "/token"
	writeToken(f, path)
	closed, err := New(Config{Set: set, Page: in, Metrics: in, TokenFile: path})
	if err != nil {
		f.Fatal(err)
	}
	open, err := New(Config{Set: set, Page: in, Metrics: in})
	if err != nil {
		f.Fatal(err)
	}
	handlers := map[bool]http.Handler{true: open.handler(loopback), false: closed.handler(loopback)}
	foreseen := []int{200, 301, 304, 307, 308, 400, 401, 404, 405, 421}
	f.Fuzz(func(t *testing.T, method, path, query, authorization, encoding, condition string) {
		for mayRead, h := range handlers {
			r := &http.Request{
				Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: "localhost", RemoteAddr: "192.0.2.1:1",
				Header: http.Header{
					"Authorization": {authorization}, "Accept-Encoding": {encoding},
					"If-None-Match": {condition}, "If-Modified-Since": {condition},
				},
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if !slices.Contains(foreseen, w.Code) {
				t.Errorf("%s %q?%q: %d", method, path, query, w.Code)
			}
			health := strings.HasSuffix(path, "/healthz") || strings.HasSuffix(path, "/readyz")
			if !mayRead && !health && (w.Code == 200 || w.Code == 304) && !strings.Contains(authorization, goodToken) {
				t.Errorf("%s %q?%q with %q: %d", method, path, query, authorization, w.Code)
			}
		}
	})
}
