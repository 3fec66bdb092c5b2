package mesh

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"banmesh/mesh/enforce"
)

func TestStatusSaysThatAFormerTableStays(t *testing.T) {
	t.Parallel()
	var removed int
	remove := func(context.Context, string) error {
		removed++
		return errors.New("operation not permitted")
	}
	a := started(t, "router1", nil)
	if err := a.store.SaveMeta(t.Context(), "nftables", []byte("")); err != nil {
		t.Fatal(err)
	}
	var err error
	if a.trouble.table, err = enforce.RemoveFormer(t.Context(), a.store, false, "", remove); err != nil || removed != 1 {
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
