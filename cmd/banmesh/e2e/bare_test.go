package e2e

import (
	"bytes"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"banmesh/internal/need"
)

// bare is a host of a lab with a root of its own: a copy of this machine, with what the package brings and nothing that anybody has
// configured. What is changed in there is thrown away. systemd seems to run: systemctl is a script that does for our units and
// for fail2ban what systemd would.
type bare struct {
	l    *lab
	host int
	hold *exec.Cmd
}

// bareRoot makes the root and holds it: $1 a directory, $2 the programs' directory, $3 the examples, $4 what it has beside.
const bareRoot = `set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/tmp"
rm -rf "$root/etc/banmesh" "$root/var/lib/banmesh" "$root/etc/systemd/system/banmesh.service.d" "$root/var/lib/fail2ban" "$root/usr/bin/systemctl"
case " $4 " in *fail2ban* | *.deb*) mkdir -p "$root/var/lib/fail2ban" "$root/run/fail2ban" ;; *) rm -rf "$root/etc/fail2ban" ;; esac
mkdir -p "$root/run/systemd/system" "$root/etc/sysusers.d" "$root/usr/libexec/banmesh" "$root/var/log"
rm -rf "$root/etc/dpkg/dpkg.cfg.d" # a slim Debian leaves out what people read
case $4 in *.deb*) cp $4 "$root/root/" ;; *)
cp "$2/banmesh" "$root/usr/bin/banmesh"
printf '#!/bin/sh\nexec /usr/bin/banmesh "$@"\n' > "$root/usr/bin/banmesh-hook"
chmod 755 "$root/usr/bin/banmesh-hook"
cp "$3/systemd/banmesh.service" "$3/systemd/banmesh-fail2ban.socket" "$root/usr/lib/systemd/system/"
cp "$3/systemd/sysusers.d/banmesh.conf" "$root/etc/sysusers.d/banmesh.conf"
chroot "$root" systemd-sysusers banmesh.conf
esac
cat > "$root/usr/bin/systemctl" <<'END'
#!/bin/sh
# What systemd would do: systemctl VERB [FLAGS] UNIT...
verb=$1; shift
now= units=
for word; do case $word in --now) now=1 ;; -*) ;; *) units="$units ${word%.service}" ;; esac; done
echo "$verb$units" >> /run/systemctl.calls
stop() { [ -s "/run/$1.pid" ] && kill "$(cat "/run/$1.pid")" 2>/dev/null && while kill -0 "$(cat "/run/$1.pid")" 2>/dev/null; do sleep 0.02; done; rm -f "/run/$1.pid"; }
start() {
	case $1 in
	banmesh)
		caps=-all
		[ ! -e /etc/systemd/system/banmesh.service.d/nftables.conf ] || caps=-all,+net_admin
		mkdir -p /run/banmesh /var/lib/banmesh && chown banmesh:banmesh /run/banmesh /var/lib/banmesh && chmod 750 /var/lib/banmesh
		setsid setpriv --reuid banmesh --regid banmesh --clear-groups --inh-caps=$caps --ambient-caps=$caps --bounding-set=$caps --no-new-privs \
			/usr/bin/banmesh agent --config /etc/banmesh/banmesh.yaml >> /var/log/banmesh.log 2>&1 9>&- < /dev/null &
		echo $! > /run/banmesh.pid ;;
	fail2ban) fail2ban-client start > /var/log/fail2ban-start.log 2>&1 ;;
	esac
}
for unit in $units; do
	case $verb in
	is-active) [ -s "/run/$unit.pid" ] && kill -0 "$(cat "/run/$unit.pid")" 2>/dev/null || exit 3 ;;
	show) # as ansible asks
		state=inactive
		[ -s "/run/$unit.pid" ] && kill -0 "$(cat "/run/$unit.pid")" 2>/dev/null && state=active
		[ "$unit" = fail2ban ] && fail2ban-client ping > /dev/null 2>&1 && state=active
		echo "LoadState=loaded"; echo "ActiveState=$state" ;;
	is-enabled) [ -e "/run/enabled.$unit" ] || exit 1 ;;
	enable) touch "/run/enabled.$unit"; [ -z "$now" ] || start "$unit" ;;
	disable) rm -f "/run/enabled.$unit"; [ -z "$now" ] || stop "$unit" ;;
	restart) case $unit in fail2ban) fail2ban-client ping > /dev/null 2>&1 && fail2ban-client stop > /dev/null 2>&1 ;; *) stop "$unit" ;; esac; start "$unit" ;;
	start) start "$unit" ;;
	stop) stop "$unit" ;;
	esac
done
exit 0
END
chmod 755 "$root/usr/bin/systemctl"

exec chroot "$root" sh -c "echo ready; exec sleep infinity"
`

