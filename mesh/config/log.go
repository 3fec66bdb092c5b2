package config

import (
	"io"
	"log/slog"
)

// Log says what is logged on standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// Logger makes the logger that a configuration asks for. Its level is what
// Options.Level takes.
func (l Log) Logger(w io.Writer) (*slog.Logger, *slog.LevelVar, error) {
	// A variable, so that a reload can change the level of a logger that is in use everywhere.
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
