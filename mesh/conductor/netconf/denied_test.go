package netconf_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/netconf"
)

func TestDeniedNamesTheServicesThatDenyTheTenant(t *testing.T) {
	s := startSim(t, nil)
	c, err := netconf.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	denied := func() []string {
		t.Helper()
		got, err := c.Denied(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if got := denied(); len(got) != 0 {
		t.Errorf("of an empty conductor %q, want none", got)
	}
	service := func(name, more string) string {
		return `<service xmlns="http://128technology.com/t128/config/service-config"><name>` + name + `</name>` + more + `</service>`
	}
	policy := func(source, permission string) string {
		return `<access-policy><source>` + source + `</source><permission>` + permission + `</permission></access-policy>`
	}
	tenant := s.cfg.Tenant
	admin := s.Admin("operator")
	defer admin.Close()
	config := `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant><name>` + tenant + `</name></tenant><tenant><name>customer</name></tenant>` +
		service("web", policy("customer", "allow")+policy(tenant, "deny")) +
		service("admin", policy(tenant, "deny")) +
		service("open", policy(tenant, "allow")+policy("customer", "deny")) +
		service("old", "<enabled>false</enabled>"+policy(tenant, "deny")) +
		service("none", "") + `</authority></config>`
	if err := admin.Edit(config); err != nil {
		t.Fatal(err)
	}
	if err := admin.Commit(); err != nil {
		t.Fatal(err)
	}
	if got, want := denied(), []string{"admin", "web"}; !slices.Equal(got, want) {
		t.Errorf("denied by %q, want %q", got, want)
	}
	// The administrator's is left; the conductor takes note of an end when it sees it.
	waitUntil(t, func() bool { return len(s.Sessions()) == 1 })
}

func TestDeniedTellsWhyItCannotBeRead(t *testing.T) {
	s := startSim(t, nil)
	s.cfg.User = "nobody"
	c, err := netconf.New(s.cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := c.Denied(t.Context()); !errors.Is(err, conductor.ErrLogin) {
		t.Errorf("error %v, want ErrLogin", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Denied(ctx); err == nil || strings.Contains(err.Error(), "\n") {
		t.Errorf("error %v after the caller went", err)
	}
}
