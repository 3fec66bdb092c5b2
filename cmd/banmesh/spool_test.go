package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/mesh/spool"
)

// consoleIn is a console whose socket is dir's, where no agent runs, and whose default configuration and log are dir's too.
func consoleIn(dir string, env map[string]string) (c *console, errOut *bytes.Buffer) {
	errOut = &bytes.Buffer{}
	c = newConsole(strings.NewReader(""), &bytes.Buffer{}, errOut, func(k string) string {
		if k == "BANMESH_SOCKET" && env[k] == "" {
			return filepath.Join(dir, "s")
		}
		return env[k]
	})
	c.config, c.syslog, c.utmp = filepath.Join(dir, "banmesh.yaml"), filepath.Join(dir, "log"), filepath.Join(dir, "utmp")
	return c, errOut
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func waiting(t *testing.T, dir string) int {
	t.Helper()
	n, err := spool.New(dir).Len()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestACallWaitsInTheSpoolOfItsOwnAgent(t *testing.T) {
	for name, prepare := range map[string]func(dir, data string){
		"which left a note beside its socket": func(dir, data string) {
			s := spool.New(filepath.Join(data, "spool"))
			if err := s.Prepare(-1); err != nil {
				t.Fatal(err)
			}
			if err := s.LeaveNote(filepath.Join(dir, "s")); err != nil {
				t.Fatal(err)
			}
			// The machine's agent is another one.
			write(t, filepath.Join(dir, "banmesh.yaml"), "socket: /elsewhere/s\ndata_dir: "+dir+"/elsewhere\n")
		},
		"whose configuration is that of the default place": func(dir, data string) {
			write(t, filepath.Join(dir, "banmesh.yaml"), "socket: "+dir+"/s\ndata_dir: "+data+"\n")
		},
		"whose configuration is wrong elsewhere": func(dir, data string) {
			write(t, filepath.Join(dir, "banmesh.yaml"), "no_such_key: 1\nsocket: "+dir+"/s\ndata_dir: "+data+"\ncommit: {driver: frob}\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(dir, "data")
			prepare(dir, data)
			for i, args := range []string{"ban 203.0.113.7", "unban 203.0.113.8", "fail2ban ban --jail=sshd --ip=203.0.113.9 --time=1767225600 --bantime=600"} {
				c, errOut := consoleIn(dir, nil)
				if err := c.execute(context.Background(), strings.Fields(args)); err != nil {
					t.Errorf("%s: %v, stderr %q", args, err, errOut)
				}
				if n := waiting(t, filepath.Join(data, "spool")); n != i+1 {
					t.Errorf("%s: %d calls wait, want %d", args, n, i+1)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
				t.Error("the machine's own agent got a call that was meant for another")
			}
		})
	}
}

func TestACallThatNoAgentWillReadIsNotKept(t *testing.T) {
	for name, config := range map[string]string{
		"no configuration": "", "the machine's agent has another socket": "socket: /elsewhere/s\ndata_dir: DIR/data\n", "the configuration is no YAML": "socket: [\n",
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if config != "" {
				write(t, filepath.Join(dir, "banmesh.yaml"), strings.ReplaceAll(config, "DIR", dir))
			}
			for _, args := range []string{"ban 203.0.113.7", "unban 203.0.113.8"} {
				c, _ := consoleIn(dir, nil)
				err := c.execute(context.Background(), strings.Fields(args))
				if exitCode(err) != exitNoAgent || !strings.Contains(err.Error(), "banmesh.yaml") {
					t.Errorf("%s: %v, want exit 3 and what was looked for", args, err)
				}
			}
			if _, err := os.Stat(filepath.Join(dir, "data")); err == nil {
				t.Error("the machine's own agent got a call that was meant for another")
			}
			c, errOut := consoleIn(dir, map[string]string{"BANMESH_SPOOL": filepath.Join(dir, "mine")})
			if err := c.execute(context.Background(), []string{"ban", "203.0.113.7"}); err != nil || waiting(t, filepath.Join(dir, "mine")) != 1 {
				t.Errorf("with BANMESH_SPOOL: %v, stderr %q", err, errOut)
			}
		})
	}
}

// fail2ban shows what an action that exits 0 writes at the level DEBUG only, so the machine's log hears it too.
func TestALostHookIsSaidInTheMachinesLog(t *testing.T) {
	dir := t.TempDir()
	log, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "log"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	c, errOut := consoleIn(dir, nil)
	err = c.execute(context.Background(), strings.Fields("fail2ban ban --jail=sshd --ip=203.0.113.7 --time=1767225600 --bantime=600"))
	if err != nil {
		t.Errorf("%v: fail2ban would only repeat it", err)
	}
	b := make([]byte, 4096)
	log.SetReadDeadline(time.Now().Add(10 * time.Second))
	n, err := log.Read(b)
	if err != nil {
		t.Fatalf("nothing came: %v", err)
	}
	for _, want := range []string{"<28>", "banmesh[", "fail2ban ban 203.0.113.7 (jail sshd): lost: no agent reachable"} {
		if !strings.Contains(string(b[:n]), want) {
			t.Errorf("%q does not say %q", b[:n], want)
		}
	}
	if !strings.Contains(errOut.String(), "lost: no agent reachable") {
		t.Errorf("stderr %q", errOut)
	}
}
