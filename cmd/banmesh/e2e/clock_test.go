package e2e

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// zones are where a clock on the wall steps, stands away from UTC by odd
// amounts, or has skipped a day.
var zones = []string{"Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Pacific/Apia", "Asia/Kathmandu", "Africa/Casablanca"}

// TestTheZoneOfARouterChangesNothing: agents, hooks and commands each in a zone
// of their own, with bans that begin and end around the hours that summer time
// skips and repeats, say the same to the byte, in UTC.
func TestTheZoneOfARouterChangesNothing(t *testing.T) {
	t.Parallel()
	if _, err := time.LoadLocation(zones[0]); err != nil {
		t.Fatalf("the zones are needed (apt-get install tzdata): %v", err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// The next last Sundays of March and October, at the hour of the step.
	step := func(month time.Month) time.Time {
		for year := time.Now().Year(); ; year++ {
			d := time.Date(year, month, 31, 1, 0, 0, 0, time.UTC)
			d = d.AddDate(0, 0, -int(d.Weekday()))
			if d.After(time.Now().Add(2 * time.Hour)) {
				return d
			}
		}
	}
	const endless = "bans: {max_duration: 0s}\n"
	in := func(zone string) []string { return []string{"env", "TZ=" + zone} }
	one := newAgent(t, "router1", settings{wrap: in(zones[0]), extra: endless}).start()
	two := newAgent(t, "router2", settings{wrap: in(zones[3]), extra: endless, join: []*agent{one}}).start()
	awaitMembers(t, []*agent{one, two}, 2)
	type want struct{ start, until time.Time }
	wants := map[string]want{}
	began := time.Now().Truncate(time.Second).Add(-time.Minute)
	n := 0
	for _, month := range []time.Month{time.March, time.October} {
		before, after := step(month).Add(-time.Second).In(berlin), step(month).In(berlin)
		_, a := before.Zone()
		_, b := after.Zone()
		if a == b {
			t.Fatalf("at %v no clock steps", after)
		}
		for _, end := range []time.Duration{-time.Hour - time.Second, -time.Second, 0, time.Second, time.Hour} {
			n++
			ip := fmt.Sprintf("203.0.113.%d", n)
			until := step(month).Add(end)
			wants[ip+"/32"] = want{began, until}
			args := []string{"fail2ban", "ban", "--jail=sshd", "--ip=" + ip, fmt.Sprintf("--time=%d", began.Unix()),
				fmt.Sprintf("--bantime=%d", int(until.Sub(began).Seconds())), "--failures=5", "--restored=0"}
			env := []string{"TZ=" + zones[n%len(zones)], "BANMESH_SOCKET=" + one.socket, "BANMESH_SPOOL=" + filepath.Join(one.dir, "data", "spool")}
			if r := command(t, env, args...); r.code != 0 || r.err != "" {
				t.Fatalf("hook: exit %d, %q", r.code, r.err)
			}
		}
	}
	inSync(t, n, one, two)
	var first string
	for _, a := range []*agent{one, two} {
		for _, zone := range zones {
			r := command(t, []string{"TZ=" + zone}, "list", "--json", "--socket", a.socket)
			if r.code != 0 {
				t.Fatalf("list: %s", r.err)
			}
			if first == "" {
				first = r.out
			}
			if r.out != first {
				t.Errorf("in %s %s lists\n%s\nand elsewhere\n%s", zone, a.name, r.out, first)
			}
		}
	}
	var list []listed
	if err := json.Unmarshal([]byte(first), &list); err != nil {
		t.Fatal(err)
	}
	for _, l := range list {
		w := wants[l.Prefix]
		if l.Until == nil || !strings.HasSuffix(*l.Until, "Z") || !stamp(t, *l.Until).Equal(w.until) || !stamp(t, l.Records[0].Start).Equal(w.start) {
			t.Errorf("%s is from %s to %v, want %v to %v", l.Prefix, l.Records[0].Start, *l.Until, w.start.UTC(), w.until.UTC())
		}
	}
	// A router whose zone is not there at all.
	odd := newAgent(t, "router3", settings{wrap: in("Nowhere/Land"), extra: endless, join: []*agent{one}}).start()
	inSync(t, n, one, two, odd)
	if r := command(t, []string{"TZ=:/dev/null"}, "list", "--json", "--socket", odd.socket); r.out != first {
		t.Errorf("without a zone it lists\n%s", r.out)
	}
}
