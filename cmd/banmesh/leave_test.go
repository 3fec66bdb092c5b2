package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
)

// TestOnlyAStoppedAgentsTableIsRemoved: an agent that hangs is one that runs, and what it drops is its own affair.
func TestOnlyAStoppedAgentsTableIsRemoved(t *testing.T) {
	need.Root(t)
	dir := t.TempDir()
	socket, file := filepath.Join(dir, "s"), filepath.Join(dir, "banmesh.yaml")
	// A namespace that is not there has no table to remove.
	if err := os.WriteFile(file, []byte("name: router1\nsocket: "+socket+"\nenforce: {driver: nftables, netns: "+dir+"/none}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	leave := func(ctx context.Context) (string, error) {
		var out bytes.Buffer
		c := newConsole(nil, &out, &out, func(string) string { return "" })
		c.config = file
		err := c.execute(ctx, []string{"leave", "--socket", socket})
		return out.String(), err
	}
	if out, err := leave(t.Context()); !errors.Is(err, control.ErrNoAgent) || !strings.Contains(out, "no agent runs here") {
		t.Errorf("where none runs: %v, %q", err, out)
	}
	hangs, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if out, err := leave(ctx); !errors.Is(err, control.ErrNoAnswer) || out != "" {
		t.Errorf("where one hangs: %v, %q", err, out)
	}
}
