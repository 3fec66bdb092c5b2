package jail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"banmesh/mesh/fail2ban"
	"banmesh/store"
)

// jailsKey is where the store keeps the jails of the local fail2ban that this agent
// fills, or has filled and not emptied since: a JSON list.
const jailsKey = "enforce/jails"

// emptyAgain is between two tries to empty a jail.
const emptyAgain = 10 * time.Second

// Former empties the jails that earlier runs filled and this one does not: nobody would end what is banned there. fail2ban may
// start after the agent, and then bans again what it remembers, so that a jail is done with only once it was emptied twice, or
// fail2ban is gone.
type Former struct {
	set   *store.Store
	empty func(ctx context.Context, jail string) error
	log   *slog.Logger

	saving sync.Mutex // held from the reading of the list to its writing

	mu   sync.Mutex
	left map[string]error // why each still has its bans; nil before the first try
	// A fail2ban that starts after the agent restores the jail from its database, after the first emptying.
	done map[string]bool // emptied once
}

// OpenFormer notes the jail that this run fills, "" for none, and returns the others.
func OpenFormer(ctx context.Context, set *store.Store, fills string, empty func(ctx context.Context, jail string) error, log *slog.Logger) (*Former, error) {
	f := &Former{set: set, empty: empty, log: log, left: make(map[string]error), done: make(map[string]bool)}
	known := Filled(set)
	for _, jail := range known {
		if jail != fills {
			f.left[jail] = nil
		}
	}
	if fills == "" || slices.Contains(known, fills) {
		return f, nil
	}
	return f, saveFilled(ctx, set, append(known, fills))
}

// Filled returns the jails of the local fail2ban that this agent fills, or has filled and not emptied since.
func Filled(set *store.Store) (jails []string) {
	if raw, ok := set.Meta(jailsKey); ok {
		_ = json.Unmarshal(raw, &jails) // of an unreadable list nothing is known
	}
	return jails
}

// saveFilled keeps the names of jails that this router filled, also over a change of the configuration: what
// is in them must be emptied, and must not be taken for fail2ban's own.
func saveFilled(ctx context.Context, set *store.Store, jails []string) error {
	if len(jails) == 0 {
		return set.SaveMeta(ctx, jailsKey, nil)
	}
	raw, err := json.Marshal(jails)
	if err != nil {
		return err
	}
	return set.SaveMeta(ctx, jailsKey, raw)
}

// Forget notes that nothing of the agent's is left in the jail. A leave and the emptying of former jails may both call it.
func (f *Former) Forget(ctx context.Context, jail string) error {
	f.saving.Lock()
	defer f.saving.Unlock()
	return saveFilled(ctx, f.set, slices.DeleteFunc(Filled(f.set), func(name string) bool { return name == jail }))
}

// Run empties them, until none is left.
func (f *Former) Run(ctx context.Context) error {
	for {
		if !f.look(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(emptyAgain):
		}
	}
}

// look is one try at each, and says whether any is left.
func (f *Former) look(ctx context.Context) (any bool) {
	f.mu.Lock()
	jails := slices.Sorted(maps.Keys(f.left))
	f.mu.Unlock()
	for _, jail := range jails {
		err := f.empty(ctx, jail)
		gone := errors.Is(err, fail2ban.ErrNoClient) // with fail2ban went what it bans
		f.mu.Lock()
		twice := err == nil && f.done[jail]
		f.left[jail], f.done[jail] = err, err == nil
		f.mu.Unlock()
		if !twice && !gone {
			continue
		}
		if err := f.Forget(ctx, jail); err != nil {
			f.log.Warn("note that a jail gets no more bans", "jail", jail, "error", err)
			continue
		}
		f.log.Info("fail2ban's jail was emptied and gets no more bans", "jail", jail)
		f.mu.Lock()
		delete(f.left, jail)
		f.mu.Unlock()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.left) > 0
}

// Warnings names the jails that still have their bans.
func (f *Former) Warnings() (w []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for jail, err := range f.left {
		if err != nil {
			w = append(w, fmt.Sprintf("fail2ban's jail %s was fed before enforce was changed, and still blocks what the mesh had banned; tried again every %v: %v", jail, emptyAgain, err))
		}
	}
	return w
}
