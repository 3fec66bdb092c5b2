package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/mesh/fail2ban"
)

// A mistyped `banip 192.0.2.1/0` leaves 0.0.0.0 in fail2ban, which the hook refuses.
func TestNoOnesAddressIsNotTakenIn(t *testing.T) {
	dir := t.TempDir()
	client := filepath.Join(dir, "client")
	script := `#!/bin/sh
case "$*" in
status) printf 'Status\n|- Number of jail:\t1\n` + "`" + `- Jail list:\tsshd\n' ;;
"get sshd actions") printf 'The jail sshd has the following actions:\n\n' ;;
"get sshd failregex") printf 'No failregex\n' ;;
"get sshd bantime") echo 600 ;;
"get sshd banip --with-time") printf '0.0.0.0 \t2026-11-22 13:18:54 + -1 = 9999-12-31 23:59:59\n203.0.113.7 \t2026-11-22 13:18:54 + -1 = 9999-12-31 23:59:59\n' ;;
*) echo "what? $*" >&2; exit 1 ;;
esac
`
	if err := os.WriteFile(client, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	agent := newFakeAgent()
	stop, err := serveFake(filepath.Join(dir, "s"), agent)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	var out, errOut bytes.Buffer
	c := newConsole(strings.NewReader(""), &out, &errOut, func(string) string { return "" })
	c.socket = filepath.Join(dir, "s")
	if err := c.takeIn(t.Context(), fail2ban.NewClient(fail2ban.ClientConfig{Command: client}), nil, ""); err != nil {
		t.Fatal(err)
	}
	if len(agent.bans) != 1 || !strings.Contains(errOut.String(), "0.0.0.0 left out") {
		t.Errorf("taken in: %v; said %q, %q", agent.bans, out.String(), errOut.String())
	}
}
