package demo

import (
	"bytes"
	"context"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// TestDemoShowsTheWholeWay runs the demo as its users do, and reads what it
// prints as they do.
func TestDemoShowsTheWholeWay(t *testing.T) {
	t.Run("netconf", func(t *testing.T) { t.Parallel(); watch(t, false) })
	t.Run("rest", func(t *testing.T) { t.Parallel(); watch(t, true) })
}

func watch(t *testing.T, rest bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var out bytes.Buffer
	if err := Run(ctx, Options{Out: &out, Version: "test", REST: rest}); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	for _, want := range []string{
		`(?m)^ +\d+\.\d+s  router1 +203\.0\.113\.7 +disk [\d.]+ ms +\+[\d.]+ ms +\+[\d.]+ ms$`,
		`(?m)^ +\d+\.\d+s  router3 +2001:db8:bad::17 +\+`,
		`the tenant holds 6 addresses`,
		`(?m)^ +address +198\.51\.100\.23/32$`,
		`(?m)^ +\d+\.\d+s  router3 +198\.51\.100\.23 `,
		`the tenant holds 5 addresses`,
		`router[23] leads \d`,
		`(?m)^ +\d+\.\d+s  router[123] +192\.0\.2\.66 .*stopped`,
		`commits at the conductor     [34] for 8 bans and lifts`,
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("the demo did not show %s", want)
		}
	}
	fits(t, out.String())
	if strings.Contains(out.String(), "\x1b") {
		t.Error("colours although nobody asked for them")
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// fits checks that a terminal of 80 columns wraps nothing, but for paths, which
// are as long as the machine makes them.
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if n := utf8.RuneCountInString(line); n > 80 && !strings.Contains(line, "alias ") && !strings.Contains(line, "--socket") && !strings.Contains(line, "SOCKET=") {
			t.Errorf("a line of %d columns: %q", n, line)
		}
	}
}

func TestAttemptsFindsFailuresOnly(t *testing.T) {
	failures := map[string]int{}
	for _, a := range attempts(authLog) {
		if a.addr.IsValid() {
			failures[a.addr.String()]++
		}
	}
	if got := failures["203.0.113.7"]; got != 3 {
		t.Errorf("%d failures of 203.0.113.7, want 3", got)
	}
	if got := failures["192.0.2.10"]; got != 1 {
		t.Errorf("%d failures of 192.0.2.10, want 1: its accepted key is none", got)
	}
}
