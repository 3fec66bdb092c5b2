package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// badDisk has the kernel spoil the agent's calls, by strace's inject
// (strace(1)), until what is returned is called.
func badDisk(t *testing.T, a *agent, calls, how string) (fix func()) {
	t.Helper()
	// The agent may be below the command that wraps it, or be itself the process.
	cmd := exec.Command("strace", "-f", "-o", "/dev/null", "-e", "trace="+calls, "-e", "inject="+calls+":"+how, "-p", fmt.Sprint(a.cmd.Process.Pid))
	said, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("strace is needed (apt-get install strace): %v", err)
	}
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.Contains(lines.Text(), "attached") {
		cmd.Process.Kill()
		cmd.Wait()
		t.Fatalf("strace does not attach to the agent: %q", lines.Text())
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
		}
	}()
	ended := false
	fix = func() {
		if ended {
			return
		}
		ended = true
		cmd.Process.Signal(syscall.SIGINT) // lets go of the agent
		<-drained
		cmd.Wait()
	}
	t.Cleanup(fix)
	return fix
}

func within(t *testing.T, most time.Duration, what string, do func()) {
	t.Helper()
	began := time.Now()
	do()
	if took := time.Since(began); took > most {
		t.Errorf("%s took %v, want %v at most", what, took.Round(time.Millisecond), most)
	}
}

// TestSlowDiskHoldsUpAcknowledgementsAlone: each sync of the disk takes 2 s, and
// a transaction has two of them.
func TestSlowDiskHoldsUpAcknowledgementsAlone(t *testing.T) {
	one := newAgent(t, "router1", settings{}).start()
	two := newAgent(t, "router2", settings{join: []*agent{one}}).start()
	awaitMembers(t, []*agent{one, two}, 2)
	one.must("ban", "203.0.113.1", "--for", "1h")
	fix := badDisk(t, one, "fdatasync", "delay_enter=2000000")
	spool := one.dir + "/data/spool"

	start := time.Now()
	took := func() time.Duration { return time.Since(start) }
	r := one.run("ban", "203.0.113.2", "--for", "1h", "--spool", spool)
	if r.code != 0 || took() < 2*time.Second {
		t.Errorf("ban on a slow disk: exit %d after %v, %q; want 0, and not before the disk has it", r.code, took(), r.err)
	}
	// The hook must not hold fail2ban up: it leaves the call in the spool.
	offence := time.Now().Unix()
	hook := []string{"fail2ban", "ban", "--jail=sshd", "--ip=203.0.113.3", fmt.Sprintf("--time=%d", offence), "--bantime=3600", "--failures=5", "--restored=0"}
	for range 3 {
		within(t, 1500*time.Millisecond, "the hook", func() {
			if r := command(t, []string{"BANMESH_SPOOL=" + spool, "BANMESH_SOCKET=" + one.socket}, hook...); r.code != 0 || r.out != "" {
				t.Errorf("the hook: exit %d, %q, %q", r.code, r.out, r.err)
			}
		})
	}
	// What others ban is there at once, and readers do not wait.
	two.must("ban", "203.0.113.4", "--for", "1h")
	within(t, 3*time.Second, "a ban of router2 to be seen", func() {
		eventually(t, 10*time.Second, "router2's ban", func() bool { return one.banned("203.0.113.4/32") != nil })
	})
	fix()
	for _, a := range []*agent{one, two} {
		eventually(t, 20*time.Second, "all four at "+a.name, func() bool { return len(a.list()) == 4 })
	}
	if got := one.banned("203.0.113.3/32"); len(got.Records) != 1 || stamp(t, got.Records[0].Start).Unix() != offence {
		t.Errorf("the hook's ban, called three times, came to %+v, want one record of its own time", got.Records)
	}
	eventually(t, 10*time.Second, "the spool to be empty", func() bool {
		left, err := os.ReadDir(spool)
		return err == nil && len(left) == 0
	})
	one.kill()
	one.start()
	eventually(t, 10*time.Second, "all four after a kill", func() bool { return len(one.list()) == 4 })
}

