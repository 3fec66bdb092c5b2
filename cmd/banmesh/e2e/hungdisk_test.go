package e2e

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/conductorsim/history"
	"banmesh/internal/sim/fail2bantest"
)

// ownDisk mounts a file system of its own at dir, which must not be there yet. must runs a program as root.
func ownDisk(t testing.TB, dir string) (must func(args ...string) string) {
	t.Helper()
	need.Programs(t, "losetup", "mkfs.ext4", "mount", "umount")
	need.Root(t)
	must = func(args ...string) string {
		t.Helper()
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", strings.Join(args, " "), err, out)
		}
		return strings.TrimSpace(string(out))
	}
	image := filepath.Join(shortDir(t), "disk")
	f, err := os.Create(image)
	if err == nil {
		err = f.Truncate(64 << 20)
	}
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	must("mkfs.ext4", "-q", "-F", image)
	loop := must("losetup", "--find", "--show", image)
	t.Cleanup(func() { must("losetup", "--detach", loop) })
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	must("mount", loop, dir)
	t.Cleanup(func() { must("umount", dir) })
	return must
}

// hangingDisk is an ownDisk. While it is frozen a write to it neither succeeds nor fails, as on a dying disk, a lost volume or
// during a snapshot: its process sleeps and cannot be ended.
func hangingDisk(t testing.TB, dir string) (freeze func() (thaw func())) {
	t.Helper()
	need.Programs(t, "fsfreeze")
	must := ownDisk(t, dir)
	return func() func() {
		must("fsfreeze", "--freeze", dir)
		var once sync.Once
		thaw := func() { once.Do(func() { must("fsfreeze", "--unfreeze", dir) }) }
		t.Cleanup(thaw) // before the agent is ended, which could not end
		return thaw
	}
}

// A router whose disk the kernel has made read-only a moment ago, without a ban since, is the next in rank when the leader dies.
// It could record nothing of what it commits.
func TestARouterWithAReadOnlyDiskIsNotElected(t *testing.T) {
	t.Parallel()
	cond := startConductor(t)
	dir := shortDir(t)
	must := ownDisk(t, filepath.Join(dir, "data"))
	commit := cond.commitTo(quick)
	one := newAgent(t, "router1", settings{commit: commit}).start()
	two := newAgent(t, "router2", settings{dir: dir, join: []*agent{one}, commit: commit}).start()
	three := newAgent(t, "router3", settings{join: []*agent{one}, commit: commit}).start()
	awaitMembers(t, []*agent{one, two, three}, 3)
	if lead, _ := leaderOf(t, []*agent{one, two, three}); lead != one {
		t.Fatalf("%s leads, want router1", lead.name)
	}
	must("mount", "-o", "remount,abort", filepath.Join(dir, "data"))
	one.kill()
	eventually(t, 30*time.Second, "router3 to lead", func() bool {
		s := three.status()
		if s.Leader != nil && *s.Leader == "router2" {
			t.Fatal("router2 was elected, whose disk is read-only")
		}
		return s.Leader != nil && *s.Leader == "router3"
	})
	if s := two.status(); s.Store.Healthy || !slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "read-only") }) {
		t.Errorf("router2 says of its disk %+v, %q", *s.Store, s.Warnings)
	}
	three.must("ban", "203.0.113.1", "--for", "1h")
	eventually(t, 20*time.Second, "the commit", cond.holds(t, "203.0.113.1/32"))
}

// TestADiskThatHangs: the leader's disk hangs while fail2ban bans and the conductor
// is committed to.
func TestADiskThatHangs(t *testing.T) {
	hang(t, 9*time.Second, false)
}

// TestFiguresADiskThatHangs is the same for a minute, with a real fail2ban.
func TestFiguresADiskThatHangs(t *testing.T) {
	hang(t, time.Minute, true)
}

