package mesh

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/history"
)

// memory is what was, where it is remembered, and the databases by which it is counted.
type memory struct {
	*history.History                            // nil where nothing is remembered
	wanted           config.History             // as configured at the start
	dir              string                     // where it is kept
	geo              atomic.Pointer[config.Geo] // as configured last
}

// openMemory opens it. Bans are shared without it: its failure is logged and stops nothing.
func openMemory(c history.Config, wanted config.History, geo config.Geo, log *slog.Logger) *memory {
	m := &memory{wanted: wanted, dir: c.Dir}
	m.geo.Store(&geo)
	if wanted.MaxEntries == 0 {
		return m
	}
	c.Keep, c.MaxEntries, c.Logger = time.Duration(wanted.Keep), wanted.MaxEntries, log
	past, err := history.Open(c)
	if err != nil {
		log.Error("what was is not remembered", "error", err)
		return m
	}
	m.History = past
	return m
}

// rebound takes over what a reload changes of the memory. It returns what is in force then.
// Switching the history on or off needs its file opened or closed, hence a restart; its bounds do not.
func (m *memory) rebound(h config.History, g config.Geo) config.History {
	m.geo.Store(&g)
	if m.History == nil || h.MaxEntries == 0 {
		return m.wanted
	}
	m.Rebound(time.Duration(h.Keep), h.MaxEntries)
	return h
}

// warnings say what is wrong with the memory of what was.
func (m *memory) warnings() []string {
	switch {
	case m.History == nil && m.wanted.MaxEntries > 0:
		return []string{"the history could not be opened: what was is not remembered; the log says why"}
	case m.History == nil:
	case m.Health() != nil:
		return []string{fmt.Sprintf("the history is not written: %v; make %s writable, and room on its disk", m.Health(), m.dir)}
	}
	return nil
}

// refusal says why nothing can be told of what was; nil where it can.
func (m *memory) refusal() error {
	switch {
	case m.History != nil:
		return nil
	case m.wanted.MaxEntries == 0:
		return control.Errorf(control.CodeConflict, "history.max_entries is 0 in this router's configuration: nothing is remembered")
	}
	return control.Errorf(control.CodeUnavailable, "the history could not be opened: the agent's log says why")
}
