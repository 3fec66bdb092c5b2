package alert

import (
	"context"
	"encoding/json"
	"fmt"

	"banmesh/mesh/control"
)

// Memory keeps small values over restarts; *store.Store is one.
type Memory interface {
	SaveMeta(ctx context.Context, key string, value []byte) error
	Meta(key string) ([]byte, bool)
}

// bookKey is where the alerts are kept beside the set.
const bookKey = "alert/told"

// book is the trouble that the operator's command was told of and that is
// not over. Without it, trouble that ends while the agent restarts would never be
// told to be over, and what goes on would be told anew.
type book struct {
	memory Memory
	told   map[string]begun
}

// begun is trouble as it was told.
type begun struct {
	Alert  string       `json:"alert"`
	Name   string       `json:"name,omitempty"`
	Detail string       `json:"detail"`
	Since  control.Time `json:"since"`
}

// loadBook remembers over a restart what the operator's command was told, so that it is not told again and
// hears of the end.
func loadBook(m Memory) book {
	b := book{m, make(map[string]begun)}
	var list []begun
	if raw, ok := m.Meta(bookKey); ok {
		_ = json.Unmarshal(raw, &list) // what cannot be read is told again
	}
	for _, e := range list {
		b.told[trouble{alert: e.Alert, name: e.Name}.key()] = e
	}
	return b
}

// note writes down that the command was told of an event.
func (b *book) note(ctx context.Context, e event) error {
	key := trouble{alert: e.Alert, name: e.Name}.key()
	if e.State == "begins" {
		b.told[key] = begun{e.Alert, e.Name, e.Detail, e.Since}
	} else {
		delete(b.told, key)
	}
	list := make([]begun, 0, len(b.told))
	for _, e := range b.told {
		list = append(list, e)
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("write the alerts: %w", err)
	}
	return b.memory.SaveMeta(ctx, bookKey, raw)
}
