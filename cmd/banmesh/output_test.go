package main

import (
	"io"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/mesh/control"
)

// fullDisk is a stdout whose disk is full.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

// TestAnAnswerThatIsNotWrittenIsAFailure: a list that goes to a file on a full disk is lost, and cron must hear of it.
func TestAnAnswerThatIsNotWrittenIsAFailure(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	agent := newFakeAgent()
	p := netip.MustParsePrefix("203.0.113.7/32")
	agent.bans[p] = control.Ban{Prefix: p.String(), Effective: true, Until: control.Never, Records: []control.Record{{Origin: "router1", Jail: "sshd", Start: control.At(time.Now()), Until: control.Never}}}
	stop, err := serveFake(socket, agent)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for _, line := range []string{
		"list", "list --json", "list -o csv", "list -o plain", "export", "export --format csv", "export --format json", "diff", "diff --json",
		"status --json", "members", "members --json", "why 203.0.113.7", "why 203.0.113.7 --json", "allow list", "version", "keygen", "config schema",
	} {
		args := strings.Fields(line)
		run := func(out io.Writer) error {
			c := newConsole(strings.NewReader(""), out, io.Discard, func(name string) string {
				if name == "BANMESH_SOCKET" {
					return socket
				}
				return ""
			})
			return c.execute(t.Context(), args)
		}
		if err := run(fullDisk{}); err == nil {
			t.Errorf("banmesh %s: nothing was written, and no error", line)
		} else if !strings.Contains(err.Error(), "no space left") {
			t.Errorf("banmesh %s: %v, want the disk to be named", line, err)
		}
	}
}
