package fail2ban

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"banmesh/internal/excerpt"
)

// Bounds limit what the mesh can make the local fail2ban give up: a single allow or lift, written anywhere, must not switch off
// this router's own defence. 0 means no bound.
type Bounds struct {
	WidestIPv4 int // shortest prefix length that is ignored
	WidestIPv6 int
	PerMinute  int // addresses that are unbanned, and prefixes that are ignored
}

// takes says whether a prefix is narrow enough to be ignored.
func (b Bounds) takes(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() >= b.WidestIPv4
	}
	return p.Bits() >= b.WidestIPv6
}

// allowance limits calls to so many a minute, and says what waits.
type allowance struct {
	bounds Bounds

	mu    sync.Mutex
	from  time.Time // of the current minute
	used  int
	wide  []netip.Prefix // allowed, but too wide to be ignored
	waits map[string]int // what is still to be done, by jail
}

// take says how many of n are allowed now.
func (a *allowance) take(now time.Time, n int) int {
	if a.bounds.PerMinute == 0 {
		return n
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	// A clock that was set back begins a new minute.
	if since := now.Sub(a.from); since >= time.Minute || since < 0 {
		a.from, a.used = now, 0
	}
	n = min(n, a.bounds.PerMinute-a.used)
	a.used += n
	return n
}

// narrow leaves out prefixes that are too wide, and remembers them.
func (a *allowance) narrow(live []netip.Prefix) []netip.Prefix {
	var kept, wide []netip.Prefix
	for _, p := range live {
		if a.bounds.takes(p) {
			kept = append(kept, p)
		} else {
			wide = append(wide, p)
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wide = wide
	return kept
}

// leave records how much of a jail waits for the next minute.
func (a *allowance) leave(what string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n == 0 {
		delete(a.waits, what)
		return
	}
	if a.waits == nil {
		a.waits = make(map[string]int)
	}
	a.waits[what] = n
}

// Held says in plain words what fail2ban was not told because it exceeds the bounds.
func (n *Notifier) Held() []string {
	a := &n.allowance
	a.mu.Lock()
	defer a.mu.Unlock()
	var w []string
	if len(a.wide) > 0 {
		var some []string
		for _, p := range a.wide {
			some = append(some, p.String())
		}
		slices.Sort(some)
		w = append(w, fmt.Sprintf("allowed, and too wide to be ignored by this router's fail2ban: %s; if it is meant, widen fail2ban.widest_ignore_ipv4 or _ipv6, or add it to ignoreip there", excerpt.First(some, 3)))
	}
	waiting := 0
	for _, x := range a.waits {
		waiting += x
	}
	if waiting > 0 {
		w = append(w, fmt.Sprintf("%d unbans and allows wait: this router's fail2ban is told %d a minute; if they are meant, raise fail2ban.told_per_minute, or `fail2ban-client unban` here", waiting, a.bounds.PerMinute))
	}
	return w
}
