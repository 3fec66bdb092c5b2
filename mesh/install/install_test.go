package install

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/spool"
)

// fakeMachine is a directory that stands for a machine's root, and programs that only say what they are told to.
type fakeMachine struct {
	*Machine
	t     *testing.T
	calls []string
	fails map[string]string // what a program says that fails, by its first words
}

func newFake(t *testing.T, files map[string]string) *fakeMachine {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	f := &fakeMachine{t: t, fails: map[string]string{}}
	f.Machine = &Machine{Config: filepath.Join(root, "etc/banmesh/banmesh.yaml"), root: root, uid: -1, gid: -1, probe: func() error { return nil }, clear: func(context.Context) error { return nil },
		Say: func(format string, args ...any) { t.Logf(format, args...) },
		run: func(_ context.Context, name string, args ...string) (string, error) {
			line := name + " " + strings.Join(args, " ")
			f.calls = append(f.calls, line)
			for prefix, said := range f.fails {
				if strings.HasPrefix(line, prefix) {
					return said, fmt.Errorf("%s: exit status 255: %s", line, said)
				}
			}
			return "", nil
		}}
	if err := f.look(); err != nil {
		t.Fatal(err)
	}
	return f
}

// listing are all files below the root with their contents.
func (f *fakeMachine) listing() string {
	var b strings.Builder
	filepath.WalkDir(f.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, d.Type())
		if d.Type().IsRegular() {
			text, _ := os.ReadFile(path)
			b.Write(text)
		}
		return nil
	})
	return b.String()
}

func (f *fakeMachine) want() Want {
	at := func(s string) string { return filepath.Join(f.root, s) }
	return Want{Keyring: []string{base64.StdEncoding.EncodeToString(make([]byte, 32))}, KnownHosts: "192.0.2.9 ssh-ed25519 AAAA\n", Settings: []config.Setting{
		{Key: "name", Value: "server2"}, {Key: "data_dir", Value: at("var/lib/banmesh")}, {Key: "socket", Value: at("run/banmesh/s")}, {Key: "enforce.driver", Value: "nftables"},
		{Key: "commit.key", Value: at("etc/banmesh/conductor_key")}, {Key: "commit.driver", Value: "netconf"}, {Key: "commit.conductors", Value: []any{"192.0.2.9:830"}},
	}}
}

func (f *fakeMachine) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func stay() error { return nil }

const units = "usr/lib/systemd/system/"

func TestWhatWasPutInPlaceIsTakenBack(t *testing.T) {
	for name, files := range map[string]map[string]string{
		"a bare machine":           {"etc/hosts": "x"},
		"one with the package":     {"etc/banmesh/banmesh.yaml": "# name: router1\nlog: {level: debug}\n", units + agentUnit: "", units + helperSocket: "", "run/systemd/system/x": "", "etc/fail2ban/jail.conf": "", "var/lib/banmesh/spool/x": "old"},
		"one without any services": {"etc/fail2ban/jail.d/banmesh.conf": "of mine"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFake(t, files)
			f.fails["systemctl is-"] = "no"
			before := f.listing()
			f.must(f.Begin(Record{By: "join", At: time.Now()}))
			f.must(f.Configure(f.want()))
			key, err := f.ConductorKey()
			f.must(err)
			if again, err := f.ConductorKey(); err != nil || again != key || !strings.HasPrefix(key, "ssh-ed25519 ") || !strings.HasSuffix(key, " banmesh@server2") {
				t.Errorf("the key for the conductor is %q, then %q, %v", key, again, err)
			}
			if err := f.Start(t.Context()); err != nil && !errors.Is(err, ErrNoService) {
				t.Fatal(err)
			}
			if f.HasFail2ban() {
				f.must(f.HookFail2ban(t.Context()))
			}
			f.must(f.Done())
			f.must(os.WriteFile(filepath.Join(f.root, "var/lib/banmesh/store.db"), []byte("bans"), 0o600))

			// Another run of the program takes it back.
			other := &Machine{Config: f.Config, root: f.root, run: f.run, probe: f.probe, clear: f.clear, Say: f.Say, uid: -1, gid: -1}
			f.must(other.look())
			f.must(other.Uninstall(t.Context(), stay))
			if after := f.listing(); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
			if err := other.Uninstall(t.Context(), stay); !errors.Is(err, errNotInstalled) {
				t.Errorf("a second time: %v", err)
			}
		})
	}
}

