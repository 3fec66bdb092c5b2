package hook

import (
	"testing"
	"time"

	"banmesh/mesh/control"
)

// What a hook makes of fail2ban's tags is a call that the agent takes, whatever they hold; or it is refused.
func FuzzHook(f *testing.F) {
	f.Add("ban", "sshd", "203.0.113.7", "1767225600.5", "600", "5", "0")
	f.Add("unban", "sshd", "2001:db8::7", "", "", "", "1")
	f.Add("prolong", "a b", "0.0.0.0", "-1", "-1", "-1", "2")
	f.Add("flush", "x", "", "1e400", "NaN", "1e3", "")
	f.Fuzz(func(t *testing.T, event, jail, ip, at, bantime, failures, restored string) {
		if !Known(event) {
			return
		}
		h := newFlags(func(string) string { return "" })
		call, err := h.parse(control.HookEvent(event), []string{
			"--jail=" + jail, "--ip=" + ip, "--time=" + at, "--bantime=" + bantime, "--failures=" + failures, "--restored=" + restored,
		}, time.UnixMilli(1767225600000))
		if err != nil {
			return
		}
		if err := call.Validate(); err != nil {
			t.Errorf("%+v is accepted as %+v, which the agent refuses: %v", h, call, err)
		}
		if call.Event == control.HookBan && (call.Start == 0 || call.Until < control.Until(call.Start)) {
			t.Errorf("%+v is accepted as %+v, which ends before it begins", h, call)
		}
	})
}
