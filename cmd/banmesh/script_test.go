package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"banmesh/internal/need"
	"banmesh/mesh/control/server"
	"banmesh/mesh/spool"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"banmesh": main})
}

// TestScripts runs the command lines of testdata/script. Beside testscript's own commands they have:
//
//	fakeagent start             a fake agent answers on $BANMESH_SOCKET
//	fakeagent stop              and no more
//	fakeagent MODE              from now on it is well, hangs, is starting ... (fakeAgent.mode)
//	fakeagent calls             the calls it got go into the file calls
//	fakeagent watched           waits until a reader has got all its events
//	fakeagent drain             it takes what waits in $BANMESH_SPOOL
//	lines FILE N BYTES          makes a file of N lines of so many bytes
//	answers COMMAND...          waits until the command succeeds
//	takes MIN MAX COMMAND...    the command takes that long
func TestScripts(t *testing.T) { runScripts(t, "script") }

// TestCompletionInShells runs the scripts of testdata/shells.
func TestCompletionInShells(t *testing.T) {
	need.Programs(t, "bash", "zsh", "fish")
	need.Files(t, "/usr/share/bash-completion/bash_completion")
	runScripts(t, "shells")
}

// quickProgram builds the program without the race detector, with which each of the
// hundreds of starts takes a third of a second, and returns its directory.
func quickProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.Command("go", "build", "-tags", "urfave_cli_no_docs", "-trimpath", "-o", filepath.Join(dir, "banmesh"), ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build banmesh: %v: %s", err, out)
	}
	return dir
}

func runScripts(t *testing.T, dir string) {
	var quick string
	if raced {
		quick = quickProgram(t)
	}
	testscript.Run(t, testscript.Params{
		Dir: filepath.Join("testdata", dir),
		Setup: func(env *testscript.Env) error {
			if raced {
				env.Setenv("PATH", quick+string(os.PathListSeparator)+env.Getenv("PATH"))
			}
			env.Setenv("BANMESH_SOCKET", filepath.Join(env.WorkDir, "s"))
			env.Setenv("BANMESH_SPOOL", filepath.Join(env.WorkDir, "spool"))
			env.Values[scene{}] = &fakeScene{dir: env.WorkDir, agent: newFakeAgent()}
			env.Defer(func() { env.Values[scene{}].(*fakeScene).stop() })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"fakeagent": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) != 1 {
					ts.Fatalf("usage: fakeagent start|stop|calls|watched|drain|MODE")
				}
				ts.Check(ts.Value(scene{}).(*fakeScene).do(args[0]))
			},
			"lines": func(ts *testscript.TestScript, neg bool, args []string) {
				var n, size int
				fmt.Sscan(args[1], &n)
				fmt.Sscan(args[2], &size)
				ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(strings.Repeat(strings.Repeat("1", size)+"\n", n)), 0o600))
			},
			"answers": func(ts *testscript.TestScript, neg bool, args []string) {
				for began := time.Now(); ts.Exec(args[0], args[1:]...) != nil; {
					if time.Since(began) > 20*time.Second {
						ts.Fatalf("%s does not succeed", strings.Join(args, " "))
					}
					time.Sleep(20 * time.Millisecond) // between two questions; the condition decides
				}
			},
			"takes": func(ts *testscript.TestScript, neg bool, args []string) {
				least, err := time.ParseDuration(args[0])
				ts.Check(err)
				most, err := time.ParseDuration(args[1])
				ts.Check(err)
				began := time.Now()
				ts.Check(ts.Exec(args[2], args[3:]...))
				if took := time.Since(began); took < least || took > most {
					ts.Fatalf("took %v, want %v to %v", took, least, most)
				}
			},
		},
	})
}

type scene struct{}

// fakeScene is one script's fake agent and where it lives.
type fakeScene struct {
	dir   string
	agent *fakeAgent
	stop_ func()
}

func (s *fakeScene) stop() {
	if s.stop_ != nil {
		s.stop_()
		s.stop_ = nil
	}
}

func (s *fakeScene) do(what string) error {
	switch what {
	case "start":
		stop, err := serveFake(filepath.Join(s.dir, "s"), s.agent)
		s.stop_ = stop
		return err
	case "stop":
		s.stop()
		return nil
	case "watched":
		select {
		case <-s.agent.watched:
			return nil
		case <-time.After(10 * time.Second):
			return errors.New("nobody reads the events")
		}
	case "calls":
		s.agent.mu.Lock()
		defer s.agent.mu.Unlock()
		text := strings.Join(s.agent.calls, "\n") + "\n"
		s.agent.calls = nil
		return os.WriteFile(filepath.Join(s.dir, "calls"), []byte(text), 0o600)
	case "drain":
		d, err := spool.New(filepath.Join(s.dir, "spool")).Drain(context.Background(), func(ctx context.Context, e spool.Entry) error {
			var err error
			switch {
			case e.Ban != nil:
				_, err = s.agent.Ban(ctx, *e.Ban)
			case e.Unban != nil:
				_, err = s.agent.Unban(ctx, *e.Unban)
			default:
				_, err = s.agent.Fail2ban(ctx, *e.Hook)
			}
			return err
		})
		if err == nil && len(d.Aside)+len(d.Unread) > 0 {
			err = fmt.Errorf("aside %v, unread %v", d.Aside, d.Unread)
		}
		return err
	}
	return s.agent.mode(what)
}

// serveFake answers on a socket until stop is called, which waits for the end.
func serveFake(socket string, agent *fakeAgent) (stop func(), err error) {
	ln, err := server.Listen(socket, "")
	if err != nil {
		return nil, err
	}
	server, err := server.New(server.Config{Agent: agent})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	agent.left = cancel
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(ctx, ln) }()
	return func() { cancel(); <-done }, nil
}