func TestWhatIsThereIsNeverOverwritten(t *testing.T) {
	f := newFake(t, map[string]string{"etc/banmesh/banmesh.yaml": "enforce: {driver: fail2ban}\n", "etc/banmesh/known_hosts": "mine\n"})
	ring := f.keyring()
	f.must(os.WriteFile(ring, []byte(`["AAECAwQFBgcICQoLDA0ODw=="]`), 0o600))
	f.must(f.Begin(Record{By: "init"}))
	f.must(f.Configure(f.want()))
	for path, want := range map[string]string{ring: "AAECAwQFBgcICQoLDA0ODw==", filepath.Join(f.root, "etc/banmesh/known_hosts"): "mine", f.Config: "{driver: fail2ban}"} {
		if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s holds %q, %v", path, b, err)
		}
	}
	f.must(f.Uninstall(t.Context(), stay))
	if b, _ := os.ReadFile(ring); !strings.Contains(string(b), "AAECAwQFBgcICQoLDA0ODw==") {
		t.Error("the keyring that was there before is gone")
	}
}

func TestWhatSomebodyChangedSinceStays(t *testing.T) {
	f := newFake(t, map[string]string{"etc/fail2ban/jail.conf": ""})
	f.must(f.Begin(Record{By: "init"}))
	f.must(f.Configure(f.want()))
	f.must(f.HookFail2ban(t.Context()))
	for _, path := range []string{f.Config, f.at(jail)} {
		f.must(os.WriteFile(path, []byte("# mine\n"), 0o644))
	}
	f.must(f.look())
	f.must(f.Uninstall(t.Context(), stay))
	for _, path := range []string{f.Config, f.at(jail)} {
		if b, _ := os.ReadFile(path); string(b) != "# mine\n" {
			t.Errorf("%s holds %q", path, b)
		}
	}
	if _, err := os.Stat(f.at(action)); err != nil {
		t.Errorf("fail2ban cannot start with the jail: %v", err)
	}
	if _, err := os.Stat(f.keyring()); err == nil {
		t.Error("the key is still there")
	}
}

func TestWhatSomebodyChangedBetweenTwoRunsStays(t *testing.T) {
	f := newFake(t, map[string]string{"etc/banmesh/banmesh.yaml": "log: {level: debug}\n"})
	f.must(f.Begin(Record{By: "init"}))
	f.must(f.Configure(f.want()))
	f.must(os.WriteFile(f.Config, []byte(string(f.text)+"# mine\n"), 0o644))
	f.again()
	want := f.want()
	want.Settings = append(want.Settings, config.Setting{Key: "gossip.label", Value: "home"})
	f.must(f.Configure(want))
	f.again()
	f.must(f.Uninstall(t.Context(), stay))
	if b, _ := os.ReadFile(f.Config); !strings.Contains(string(b), "# mine") {
		t.Errorf("the operator's line is gone:\n%s", b)
	}
}

// A run may end between the record and what it names, and the other way round nothing would take it back.
func TestADirectoryIsRecordedBeforeItIsMade(t *testing.T) {
	f := newFake(t, map[string]string{"etc/banmesh/x": "", "var/x": ""})
	f.must(f.Begin(Record{By: "init"}))
	dir, above := filepath.Join(f.root, "var/lib/banmesh"), filepath.Join(f.root, "var/lib")
	f.must(os.WriteFile(above, nil, 0o644)) // so that it cannot be made
	if err := f.mkdir(dir, 0o755, -1, -1); err == nil {
		t.Fatal("made below a file")
	}
	f.again()
	if !slices.Contains(f.Record.Dirs, dir) {
		t.Errorf("the record names %q", f.Record.Dirs)
	}
}

