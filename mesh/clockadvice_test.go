package mesh

import (
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/doctor"
)

// TestTheDoctorsAdviceOnAClockHelps: a clock is ten minutes ahead; the doctor of its
// router and of another one say which; it is set, as they advise, and they say so no
// more.
func TestTheDoctorsAdviceOnAClockHelps(t *testing.T) {
	t.Parallel()
	odd := &stepping{began: time.Now()}
	one, _ := startedBy(t, odd.now, "router1", nil)
	two := started(t, "router2", func(c *config.Config) { c.Join = []string{one.Addr()} })
	three := started(t, "router3", func(c *config.Config) { c.Join = []string{one.Addr()} })
	for _, a := range []*Agent{one, two, three} {
		eventually(t, "all to be there", func() bool { return status(t, a).Members.Alive == 3 })
	}
	says := func(a *Agent, now time.Time, what string) bool {
		found := doctor.Examine(t.Context(), doctor.Patient{Agent: a, Now: now})
		return slices.ContainsFunc(found, func(f doctor.Finding) bool {
			return f.Severity != doctor.OK && strings.Contains(f.What, what) && strings.Contains(f.Fix, "chronyc")
		})
	}
	odd.step(10 * time.Minute)
	eventually(t, "its own doctor to say so", func() bool { return says(one, odd.now(), "this router's clock is 10m0s from the others'") })
	eventually(t, "another's doctor to say so", func() bool { return says(two, time.Now(), "the clock of router1 is ") })
	odd.step(-10 * time.Minute) // chronyc makestep
	eventually(t, "its own doctor to find it gone", func() bool { return !says(one, odd.now(), "clock") })
	eventually(t, "the other's to find it gone", func() bool { return !says(two, time.Now(), "clock") })
}
