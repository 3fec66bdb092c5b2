// Package launch starts the programs that tests run against, and sees to it that none of them outlives its test.
package launch

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// Process is a running program. On Linux the kernel kills it when the test's process ends, however that happens.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
}

// Start starts a program. What it prints is added to a file. Its environment is env alone.
func Start(output string, env []string, program string, args ...string) (*Process, error) {
	out, err := os.OpenFile(output, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = env, out, out
	cmd.SysProcAttr = attributes()
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	// The kernel watches the thread that started the process, so that thread must live as long as the process.
	go func() {
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// WaitFor asks until the program is ready. It fails if the program ends first, or after limit.
func (p *Process) WaitFor(limit time.Duration, ready func() bool) error {
	deadline := time.Now().Add(limit)
	for !ready() {
		select {
		case <-p.done:
			return fmt.Errorf("%s ended: %v", p.cmd.Path, p.cmd.ProcessState)
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is not ready after %v", p.cmd.Path, limit)
		}
	}
	return nil
}

// Signal sends a signal to the program, not to what it started.
func (p *Process) Signal(sig os.Signal) error { return p.cmd.Process.Signal(sig) }

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.done }

// Kill ends the program and whatever it started in its process group, and waits for its end. It may be called again.
func (p *Process) Kill() {
	select {
	case <-p.done: // its number may belong to another process by now
		return
	default:
	}
	syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}