func hang(t *testing.T, length time.Duration, real bool) {
	cond := startConductor(t)
	dir := shortDir(t)
	freeze := hangingDisk(t, filepath.Join(dir, "data"))
	listen := freeAddr(t)
	commit := cond.commitTo(quick + ", min_interval: 1s")
	one := newAgent(t, "router1", settings{dir: dir, commit: commit, extra: "leader: {priority: 10}\nhttp: {listen: \"" + listen + "\"}\n"}).start()
	two := newAgent(t, "router2", settings{join: []*agent{one}, commit: commit}).start()
	three := newAgent(t, "router3", settings{join: []*agent{one}, commit: commit}).start()
	all := []*agent{one, two, three}
	awaitMembers(t, all, 3)
	if lead, _ := leaderOf(t, all); lead != one {
		t.Fatalf("%s leads, want router1", lead.name)
	}
	want := []string{"203.0.113.1/32"}
	one.must("ban", "203.0.113.1", "--for", "1h")
	eventually(t, 20*time.Second, "the first commit", cond.holds(t, want...))
	var jail *fail2bantest.Server
	var hooks *timedHook
	if real {
		hooks = newTimedHook(t)
		jail = fail2bantest.Start(t, fail2bantest.Options{Bin: hooks.program, Socket: one.socket, SpoolOfSocket: true})
		hooks.forget() // of the jail's start
	}

	thaw := freeze()
	frozen := time.Now()
	after := func() time.Duration { return time.Since(frozen).Round(10 * time.Millisecond) }
	seen := map[string]time.Duration{}
	note := func(what string, is bool) {
		if _, known := seen[what]; is && !known {
			seen[what] = after()
		}
	}
	var slowest time.Duration
	for i := 0; time.Since(frozen) < length; i++ {
		addr := fmt.Sprintf("198.51.100.%d", i+1)
		began := time.Now()
		if real {
			if _, err := jail.Client("set", "sshd", "banip", addr); err != nil {
				t.Error(err)
			}
		} else if r := one.run("fail2ban", "ban", "--jail=sshd", "--ip="+addr, fmt.Sprintf("--time=%d", began.Unix()), "--bantime=3600"); r.code != 0 || r.err != "" {
			t.Errorf("the hook: exit %d, %q", r.code, r.err)
		}
		took := time.Since(began)
		if real { // not what fail2ban and its client, two programs in Python, take
			took = hooks.of(addr)
		}
		slowest = max(slowest, took)
		want = append(want, addr+"/32")
		if i%4 == 0 {
			other := fmt.Sprintf("203.0.113.%d", i+10)
			two.must("ban", other, "--for", "1h")
			want = append(want, other+"/32")
		}
		s := one.status()
		note("router1 says so in status", s.Store != nil && s.Store.Silent && strings.Contains(fmt.Sprint(s.Warnings), "has not answered"))
		if r, err := http.Get("http://" + listen + "/readyz"); err != nil {
			t.Error(err)
		} else {
			r.Body.Close()
			note("/readyz is 503", r.StatusCode == http.StatusServiceUnavailable)
		}
		lead := two.status().Leader
		note("another one leads", lead != nil && *lead != one.name)
		time.Sleep(time.Until(began.Add(time.Second))) // the pace of the bans
	}
	// What the doctor says of it helps, and it says it no more afterwards.
	silent := func() bool {
		found, _ := examined(t, one)
		return slices.ContainsFunc(found, func(f finding) bool {
			return f.Severity == "serious" && strings.Contains(f.What, "has not answered") && strings.Contains(f.Fix, "fsfreeze --unfreeze")
		})
	}
	if !silent() {
		t.Error("the doctor does not say that the disk is silent")
	}
	thaw()
	t.Logf("frozen for %v; the slowest hook took %v beside %v for the machine; seen after: %v", after(), slowest.Round(time.Millisecond), machine(hooks).Round(time.Millisecond), seen)
	for _, what := range []string{"router1 says so in status", "/readyz is 503", "another one leads"} {
		if at, ok := seen[what]; !ok || at > 10*time.Second {
			t.Errorf("%s after %v (seen %v), want within 10 s", what, at, ok)
		}
	}
	if most := time.Second + machine(hooks); slowest > most {
		t.Errorf("a hook took %v, want at most %v", slowest, most)
	}
	for _, a := range all {
		eventually(t, 20*time.Second, "all bans at "+a.name, func() bool { return len(a.list()) == len(want) })
	}
	eventually(t, 30*time.Second, "all bans at the conductor", func() bool { return len(cond.running(t)) == len(want) })
	eventually(t, 10*time.Second, "router1 to be well", func() bool {
		s := one.status()
		return s.Store != nil && s.Store.Healthy && s.Spooled == 0 && !strings.Contains(fmt.Sprint(s.Warnings), "disk")
	})
	if silent() {
		t.Error("the doctor says that the disk is silent, and it is not any more")
	}
	held := map[uint64]time.Time{}
	for _, e := range cond.history(t) {
		switch e.Kind {
		case history.Lock:
			held[e.Session] = e.Time
		case history.Unlock:
			if long := e.Time.Sub(held[e.Session]); long > 5*time.Second {
				t.Errorf("the lock of %s was held for %v", e.Store, long)
			}
		}
	}
	one.kill()
	one.start()
	eventually(t, 10*time.Second, "all bans after a kill", func() bool { return len(one.list()) == len(want) })
}

