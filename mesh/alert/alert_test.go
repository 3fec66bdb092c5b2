package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/gossip"
	"banmesh/mesh/leader"
)

// watched are alerts whose command notes the events, in virtual time.
type watched struct {
	*Watcher
	began time.Time
	told  []string
	slow  time.Duration // what the command takes
	stop  func()
}

// kept is a memory.
type kept map[string][]byte

func (k kept) Meta(key string) ([]byte, bool) { v, ok := k[key]; return v, ok }

func (k kept) SaveMeta(_ context.Context, key string, value []byte) error {
	k[key] = value
	return nil
}

func watch(t *testing.T, after time.Duration) *watched { return watchAgain(t, after, kept{}) }

// watchAgain is watch with what earlier alerts have kept; stop ends it before the
// test does.
func watchAgain(t *testing.T, after time.Duration, memory kept) *watched {
	w := &watched{Watcher: New(Config{Router: "router1", After: after, Memory: memory, Logger: slog.New(slog.DiscardHandler)}), began: time.Now()}
	running := false
	w.command = func(ctx context.Context, raw []byte) error {
		if running {
			t.Error("two commands at once")
		}
		running = true
		defer func() { running = false }()
		var e event
		if err := json.Unmarshal(raw, &e); err != nil || raw[len(raw)-1] != '\n' || e.Router != "router1" {
			t.Errorf("event %q: %v", raw, err)
		}
		w.told = append(w.told, fmt.Sprintf("%v %s %s %s", time.Since(w.began).Round(time.Second), e.Alert, e.Name, e.State))
		time.Sleep(w.slow)
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	w.stop = func() { cancel(); <-ended }
	t.Cleanup(w.stop)
	return w
}

// for_ looks each second for so long.
func (w *watched) for_(d time.Duration, wrong ...trouble) {
	for range int(d / time.Second) {
		w.look(time.Now(), wrong, func(trouble) bool { return false })
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

func (w *watched) want(t *testing.T, told ...string) {
	t.Helper()
	if !slices.Equal(w.told, told) {
		t.Errorf("told %q, want %q", w.told, told)
	}
}

func TestAlertTellsOfWhatLastsAndOfItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, 5*time.Minute)
		gone := trouble{onMember, "router2", "no answer"}
		w.for_(4*time.Minute, gone)
		w.for_(time.Minute) // back in time: nothing to tell
		w.want(t)
		w.for_(10*time.Minute, gone)
		w.want(t, "10m0s member router2 begins")
		w.for_(time.Minute)
		w.want(t, "10m0s member router2 begins", "15m0s member router2 ends")
	})
}

func TestAlertsRunOneAtATimeAndNoneIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, 0)
		w.slow = 10 * time.Second
		var many []trouble
		for i := range 2 * maxQueue {
			many = append(many, trouble{onMember, fmt.Sprint("router", i), ""})
		}
		w.for_(2*maxQueue*10*time.Second+time.Minute, many...)
		if len(w.told) != len(many) {
			t.Errorf("%d events told, want %d", len(w.told), len(many))
		}
	})
}

func TestAlertKeepsWhatIsUnclear(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := watch(t, 0)
		w.look(time.Now(), []trouble{{onCommit, "", "commits fail"}}, nil)
		w.look(time.Now(), nil, func(trouble) bool { return true })
		synctest.Wait()
		w.want(t, "0s commit  begins")
		w.look(time.Now(), nil, func(trouble) bool { return false })
		synctest.Wait()
		w.want(t, "0s commit  begins", "0s commit  ends")
	})
}

func TestAlertsAreRememberedOverARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := kept{}
		gone, apart := trouble{onMember, "router2", "no answer"}, trouble{onSync, "", "no agreement"}
		w := watchAgain(t, time.Minute, memory)
		w.for_(2*time.Minute, gone, apart)
		slices.Sort(w.told)
		w.want(t, "1m0s member router2 begins", "1m0s sync  begins")
		w.stop()

		t.Log("what goes on is not told again, what is over is told to be over")
		w = watchAgain(t, time.Minute, memory)
		w.for_(50*time.Second, gone) // of the others little is known yet
		w.want(t)
		w.for_(5*time.Minute, gone)
		w.want(t, "1m0s sync  ends")
		w.stop()

		t.Log("both: what is over is not told to be over again")
		w = watchAgain(t, time.Minute, memory)
		w.for_(5 * time.Minute)
		w.want(t, "0s member router2 ends")
		w.stop()
		w = watchAgain(t, time.Minute, memory)
		w.for_(5 * time.Minute)
		w.want(t)
		if got := string(memory[bookKey]); got != "[]" {
			t.Errorf("kept %s", got)
		}
	})
}

func TestTroublesAreWhatAnOperatorMustKnow(t *testing.T) {
	refused := "the conductor refuses the login"
	led := leader.Status{Leader: "router1"}
	idle := control.CommitStatus{State: "idle"}
	alive := []gossip.Member{{Name: "router1", State: gossip.Alive, Self: true}, {Name: "router2", State: gossip.Alive}}
	for _, c := range []struct {
		name    string
		members []gossip.Member
		inSync  bool
		commit  control.CommitStatus
		lead    leader.Status
		driver  bool
		want    string
	}{
		{"all is well", alive, true, idle, led, true, ""},
		{"a failed member", append(alive[:2:2], gossip.Member{Name: "router3", State: gossip.Failed}), true, idle, led, true, "member router3"},
		{"one that left", append(alive[:2:2], gossip.Member{Name: "router3", State: gossip.Left}), true, idle, led, true, ""},
		{"no agreement", alive, false, idle, led, true, "sync "},
		{"alone", alive[:1], false, idle, led, true, ""},
		{"failing", alive, true, control.CommitStatus{State: "failing", Detail: "x"}, led, true, "commit "},
		{"waiting for somebody", alive, true, control.CommitStatus{State: "waiting"}, led, true, "commit "},
		{"after a failure", alive, true, control.CommitStatus{State: "pending", LastError: &refused}, led, true, "commit "},
		{"trying again", alive, true, control.CommitStatus{State: "committing", LastError: &refused}, led, true, ""},
		{"nobody leads", alive, true, idle, leader.Status{}, true, "commit "},
		{"no conductor", alive, true, control.CommitStatus{State: "off"}, leader.Status{}, false, ""},
	} {
		var got []string
		for _, x := range (&Facts{Members: c.members, InSync: c.inSync, Commit: c.commit, Lead: c.lead, Commits: c.driver}).troubles() {
			got = append(got, x.key())
			if x.detail == "" {
				t.Errorf("%s: no words", c.name)
			}
		}
		if strings.Join(got, ",") != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestAlertCommandGetsTheEventAndIsBounded(t *testing.T) {
	dir := t.TempDir()
	log := slog.New(slog.DiscardHandler)
	got := filepath.Join(dir, "got")
	if err := Run(t.Context(), "cat > "+got, []byte("{}\n"), log); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(got); err != nil || string(b) != "{}\n" {
		t.Errorf("the command read %q, %v", b, err)
	}
	if err := Run(t.Context(), "echo no mailer >&2; exit 3", nil, log); err == nil || !strings.Contains(err.Error(), "no mailer") {
		t.Errorf("a failing command: %v, want what it said", err)
	}
	if err := Run(t.Context(), "head -c 1000000 /dev/zero", nil, log); err != nil {
		t.Errorf("a command that says much: %v", err)
	}

	t.Log("a command that hangs is killed with its children")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 300*time.Millisecond, errors.New("test"))
	defer cancel()
	pid := filepath.Join(dir, "pid")
	err := Run(ctx, "sleep 600 & echo $! > "+pid+"; wait", nil, log)
	if err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("a hanging command: %v", err)
	}
	b, err := os.ReadFile(pid)
	if err != nil {
		t.Fatal(err)
	}
	ended := func() bool {
		state, err := os.ReadFile("/proc/" + strings.TrimSpace(string(b)) + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	}
	for end := time.Now().Add(time.Minute); !ended(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the child of a command that hangs does not end")
		}
	}
}
