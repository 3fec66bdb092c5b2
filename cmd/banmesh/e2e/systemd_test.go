package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/internal/need"
)

// booted is a copy of this machine in which systemd is PID 1, on a host of a lab. What is changed in there is thrown away.
type booted struct {
	t    testing.TB
	init string // its PID 1, as this machine numbers it
}

// boot is a script that ends as systemd-nspawn: $1 a directory, $2 the namespace, $3 a package for root's home. Nothing that this
// machine is configured for starts in there but fail2ban, as its package leaves it.
const boot = `set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
rm -rf "$root/etc/banmesh" "$root/var/lib/banmesh" "$root/var/lib/fail2ban" "$root/etc/systemd/system" "$root/var/log/journal"
mkdir -p "$root/var/lib/fail2ban" "$root/etc/systemd/system/multi-user.target.wants"
ln -s /lib/systemd/system/fail2ban.service "$root/etc/systemd/system/multi-user.target.wants/"
rm -f "$root/usr/sbin/policy-rc.d"
: > "$root/etc/machine-id"
echo server1 > "$root/etc/hostname"
cp "$3" "$root/root/banmesh.deb"
exec systemd-nspawn --quiet --directory="$root" --boot --register=no --keep-unit --machine=server1 --network-namespace-path="/run/netns/$2" --capability=CAP_NET_ADMIN --console=pipe
`

func (l *lab) boot(host int, pkg string) *booted {
	l.t.Helper()
	need.Programs(l.t, "systemd-nspawn", "nsenter", "unshare")
	var said bytes.Buffer
	hold := exec.Command("unshare", "--mount", "sh", "-c", boot, "sh", l.t.(interface{ TempDir() string }).TempDir(), l.name(host), pkg)
	hold.Stdout, hold.Stderr = &said, &said
	hold.WaitDelay = time.Second
	if err := hold.Start(); err != nil {
		l.t.Fatal(err)
	}
	b := &booted{t: l.t}
	ended := make(chan struct{})
	go func() { hold.Wait(); close(ended) }()
	l.t.Cleanup(func() {
		if pid, err := strconv.Atoi(b.init); err == nil {
			syscall.Kill(pid, syscall.SIGKILL) // and with it all that it has started
		}
		hold.Process.Signal(syscall.SIGTERM)
		<-ended
	})
	for began := time.Now(); ; {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", hold.Process.Pid))
		if b.init = strings.TrimSpace(string(children)); b.init != "" {
			if state := b.sh("systemctl is-system-running").out; strings.HasPrefix(state, "running") || strings.HasPrefix(state, "degraded") {
				return b
			}
		}
		select {
		case <-ended:
			need.Worked(l.t, fmt.Errorf("this machine cannot boot a container: %v\n%s", err, &said))
		case <-time.After(50 * time.Millisecond):
			if time.Since(began) > 3*time.Minute {
				need.Worked(l.t, fmt.Errorf("this machine has not booted a container in 3 minutes: %v\n%s", err, b.sh("systemctl list-jobs; systemctl --failed").out))
			}
		}
	}
}

