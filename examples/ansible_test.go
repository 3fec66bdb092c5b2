package examples

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"banmesh/internal/need"
	"banmesh/mesh/config"
)

// ansible-lint has nothing to say about the role.
func TestTheAnsibleRoleIsLintClean(t *testing.T) {
	need.Programs(t, "ansible-lint")
	t.Chdir("ansible")
	out, err := run(t, "ansible-lint", "--offline", "--nocolor", "site.yml", "roles")
	if err != nil || !strings.Contains(out, "0 failure(s), 0 warning(s)") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// The role's configuration names the other hosts as the agent reads addresses: IPv6 ones in brackets.
func TestTheAnsibleRoleWritesAConfiguration(t *testing.T) {
	need.Programs(t, "ansible-playbook")
	role, err := filepath.Abs("ansible/roles/banmesh")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"inventory.yml": `
banmesh:
  hosts:
    one: {ansible_host: 192.0.2.1}
    two: {ansible_host: "2001:db8::2"}
    three: {ansible_host: 192.0.2.3}
`,
		"play.yml": `
- hosts: banmesh
  gather_facts: false
  connection: local
  vars_files: [` + role + `/defaults/main.yml]
  tasks:
    - ansible.builtin.template:
        src: ` + role + `/templates/banmesh.yaml.j2
        dest: "` + dir + `/{{ inventory_hostname }}.yaml"
`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	if out, err := run(t, "ansible-playbook", "-i", "inventory.yml", "-l", "one,two", "play.yml"); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for host, want := range map[string][]string{
		"one": {"192.0.2.1:7946", "[2001:db8::2]:7946", "192.0.2.3:7946"},
		"two": {"[2001:db8::2]:7946", "192.0.2.1:7946", "192.0.2.3:7946"},
	} {
		f, err := config.Load(host + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		if got := append([]string{f.Gossip.Bind}, f.Join...); f.Name != host || !slices.Equal(got, want) {
			t.Errorf("%s is called %s, and has the addresses %q, want %q", host, f.Name, got, want)
		}
	}
}
