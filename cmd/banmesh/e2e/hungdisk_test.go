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

// hangingDisk mounts a file system of its own at dir, which must not be there yet.
// While it is frozen a write to it neither succeeds nor fails, as on a dying disk,
// a lost volume or during a snapshot: its process sleeps and cannot be ended.
func hangingDisk(t testing.TB, dir string) (freeze func() (thaw func())) {
	t.Helper()
	need.Programs(t, "losetup", "mkfs.ext4", "fsfreeze", "mount", "umount")
	need.Root(t)
	must := func(args ...string) string {
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
	return func() func() {
		must("fsfreeze", "--freeze", dir)
		var once sync.Once
		thaw := func() { once.Do(func() { must("fsfreeze", "--unfreeze", dir) }) }
		t.Cleanup(thaw) // before the agent is ended, which could not end
		return thaw
	}
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
	if real {
		jail = fail2bantest.Start(t, fail2bantest.Options{Bin: banmesh, Socket: one.socket, SpoolOfSocket: true})
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
			jail.Client("set", "sshd", "banip", addr)
		} else if r := one.run("fail2ban", "ban", "--jail=sshd", "--ip="+addr, fmt.Sprintf("--time=%d", began.Unix()), "--bantime=3600"); r.code != 0 || r.err != "" {
			t.Errorf("the hook: exit %d, %q", r.code, r.err)
		}
		slowest = max(slowest, time.Since(began))
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
	t.Logf("frozen for %v; the slowest hook took %v; seen after: %v", after(), slowest.Round(time.Millisecond), seen)
	for _, what := range []string{"router1 says so in status", "/readyz is 503", "another one leads"} {
		if at, ok := seen[what]; !ok || at > 10*time.Second {
			t.Errorf("%s after %v (seen %v), want within 10 s", what, at, ok)
		}
	}
	if slowest > 1500*time.Millisecond { // a second for the hook, the rest for a busy machine
		t.Errorf("a hook took %v", slowest)
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
