package main

import (
	"os"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// What is said is what holds: not what was asked for.
func TestABanSaysUntilWhenItLasts(t *testing.T) {
	const hour = 3_600_000
	base := control.Until(1_800_000_000_000)
	asked := base + hour
	c := newConsole(nil, nil, nil, func(string) string { return "" })
	for _, tt := range []struct {
		r    control.BanReply
		want string
	}{
		{control.BanReply{New: 1, Until: asked}, "banned, until " + asked.String()},
		{control.BanReply{New: 1, Until: base, ShortenedTo: base}, "banned, until " + base.String()},
		{control.BanReply{Extended: 1, Until: asked}, "ban extended, until " + asked.String()},
		{control.BanReply{Extended: 1, Until: asked + 9*hour}, "stays banned, until " + (asked + 9*hour).String() + ": only an unban makes a ban shorter"},
		{control.BanReply{Extended: 1, Until: control.Never}, "stays banned, without end: only an unban makes a ban shorter"},
		{control.BanReply{Expired: 1}, "not banned: the end " + asked.String() + " is past"},
	} {
		if got := c.fate(tt.r, asked, ""); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.r, got, tt.want)
		}
	}
}

// Beside a clock on the same terminal an end in UTC looks like one that is past, or hours away.
func TestATerminalIsToldEndsInLocalTime(t *testing.T) {
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	end := control.UntilAt(time.Now())
	local := end.Time().Local().Format(time.DateTime)
	c := newConsole(nil, terminal, nil, func(string) string { return "" })
	for _, got := range []string{c.fate(control.BanReply{New: 1, Until: end}, end, ""), c.fate(control.BanReply{Expired: 1}, end, ""), c.untilWords(end)} {
		if !strings.Contains(got, local) || strings.Contains(got, "Z") {
			t.Errorf("%q, want the end as %s", got, local)
		}
	}
	if got := c.untilWords(control.Never); got != "without end" {
		t.Errorf("without end it says %q", got)
	}
}