func TestFail2banThatWouldNotStartWithoutItIsNotRestarted(t *testing.T) {
	f := newFake(t, map[string]string{"etc/fail2ban/jail.conf": "", "run/systemd/system/x": ""})
	f.must(f.Begin(Record{By: "init"}))
	f.must(f.Configure(f.want()))
	f.must(f.HookFail2ban(t.Context()))
	const hooked = "systemctl restart fail2ban"
	for _, fails := range []string{"fail2ban-client -t", hooked} {
		f.fails[fails] = "ERROR of something else"
		f.again()
		left := false
		err := f.Uninstall(t.Context(), func() error { left = true; return nil })
		if err == nil || !strings.Contains(err.Error(), "give the same command again") || left {
			t.Errorf("%s: it goes on: %v, left %v", fails, err, left)
		}
		if f.called(hooked) != (fails == hooked) {
			t.Errorf("%s: %q", fails, f.calls)
		}
		delete(f.fails, fails)
	}
	f.again()
	f.must(f.Uninstall(t.Context(), stay))
	if !f.called(hooked) {
		t.Error("fail2ban still runs with the action")
	}
}

func TestFail2banThatWouldNotStartIsLeftAsItWas(t *testing.T) {
	f := newFake(t, map[string]string{"etc/fail2ban/jail.conf": ""})
	f.must(f.Begin(Record{By: "init"}))
	f.fails["fail2ban-client -t"] = "ERROR   Failed during configuration: Have not found any log file for sshd jail"
	err := f.HookFail2ban(t.Context())
	if err == nil || !strings.Contains(err.Error(), "its files were taken back") {
		t.Errorf("%v", err)
	}
	for _, path := range []string{action, jail, journalJail} {
		if _, err := os.Stat(f.at(path)); err == nil {
			t.Errorf("%s is there", path)
		}
	}
	if slices.ContainsFunc(f.calls, func(s string) bool { return strings.Contains(s, "restart") }) {
		t.Errorf("it was restarted: %q", f.calls)
	}
}

// What an agent that was stopped before has left in the kernel is removed, or the operator is told of it.
func TestATableThatStaysIsSaid(t *testing.T) {
	for driver, want := range map[string]string{"nftables": "still dropped in this machine's kernel: not permitted", "none": ""} {
		f := newFake(t, nil)
		f.must(f.Begin(Record{By: "init", At: time.Now()}))
		f.File.Enforce.Driver = driver
		f.clear = func(context.Context) error { return errors.New("not permitted") }
		var said string
		f.Say = func(format string, args ...any) { said += fmt.Sprintf(format, args...) }
		f.must(f.Uninstall(t.Context(), stay))
		if !strings.Contains(said, want) || want == "" && strings.Contains(said, "kernel") {
			t.Errorf("%s: says %q, want %q", driver, said, want)
		}
	}
}

// Calls that wait for a stopped agent are nowhere else: whoever takes it all back is asked first.
func TestCallsThatWaitAreCounted(t *testing.T) {
	f := newFake(t, map[string]string{"var/lib/banmesh/x": ""})
	f.must(f.Begin(Record{By: "init", At: time.Now()}))
	f.must(f.Configure(f.want()))
	if err := f.Start(t.Context()); !errors.Is(err, ErrNoService) {
		t.Fatal(err)
	}
	f.again()
	if n := f.Waiting(); n != 0 {
		t.Errorf("%d calls wait before there was any", n)
	}
	for i, s := range []*spool.Spool{spool.New(f.File.SpoolDir()), spool.Quick(f.File.Socket)} {
		f.must(s.Put(spool.Entry{Time: time.Now(), Ban: &control.BanCall{
			Prefixes: control.Prefixes{netip.MustParsePrefix("203.0.113.1/32")}, Jail: "sshd", Start: control.At(time.Now()), Until: control.Never,
		}}))
		if n := f.Waiting(); n != i+1 {
			t.Errorf("%d calls wait, want %d", n, i+1)
		}
	}
	quick := spool.Quick(f.File.Socket)
	f.Record.Before = append(f.Record.Before, "spool")
	if n := f.Waiting(); n != 1 {
		t.Errorf("%d calls wait, want 1 beside those in a spool that stays", n)
	}
	f.must(f.Uninstall(t.Context(), func() error { return nil }))
	if n, err := quick.Len(); n != 0 || err != nil {
		t.Errorf("%d calls (%v) are left for the mesh that this machine may join next", n, err)
	}
}

// again is the next run of the program.
func (f *fakeMachine) again() {
	f.t.Helper()
	f.calls = nil
	f.Machine = &Machine{Config: f.Config, root: f.root, run: f.run, probe: f.probe, clear: f.clear, Say: f.Say, uid: -1, gid: -1}
	f.must(f.look())
	f.must(f.Begin(*f.Record))
}

