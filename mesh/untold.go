package mesh

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
)

// An unban is for each router's fail2ban too, and only the router itself knows
// whether its agent can tell it. So each tells the others where it cannot, and
// whoever unbans is told whose fail2ban goes on blocking.

// untoldLetter is the body of the letter: why the sender's fail2ban cannot be
// told, "" where it can.
type untoldLetter struct{ Why string }

const (
	untoldFields = 1
	untoldEvery  = time.Minute
	maxUntold    = 200 // bytes of a reason
	// maxUntoldMembers is more members than a mesh has.
	maxUntoldMembers = 2048
)

// untold holds what the others said of their fail2bans.
type untold struct {
	mu   sync.Mutex
	of   map[string]string
	said string // by this router, last
	told time.Time
}

func (u *untold) heard(from, why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil || len(u.of) >= maxUntoldMembers { // made-up names: the real ones tell again
		u.of = make(map[string]string)
	}
	if u.of[from] = control.OneLine(cut(why, maxUntold)); why == "" {
		delete(u.of, from)
	}
}

// due says whether all must be told now, and takes it as told: what has changed at
// once, that it is so each minute.
func (u *untold) due(now time.Time, why string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if why == u.said && (why == "" || now.Sub(u.told) < untoldEvery) {
		return false
	}
	u.said, u.told = why, now
	return true
}

// others are the reasons of other alive members, by name.
func (u *untold) others(members []gossip.Member) []control.Untold {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []control.Untold
	for _, m := range members {
		if why := u.of[m.Name]; why != "" && m.State == gossip.Alive && !m.Self {
			out = append(out, control.Untold{Router: m.Name, Why: why})
		}
	}
	return out
}

// tellUntold tells all members whether this router's fail2ban can be told.
func (a *Agent) tellUntold() {
	why := cut(a.teller.Trouble(), maxUntold)
	if !a.untold.due(time.Now(), why) {
		return
	}
	letter, err := encodeLetter(letterUntold, &untoldLetter{why})
	if err != nil { // it is short
		a.log.Error("tell of fail2ban", "error", err)
		return
	}
	for _, m := range a.mesh.Members() {
		if m.State == gossip.Alive && !m.Self {
			_ = a.mesh.Send(m.Name, letter) // the next one comes in a minute
		}
	}
}

// untoldRouters are those, this one among them, whose fail2ban cannot be told.
func (a *Agent) untoldRouters() []control.Untold {
	out := a.untold.others(a.mesh.Members())
	if why := a.teller.Trouble(); why != "" {
		out = append(out, control.Untold{Router: a.cfg.Name, Why: control.OneLine(cut(why, maxUntold))})
	}
	slices.SortFunc(out, func(a, b control.Untold) int { return strings.Compare(a.Router, b.Router) })
	return out
}

func untoldWarnings(own string, routers []control.Untold) (w []string) {
	for _, u := range routers {
		whose := "the fail2ban of " + u.Router
		if u.Router == own {
			whose = "this router's fail2ban"
		}
		w = append(w, fmt.Sprintf("%s cannot be told of unbans and allows, and goes on blocking: %s; `banmesh doctor` there says what helps", whose, u.Why))
	}
	return w
}
