package peer

import (
	"slices"
	"strings"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
)

// An unban is for each router's fail2ban too, and only the router itself knows
// whether its agent can tell it. So each tells the others where it cannot, and
// the answer to an unban names the routers whose fail2ban goes on blocking.

// unnotifiedMessage is the body of the message: why the sender's fail2ban cannot be
// told, "" where it can.
type unnotifiedMessage struct{ Why string }

const (
	unnotifiedFields = 1
	unnotifiedEvery  = time.Minute
	maxUnnotified    = 200 // bytes of a reason
	// maxUnnotifiedMembers is more members than a mesh has.
	maxUnnotifiedMembers = 2048
)

// unnotified holds what the others said of their fail2bans.
type unnotified struct {
	mu   sync.Mutex
	of   map[string]string
	said string // by this router, last
	told time.Time
}

// heard keeps why a member's fail2ban cannot be told of unbans, until that member says that it can again
// ("").
func (u *unnotified) heard(from, why string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.of == nil || len(u.of) >= maxUnnotifiedMembers { // made-up names: the real ones tell again
		u.of = make(map[string]string)
	}
	if u.of[from] = control.OneLine(excerpt.Cut(why, maxUnnotified)); why == "" {
		delete(u.of, from)
	}
}

// due says whether all must be told now, and takes it as told: what has changed at
// once, that it is so each minute.
func (u *unnotified) due(now time.Time, why string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if why == u.said && (why == "" || now.Sub(u.told) < unnotifiedEvery) {
		return false
	}
	u.said, u.told = why, now
	return true
}

// others are the reasons of other alive members, by name.
func (u *unnotified) others(members []gossip.Member) []control.Unnotified {
	u.mu.Lock()
	defer u.mu.Unlock()
	var out []control.Unnotified
	for _, m := range members {
		if why := u.of[m.Name]; why != "" && m.State == gossip.Alive && !m.Self {
			out = append(out, control.Unnotified{Router: m.Name, Why: why})
		}
	}
	return out
}

// tellUnnotified tells all members whether this router's fail2ban can be told.
func (m *Messenger) tellUnnotified(now time.Time) {
	why := excerpt.Cut(m.c.Trouble(), maxUnnotified)
	if !m.unnotified.due(now, why) {
		return
	}
	for _, name := range m.others() {
		m.send(name, messageUnnotified, &unnotifiedMessage{why}) // the next one comes in a minute
	}
}

// Unnotified are the routers, this one among them, whose fail2ban cannot be told.
func (m *Messenger) Unnotified() []control.Unnotified {
	out := m.unnotified.others(m.c.Members())
	if why := m.c.Trouble(); why != "" {
		out = append(out, control.Unnotified{Router: m.c.Name, Why: control.OneLine(excerpt.Cut(why, maxUnnotified))})
	}
	slices.SortFunc(out, func(a, b control.Unnotified) int { return strings.Compare(a.Router, b.Router) })
	return out
}
