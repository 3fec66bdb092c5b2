package fail2ban

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"banmesh/store"
)

// Two allows, 0.0.0.0/1 and 128.0.0.0/1, had every jail ignore everybody.
func TestFail2banIsNotToldToIgnoreTheInternet(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		r.server.hold("sshd", banned(t, "203.0.113.7", start, 10*time.Minute))
		until := store.At(start.Add(time.Hour))
		for _, text := range []string{"0.0.0.0/1", "128.0.0.0/1", "2000::/3", "198.51.0.0/16"} {
			p := netip.MustParsePrefix(text)
			r.set.allows = append(r.set.allows, store.AllowEntry{Prefix: p, Until: until})
			r.set.notices = append(r.set.notices, store.Notice{ID: uint64(len(r.set.notices) + 1), Kind: store.NoticeAllow, Prefix: p, Until: until})
		}
		r.start(func(c *NotifierConfig) { c.Bounds = Bounds{WidestIPv4: 16, WidestIPv6: 32, PerMinute: 100} })
		r.after(notifyEvery)
		r.wantCalls("set sshd addignoreip 198.51.0.0/16")
		r.wantQueue(0)
		w := strings.Join(r.notifier.Held(), "\n")
		for _, want := range []string{"0.0.0.0/1", "128.0.0.0/1", "2000::/3", "widest_ignore"} {
			if !strings.Contains(w, want) {
				t.Errorf("status says %q, which does not name %s", w, want)
			}
		}
	})
}

func TestFail2banLetsGoAtABoundedPace(t *testing.T) {
	withNotifier(t, []string{"sshd"}, func(t *testing.T, r *notifierRig) {
		start := time.Now()
		for i := range 25 {
			addr := fmt.Sprintf("203.0.113.%d", i+1)
			r.server.hold("sshd", banned(t, addr, start, 10*time.Minute))
			r.lifted("sshd", addr, start)
		}
		r.start(func(c *NotifierConfig) { c.Bounds.PerMinute = 10 })
		for minute, want := range []int{15, 5, 0} {
			r.after(30 * time.Second)
			r.wantQueue(want)
			w := strings.Join(r.notifier.Held(), "\n")
			if says := strings.Contains(w, fmt.Sprintf("%d unbans", want)); says != (want > 0) {
				t.Errorf("in minute %d status says %q, with %d in the queue", minute, w, want)
			}
			r.after(30 * time.Second)
		}
	})
}
