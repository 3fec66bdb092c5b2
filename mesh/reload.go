package mesh

import (
	"context"
	"io"
	"log/slog"
	"reflect"
	"slices"
	"strings"
)

// Reload takes over what a running agent can change of its configuration:
// never_ban, join, log.level, history and geo. It returns the keys of whatever else differs,
// which wait for a restart.
func (a *Agent) Reload(ctx context.Context, cfg Config) (waiting []string, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a.neverBan.Lock()
	a.neverBan.configured = cfg.NeverBan
	a.neverBan.Unlock()
	select {
	case a.neverBan.wake <- struct{}{}:
	default:
	}
	if a.level != nil {
		if err := a.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
			return nil, field("log.level", "%v", err)
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
	return differing(reflect.ValueOf(a.cfg), reflect.ValueOf(cfg), ""), nil
}

// differing names the keys, dotted, in which two configurations differ.
func differing(a, b reflect.Value, prefix string) []string {
	var keys []string
	for i := range a.NumField() {
		f := a.Type().Field(i)
		key := prefix + strings.Split(f.Tag.Get("yaml"), ",")[0]
		switch {
		case reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
		case f.Type.Kind() == reflect.Struct:
			keys = append(keys, differing(a.Field(i), b.Field(i), key+".")...)
		default:
			keys = append(keys, key)
		}
	}
	return keys
}

// Logger makes the logger that a configuration asks for. Its level is what
// Options.Level takes.
func (l LogConfig) Logger(w io.Writer) (*slog.Logger, *slog.LevelVar, error) {
	level := new(slog.LevelVar)
	if err := level.UnmarshalText([]byte(l.Level)); err != nil {
		return nil, nil, field("log.level", "%q: %v", l.Level, err)
	}
	options := &slog.HandlerOptions{Level: level}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options)), level, nil
	}
	return slog.New(slog.NewTextHandler(w, options)), level, nil
}
