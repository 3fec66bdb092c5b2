package fail2ban

import (
	"strings"
	"testing"
)

// A failure without a word must not end in the colon before it.
func TestAFailureThatPrintsNothingIsTold(t *testing.T) {
	if _, err := execute(t.Context(), []string{"false"}); err == nil || !strings.HasSuffix(err.Error(), "exit status 1: it printed nothing") {
		t.Errorf("%v", err)
	}
}
