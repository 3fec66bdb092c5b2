package mesh

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/config"
	"banmesh/mesh/enforce"
	"banmesh/store"
)

func TestTheTableOfAnEarlierRunIsRemoved(t *testing.T) {
	nft := func(netns string) config.Enforce { return config.Enforce{Driver: "nftables", NetNS: netns} }
	none := config.Enforce{Driver: "none"}
	refused := errors.New("operation not permitted")
	for _, c := range []struct {
		name    string
		runs    []config.Enforce
		fails   error
		removed []string // in which namespaces
		stays   string
	}{
		{"never any", []config.Enforce{none, none}, nil, nil, ""},
		{"the same again", []config.Enforce{nft("a"), nft("a")}, nil, nil, ""},
		{"none", []config.Enforce{nft(""), none, none}, nil, []string{""}, ""},
		{"a jail instead", []config.Enforce{nft(""), {Driver: "fail2ban"}}, nil, []string{""}, ""},
		{"another namespace, then none", []config.Enforce{nft("a"), nft("b"), none}, nil, []string{"a", "b"}, ""},
		{"may not", []config.Enforce{nft(""), none, none}, refused, []string{"", ""}, "`nft delete table inet banmesh`"},
		{"may not, in a namespace", []config.Enforce{nft("a"), none}, refused, []string{"a"}, "`ip netns exec a nft delete table inet banmesh`"},
		{"may not, in a namespace's file", []config.Enforce{nft("/run/x"), none}, refused, []string{"/run/x"}, "`nsenter --net=/run/x nft delete table inet banmesh`"},
		{"the namespace is gone", []config.Enforce{nft("a"), none, none}, enforce.ErrNoNamespace, []string{"a"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var removed []string
			remove := func(_ context.Context, netns string) error {
				removed = append(removed, netns)
				return c.fails
			}
			s, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store.db"), Origin: "router1"})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			stays := ""
			for _, run := range c.runs {
				if stays, err = removeFormerTable(t.Context(), s, remove, run); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(removed, c.removed) {
				t.Errorf("removed in %q, want %q", removed, c.removed)
			}
			if !strings.Contains(stays, c.stays) || (stays == "") != (c.stays == "") {
				t.Errorf("warning %q, want %q", stays, c.stays)
			}
		})
	}
}

func TestStatusSaysThatAFormerTableStays(t *testing.T) {
	t.Parallel()
	var removed int
	remove := func(context.Context, string) error {
		removed++
		return errors.New("operation not permitted")
	}
	a := started(t, "router1", nil)
	if err := a.store.SaveMeta(t.Context(), tableKey, []byte("")); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.trouble.table, err = removeFormerTable(t.Context(), a.store, remove, a.cfg.Enforce); err != nil || removed != 1 {
		t.Fatal(removed, err)
	}
	s, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "nft delete table inet banmesh") }) {
		t.Errorf("warnings %q", s.Warnings)
	}
}
