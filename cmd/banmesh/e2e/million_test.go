package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestFiguresAMillionBans: one agent takes a million bans through its socket,
// holds them, restarts with them, and a second one gets them all by gossip.
func TestFiguresAMillionBans(t *testing.T) {
	const million = 1_000_000
	list := filepath.Join(t.TempDir(), "list")
	f, err := os.Create(list)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(f)
	for i := range million {
		fmt.Fprintf(w, "%d.%d.%d.%d\n", 20, i>>16&255, i>>8&255, i&255)
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	f.Close()

	s := settings{extra: "log: {level: error}\nlimits: {live_per_origin: 0}\n"}
	a := newAgent(t, "router1", s).start()
	took := func(what string, bar time.Duration, do func()) time.Duration {
		t.Helper()
		began := time.Now()
		do()
		d := time.Since(began)
		t.Logf("%s: %v", what, d.Round(time.Millisecond))
		if d > bar {
			t.Errorf("%s took %v, want at most %v", what, d.Round(time.Millisecond), bar)
		}
		return d
	}
	memory := func(x *agent) {
		t.Helper()
		kb := statusKB(t, x.cmd.Process.Pid, "RssAnon")
		t.Logf("%s holds %d bans in %d MB of anonymous memory", x.name, x.status().Bans.Live, kb/1024)
		if kb > 256*1024 {
			t.Errorf("%s takes %d MB of anonymous memory for a million bans, want at most 256", x.name, kb/1024)
		}
	}
	d := took("durable ingest of a million", 10*time.Second, func() { a.must("import", list, "--for", "1d") })
	t.Logf("that is %.0f bans a second", million/d.Seconds())
	if live := a.status().Bans.Live; live != million {
		t.Fatalf("%d bans live, want a million", live)
	}
	memory(a)

	s.join = []*agent{a}
	b := newAgent(t, "router2", s)
	took("a second agent has them all", 60*time.Second, func() {
		b.start()
		eventually(t, 2*time.Minute, "a million at router2", func() bool { return b.status().Bans.Live == million })
	})
	memory(b)

	a.terminate()
	took("restart until it serves", 10*time.Second, func() { a.start() })
	if live := a.status().Bans.Live; live != million {
		t.Errorf("%d bans live after the restart, want a million", live)
	}
	memory(a)
}
