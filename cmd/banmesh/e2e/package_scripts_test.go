package e2e

import (
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// scratchRoot is a shell script that gives a copy of this machine to the rest of
// it: what is changed in $root is thrown away. systemctl in there only writes
// down how it is called, and systemd seems to run.
const scratchRoot = `set -eu
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
root=$1/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$root"
mount -t proc proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
rm -rf "$root/etc/banmesh" "$root/var/lib/banmesh"
mkdir -p "$root/run/systemd/system" "$root/packages" "$root/rpmdb"
cp "$2"/*.deb "$2"/*.rpm "$root/packages"
rm -f "$root/usr/bin/systemctl"
printf '%s\n' '#!/bin/sh' 'echo "$*" >> /calls' 'exit $(cat /exit)' > "$root/usr/bin/systemctl"
chmod 755 "$root/usr/bin/systemctl"
echo 0 > "$root/exit"
step() { # NAME COMMAND...
	: > "$root/calls"
	name=$1
	shift
	chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@" >&2
	echo "$name: $(paste -s -d, "$root/calls" | sed 's/,/, /g')"
}
`

// steps are the lives of both packages, with the real package managers.
const steps = `
deb() { step "deb $1" dpkg --force-depends --force-unsafe-io --no-triggers --log=/dev/null "$2" "$3"; }
rpm() { step "rpm $1" rpm --dbpath /rpmdb --nodeps "$2" "$3"; }
# configure gives the agent what its configuration names.
configure() {
	echo "[\"$(chroot "$root" banmesh keygen)\"]" > "$root/etc/banmesh/keyring.json"
	chroot "$root" chown banmesh:banmesh /etc/banmesh/keyring.json
	chmod 600 "$root/etc/banmesh/keyring.json"
}
echo 0123456789abcdef0123456789abcdef > "$root/etc/machine-id"
deb install --install /packages/first.deb
chroot "$root" id banmesh >/dev/null
test -d "$root/var/lib/banmesh"
configure
dropin="$root/etc/systemd/system/banmesh.service.d/nftables.conf"
name="name: $(uname -n)  # the host's, by the package, for machine $(printf 0123456789abcdef0123456789abcdef | sha256sum | cut -c1-12)"
grep -qx "$name" "$root/etc/banmesh/banmesh.yaml"
sed -i 's/^name: .*/name: mine/' "$root/etc/banmesh/banmesh.yaml"
deb upgrade --install /packages/second.deb
grep -qx 'name: mine' "$root/etc/banmesh/banmesh.yaml"
test ! -e "$dropin"
rm "$root/usr/lib/systemd/system/banmesh-fail2ban.socket"
deb 'upgrade from no helper' --install /packages/first.deb
echo 'old_key: 1' >> "$root/etc/banmesh/banmesh.yaml"
sed -i '/^enforce:/,/^[a-z]/ s/driver: none/driver: nftables/' "$root/etc/banmesh/banmesh.yaml"
deb 'upgrade to what refuses' --install /packages/first.deb
# The unit once had this capability itself: an agent that enforces keeps it.
grep -qx 'AmbientCapabilities=CAP_NET_ADMIN' "$dropin"
rm "$dropin"
sed -i '/^old_key/d' "$root/etc/banmesh/banmesh.yaml"
deb remove --remove banmesh
deb 'install again' --install /packages/second.deb
deb purge --purge banmesh
test ! -e "$root/var/lib/banmesh"
rm -rf "$root/etc/banmesh"
mkdir -p "$root/etc/fail2ban/jail.d"
printf '[DEFAULT]\naction = %%(action_)s\n         banmesh\n' > "$root/etc/fail2ban/jail.d/banmesh.conf"
rpm install --install /packages/first.rpm
configure
test -d "$root/var/lib/banmesh"
rpm upgrade --upgrade /packages/second.rpm
rpm remove --erase banmesh
test -d "$root/var/lib/banmesh"
# A jail names the action that is gone: fail2ban must start all the same.
grep -q 'Left by the removal' "$root/etc/fail2ban/action.d/banmesh.conf"
printf '[sshd]\nbackend = polling\nlogpath = /dev/null\n' > "$root/etc/fail2ban/jail.d/zz.conf"
chroot "$root" fail2ban-client -t >&2
echo 1 > "$root/exit"
deb 'install, systemctl fails' --install /packages/second.deb
! grep -q 'Left by the removal' "$root/etc/fail2ban/action.d/banmesh.conf"
deb 'purge, systemctl fails' --purge banmesh
grep -q 'Left by the removal' "$root/etc/fail2ban/action.d/banmesh.conf"
rm "$root/etc/fail2ban/jail.d/banmesh.conf" "$root/etc/fail2ban/action.d/banmesh.conf"
rpm 'install, systemctl fails' --install /packages/second.rpm
rpm 'remove, systemctl fails' --erase banmesh
rmdir "$root/run/systemd/system"
deb 'install, no systemd' --install /packages/first.deb
grep -qx '# name: router1' "$root/etc/banmesh/banmesh.yaml" # an image in the making
deb 'purge, no systemd' --purge banmesh
rpm 'install, no systemd' --install /packages/first.rpm
rpm 'remove, no systemd' --erase banmesh
`

// TestPackageScriptsCallSystemd runs the packages' scripts by dpkg and rpm in a copy of this
// machine, and looks at what they ask of systemd: an installation enables and
// starts nothing, an upgrade restarts what runs, a removal stops it; and no
// trouble of systemd's keeps a package from being installed or removed.
func TestPackageScriptsCallSystemd(t *testing.T) {
	t.Parallel()
	first, second := built(t, release), built(t, nextRelease)
	rpmArch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[runtime.GOARCH]
	files := t.TempDir()
	for name, path := range map[string]string{
		"first.deb": deb(first, "1.0.0"), "first.rpm": filepath.Join(first, "banmesh-1.0.0-1."+rpmArch+".rpm"),
		"second.deb": deb(second, "1.1.0"), "second.rpm": filepath.Join(second, "banmesh-1.1.0-1."+rpmArch+".rpm"),
	} {
		if err := os.Link(path, filepath.Join(files, name)); err != nil {
			t.Fatal(err)
		}
	}
	said := system(t, "unshare", "--mount", "--net", "sh", "-c", scratchRoot+steps, "sh", t.TempDir(), files)
	got := make(map[string]string)
	for line := range strings.Lines(said) {
		step, calls, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && (strings.HasPrefix(step, "deb ") || strings.HasPrefix(step, "rpm ")) {
			got[step] = strings.TrimSpace(calls)
		}
	}
	const (
		reload  = "daemon-reload"
		install = reload + ", enable --now banmesh-fail2ban.socket"
		upgrade = ", try-restart banmesh-fail2ban.service"
		refused = reload + upgrade // the helper's socket stays as the administrator wants it
		restart = refused + ", try-restart banmesh.service"
		disable = "disable --now banmesh.service banmesh-fail2ban.socket, stop banmesh-fail2ban.service"
	)
	want := map[string]string{
		"deb install": install, "deb upgrade": reload + ", " + restart, "deb upgrade to what refuses": reload + ", " + refused, "deb remove": disable + ", " + reload,
		"deb install again":          install + upgrade + ", try-restart banmesh.service",
		"deb upgrade from no helper": reload + ", " + install + upgrade + ", try-restart banmesh.service",
		"deb purge":                  disable + ", " + reload + ", " + reload,
		"rpm install":                install, "rpm upgrade": restart + ", " + reload, "rpm remove": disable + ", " + reload,

		"deb install, systemctl fails": install, "deb purge, systemctl fails": disable + ", " + reload + ", " + reload,
		"rpm install, systemctl fails": install, "rpm remove, systemctl fails": disable + ", " + reload,

		"deb install, no systemd": "", "deb purge, no systemd": "", "rpm install, no systemd": "", "rpm remove, no systemd": "",
	}
	for _, step := range slices.Sorted(maps.Keys(want)) {
		calls, ran := got[step]
		if !ran || calls != want[step] {
			t.Errorf("%s (ran: %v) calls systemctl %q, want %q", step, ran, calls, want[step])
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}
