package control_test

import (
	"testing"
	"time"

	"banmesh/mesh/control"
)

func TestParseBanTime(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"": 0, "600": 10 * time.Minute, "0.5": 500 * time.Millisecond, "0": 0,
		"-1": control.Forever, "1e300": control.Forever, "99999999999999": control.Forever, "1e400": control.Forever,
	} {
		if got, err := control.ParseBanTime(in); err != nil || got != want {
			t.Errorf("%q: got %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{"NaN", "-2", "-1e400", "soon", "1h"} {
		if got, err := control.ParseBanTime(in); err == nil {
			t.Errorf("%q: got %v", in, got)
		}
	}
}

func TestParseSeconds(t *testing.T) {
	if got, err := control.ParseSeconds("1767225600.5"); err != nil || got.UnixMilli() != 1767225600500 {
		t.Errorf("got %v, %v", got, err)
	}
	for _, in := range []string{"-1", "NaN", "1e400", "yesterday", "253402300800"} {
		if got, err := control.ParseSeconds(in); err == nil {
			t.Errorf("%q: got %v", in, got)
		}
	}
}
