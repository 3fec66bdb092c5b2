package e2e

import (
	"maps"
	"os"
	"path/filepath"
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
deb install --install /packages/first.deb
chroot "$root" id banmesh >/dev/null
test -d "$root/var/lib/banmesh"
deb upgrade --install /packages/second.deb
deb remove --remove banmesh
deb 'install again' --install /packages/second.deb
deb purge --purge banmesh
test ! -e "$root/var/lib/banmesh"
rm -rf "$root/etc/banmesh"
rpm install --install /packages/first.rpm
test -d "$root/var/lib/banmesh"
rpm upgrade --upgrade /packages/second.rpm
rpm remove --erase banmesh
test -d "$root/var/lib/banmesh"
echo 1 > "$root/exit"
deb 'install, systemctl fails' --install /packages/second.deb
deb 'purge, systemctl fails' --purge banmesh
rpm 'install, systemctl fails' --install /packages/second.rpm
rpm 'remove, systemctl fails' --erase banmesh
rmdir "$root/run/systemd/system"
deb 'install, no systemd' --install /packages/first.deb
deb 'purge, no systemd' --purge banmesh
rpm 'install, no systemd' --install /packages/first.rpm
rpm 'remove, no systemd' --erase banmesh
`

// scriptsCallSystemd runs the packages' scripts by dpkg and rpm in a copy of this
// machine, and looks at what they ask of systemd: an installation enables and
// starts nothing, an upgrade restarts what runs, a removal stops it; and no
// trouble of systemd's keeps a package from being installed or removed.
func scriptsCallSystemd(t *testing.T, first, second, arch string) {
	defer lockPackages(t)()
	rpmArch := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
	files := t.TempDir()
	for name, path := range map[string]string{
		"first.deb": filepath.Join(first, "banmesh_1.0.0-1_"+arch+".deb"), "first.rpm": filepath.Join(first, "banmesh-1.0.0-1."+rpmArch+".rpm"),
		"second.deb": filepath.Join(second, "banmesh_1.1.0-1_"+arch+".deb"), "second.rpm": filepath.Join(second, "banmesh-1.1.0-1."+rpmArch+".rpm"),
	} {
		if err := os.Link(path, filepath.Join(files, name)); err != nil {
			t.Fatal(err)
		}
	}
	said := system(t, "unshare", "--mount", "sh", "-c", scratchRoot+steps, "sh", t.TempDir(), files)
	got := make(map[string]string)
	for line := range strings.Lines(said) {
		step, calls, ok := strings.Cut(strings.TrimSpace(line), ":")
		if ok && (strings.HasPrefix(step, "deb ") || strings.HasPrefix(step, "rpm ")) {
			got[step] = strings.TrimSpace(calls)
		}
	}
	const reload, restart, disable = "daemon-reload", "try-restart banmesh.service", "disable --now banmesh.service"
	want := map[string]string{
		"deb install": reload, "deb upgrade": reload + ", " + reload + ", " + restart, "deb remove": disable + ", " + reload,
		"deb install again": reload + ", " + restart, "deb purge": disable + ", " + reload + ", " + reload,
		"rpm install": reload, "rpm upgrade": reload + ", " + restart + ", " + reload, "rpm remove": disable + ", " + reload,

		"deb install, systemctl fails": reload, "deb purge, systemctl fails": disable + ", " + reload + ", " + reload,
		"rpm install, systemctl fails": reload, "rpm remove, systemctl fails": disable + ", " + reload,

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
