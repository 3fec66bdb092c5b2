package examples

import (
	"strings"
	"testing"

	"banmesh/internal/need"
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
