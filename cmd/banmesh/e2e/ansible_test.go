package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

// TestTheAnsibleRoleSetsUpHosts has the role among the examples set up two bare hosts, as its inventory names them. Each runs
// it for itself; what it does over SSH is Ansible's affair.
func TestTheAnsibleRoleSetsUpHosts(t *testing.T) {
	t.Parallel()
	need.Programs(t, "ansible-playbook", "fail2ban-client")
	need.Files(t, "/usr/lib/python3/dist-packages/systemd", "/usr/lib/python3/dist-packages/apt")
	dist, key := deb(built(t, release), "1.0.0"), strings.TrimSpace(command(t, nil, "keygen").out)
	l := newLab(t, 2)
	var hosts []*bare
	for i, wait := range []bool{false, true} { // the first one has nobody to be in sync with
		l.ip("-n", l.name(i), "addr", "add", fmt.Sprintf("192.0.2.%d/24", i+1), "dev", "eth0")
		b := l.bare(i, dist)
		hosts = append(hosts, b)
		if err := os.CopyFS(fmt.Sprintf("/proc/%d/root/root/ansible", b.hold.Process.Pid), os.DirFS("../../../examples/ansible")); err != nil {
			t.Fatal(err)
		}
		b.must("mkdir /root/ansible/files && cp /root/banmesh_*.deb /root/ansible/files/banmesh_1.0.0-1_amd64.deb")
		// In the background: on a busy machine it takes longer than one line of the shell may.
		play := fmt.Sprintf(`ansible-playbook -i inventory.yml -c local -l server%d -e ansible_become=false -e '{"banmesh_keys": [%q], "banmesh_wait": %v}' site.yml`, i+1, key, wait)
		b.must("cat > /root/play <<'END'\ncd /root/ansible\n" + play + " > /root/said 2>&1\necho $? > /root/code\nEND\nsetsid -f sh /root/play < /dev/null > /dev/null 2>&1")
		eventually(t, 10*time.Minute, fmt.Sprintf("the role to end on server%d", i+1), func() bool { return b.read("/root/code") != "" })
		if code := strings.TrimSpace(b.read("/root/code")); code != "0" {
			t.Fatalf("server%d: exit %s\n%s", i+1, code, tail(b.read("/root/said"), 40))
		}
	}
	hosts[0].must("fail2ban-client set sshd banip 203.0.113.77")
	eventually(t, time.Minute, "its ban to be dropped on the other", func() bool {
		return strings.Contains(hosts[1].sh("nft list table inet banmesh").out, "203.0.113.77")
	})
}
