package mesh

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"banmesh/mesh/gossip"
)

// Which records count, each router finds out for itself: with other limits it
// comes to another result, and nothing else would show that. So they tell each
// other a short name of theirs, when a member comes and each minute.

// limitsMessage is the body of the message.
type limitsMessage struct{ Sum uint64 }

const (
	limitsFields = 1
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
	return []string{fmt.Sprintf("other limits at %s: what counts there may not count here; make `limits` the same on all routers", strings.Join(names, ", "))}
}

func (a *Agent) limitsMessage() []byte {
	message, err := encodeMessage(messageLimits, &limitsMessage{a.otherLimits.own})
	if err != nil { // a number always fits
		a.log.Error("tell the limits", "error", err)
	}
	return message
}

// sendLimits tells all members of this router's limits, once a minute.
func (a *Agent) sendLimits() {
	if !a.otherLimits.due(time.Now()) {
		return
	}
	for _, m := range a.mesh.Members() {
		if m.State == gossip.Alive && !m.Self {
			a.sendLimitsTo(m.Name)
		}
	}
}

func (a *Agent) sendLimitsTo(name string) {
	_ = a.mesh.Send(name, a.limitsMessage()) // the next one comes in a minute
	_ = a.mesh.Send(name, a.lifeMessage())
}
