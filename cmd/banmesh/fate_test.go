package main

import (
	"testing"

	"banmesh/mesh/control"
)

// What is said is what holds: not what was asked for.
func TestABanSaysUntilWhenItLasts(t *testing.T) {
	const hour = 3_600_000
	base := control.Until(1_800_000_000_000)
	asked := base + hour
	for _, c := range []struct {
		r    control.BanReply
		want string
	}{
		{control.BanReply{New: 1, Until: asked}, "banned, until " + asked.String()},
		{control.BanReply{New: 1, Until: base, ShortenedTo: base}, "banned, until " + base.String()},
		{control.BanReply{Extended: 1, Until: asked}, "ban extended, until " + asked.String()},
		{control.BanReply{Extended: 1, Until: asked + 9*hour}, "stays banned, until " + (asked + 9*hour).String() + ": only an unban makes a ban shorter"},
		{control.BanReply{Extended: 1, Until: control.Never}, "stays banned, until without end: only an unban makes a ban shorter"},
		{control.BanReply{Expired: 1}, "not banned: the end " + asked.String() + " is past"},
	} {
		if got := fate(c.r, asked, ""); got != c.want {
			t.Errorf("%+v: %q, want %q", c.r, got, c.want)
		}
	}
}
