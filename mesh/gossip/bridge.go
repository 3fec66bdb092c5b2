package gossip

import (
	"context"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// bridge makes the logger that memberlist wants. Its lines are for developers; this package logs itself what an operator has to
// know.
func bridge(l *slog.Logger) *log.Logger {
	return log.New(&bridgeWriter{log: l}, "", 0)
}

// bridgeWriter is where memberlist logs to. It knows only text, with the level in brackets in front.
type bridgeWriter struct {
	log *slog.Logger

	mu     sync.Mutex
	second time.Time
	lines  int
}

// maxLines bounds the lines of one second, because hostile peers can cause them.
const maxLines = 20

// Write lowers memberlist's levels: what it calls an error is often a packet that somebody else sent. It
// passes on at most maxLines a second, since anybody who can send a packet could fill the log otherwise.
func (b *bridgeWriter) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	text := strings.TrimSpace(string(line))
	switch {
	case strings.Contains(text, "public address without encryption"):
		return len(line), nil // encryption is below memberlist, see wire: the line does not apply
	case strings.HasPrefix(text, "[ERR"):
		level = slog.LevelInfo
	case strings.HasPrefix(text, "[WARN]"):
		level = slog.LevelDebug
	}
	if !b.log.Enabled(context.Background(), level) {
		return len(line), nil
	}
	if _, rest, ok := strings.Cut(text, "memberlist: "); ok {
		text = rest
	}
	now := time.Now()
	b.mu.Lock()
	if now.Sub(b.second) >= time.Second {
		b.second, b.lines = now, 0
	}
	b.lines++
	over := b.lines > maxLines
	b.mu.Unlock()
	if !over {
		b.log.Log(context.Background(), level, "memberlist", "text", text)
	}
	return len(line), nil
}
