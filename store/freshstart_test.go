package store

import (
	"context"
	"testing"
	"time"
)

// A ban for which no time is given finds a start before all that was lifted, or stays lifted, whatever a lift names.
func TestABanAfterAnyRangeLiftIsAnswered(t *testing.T) {
	c := newClock()
	now := c.millis()
	for name, first := range map[string]Millis{
		"from just after a whole second": now - hour + 1,
		"from just before one":           now - hour - 1,
		"from a whole second":            now - hour,
		"from the beginning":             0,
		"from just after the beginning":  1,
	} {
		t.Run(name, func(t *testing.T) {
			a := newNode(t, "a", c, nil)
			a.take(newForge("rogue", 1).write(item{kind: KindLift, key: mustPrefixKey("192.0.2.1/32"), start: now, until: now + hour, lift: &liftBody{
				offences: []offence{{"a", ManualJail, latest}, {"a", ManualJail, first}}}}))
			out, err := a.Ban(context.Background(), []BanRequest{{Prefix: pfx("192.0.2.1"), Until: now + hour}})
			if err != nil {
				t.Fatal(err)
			}
			want := BanNew
			if first < second {
				want = BanStaysLifted
			}
			if out[0].Outcome != want {
				t.Errorf("%v, want %v", out[0].Outcome, want)
			}
			if got := a.live("192.0.2.1"); got != (want == BanNew) {
				t.Errorf("live %t after %v", got, out[0].Outcome)
			}
			if a.ban("192.0.2.2", time.Hour) != BanNew {
				t.Error("another address is not banned")
			}
		})
	}
}

// What lies before a range is earlier than it and than the start, and the range does not name it: so each step of the search
// for a start goes back.
func TestBeforeARangeLiesWhatItDoesNotName(t *testing.T) {
	for _, base := range []Millis{10 * second, 10*second + 1, 10*second + 500, 11*second - 1} {
		for length := Millis(0); length <= 2*second; length += 499 {
			a := span{"a", "sshd", base, base + length}
			for start := base - 2*second; start <= base+length+2*second; start++ {
				if !a.names(start) {
					continue
				}
				if b := a.before(start); b >= start || a.names(b) {
					t.Fatalf("before %d of %d to %d: %d", start, a.first, a.last, b)
				}
			}
		}
	}
}
