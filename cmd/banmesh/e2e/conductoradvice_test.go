package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheDoctorsAdviceOnTheConductorHelps: a conductor is gone, is installed anew
// with another host key, and forgets the agents' key. Each time the doctor says so,
// its advice is taken, and it says so no more.
func TestTheDoctorsAdviceOnTheConductorHelps(t *testing.T) {
	t.Parallel()
	dir, addr := shortDir(t), freeAddr(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	var sim *exec.Cmd
	stop := func() {
		if sim != nil {
			sim.Process.Kill()
			sim.Wait()
		}
	}
	t.Cleanup(func() { stop() })
	start := func() {
		t.Helper()
		sim = exec.Command(banmesh, "conductor", "sim", "--listen", addr, "--dir", at("conductor"))
		out, err := sim.StdoutPipe()
		if err == nil {
			err = sim.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("the conductor did not say that it is ready: %v", err)
		}
	}
	advised := func(step string) {
		t.Helper()
		line, ok := strings.CutPrefix(step, "banmesh ")
		if !ok {
			t.Fatalf("%q is no command", step)
		}
		if r := command(t, nil, append(strings.Fields(line), "--yes")...); r.code != 0 {
			t.Fatalf("%s: exit %d, %s%s", step, r.code, r.out, r.err)
		}
	}
	start()
	advised("banmesh conductor trust " + addr + " --known-hosts " + at("known_hosts"))
	a := newAgent(t, "router1", settings{commit: "{driver: netconf, conductors: [\"" + addr + "\"], key: " + at("conductor/client_key") +
		", known_hosts: " + at("known_hosts") + ", timeout: 5s" + quick + "}"}).start()
	committed := func(prefix string) {
		t.Helper()
		a.must("ban", strings.TrimSuffix(prefix, "/32"), "--for", "1h")
		a.run("commit") // now; where it cannot, the retry comes
		eventually(t, 90*time.Second, "the commit of "+prefix, func() bool { return a.banned(prefix).Committed })
	}
	committed("203.0.113.1/32")
	// said is the doctor's advice on what it finds.
	said := func(what string) string {
		found, _ := examined(t, a)
		for _, f := range found {
			if f.Severity == "serious" && strings.Contains(f.What, what) && !strings.Contains(f.What, "commits fail") {
				return f.Fix
			}
		}
		return ""
	}
	for _, c := range []struct {
		name, what, fix string
		spoil           func()
		take            func(fix string)
	}{
		{"it is gone", "unreachable", "open TCP from this router to the conductor", stop, func(string) { start() }},
		{"it was installed anew", "host key", "banmesh conductor trust " + addr + " --known-hosts " + at("known_hosts"), func() {
			stop()
			if err := os.Remove(at("conductor/host_key")); err != nil {
				t.Fatal(err)
			}
			start()
		}, advised},
		{"it does not know the key", "refused the login", "put this router's public key into ", func() {
			stop()
			if err := os.Rename(at("conductor/authorized_keys"), at("keys")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(at("conductor/authorized_keys"), nil, 0o600); err != nil {
				t.Fatal(err)
			}
			start()
		}, func(string) {
			stop()
			if err := os.Rename(at("keys"), at("conductor/authorized_keys")); err != nil {
				t.Fatal(err)
			}
			start()
		}},
	} {
		c.spoil()
		fix := ""
		eventually(t, 60*time.Second, c.name+": the doctor to say so", func() bool { fix = said(c.what); return fix != "" })
		if !strings.HasPrefix(fix, c.fix) {
			t.Errorf("%s: the advice is %q, want %q", c.name, fix, c.fix)
		}
		c.take(fix)
		eventually(t, 60*time.Second, c.name+": the doctor to find it gone", func() bool { return said(c.what) == "" })
	}
	// A login that was refused rests for five minutes, so that it locks no account;
	// a restart of the agent does not wait.
	a.terminate()
	a.start()
	committed("203.0.113.2/32")
}
