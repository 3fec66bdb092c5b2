package bench

import (
	"testing"

	"banmesh/internal/need"
)

func TestRunMeasuresEverything(t *testing.T) {
	need.Long(t)
	var steps []string
	r, err := Run(t.Context(), Options{Agents: 4, Bans: 400, Progress: func(s string) { steps = append(steps, s) }})
	if err != nil {
		t.Fatalf("%v; steps %q", err, steps)
	}
	for name, v := range map[string]float64{
		"single p50": r.SingleP50, "single p99": r.SingleP99, "packets a ban": r.PacketsPerBan, "bytes a ban": r.BytesPerBan,
		"burst at one agent": r.BurstOneAgent, "burst spread": r.BurstSpread, "heal": r.Heal,
		"memory": r.MemoryPerMillion, "restart": r.Restart,
	} {
		if v <= 0 {
			t.Errorf("%s = %v, want more than nothing", name, v)
		}
	}
	if r.SingleP50 > r.SingleP99 || r.SingleP99 > r.SingleMax {
		t.Errorf("p50 %v, p99 %v, max %v are not in order", r.SingleP50, r.SingleP99, r.SingleMax)
	}
	if r.PacketsPerBan < 3 {
		t.Errorf("%v packets a ban among 4 agents: fewer than there are others", r.PacketsPerBan)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []Options{{Agents: 1, Bans: 1000}, {Agents: 1000, Bans: 1000}, {Agents: 3, Bans: 1}, {Agents: 3, Bans: 1 << 30}} {
		if _, err := Run(t.Context(), o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
