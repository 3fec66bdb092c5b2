package mesh

import (
	"context"
	"fmt"
	"slices"

	"banmesh/mesh/config"
)

// Reload takes over what a running agent can change of its configuration:
// never_ban, join, log.level, history and geo. It returns the keys of whatever else differs,
// which wait for a restart.
func (a *Agent) Reload(ctx context.Context, cfg config.Config) (waiting []string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a.neverBan.configure(cfg.NeverBan)
	if a.level != nil {
		if err := a.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
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
	if history, _ := a.rebound(cfg.History, cfg.Geo); history == cfg.History {
		cfg.History = a.cfg.History
	}
	cfg.NeverBan, cfg.Join, cfg.Log.Level, cfg.Geo = a.cfg.NeverBan, a.cfg.Join, a.cfg.Log.Level, a.cfg.Geo
	return a.cfg.Differing(&cfg), nil
}
