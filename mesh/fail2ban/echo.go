package fail2ban

import (
	"net/netip"
	"time"
)

// echo is an unban that this agent requested; the hook that it causes is not news.
type echo struct {
	jail   string
	prefix netip.Prefix
	start  int64 // Unix seconds, rounded down as in fail2ban's list
}

// echoLife is how long an echo is expected: the hook may have waited in the spool.
const echoLife = 10 * time.Minute

// expect announces that this agent is about to have a jail unban these bans.
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

// expected reports whether an unban was announced, and removes the announcement.
func (h *Hooks) expected(jail string, prefix netip.Prefix, start time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	// The list and the hook's <time> may be rounded differently.
	for _, second := range []int64{0, -1, 1} {
		e := echo{jail, prefix, start.Unix() + second}
		if until, ok := h.echoes[e]; ok {
			delete(h.echoes, e)
			return h.now().Before(until)
		}
	}
	return false
}
