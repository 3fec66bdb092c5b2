package enforce

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banmesh/store"
)

func TestTheTableOfAnEarlierRunIsRemoved(t *testing.T) {
	type run struct {
		drops bool
		in    string
	}
	nft := func(netns string) run { return run{true, netns} }
	none := run{}
	refused := errors.New("operation not permitted")
	for _, c := range []struct {
		name    string
		runs    []run
		fails   error
		removed []string // in which namespaces
		stays   string
	}{
		{"never any", []run{none, none}, nil, nil, ""},
		{"the same again", []run{nft("a"), nft("a")}, nil, nil, ""},
		{"none", []run{nft(""), none, none}, nil, []string{""}, ""},
		{"another namespace, then none", []run{nft("a"), nft("b"), none}, nil, []string{"a", "b"}, ""},
		{"may not", []run{nft(""), none, none}, refused, []string{"", ""}, "`nft delete table inet banmesh`"},
		{"may not, in a namespace", []run{nft("a"), none}, refused, []string{"a"}, "`ip netns exec a nft delete table inet banmesh`"},
		{"may not, in a namespace's file", []run{nft("/run/x"), none}, refused, []string{"/run/x"}, "`nsenter --net=/run/x nft delete table inet banmesh`"},
		{"the namespace is gone", []run{nft("a"), none, none}, errNoNamespace, []string{"a"}, ""},
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
				if stays, err = RemoveFormer(t.Context(), s, run.drops, run.in, remove); err != nil {
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

// What is left in a namespace is removed there, and with a namespace that is gone went its table.
func TestATableThatStaysIsSaidWithItsNamespace(t *testing.T) {
	if err := RemoveTable(t.Context(), "no-such-namespace"); err != nil {
		t.Errorf("the namespace is gone: %v", err)
	}
	noNamespace := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(noNamespace, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := "`nsenter --net=" + noNamespace + " nft delete table inet banmesh`"
	if err := RemoveTable(t.Context(), noNamespace); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
