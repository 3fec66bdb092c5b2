package rest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"banmesh/internal/sim/conductorsim"
	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/rest"
)

// services is a configuration with services of all kinds.
func services(texts ...string) []byte {
	return []byte(`<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant><name>` + tenant + `</name></tenant><tenant><name>customer</name></tenant>` + strings.Join(texts, "") + `</authority></config>`)
}

func serviceXML(name, more string) string {
	return `<service xmlns="http://128technology.com/t128/config/service-config"><name>` + name + `</name>` + more + `</service>`
}

func policyXML(source, permission string) string {
	return `<access-policy><source>` + source + `</source><permission>` + permission + `</permission></access-policy>`
}

func TestDeniedNamesTheServicesThatDenyTheTenant(t *testing.T) {
	c := serve(t, func(cfg *conductorsim.Config) {
		cfg.Initial = services(
			serviceXML("web", policyXML("customer", "allow")+policyXML(tenant, "deny")),
			serviceXML("admin", policyXML(tenant, "deny")),
			serviceXML("open", policyXML(tenant, "allow")+policyXML("customer", "deny")),
			serviceXML("old", "<enabled>false</enabled>"+policyXML(tenant, "deny")),
			serviceXML("none", ""))
	})
	got, err := c.client().Denied(t.Context())
	if want := []string{"admin", "web"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("denied by %q, %v; want %q", got, err, want)
	}
	c.wantHistory()
}

func TestDeniedByNoService(t *testing.T) {
	for name, texts := range map[string][]string{
		"no services": nil,
		"no policies": {serviceXML("web", ""), serviceXML("none", "")},
		"others only": {serviceXML("web", policyXML("customer", "deny"))},
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(cfg *conductorsim.Config) { cfg.Initial = services(texts...) })
			if got, err := c.client().Denied(t.Context()); err != nil || len(got) > 0 {
				t.Errorf("denied by %q, %v; want none", got, err)
			}
		})
	}
}

// Releases differ in how much a list shows, and in the spelling of its fields; the forms are not published.
func TestDeniedReadsWhatALoneListDoesNotShow(t *testing.T) {
	const services = "/api/v1/config/running/authority/service"
	for name, answers := range map[string]map[string]any{
		"spelled without the dash": {services: []any{
			map[string]any{"name": "web", "accessPolicy": []any{map[string]any{"source": tenant, "permission": "deny"}}},
			map[string]any{"name": "old", "enabled": false, "accessPolicy": []any{map[string]any{"source": tenant, "permission": "deny"}}},
		}},
		"names only": {
			services:          []string{"none", "web"},
			services + "/web": map[string]any{"name": "web", "access-policy": []any{map[string]any{"source": tenant, "permission": "deny"}}},
		},
		"nothing about one": {
			services:            []string{"empty", "web"},
			services + "/empty": nil,
			services + "/web":   map[string]any{"name": "web", "access-policy": []any{map[string]any{"source": tenant, "permission": "deny"}}},
		},
		"policies by themselves": {
			services:                       []any{map[string]any{"name": "web"}, map[string]any{"name": "none"}},
			services + "/web":              map[string]any{"enabled": "true"},
			services + "/none":             map[string]any{"name": "none"},
			services + "/web/accessPolicy": []any{map[string]any{"source": tenant, "permission": "deny"}},
		},
		"sources only": {
			services: []any{map[string]any{"name": "web", "access-policy": []string{"customer", tenant}}, map[string]any{"name": "open", "access-policy": []string{tenant}}},
			services + "/web/access-policy/" + tenant:  map[string]any{"source": tenant, "permission": "deny"},
			services + "/open/access-policy/" + tenant: map[string]any{"source": tenant, "permission": "allow"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := answering(t, answers).Denied(t.Context())
			if err != nil || !slices.Equal(got, []string{"web"}) {
				t.Errorf("denied by %q, %v; want web", got, err)
			}
		})
	}
	for name, answer := range map[string]any{"no list": map[string]any{"web": 1}, "no name": []any{map[string]any{}}, "numbers": []int{1}} {
		t.Run(name, func(t *testing.T) {
			got, err := answering(t, map[string]any{services: answer}).Denied(t.Context())
			if !errors.Is(err, conductor.ErrProtocol) {
				t.Errorf("denied by %q, %v; want ErrProtocol", got, err)
			}
		})
	}
}

func TestDeniedTellsWhyItCannotBeRead(t *testing.T) {
	c := serve(t)
	r := c.client(func(cfg *rest.Config) { cfg.PasswordFile = c.secret("wrong", "x\n") })
	if _, err := r.Denied(t.Context()); !errors.Is(err, conductor.ErrLogin) {
		t.Errorf("error %v, want ErrLogin", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.client().Denied(ctx); !errors.Is(err, conductor.ErrUnreachable) || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v after the caller went", err)
	}
	r.Close()
	if _, err := r.Denied(t.Context()); !errors.Is(err, conductor.ErrClosed) {
		t.Errorf("error %v after Close", err)
	}
}

// answering is a client of a conductor that has these resources, and no others.
func answering(t *testing.T, answers map[string]any) *conductor.Conductor {
	t.Helper()
	c := serve(t) // for its client's files
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer, ok := answers[r.URL.Path]
		switch {
		case r.URL.Path == "/api/v1/login":
			answer = map[string]string{"token": "t"}
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		if err := json.NewEncoder(w).Encode(answer); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	return c.client(func(cfg *rest.Config) {
		pin := sha256.Sum256(server.Certificate().Raw)
		cfg.URLs, cfg.PinSHA256 = []string{server.URL}, hex.EncodeToString(pin[:])
	})
}
