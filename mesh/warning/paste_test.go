package warning

import (
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/gossip"
	"banmesh/store"
)

// Operators paste what a warning advises, as root. A holder of the gossip key chooses names: none of them may be read by the
// shell as anything but one word.
func TestWhatAWarningAdvisesCanBePasted(t *testing.T) {
	for _, name := range []string{"x'; touch pwned; $(touch pwned) #", "-x"} {
		t.Run(name, func(t *testing.T) { adviceCanBePasted(t, name) })
	}
}

func adviceCanBePasted(t *testing.T, name string) {
	now := time.Now()
	var lifts Lifts
	var c store.Change
	for range manyLifts + 1 {
		c.Events = append(c.Events, store.Event{Kind: store.EventLift, Origin: "self", By: name})
	}
	c.Events = append(c.Events, store.Event{Kind: store.EventDisallow, Origin: "self", By: name})
	lifts.Note("self", c, now)
	dot := store.Dot{Log: store.LogID{Origin: name}, Seq: 1}
	said := slices.Concat(
		lifts.Warnings(now, 1000),
		Exceeding([]store.Excess{{Origin: name, Bans: 1}}),
		WideAllows([]store.AllowEntry{{Prefix: netip.MustParsePrefix("0.0.0.0/1"), Origin: name}}),
		Members("192.0.2.1:7946", []gossip.Member{{Name: name, Addr: "192.0.2.2:7946", State: gossip.Failed}}, now),
		Unreadable(name, []store.Unreadable{{Dot: dot, InFile: true, Reason: "x"}}),
	)
	if len(said) != 6 {
		t.Fatalf("%d warnings: %q", len(said), said)
	}
	t.Chdir(t.TempDir())
	command := regexp.MustCompile("`(banmesh [^`]+)`")
	for _, text := range said {
		found := command.FindAllStringSubmatch(text, -1)
		if len(found) == 0 {
			t.Errorf("%q advises nothing", text)
		}
		for _, m := range found {
			out, err := exec.Command("sh", "-c", "banmesh() { printf '%s\\n' \"$@\"; }; "+m[1]).Output()
			if err != nil {
				t.Errorf("%s: %v", m[1], err)
			}
			words := strings.Split(strings.TrimSpace(string(out)), "\n")
			if words[0] == "forget" && !slices.Equal(words[1:], []string{name}) && !slices.Equal(words[1:], []string{"--", name}) {
				t.Errorf("%s: a shell reads it as %q", m[1], words)
			}
			if words[0] == "forget" && name[0] == '-' && words[1] != "--" {
				t.Errorf("%s: %s is read as a flag", m[1], name)
			}
			if len(words) > 2 && !strings.Contains(m[1], " allow remove ") && !slices.Contains(words, name) {
				t.Errorf("%s: a shell reads it as %q", m[1], words)
			}
		}
	}
	// No name is an option of the command either.
	for _, text := range Members("192.0.2.1:7946", []gossip.Member{{Name: "--socket=/tmp/s", Addr: "192.0.2.2:7946", State: gossip.Failed}}, now) {
		if !strings.Contains(text, "`banmesh forget -- --socket=/tmp/s`") {
			t.Errorf("a name like an option: %q", text)
		}
	}
	if _, err := os.Stat("pwned"); err == nil {
		t.Error("a command of the name's own ran")
	}
}
