package mesh

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/store"
)

func TestAStoreRemembersWhoseItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store.db")
	open := func(name string) (s *store.Store, former string) {
		t.Helper()
		s, err := store.Open(store.Config{Path: path, Origin: name})
		if err != nil {
			t.Fatal(err)
		}
		former, err = rememberName(t.Context(), s, name)
		if err != nil {
			t.Fatal(err)
		}
		return s, former
	}
	s, former := open("router5")
	if former != "" {
		t.Errorf("a new store was %q's", former)
	}
	now := time.Now()
	if _, err := s.Ban(t.Context(), []store.BanRequest{{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Jail: "sshd", Start: store.At(now), Until: store.At(now.Add(time.Hour))}}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	for range 2 { // for as long as bans of the old name are left
		s, former = open("renamed")
		if former != "router5" {
			t.Errorf("under another name: former %q, want router5", former)
		}
		s.Close()
	}
	s, former = open("router5")
	if former != "" {
		t.Errorf("under the old name again: former %q", former)
	}
	if _, err := s.Lift(t.Context(), store.LiftRequest{All: true, Confirmed: true}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s, former = open("renamed")
	s.Close()
	if former != "" {
		t.Errorf("when nothing of the old name is left: former %q", former)
	}
}

func TestARenamedRouterIsWarnedOf(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	a.trouble.former = "router5"
	s, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.Warnings, func(w string) bool {
		return strings.Contains(w, "`name: router5`") && strings.Contains(w, "banmesh revoke --origin router5")
	}) {
		t.Errorf("warnings %q say nothing of the former name", s.Warnings)
	}
}
