package half

import "testing"

func TestTested(t *testing.T) {
	if !Tested(1, 2) || Tested(2, 2) {
		t.Error("wrong")
	}
}