// bare makes one; with names what it has beside the package: fail2ban; or the .deb that lies in root's home, uninstalled.
func (l *lab) bare(host int, with ...string) *bare {
	l.t.Helper()
	need.Programs(l.t, "nsenter", "unshare", "setpriv", "systemd-sysusers")
	b := &bare{l: l, host: host}
	line := append(l.inside(host), "unshare", "--mount", "sh", "-c", bareRoot, "sh", l.t.(interface{ TempDir() string }).TempDir(), filepath.Dir(banmesh), "../../../examples", strings.Join(with, " "))
	b.hold = exec.Command(line[0], line[1:]...)
	var said bytes.Buffer
	b.hold.Stderr = &said
	out, err := b.hold.StdoutPipe()
	if err == nil {
		err = b.hold.Start()
	}
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() {
		if l.t.Failed() {
			l.t.Logf("log of %s:\n%s", l.name(host), tail(b.read("/var/log/banmesh.log"), 40))
		}
		b.sh("systemctl stop banmesh; fail2ban-client stop > /dev/null 2>&1; true")
		b.hold.Process.Kill()
		b.hold.Wait()
	})
	ready := make([]byte, 6)
	if n, _ := out.Read(ready); string(ready[:n]) != "ready\n" {
		b.hold.Wait()
		l.t.Fatalf("the root of %s: %s", l.name(host), &said)
	}
	return b
}

// sh runs a line of the shell on the host, as root, with no terminal.
func (b *bare) sh(line string) result {
	b.l.t.Helper()
	// The holder runs sleep in the root by now, or is about to.
	cmd := exec.Command("nsenter", "--target", strconv.Itoa(b.hold.Process.Pid), "--mount", "--net", "--root", "--wd", "env", "-i",
		"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "sh", "-c", line)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	timer := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) {
		b.l.t.Fatalf("%s: %v", line, err)
	}
	return result{out.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// must is sh, where anything but success ends the test.
func (b *bare) must(line string) string {
	b.l.t.Helper()
	r := b.sh(line)
	if r.code != 0 {
		b.l.t.Fatalf("%s on %s: exit %d\n%s%s", line, b.l.name(b.host), r.code, r.out, r.err)
	}
	return r.out
}

func (b *bare) read(path string) string { return b.sh("cat " + path).out }

// files are all that the installation may touch, with their rights and contents.
func (b *bare) files() string {
	return b.must(`find /etc /usr/lib/systemd /var/lib/banmesh /run/banmesh \( -type d -printf '%p %M %u %g\n' -o -type f -printf '%p %M %u %g %s\n' \) 2>/dev/null | sort; find /etc/banmesh /etc/fail2ban /etc/systemd -type f -exec md5sum {} + 2>/dev/null | sort; true`)
}

// changed are the lines that only one of two listings of files has.
func changed(before, after string) (out []string) {
	count := make(map[string]int)
	for line := range strings.Lines(before) {
		count[line]--
	}
	for line := range strings.Lines(after) {
		count[line]++
	}
	for line, n := range count {
		switch {
		case n > 0:
			out = append(out, "+ "+line)
		case n < 0:
			out = append(out, "- "+line)
		}
	}
	return out
}