// TestBrokenDiskRefusesAndLosesNothing: writing to the disk fails, or says after
// a sync that it has failed, which leaves open what is on it.
func TestBrokenDiskRefusesAndLosesNothing(t *testing.T) {
	for _, c := range []struct {
		calls, fault, say string
		some              bool // not each transaction fails
	}{
		{"pwrite64", "EIO", "input/output error", false},
		{"pwrite64", "EROFS", "read-only file system", false},
		// Of what the headers will point at.
		{"fdatasync", "EIO", "input/output error", false},
		// Every second one of a thread: mostly of the header itself, and the file may have the transaction.
		{"fdatasync", "EIO:when=2+2", "input/output error", true},
	} {
		t.Run(c.calls+" "+c.fault, func(t *testing.T) {
			t.Parallel()
			one := newAgent(t, "router1", settings{}).start()
			two := newAgent(t, "router2", settings{join: []*agent{one}}).start()
			awaitMembers(t, []*agent{one, two}, 2)
			one.must("ban", "203.0.113.1", "--for", "1h")
			fix := badDisk(t, one, c.calls, "error="+c.fault)
			acknowledged := []string{"203.0.113.1/32", "203.0.113.3/32", "203.0.113.4/32"}
			for i, refused := 0, 0; refused < 3; i++ {
				p := fmt.Sprintf("198.51.100.%d", i)
				r := one.run("ban", p, "--for", "1h", "--spool", "/proc/nowhere")
				switch {
				case r.code != 0 && strings.Contains(r.err, c.say) && !strings.Contains(r.err, "no agent"):
					refused++
				case r.code == 0 && c.some && i < 200:
					acknowledged = append(acknowledged, p+"/32")
				default:
					t.Fatalf("ban %d: exit %d, %q; want a refusal that says %q", i, r.code, r.err, c.say)
				}
			}
			two.must("ban", "203.0.113.3", "--for", "1h")
			eventually(t, 10*time.Second, "router2's ban, kept in memory", func() bool { return one.banned("203.0.113.3/32") != nil })
			if !c.some {
				eventually(t, 10*time.Second, "status to say it", func() bool { return strings.Contains(fmt.Sprint(one.status().Warnings), c.say) })
			}
			if got := one.list(); len(got) != len(acknowledged)-1 {
				t.Errorf("%d bans are shown, want the %d acknowledged ones", len(got), len(acknowledged)-1)
			}
			fix()
			eventually(t, 20*time.Second, "bans to be taken again", func() bool { return one.run("ban", "203.0.113.4", "--for", "1h").code == 0 })
			eventually(t, 10*time.Second, "status to be well", func() bool { return !strings.Contains(fmt.Sprint(one.status().Warnings), c.say) })
			one.kill()
			two.kill()
			// Alone, so that all of it is from the disk.
			one.start()
			for _, p := range acknowledged {
				if one.banned(p) == nil {
					t.Errorf("%s is lost", p)
				}
			}
			if w := fmt.Sprint(one.status().Warnings); strings.Contains(w, "store") {
				t.Errorf("the store is said to be bad afterwards: %s", w)
			}
		})
	}
}

// TestARestoredCopyBringsNothingBack: the data directory is put back as it was
// before a lift and some bans, as from a backup or a snapshot of the machine.
func TestARestoredCopyBringsNothingBack(t *testing.T) {
	t.Parallel()
	one := newAgent(t, "router1", settings{}).start()
	two := newAgent(t, "router2", settings{join: []*agent{one}}).start()
	both := []*agent{one, two}
	awaitMembers(t, both, 2)
	one.must("ban", "203.0.113.1", "--for", "1h")
	two.must("ban", "203.0.113.2", "--for", "1h")
	inSync(t, 2, both...)
	data, copied := filepath.Join(one.dir, "data"), filepath.Join(one.dir, "copy")
	one.terminate()
	system(t, "cp", "-a", data, copied)
	one.start()
	one.must("ban", "203.0.113.3", "--for", "1h")
	two.must("unban", "203.0.113.1")
	two.must("ban", "203.0.113.4", "--for", "1h")
	inSync(t, 3, both...)

	one.kill()
	system(t, "rm", "-r", data)
	system(t, "cp", "-a", copied, data)
	one.start()
	inSync(t, 3, both...)
	for _, a := range both {
		if a.banned("203.0.113.1/32") != nil {
			t.Errorf("%s bans again what was lifted", a.name)
		}
		if got := a.banned("203.0.113.3/32"); got == nil || len(got.Records) != 1 || got.Records[0].Origin != "router1" {
			t.Errorf("at %s what router1 banned after the copy is %+v", a.name, got)
		}
	}
	// It goes on under a name of its own, so that nothing it says is taken for what it said before.
	one.must("ban", "203.0.113.5", "--for", "1h")
	one.must("unban", "203.0.113.3", "--mine")
	inSync(t, 3, both...)
	if two.banned("203.0.113.5/32") == nil || two.banned("203.0.113.3/32") != nil {
		t.Errorf("router2 has %+v", two.list())
	}
}
