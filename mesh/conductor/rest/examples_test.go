package rest_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
)

// What an operator copies has to be what the conductor takes and the agents go on with.
func TestTheExamplesAreWhatTheConductorTakes(t *testing.T) {
	c := serve(t)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	post := func(token, path string, body []byte) []byte {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, c.urls[0]+"/api/v1"+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode > 299 {
			t.Fatalf("%s: %d, %v: %s", path, resp.StatusCode, err, got)
		}
		return got
	}
	file := func(name string) []byte {
		t.Helper()
		b, err := os.ReadFile("../../../examples/conductor/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	var login struct{ Token string }
	if err := json.Unmarshal(post("", "/login", []byte(`{"username":"admin","password":"s3cret"}`)), &login); err != nil {
		t.Fatal(err)
	}
	post(login.Token, "/config/candidate/authority/tenant", file("tenant.json"))
	service := bytes.Replace(file("service.json"), []byte(`"web"`), []byte(`"web2"`), 1) // the simulated one has a web
	post(login.Token, "/config/candidate/authority/service", service)
	for _, path := range []string{"/config/validate", "/config/commit"} {
		if got := post(login.Token, path, nil); strings.TrimSpace(string(got)) != "[]" {
			t.Errorf("%s: %s", path, got)
		}
	}
	c.seed(c.client(), "192.0.2.1/32")
	c.want("192.0.2.1/32")
	if r, err := c.client().Read(t.Context()); err != nil || !r.Exists {
		t.Errorf("%+v, %v", r, err)
	}
}
