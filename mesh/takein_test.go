package mesh

import (
	"net/netip"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/enforce/jail"
)

func TestWhatFail2banHoldsIsTakenInWithItsTimes(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) {
		c.Share.ExceptJails = []string{"private"}
		c.Bans.MinDuration = config.Duration(10 * time.Minute)
		c.Fail2ban.Client = "/nonexistent/fail2ban-client"
		c.Enforce.Driver, c.Enforce.Jail = "fail2ban", "peers"
	})
	start := time.Now().Add(-time.Hour).Truncate(time.Second)
	held := func(addr, jail string, start time.Time, d time.Duration) control.HeldBan {
		b := control.HeldBan{Prefix: netip.MustParsePrefix(addr + "/32"), Jail: jail, Start: control.At(start), Until: control.Never}
		if d >= 0 {
			b.Until = control.UntilAt(start.Add(d))
		}
		return b
	}
	ban(t, a, "203.0.113.9/32")
	lifted := held("203.0.113.5", "sshd", start, 2*time.Hour)
	call := control.TakeInCall{Bans: []control.HeldBan{
		held("203.0.113.1", "sshd", start, 2*time.Hour),
		held("203.0.113.1", "recidive", start.Add(time.Minute), 24*time.Hour),
		held("203.0.113.2", "private", start, 2*time.Hour),
		held("203.0.113.2", "peers", start, 2*time.Hour), // what is fed comes from the mesh
		held("203.0.113.3", "sshd", time.Now(), time.Minute),
		held("203.0.113.4", "sshd", start, 30*time.Minute),
		lifted,
	}}
	if _, err := a.TakeIn(t.Context(), control.TakeInCall{Bans: []control.HeldBan{lifted}}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{lifted.Prefix}}); err != nil {
		t.Fatal(err)
	}
	got, err := a.TakeIn(t.Context(), call)
	if err != nil {
		t.Fatal(err)
	}
	if got.New != 2 || got.Unshared != 3 || got.Expired != 1 || got.StaysLifted != 1 || got.Known != 0 {
		t.Errorf("first time %+v, want 2 new, 3 unshared, 1 expired, 1 that stays lifted", got)
	}
	if got, err = a.TakeIn(t.Context(), call); err != nil || got.New != 0 || got.Known != 2 {
		t.Errorf("second time %+v, %v: want 2 known and nothing new", got, err)
	}
	list := listing(t, a)
	if len(list) != 2 || len(list["203.0.113.1/32"].Records) != 2 {
		t.Fatalf("list %+v", list)
	}
	for _, r := range list["203.0.113.1/32"].Records {
		if want := start.Add(2 * time.Hour); r.Jail == "sshd" && (r.Start != control.At(start) || r.Until != control.UntilAt(want)) {
			t.Errorf("record %+v, want it to start at %v and end at %v", r, start, want)
		}
	}
}

// What another run fed to a jail, and nobody has emptied yet, is the mesh's and not this router's own.
func TestWhatWasFedOnceIsNotTakenIn(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) { c.Fail2ban.Client = "/nonexistent/fail2ban-client" })
	if _, err := jail.OpenFormer(t.Context(), a.store, "mesh", nil, a.log); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	got, err := a.TakeIn(t.Context(), control.TakeInCall{Bans: []control.HeldBan{
		{Prefix: netip.MustParsePrefix("203.0.113.1/32"), Jail: "mesh", Start: control.At(now), Until: control.UntilAt(now.Add(time.Hour))},
		{Prefix: netip.MustParsePrefix("203.0.113.2/32"), Jail: "sshd", Start: control.At(now), Until: control.UntilAt(now.Add(time.Hour))},
	}})
	if err != nil || got.New != 1 || got.Unshared != 1 {
		t.Errorf("%+v, %v, want 1 new and 1 that is not shared", got, err)
	}
}
