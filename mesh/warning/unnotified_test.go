package warning

import (
	"slices"
	"testing"

	"banmesh/mesh/control"
)

func TestUnnotifiedSaysWhereDoctorHelps(t *testing.T) {
	got := Unnotified("router1", []control.Unnotified{{Router: "router1", Why: "denied"}, {Router: "router2", Why: "denied"}})
	want := []string{
		"this router's fail2ban cannot be told of unbans and allows, and goes on blocking: denied; `banmesh doctor` says what helps",
		"the fail2ban of router2 cannot be told of unbans and allows, and goes on blocking: denied; `banmesh doctor` there says what helps",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
