package mesh

import (
	"slices"
	"testing"
	"time"

	"banmesh/mesh/doctor"
)

// What status warns of, doctor does not call well: it takes the words from there, where it does not look for itself.
func TestTheDoctorSaysWhatStatusWarnsOf(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	a.trouble.former, a.trouble.table = "router0", "the table of an earlier run is still there"
	if err := a.store.Block(t.Context(), "router9"); err != nil {
		t.Fatal(err)
	}
	s, err := a.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Further) < 3 {
		t.Fatalf("further warnings %q, want three at least", s.Further)
	}
	found := doctor.Examine(t.Context(), doctor.Patient{Agent: a, Now: time.Now()})
	for _, text := range s.Further {
		if !slices.Contains(s.Warnings, text) {
			t.Errorf("status does not warn: %q", text)
		}
		if !slices.ContainsFunc(found, func(f doctor.Finding) bool { return f.What == text && f.Severity == doctor.Warning }) {
			t.Errorf("the doctor does not say: %q", text)
		}
	}
}