// machine is what a hook may take beside its second on this machine: as long as the
// same program takes that only finds its flags wrong, or half a second where that
// was not measured.
func machine(hooks *timedHook) time.Duration {
	if hooks == nil {
		return 500 * time.Millisecond
	}
	return hooks.start
}

// timedHook is fail2ban's hook in a wrapper that writes down how long each call
// took from the start of its process to its end, and how long one takes that does
// nothing.
type timedHook struct {
	t       *testing.T
	program string
	log     string
	read    int           // lines of it
	start   time.Duration // the slowest start and end of the program
}

func newTimedHook(t *testing.T) *timedHook {
	t.Helper()
	need.Programs(t, "bash")
	dir := t.TempDir()
	h := &timedHook{t: t, program: filepath.Join(dir, "timed"), log: filepath.Join(dir, "times")}
	hook := filepath.Join(dir, "banmesh-hook")
	if err := compile(hook, "banmesh/cmd/banmesh-hook", "dev"); err != nil {
		t.Fatal(err)
	}
	// EPOCHREALTIME costs no process. The line is one write.
	script := "#!/bin/bash\nbegan=${EPOCHREALTIME/./}\n" + hook + " \"$@\"\ncode=$?\nended=${EPOCHREALTIME/./}\n" +
		hook + " fail2ban ban 2>/dev/null\necho \"$((ended-began)) $((${EPOCHREALTIME/./}-ended)) $code $*\" >>" + h.log + "\nexit $code\n"
	if err := os.WriteFile(h.program, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return h
}

func (h *timedHook) lines() []string {
	b, err := os.ReadFile(h.log)
	if err != nil && !os.IsNotExist(err) {
		h.t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
}

// forget leaves out the calls so far.
func (h *timedHook) forget() { h.read = len(h.lines()) }

// of waits for the ban of an address and says how long its hook took.
func (h *timedHook) of(addr string) (took time.Duration) {
	h.t.Helper()
	eventually(h.t, 30*time.Second, "the hook of "+addr, func() bool {
		for _, line := range h.lines()[min(h.read, len(h.lines())):] {
			var hook, start int64
			var code int
			if _, err := fmt.Sscan(line, &hook, &start, &code); err != nil || !strings.Contains(line, "--ip="+addr+" ") {
				continue
			}
			if code != 0 {
				h.t.Errorf("exit %d: %s", code, line)
			}
			took, h.start = time.Duration(hook)*time.Microsecond, max(h.start, time.Duration(start)*time.Microsecond)
			return true
		}
		return false
	})
	return took
}
