package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What cannot be undone is done by nobody's slip: not where nobody can be asked,
// and without a call to the agent or the spool.
func TestWhatCannotBeUndoneNeedsAWord(t *testing.T) {
	for _, line := range []string{
		"unban --all", "unban --all --jail sshd", "unban --all --mine", "unban --all --socket s",
		"revoke --origin router3", "revoke --origin router3 --block", "revoke --since 1h --origin=router3",
		"allow add 0.0.0.0/1", "allow add 203.0.113.7 10.0.0.0/7", "allow add ::/7 --for 1h",
	} {
		dir := t.TempDir()
		agent := newFakeAgent()
		socket := filepath.Join(dir, "s")
		stop, err := serveFake(socket, agent)
		if err != nil {
			t.Fatal(err)
		}
		spool := filepath.Join(dir, "spool")
		env := func(name string) string {
			return map[string]string{"BANMESH_SOCKET": socket, "BANMESH_SPOOL": spool}[name]
		}
		do := func(more ...string) (int, string) {
			var out, errOut bytes.Buffer
			code := run(context.Background(), append(strings.Fields(strings.ReplaceAll(line, "--socket s", "--socket "+socket)), more...), strings.NewReader("y\n"), &out, &errOut, env)
			return code, errOut.String()
		}
		if code, said := do(); code != exitUsage || !strings.Contains(said, "--yes") {
			t.Errorf("banmesh %s: exit %d, %q; want exit %d and a word of --yes", line, code, said, exitUsage)
		}
		if spooled, _ := os.ReadDir(spool); len(agent.calls) > 0 || len(spooled) > 0 {
			t.Errorf("banmesh %s: calls %q, %d spooled, though it was refused", line, agent.calls, len(spooled))
		}
		if code, said := do("--yes"); code != exitDone || len(agent.calls) != 1 {
			t.Errorf("banmesh %s --yes: exit %d, %q, calls %q", line, code, said, agent.calls)
		}
		stop()
	}
}
