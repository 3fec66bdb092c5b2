package mesh

import (
	"net/netip"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// A dry run says what would change, and changes nothing: the root, which covers every record, stays.
func TestDryRunChangesNothing(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", nil)
	ban(t, a, "203.0.113.7/32", "203.0.113.8/32")
	root := status(t, a).Root
	until := control.UntilAt(time.Now().Add(24 * time.Hour))
	r, err := a.Ban(t.Context(), control.BanCall{DryRun: true, Each: control.OneBans{
		{Prefix: netip.MustParsePrefix("203.0.113.9/32"), Jail: "sshd", Until: until},
		{Prefix: netip.MustParsePrefix("203.0.113.9/32"), Jail: "sshd", Until: until},
		{Prefix: netip.MustParsePrefix("203.0.113.10/32"), Jail: "sshd", Until: 1000},
	}})
	if err != nil || r.New != 1 || r.Known != 1 || r.Expired != 1 {
		t.Errorf("bans: %+v, %v; want one new, one known by then, one expired", r, err)
	}
	u, err := a.Unban(t.Context(), control.UnbanCall{DryRun: true, Prefixes: control.Prefixes{netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("203.0.113.9/32")}})
	if err != nil || len(u.Lifted) != 2 || u.Lifted[0].Offences != 1 || u.Lifted[1].Offences != 0 {
		t.Errorf("unban: %+v, %v", u, err)
	}
	if u, err := a.Unban(t.Context(), control.UnbanCall{DryRun: true, All: true}); err != nil || len(u.Lifted) != 2 {
		t.Errorf("unban of all: %+v, %v", u, err)
	}
	if r, err := a.Revoke(t.Context(), control.RevokeCall{DryRun: true, Block: true, Origin: "alone"}); err != nil || r.Lifted != 2 {
		t.Errorf("revoke: %+v, %v", r, err)
	}
	if now := status(t, a); now.Root != root || now.Bans.Live != 2 || len(now.Blocked) != 0 {
		t.Errorf("after dry runs: root %s, was %s; %+v", now.Root, root, now.Bans)
	}
}

// A ban is answered with the end that holds, which may be later than asked for, or earlier.
func TestABanIsAnsweredWithWhatHolds(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", nil)
	now := time.Now()
	most := time.Duration(a.cfg.Bans.MaxDuration)
	for _, c := range []struct {
		length           time.Duration
		want             control.BanReply
		until, shortened time.Duration
	}{
		{10 * time.Hour, control.BanReply{New: 1}, 10 * time.Hour, 0},
		{5 * time.Minute, control.BanReply{Known: 1}, 10 * time.Hour, 0},
		{2 * most, control.BanReply{Extended: 1}, most, most},
	} {
		r, err := a.Ban(t.Context(), control.BanCall{
			Prefixes: control.Prefixes{netip.MustParsePrefix("203.0.113.7/32")}, Start: control.At(now), Until: control.UntilAt(now.Add(c.length)),
		})
		if err != nil || r.New != c.want.New || r.Known != c.want.Known || r.Extended != c.want.Extended {
			t.Errorf("%v: %+v, %v", c.length, r, err)
		}
		near := func(u control.Until, d time.Duration) bool { return u.Time().Sub(now.Add(d)).Abs() < time.Second }
		if !near(r.Until, c.until) || (r.ShortenedTo != 0) != (c.shortened != 0) || c.shortened != 0 && !near(r.ShortenedTo, c.shortened) {
			t.Errorf("%v: until %v, shortened to %v; want %v and %v from %v on", c.length, r.Until, r.ShortenedTo, c.until, c.shortened, now)
		}
	}
}

// What a list says of each ban is what is stored.
func TestBansOfAListKeepTheirJailsStartsAndEnds(t *testing.T) {
	t.Parallel()
	a := started(t, "alone", nil)
	start := control.At(time.Now().Add(-time.Hour))
	until := control.UntilAt(time.Now().Add(time.Hour))
	if _, err := a.Ban(t.Context(), control.BanCall{Each: control.OneBans{
		{Prefix: netip.MustParsePrefix("203.0.113.7/32"), Jail: "sshd", Start: start, Until: until, Failures: 3, Reason: "r"},
		{Prefix: netip.MustParsePrefix("203.0.113.8/32"), Jail: "web", Until: until},
	}}); err != nil {
		t.Fatal(err)
	}
	got := listing(t, a)
	if r := got["203.0.113.7/32"].Records[0]; r.Jail != "sshd" || r.Start != start || r.Until != until || r.Failures != 3 || r.Reason != "r" {
		t.Errorf("%+v", r)
	}
	if r := got["203.0.113.8/32"].Records[0]; r.Jail != "web" || r.Start <= start {
		t.Errorf("%+v", r)
	}
}
