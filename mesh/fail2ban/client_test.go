package fail2ban

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// answering returns a client that runs a shell script in place of fail2ban's.
func answering(t *testing.T, script string, change ...func(*ClientConfig)) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "client")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := ClientConfig{Command: path + " -c /etc/private", Socket: "/run/f.sock", location: time.UTC}
	for _, f := range change {
		f(&c)
	}
	return NewClient(c)
}

func TestClientRunsTheConfiguredCommand(t *testing.T) {
	c := answering(t, `printf "Status\n|- Number of jail:\t2\n\\140- Jail list:\tsshd, $(echo "$*" | tr ' ' _)\n"`)
	got, err := c.jails(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"sshd", "-c_/etc/private_-s_/run/f.sock_status"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The list of jails is read as fail2ban means it, whatever is in their names.
func TestJailsWhoseNamesHoldTheSeparatorAreFound(t *testing.T) {
	want := []string{"Wordpress (soft)", "a, b, c", "one", "one, two", "sshd"}
	got, err := newFakeServer(want...).client().jails(t.Context())
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v, want %q", got, err, want)
	}
}

func TestFailuresOfTheClientAreTold(t *testing.T) {
	for _, test := range []struct {
		name, script string
		want         error
	}{
		{"no such jail", `echo "Sorry but the jail 'sshd' does not exist"; exit 255`, ErrNoJail},
		{"not running", `echo "2026-11-22 13:20:53,912 fail2ban [1]: ERROR   Failed to access socket path: /f. Is fail2ban running?" >&2; exit 255`, ErrNotRunning},
		{"no permission", `echo "2026-11-22 fail2ban [1]: ERROR   Permission denied to socket: /f, (you must be root)" >&2; exit 255`, ErrDenied},
		{"hangs", `exec sleep 60`, ErrTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			timeout := 20 * time.Second
			if test.want == ErrTimeout {
				timeout = 200 * time.Millisecond
			}
			c := answering(t, test.script, func(c *ClientConfig) { c.timeout = timeout })
			_, err := c.Banned(t.Context(), "sshd")
			if !errors.Is(err, test.want) {
				t.Errorf("got %v, want %v", err, test.want)
			}
			if err == nil || !strings.Contains(err.Error(), "get sshd banip") {
				t.Errorf("got %v: must say what was being done", err)
			}
		})
	}
	t.Run("not installed", func(t *testing.T) {
		_, err := NewClient(ClientConfig{Command: "/nonexistent/fail2ban-client"}).jails(t.Context())
		if !errors.Is(err, ErrNoClient) {
			t.Errorf("got %v, want ErrNoClient", err)
		}
	})
	t.Run("ended by the caller", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err := answering(t, `exec sleep 60`).jails(ctx)
		if err == nil || errors.Is(err, ErrTimeout) {
			t.Errorf("got %v: the caller's end is no slowness of fail2ban", err)
		}
	})
}

func TestEndlessAnswerIsBounded(t *testing.T) {
	c := answering(t, `head -c 40000000 /dev/zero | tr '\0' 'x'`)
	if _, err := c.Banned(t.Context(), "sshd"); err == nil || !strings.Contains(err.Error(), "bytes of answer") {
		t.Errorf("got %v", err)
	}
}

func TestBansAreRead(t *testing.T) {
	const out = "203.0.113.7 \t2026-11-22 13:18:54 + 600 = 2026-11-22 13:28:54\n" +
		"2001:db8::1 \t2026-11-22 13:18:56 + -1 = 9999-12-31 23:59:59\n" +
		"198.51.100.0/30 \t2026-11-22 13:18:56 + 86400 = 2026-11-23 13:18:56\n" +
		"::ffff:192.0.2.1 \t2026-11-22 13:18:56 + 60 = 2026-11-22 13:19:56\n" +
		"mallory \t2026-11-22 13:18:56 + 60 = 2026-11-22 13:19:56\n\n"
	got, err := parseBanned(out, time.UTC)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 22, 13, 18, 56, 0, time.UTC)
	want := []Banned{
		{netip.MustParsePrefix("203.0.113.7/32"), at.Add(-2 * time.Second), 10 * time.Minute},
		{netip.MustParsePrefix("2001:db8::1/128"), at, -time.Second},
		{netip.MustParsePrefix("198.51.100.0/30"), at, 24 * time.Hour},
		{netip.MustParsePrefix("192.0.2.1/32"), at, time.Minute},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestTimesOfAWrongClockAreCorrectedOnce(t *testing.T) {
	c := answering(t, `printf '203.0.113.7 \t2026-11-22 13:18:54 + 600 = 2026-11-22 13:28:54\n'`, func(c *ClientConfig) {
		c.Shift = func() time.Duration { return -time.Hour }
	})
	got, err := c.Banned(t.Context(), "sshd")
	if err != nil {
		t.Fatal(err)
	}
	want := Banned{netip.MustParsePrefix("203.0.113.7/32"), time.Date(2026, 11, 22, 12, 18, 54, 0, time.UTC), 10 * time.Minute}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBanTimesAreReadInTheHourThatIsTwice(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	// Clocks went back from 3:00 to 2:00 on 25 October 2026, at 1:00 UTC.
	for _, want := range []time.Time{
		time.Date(2026, 10, 25, 0, 30, 0, 0, time.UTC),
		time.Date(2026, 10, 25, 1, 30, 0, 0, time.UTC),
	} {
		end := want.Add(2 * time.Hour)
		out := fmt.Sprintf("203.0.113.7 \t%s + 7200 = %s\n", want.In(berlin).Format(timeLayout), end.In(berlin).Format(timeLayout))
		got, err := parseBanned(out, berlin)
		if err != nil || len(got) != 1 || !got[0].Start.Equal(want) {
			t.Errorf("%q: got %v, %v, want %v", out, got, err, want)
		}
	}
}

func TestGarbageInTheListOfBansIsAnError(t *testing.T) {
	for _, out := range []string{
		"203.0.113.7\n",
		"203.0.113.7 \tyesterday + 600 = tomorrow\n",
		"203.0.113.7 \t2026-11-22 13:18:54 + x = 2026-11-22 13:28:54\n",
		"203.0.113.7 \t2026-11-22 13:18:54 + 99999999999999999 = 2026-11-22 13:28:54\n",
	} {
		if got, err := parseBanned(out, time.UTC); err == nil {
			t.Errorf("%q: got %v, want an error", out, got)
		}
	}
}

func FuzzParseBanned(f *testing.F) {
	f.Add("203.0.113.7 \t2026-11-22 13:18:54 + 600 = 2026-11-22 13:28:54\n")
	f.Add("2001:db8::/32 \t2026-11-22 13:18:54 + -1 = 9999-12-31 23:59:59\n")
	f.Fuzz(func(t *testing.T, out string) {
		list, err := parseBanned(out, time.UTC)
		if err != nil && list != nil {
			t.Errorf("a list beside the error %v", err)
		}
		for _, b := range list {
			if !b.Prefix.IsValid() || b.Prefix != b.Prefix.Masked() || b.Start.IsZero() && !strings.Contains(out, "0001-") {
				t.Errorf("read %+v from %q", b, out)
			}
		}
	})
}
