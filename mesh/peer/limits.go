package peer

import (
	"fmt"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/gossip"
)

// Which records count, each router finds out for itself: with other limits it
// comes to another result, and nothing else would show that. So they tell each
// other a short name of theirs, when a member comes and each minute.

// limitsMessage is the body of the message.
type limitsMessage struct{ Sum uint64 }

// lifeMessage is the body of the message that tells bans.max_duration: the others keep
// their lifts of this router's bans that long.
type lifeMessage struct{ MaxDuration int64 } // ms, 0 for none

const (
	limitsFields = 1
	lifeFields   = 1
	limitsEvery  = time.Minute
	// maxOtherLimits is more members than a mesh has.
	maxOtherLimits = 2048
)

// otherLimits holds what the others said of their limits.
type otherLimits struct {
	mu   sync.Mutex
	own  uint64
	of   map[string]uint64
	told time.Time
}

// heard keeps a sum of each member's limits. Members whose limits differ count different bans, which status
// warns of.
func (o *otherLimits) heard(from string, sum uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.of == nil || len(o.of) >= maxOtherLimits { // made-up names: the real ones tell again
		o.of = make(map[string]uint64)
	}
	o.of[from] = sum
}

// due says whether all must be told now, and takes it as told.
func (o *otherLimits) due(now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if now.Sub(o.told) < limitsEvery {
		return false
	}
	o.told = now
	return true
}

// warnings names the alive members whose limits differ.
func (o *otherLimits) warnings(members []gossip.Member) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var names []string
	for _, m := range members {
		if sum, known := o.of[m.Name]; known && sum != o.own && m.State == gossip.Alive && !m.Self {
			names = append(names, m.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("other limits at %s: what counts there may not count here; make `limits` the same on all routers", excerpt.Names(names))}
}

// LimitWarnings names the alive members whose limits are others than this router's.
func (m *Messenger) LimitWarnings(members []gossip.Member) []string {
	return m.limits.warnings(members)
}

// Joined tells a new member of this router's limits.
func (m *Messenger) Joined(name string) {
	m.send(name, messageLimits, &limitsMessage{m.c.Limits}) // both again in a minute
	m.send(name, messageLife, &lifeMessage{m.c.MaxDuration.Milliseconds()})
}

// tellLimits tells all members of this router's limits, once a minute.
func (m *Messenger) tellLimits(now time.Time) {
	if !m.limits.due(now) {
		return
	}
	for _, name := range m.others() {
		m.Joined(name)
	}
}

// duration is what a member says that its bans.max_duration is.
func (l lifeMessage) duration() time.Duration {
	const most = int64(1<<63-1) / int64(time.Millisecond)
	return time.Duration(min(l.MaxDuration, most)) * time.Millisecond
}
