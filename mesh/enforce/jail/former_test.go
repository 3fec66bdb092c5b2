package jail

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

func openStore(t *testing.T) *store.Store {
	t.Helper()
	s, err := store.Open(store.Config{Path: filepath.Join(t.TempDir(), "store.db"), Origin: "router1"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestTheJailOfAnEarlierRunIsEmptied(t *testing.T) {
	s := openStore(t)
	var emptied []string
	var refused error
	open := func(fills string) *Former {
		t.Helper()
		f, err := OpenFormer(t.Context(), s, fills, func(_ context.Context, jail string) error {
			emptied = append(emptied, jail)
			return refused
		}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	expect := func(when string, f *Former, want ...string) {
		t.Helper()
		emptied = nil
		for range 5 {
			f.look(t.Context())
		}
		if !slices.Equal(emptied, want) {
			t.Errorf("%s: emptied %q, want %q", when, emptied, want)
		}
	}
	expect("never fed", open(""))
	expect("fed", open("mesh"))
	expect("fed again", open("mesh"))

	refused = errors.New("fail2ban does not run: `systemctl start fail2ban`")
	off := open("")
	expect("fail2ban is down", off, "mesh", "mesh", "mesh", "mesh", "mesh")
	if w := off.Warnings(); len(w) != 1 || !strings.Contains(w[0], "jail mesh") || !strings.Contains(w[0], "systemctl start fail2ban") {
		t.Errorf("warnings %q", w)
	}
	refused = nil
	expect("fail2ban is up, and bans once more what it remembers", off, "mesh", "mesh")
	if w := off.Warnings(); len(w) != 0 {
		t.Errorf("warnings %q", w)
	}
	expect("off, once more", open(""))

	open("mesh")
	expect("another jail", open("peers"), "mesh", "mesh")
	refused = fail2ban.ErrNoClient
	expect("fail2ban was removed", open(""), "peers")
}

// Nothing is lost where a leave and the emptying of another jail note at the same time what is done.
func TestJailsAreForgottenAtOnce(t *testing.T) {
	for range 20 {
		s := openStore(t)
		var f *Former
		for _, jail := range []string{"a", "b", "c", "d"} {
			var err error
			if f, err = OpenFormer(t.Context(), s, jail, nil, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
		}
		var all sync.WaitGroup
		for _, jail := range []string{"a", "b", "c", "d"} {
			all.Go(func() {
				if err := f.Forget(t.Context(), jail); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if left := Filled(s); len(left) != 0 {
			t.Fatalf("%q are still noted", left)
		}
	}
}