// sh runs a line of the shell as root, with no terminal.
func (b *booted) sh(line string) result {
	b.t.Helper()
	cmd := exec.Command("nsenter", "--target", b.init, "--mount", "--uts", "--ipc", "--pid", "--net", "--root", "--wd", "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "timeout", "60", "sh", "-c", line)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		b.t.Fatalf("%s: %v", line, err)
	}
	return result{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must is sh, where anything but success ends the test.
func (b *booted) must(line string) string {
	b.t.Helper()
	r := b.sh(line)
	if r.code != 0 {
		b.t.Fatalf("%s: exit %d\n%s%s\n%s", line, r.code, r.out, r.err, b.sh("journalctl -u banmesh -u fail2ban --no-pager | tail -40").out)
	}
	return r.out
}

// TestWithSystemdAsPID1 lives a server's life where the units, their sandbox, the helper's socket and the watchdog are systemd's
// own: elsewhere a script stands for it.
func TestWithSystemdAsPID1(t *testing.T) {
	t.Parallel()
	need.Programs(t, "fail2ban-client", "nft")
	need.Files(t, "/usr/lib/python3/dist-packages/systemd", "/lib/systemd/system/fail2ban.service")
	b := newLab(t, 1).boot(0, deb(built(t, release), "1.0.0"))
	b.must("dpkg --install --no-triggers --force-unsafe-io /root/banmesh.deb")
	out := b.must("banmesh init")
	for _, want := range []string{"started banmesh.service", "restarted fail2ban", "protected now: 0 banned addresses and networks are dropped in this machine's kernel"} {
		if !strings.Contains(out, want) {
			t.Errorf("init does not say %q:\n%s", want, out)
		}
	}

	// The start is over when the agent answers, and it says to systemd how it fares.
	b.must("systemctl restart banmesh && banmesh status")
	eventually(t, 20*time.Second, "a status in systemctl", func() bool {
		return strings.Contains(b.must("systemctl status banmesh --no-pager"), `Status: "1 member alive, `)
	})
	if out := b.must("banmesh doctor --json; true"); strings.Contains(out, `"serious"`) {
		t.Errorf("doctor finds\n%s", out)
	}

	// fail2ban's hook and the helper of root for what goes back.
	b.must("fail2ban-client set sshd banip 203.0.113.7")
	eventually(t, 20*time.Second, "the ban in the kernel", func() bool { return strings.Contains(b.sh("nft list table inet banmesh").out, "203.0.113.7") })
	b.must("banmesh unban 203.0.113.7")
	eventually(t, 20*time.Second, "fail2ban to be told", func() bool { return !strings.Contains(b.must("fail2ban-client status sshd"), "203.0.113.7") })

	// A broken file is refused, and the agent runs on.
	b.must("banmesh ban 203.0.113.8 && cp /etc/banmesh/banmesh.yaml /root && echo 'old_key: 1' >> /etc/banmesh/banmesh.yaml && systemctl reload banmesh")
	eventually(t, 20*time.Second, "a word of the reload", func() bool { return strings.Contains(b.must("banmesh status"), "old_key: unknown key") })
	if r := b.sh("dpkg --install --no-triggers --force-unsafe-io /root/banmesh.deb"); !strings.Contains(r.err, "NOT restarted") || b.sh("banmesh status").code != 0 {
		t.Errorf("an upgrade with it says %q, and the agent is %s", r.err, b.sh("systemctl is-active banmesh").out)
	}
	b.must("cp /root/banmesh.yaml /etc/banmesh/ && systemctl reload banmesh")

	// An agent that hangs is started again.
	b.must("mkdir -p /etc/systemd/system/banmesh.service.d && printf '[Service]\\nWatchdogSec=3\\n' > /etc/systemd/system/banmesh.service.d/test.conf && systemctl daemon-reload && systemctl restart banmesh")
	pid := b.must("systemctl show --property MainPID --value banmesh")
	b.must("kill -STOP " + pid)
	eventually(t, 30*time.Second, "another agent", func() bool {
		return b.sh("banmesh status").code == 0 && b.must("systemctl show --property MainPID --value banmesh") != pid
	})
	b.must("rm /etc/systemd/system/banmesh.service.d/test.conf")

	// A stop keeps the kernel's bans, the removal does not.
	b.must("systemctl stop banmesh && nft list table inet banmesh | grep -F 203.0.113.8")
	b.must("dpkg --purge --no-triggers banmesh")
	if r := b.sh("nft list table inet banmesh; ls /run/banmesh-fail2ban.sock; systemctl is-active banmesh banmesh-fail2ban.socket | grep '^active'"); r.out != "" {
		t.Errorf("after the purge there is\n%s", r.out)
	}
	b.must("systemctl restart fail2ban")
	eventually(t, 20*time.Second, "fail2ban to run without it", func() bool { return b.sh("fail2ban-client status sshd").code == 0 })
}
