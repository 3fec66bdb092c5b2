package mesh

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/config"
	"banmesh/mesh/enforce"
)

// remover is a driver of which only Remove is called.
type remover struct {
	enforce.Driver
	remove func() error
}

func (r remover) Remove(context.Context) error { return r.remove() }

// notes is metadata in memory.
type notes map[string][]byte

func (n notes) Meta(key string) ([]byte, bool) { b, ok := n[key]; return b, ok }

func (n notes) SaveMeta(_ context.Context, key string, value []byte) error {
	if n[key] = value; value == nil {
		delete(n, key)
	}
	return nil
}

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
			kernel := func(netns string, _ []string) (enforce.Driver, error) {
				return remover{remove: func() error { removed = append(removed, netns); return c.fails }}, nil
			}
			store, stays := notes{}, ""
			for _, run := range c.runs {
				var err error
				if stays, err = removeFormerTable(t.Context(), store, kernel, run); err != nil {
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
	var removed int
	kernel := func(string, []string) (enforce.Driver, error) {
		return remover{remove: func() error { removed++; return errors.New("operation not permitted") }}, nil
	}
	a := started(t, "router1", nil)
	if err := a.store.SaveMeta(t.Context(), tableKey, []byte("")); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.trouble.table, err = removeFormerTable(t.Context(), a.store, kernel, a.cfg.Enforce); err != nil || removed != 1 {
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