func (f *fakeMachine) called(line string) bool { return slices.Contains(f.calls, line) }

func TestTheSameCommandGoesOnWhereItFailed(t *testing.T) {
	f := newFake(t, map[string]string{"etc/fail2ban/jail.conf": "", "run/systemd/system/x": "", units + agentUnit: "", units + helperSocket: ""})
	f.must(f.Begin(Record{By: "init"}))
	f.must(f.Configure(f.want()))
	const restarted = "systemctl restart " + agentUnit
	for _, fails := range []string{"systemctl daemon-reload", restarted} {
		f.fails[fails] = "no"
		if err := f.Start(t.Context()); err == nil {
			t.Errorf("%s: it is taken as started", fails)
		}
		delete(f.fails, fails)
		f.again()
	}
	if f.must(f.Start(t.Context())); !f.called(restarted) {
		t.Errorf("the agent runs with the configuration of before: %q", f.calls)
	}
	f.again()
	if f.must(f.Start(t.Context())); f.called(restarted) {
		t.Error("the agent is restarted for nothing")
	}

	const tested, hooked = "fail2ban-client -t", "systemctl restart fail2ban"
	f.fails["systemctl is-enabled"] = "no"
	for _, fails := range []string{"systemctl enable --now " + helperSocket, hooked} {
		f.fails[fails] = "no"
		if err := f.HookFail2ban(t.Context()); err == nil || f.Fail2banHooked() {
			t.Errorf("%s: it is taken as done", fails)
		}
		delete(f.fails, fails)
		f.again()
	}
	if f.must(f.HookFail2ban(t.Context())); !f.called(tested) || !f.called(hooked) || !f.Fail2banHooked() {
		t.Errorf("fail2ban runs without the action: %q", f.calls)
	}
	f.again()
	if f.must(f.HookFail2ban(t.Context())); f.called(hooked) || !f.Fail2banHooked() {
		t.Error("fail2ban is restarted for nothing")
	}
	// Files that an earlier run has made are taken back as well.
	f.must(os.Remove(f.at(action)))
	f.fails[tested] = "ERROR something"
	if err := f.HookFail2ban(t.Context()); err == nil {
		t.Error("it would not start, and nothing is said")
	}
	for _, path := range []string{action, jail} {
		if _, err := os.Stat(f.at(path)); err == nil {
			t.Errorf("%s is there", path)
		}
	}
}

// The agent's user may write beside the configuration: what it puts there must not have root remove anything.
func TestARecordOfSomebodyElseIsNotBelieved(t *testing.T) {
	f := newFake(t, map[string]string{"etc/banmesh/installed.json": `{"by":"init","files":[{"path":"/etc/passwd","kept":true}]}`})
	_ = f
	path := f.recordPath()
	f.must(os.Chmod(path, 0o666))
	if err := f.look(); err == nil || !strings.Contains(err.Error(), "not believed") {
		t.Errorf("open to others: %v", err)
	}
	f.must(os.Remove(path))
	f.must(os.Symlink(f.Config, path))
	if err := f.look(); err == nil {
		t.Error("a link was followed")
	}
}

// TestPipesInPlaceOfFilesHoldNothingUp: the agent's user can put them below /etc/banmesh.
func TestPipesInPlaceOfFilesHoldNothingUp(t *testing.T) {
	f := newFake(t, nil)
	ring := filepath.Join(filepath.Dir(f.Config), "keyring.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(ring), 0o755), syscall.Mkfifo(ring, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := f.Begin(Record{By: "init", At: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := f.Configure(f.want()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Configure says %v", err)
	}
	if _, err := f.KeyNames(); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("KeyNames says %v", err)
	}
}

func TestWithoutSystemdItIsSaid(t *testing.T) {
	f := newFake(t, nil)
	if err := f.Start(t.Context()); !errors.Is(err, ErrNoService) {
		t.Errorf("%v", err)
	}
	g := newFake(t, map[string]string{"run/systemd/system/x": ""})
	if err := g.Start(t.Context()); !errors.Is(err, ErrNoService) || !strings.Contains(err.Error(), "install the package") {
		t.Errorf("%v", err)
	}
}
