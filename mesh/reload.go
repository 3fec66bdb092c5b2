package mesh

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"banmesh/mesh/config"
)

// reloaded is what the last reload left undone, for status: `systemctl reload` itself only
// sends a signal and succeeds.
type reloaded struct {
	level *slog.LevelVar // of the agent's logger; may be nil

	mu      sync.Mutex
	err     error    // why nothing was taken over
	waiting []string // keys that wait for a restart
}

// note keeps the outcome of the last reload for the warnings.
func (r *reloaded) note(waiting []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err = err; err == nil { // a failed one leaves what waited from before
		r.waiting = waiting
	}
}

func (r *reloaded) warnings() (w []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		w = append(w, fmt.Sprintf("the configuration was not reloaded, the agent keeps the former one: %v; correct it and reload again (systemctl reload banmesh)", r.err))
	}
	if len(r.waiting) > 0 {
		w = append(w, fmt.Sprintf("the configuration has changed, but %s will take effect only after a restart: systemctl restart banmesh", strings.Join(r.waiting, ", ")))
	}
	return w
}

// Reload loads the configuration and takes over what a running agent can change of it:
// never_ban, join, log.level, history and geo. It returns the keys of whatever else differs,
// which wait for a restart. Status warns of these, and of a reload that failed, until the
// next one.
func (a *Agent) Reload(ctx context.Context, load func() (config.Config, error)) (waiting []string, err error) {
	cfg, err := load()
	if err == nil {
		waiting, err = a.change(ctx, cfg)
	}
	a.trouble.reloaded.note(waiting, err)
	return waiting, err
}

// change takes over what can change in a running agent and returns the names of the keys that differ and need
// a restart. It is called by one reload at a time.
func (a *Agent) change(ctx context.Context, cfg config.Config) (waiting []string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	// First, and whatever happens below: an exemption is what an operator reloads for in a hurry.
	a.neverBan.Configure(cfg.NeverBan)
	if a.trouble.reloaded.level != nil {
		if err := a.trouble.reloaded.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
			return nil, fmt.Errorf("log.level: %w", err)
		}
	}
	var added []string
	for _, addr := range cfg.Join {
		if !slices.Contains(a.cfg.Join, addr) {
			added = append(added, addr)
		}
	}
	if len(added) > 0 {
		if _, err := a.mesh.Join(ctx, added); err != nil {
			a.log.Warn("join the members that the configuration added", "error", err)
		}
	}
	// Only what was taken over is made equal; whatever still differs needs a restart and is returned.
	if history := a.past.rebound(cfg.History, cfg.Geo); history == cfg.History {
		cfg.History = a.cfg.History
	}
	cfg.NeverBan, cfg.Join, cfg.Log.Level, cfg.Geo = a.cfg.NeverBan, a.cfg.Join, a.cfg.Log.Level, a.cfg.Geo
	return a.cfg.Differing(&cfg), nil
}
