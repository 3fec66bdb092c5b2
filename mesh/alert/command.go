package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// within bounds the operator's command; grace is what its children have to let
	// go of its output.
	within = 30 * time.Second
	grace  = time.Second

	// maxOutput is how much of what the command prints is logged.
	maxOutput = 4 << 10
)

// Run is the real thing: it runs the command in a process group of its own, so that all it
// started ends with it when its time is over.
func Run(ctx context.Context, command string, event []byte, log *slog.Logger) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = grace
	out := &firstBytes{left: maxOutput}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(event), out, out
	err := cmd.Run()
	if cmd.Process != nil {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left in the background
	}
	said := strings.Join(strings.Fields(out.String()), " ")
	switch {
	// Before the others, which are what the kill looks like.
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("not done after %v, killed; it said %q", within, said)
	case errors.Is(err, exec.ErrWaitDelay):
		return nil // done, with children that kept its output open
	case err != nil:
		return fmt.Errorf("%w; it said %q", err, said)
	}
	if said != "" {
		log.Info("alert.command", "said", said)
	}
	return nil
}

// firstBytes keeps the first bytes written to it and takes the rest, so that
// who writes is never stopped by a full pipe.
type firstBytes struct {
	mu   sync.Mutex
	kept bytes.Buffer
	left int
}

// Write takes everything: a command whose output is not read would stop.
func (f *firstBytes) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := min(len(p), f.left)
	f.left -= n
	f.kept.Write(p[:n])
	return len(p), nil
}

func (f *firstBytes) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.kept.String()
}
