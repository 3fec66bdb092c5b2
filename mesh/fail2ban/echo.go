package fail2ban

import (
	"net/netip"
	"time"
)

// echo is an unban that fail2ban was told of; the hook that it causes says
// nothing new.
type echo struct {
	jail   string
	prefix netip.Prefix
	start  int64 // Unix seconds, as fail2ban's list has it: rounded down
}

// echoLife is how long an echo is waited for: a hook may lie in the spool.
const echoLife = 10 * time.Minute

// expect announces that the unban of held bans of a jail will be told to
// fail2ban by us.
func (h *Hooks) expect(jail string, held []Banned) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for e, until := range h.echoes {
		if now.After(until) {
			delete(h.echoes, e)
		}
	}
	for _, b := range held {
		h.echoes[echo{jail, b.Prefix, b.Start.Unix()}] = now.Add(echoLife)
	}
}

// expected reports whether an unban was announced, and takes that back.
func (h *Hooks) expected(jail string, prefix netip.Prefix, start time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, second := range []int64{0, -1, 1} {
		e := echo{jail, prefix, start.Unix() + second}
		if until, ok := h.echoes[e]; ok {
			delete(h.echoes, e)
			return h.now().Before(until)
		}
	}
	return false
}
