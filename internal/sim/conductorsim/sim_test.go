package conductorsim_test

import (
	"slices"
	"testing"
)

func TestCommitsWhatWasEdited(t *testing.T) {
	s := serve(t)
	for _, versions := range [][]string{{base10}, {base11}, {base10, base11}} {
		c := dial(t, s.Sim, s.addr, "admin", versions...)
		c.ok(lockCandidate)
		c.ok(edit(tenant("203.0.113.7/32", "2001:db8::1/128")))
		c.ok(validate)
		c.ok(`<commit><vt:validation-type xmlns:vt="urn:128technology:netconf:validate-type:1.0">local</vt:validation-type></commit>`)
		c.ok(unlockCandidate)
		c.ok(closeSession)
		want := []string{"203.0.113.7/32", "2001:db8::1/128"}
		if got := s.Addresses("black", "internet"); !slices.Equal(got, want) {
			t.Errorf("%v: addresses %q, want %q", versions, got, want)
		}
	}
}
