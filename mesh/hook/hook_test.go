package hook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// What a hook makes of fail2ban's tags is a call that the agent takes, whatever they hold; or it is refused.
func FuzzHook(f *testing.F) {
	f.Add("ban", "sshd", "203.0.113.7", "1767225600.5", "600", "5", "0")
	f.Add("unban", "sshd", "2001:db8::7", "", "", "", "1")
	f.Add("prolong", "a b", "0.0.0.0", "-1", "-1", "-1", "2")
	f.Add("flush", "x", "", "1e400", "NaN", "1e3", "")
	f.Fuzz(func(t *testing.T, event, jail, ip, at, bantime, failures, restored string) {
		if !Known(event) {
			return
		}
		h := newFlags(func(string) string { return "" })
		call, err := h.parse(control.HookEvent(event), []string{
			"--jail=" + jail, "--ip=" + ip, "--time=" + at, "--bantime=" + bantime, "--failures=" + failures, "--restored=" + restored,
		}, time.UnixMilli(1767225600000))
		if err != nil {
			return
		}
		if err := call.Validate(); err != nil {
			t.Errorf("%+v is accepted as %+v, which the agent refuses: %v", h, call, err)
		}
		if call.Event == control.HookBan && (call.Start == 0 || call.Until < control.Until(call.Start)) {
			t.Errorf("%+v is accepted as %+v, which ends before it begins", h, call)
		}
	})
}

// place is a socket whose agent has run: its note names the spool on the disk, and there is the one in memory.
func place(t *testing.T) (socket string, disk, memory *spool.Spool) {
	t.Helper()
	dir := t.TempDir()
	socket = filepath.Join(dir, "s")
	disk, memory = spool.New(filepath.Join(dir, "disk")), spool.Quick(socket)
	for _, s := range []*spool.Spool{disk, memory} {
		if err := s.Prepare(-1); err != nil {
			t.Fatal(err)
		}
	}
	if err := disk.LeaveNote(socket); err != nil {
		t.Fatal(err)
	}
	return socket, disk, memory
}

// unbanned runs a hook that gives the spools so much time.
func unbanned(t *testing.T, socket string, first, all time.Duration, env Env) error {
	t.Helper()
	h := newFlags(func(name string) string { return map[string]string{"BANMESH_SOCKET": socket}[name] })
	h.first, h.all = first, all
	now := time.Now()
	call, err := h.parse(control.HookUnban, []string{"--jail=sshd", "--ip=203.0.113.7"}, now)
	if err != nil {
		t.Fatal(err)
	}
	_, err = h.deliver(t.Context(), spool.Entry{Time: now, Hook: &call}, env)
	return err
}

func waiting(t *testing.T, s *spool.Spool) int {
	t.Helper()
	n, err := s.Len()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// An unban that no agent takes outlives a loss of power, as nobody repeats it. The spool in memory is for a disk that does
// not answer, and for an agent that does not.
func TestWhereACallWaits(t *testing.T) {
	const ample = time.Minute
	hangs := make(chan struct{})
	defer close(hangs)
	hung := func(string) (*spool.Spool, error) { <-hangs; return nil, errors.New("late") }
	for _, c := range []struct {
		name        string
		agent       bool // one that does not answer
		first       time.Duration
		env         Env
		disk, quick int
	}{
		{"no agent", false, ample, Env{SpoolOf: spool.Of}, 1, 0},
		{"no agent, the disk hangs", false, diskTime, Env{SpoolOf: hung}, 0, 1},
		{"no agent, the process that writes hangs", false, diskTime, Env{SpoolOf: spool.Of, Again: func() *exec.Cmd {
			return exec.CommandContext(t.Context(), "sleep", "60")
		}}, 0, 1},
		{"no agent, the process that writes fails", false, ample, Env{SpoolOf: spool.Of, Again: func() *exec.Cmd { return exec.Command("false") }}, 0, 1},
		{"no agent, the disk is full", false, ample, Env{SpoolOf: func(string) (*spool.Spool, error) { return nil, spool.ErrFull }}, 0, 1},
		{"an agent that does not answer", true, ample, Env{SpoolOf: spool.Of}, 0, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			need.Programs(t, "sleep", "false")
			socket, disk, memory := place(t)
			if c.agent {
				silent, err := net.Listen("unix", socket)
				if err != nil {
					t.Fatal(err)
				}
				defer silent.Close()
			}
			err := unbanned(t, socket, c.first, ample, c.env)
			if d, m := waiting(t, disk), waiting(t, memory); err != nil || d != c.disk || m != c.quick {
				t.Errorf("%d on the disk, %d in memory, error %v; want %d and %d", d, m, err, c.disk, c.quick)
			}
		})
	}
	if err := unbanned(t, filepath.Join(t.TempDir(), "s"), time.Millisecond, 100*time.Millisecond, Env{SpoolOf: hung}); !errors.Is(err, errSlow) {
		t.Errorf("where there is neither: %v", err)
	}
}

// What Env.Again starts only writes, to the disk, what the hook was asked at its time.
func TestTheProcessThatWrites(t *testing.T) {
	socket, disk, memory := place(t)
	made := time.Unix(1767225600, 5)
	code, err := Run(t.Context(), []string{"unban", "--jail=sshd", "--ip=203.0.113.7"}, Env{
		Getenv: func(name string) string {
			return map[string]string{"BANMESH_SOCKET": socket, keepAt: fmt.Sprint(made.UnixNano())}[name]
		},
		Stderr: io.Discard, Now: time.Now, SpoolOf: spool.Of,
	})
	if code != 0 || err != nil || waiting(t, disk) != 1 || waiting(t, memory) != 0 {
		t.Errorf("exit %d, error %v, %d on the disk, %d in memory", code, err, waiting(t, disk), waiting(t, memory))
	}
	_, err = spool.Drain(t.Context(), func(_ context.Context, e spool.Entry) error {
		if e.Hook == nil || e.Hook.At != control.At(made) || e.Hook.Event != control.HookUnban {
			t.Errorf("it kept %+v", e)
		}
		return nil
	}, disk)
	if err != nil {
		t.Error(err)
	}
}
