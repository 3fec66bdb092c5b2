package fail2ban

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/internal/sim/fail2bantest"
)

// fakeMeshJail records what is told of its jail.
type fakeMeshJail struct {
	mu   sync.Mutex
	told []string
}

func (f *fakeMeshJail) tell(format string, args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, fmt.Sprintf(format, args...))
	return nil
}

func (f *fakeMeshJail) heard() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.told)
}

func (f *fakeMeshJail) Jail() string { return "mesh" }

func (f *fakeMeshJail) Unbanned(_ context.Context, p netip.Prefix, start time.Time) error {
	return f.tell("unbanned %v %d", p, start.Unix())
}

func (f *fakeMeshJail) Emptied(context.Context, time.Time) error { return f.tell("emptied") }
func (f *fakeMeshJail) Started()                                 { _ = f.tell("started") }

func TestCallsOfTheMeshJailAreNoOwnBans(t *testing.T) {
	set, mesh := &fakeSet{}, &fakeMeshJail{}
	h := NewHooks(HooksConfig{Set: set, MeshJail: mesh})
	start := time.Unix(1_800_000_000, 0)
	call := func(event Event, called time.Time) Call {
		c := sshd(event, start, called)
		c.Jail = "mesh"
		return c
	}
	handle(t, h, Call{Event: EventStart, Jail: "mesh"})
	handle(t, h, call(EventBan, start))
	replay := call(EventBan, start)
	replay.Restored = true
	handle(t, h, replay)
	handle(t, h, call(EventProlong, start))
	handle(t, h, call(EventUnban, start.Add(time.Minute)))
	handle(t, h, call(EventUnban, start.Add(10*time.Minute))) // its time was over
	handle(t, h, Call{Event: EventStop, Jail: "mesh"})
	if want := []string{"started", "unbanned 203.0.113.7/32 1800000000"}; !slices.Equal(mesh.heard(), want) {
		t.Errorf("the mesh jail heard %q, want %q", mesh.heard(), want)
	}
	if len(set.bans) > 0 || len(set.lifts) > 0 {
		t.Errorf("the mesh was told %+v, %+v", set.bans, set.lifts)
	}
	if len(h.heard) > 0 {
		t.Error("the Notifier was told of the jail")
	}
	handle(t, h, sshd(EventBan, start, start))
	if len(set.bans) != 1 {
		t.Error("another jail's ban was not taken")
	}
}

func TestNotifierLeavesTheFedJailAlone(t *testing.T) {
	withNotifier(t, []string{"mesh", "sshd"}, func(t *testing.T, r *notifierRig) {
		for _, jail := range []string{"mesh", "sshd"} {
			r.server.hold(jail, banned(t, "203.0.113.7", time.Now(), 10*time.Minute))
		}
		mesh := &fakeMeshJail{}
		r.start(func(c *NotifierConfig) { c.Hooks = NewHooks(HooksConfig{Set: r.set, Client: c.Client, MeshJail: mesh}) })
		for _, jail := range []string{"mesh", "sshd"} {
			r.lifted(jail, "203.0.113.7", time.Now())
		}
		r.set.allow("203.0.113.0/24", time.Now().Add(time.Hour))
		r.notifier.Poke()
		time.Sleep(time.Minute)
		want := []string{"set sshd unbanip 203.0.113.7", "set sshd addignoreip 203.0.113.0/24"}
		got := r.server.did()
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("fail2ban was told %q, want %q", got, want)
		}
		if left := r.set.Notices(); len(left) > 0 {
			t.Errorf("left in the queue: %+v", left)
		}
	})
}

// fedJail is the feeding jail as examples/fail2ban/jail.d/mesh.conf makes it, with
// a ban action that blocks nothing.
const fedJail = `[mesh]
enabled = true
filter =
bantime = 30d
action = block
         %(unbanmesh)s
`

// unbanmesh is the default that fedJail needs: banmesh's action without its ban
// hooks.
func unbanmesh(bin string) string {
	return `unbanmesh = banmesh[actionban="", actionprolong="", bin="` + bin + `"]`
}

var blockAction = map[string]string{"action.d/block.conf": "[Definition]\nactionban = true\nactionunban = true\nactionflush = true\n"}

func TestRealFedJailTakesManyAndTellsUnbansByHandOnly(t *testing.T) {
	t.Parallel()
	mesh := &fakeMeshJail{}
	r := startReal(t, fail2bantest.Options{Default: unbanmesh(testBinary(t)), ExtraJail: fedJail, Files: blockAction})
	r.hooks = NewHooks(HooksConfig{Set: r.set, Client: r.realClient(), MeshJail: mesh})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.hooks.Run(ctx) }()
	defer func() { cancel(); <-ended }()
	client := r.realClient()

	shape, err := client.Shape(ctx, "mesh")
	if want := (Shape{Blocks: true, NotifiesUnbans: true, Flushes: true, BanTime: 30 * 24 * time.Hour}); err != nil || shape != want {
		t.Errorf("shape %+v, %v; want %+v", shape, err, want)
	}
	if shape, err = client.Shape(ctx, "sshd"); err != nil || !shape.Detects || !shape.NotifiesBans || shape.Blocks || shape.BanTime != 10*time.Minute {
		t.Errorf("shape of sshd %+v, %v", shape, err)
	}

	prefixes := []netip.Prefix{prefix(t, "198.51.100.0/24"), prefix(t, "2001:db8::/48"), prefix(t, "2001:db8:1::7")}
	for i := range 60 {
		prefixes = append(prefixes, prefix(t, fmt.Sprintf("203.0.113.%d", i+1)))
	}
	for range 2 { // what it holds already is no error
		if err := client.Ban(ctx, "mesh", prefixes); err != nil {
			t.Fatal(err)
		}
	}
	held, err := client.Banned(ctx, "mesh")
	if err != nil || len(held) != len(prefixes) {
		t.Fatalf("%d held, %v; want %d", len(held), err, len(prefixes))
	}
	for _, b := range held {
		if !slices.Contains(prefixes, b.Prefix) {
			t.Errorf("holds %v", b.Prefix)
		}
	}

	t.Log("a restart tells no unban")
	r.Restart()
	for deadline := time.Now().Add(time.Minute); ; { // it repeats them one by one
		if held, err = client.Banned(ctx, "mesh"); err != nil || time.Now().After(deadline) {
			t.Fatalf("%d held after the restart, %v; want %d", len(held), err, len(prefixes))
		}
		if len(held) == len(prefixes) {
			break
		}
	}
	if got := slices.DeleteFunc(mesh.heard(), func(s string) bool { return s == "started" }); len(got) > 0 {
		t.Errorf("heard %q of a restart", got)
	}
	r.client("set", "mesh", "unbanip", "203.0.113.7", "198.51.100.0/24")
	r.await(mesh, 2)
	for i, p := range []string{"203.0.113.7/32", "198.51.100.0/24"} {
		if got := mesh.heard(); !slices.ContainsFunc(got, func(s string) bool { return strings.HasPrefix(s, "unbanned "+p) }) {
			t.Errorf("%d: heard %q, want the unban of %s", i, got, p)
		}
	}
	t.Log("unban --all does")
	r.client("unban", "--all")
	r.await(mesh, 3)
	if got := mesh.heard(); got[len(got)-1] != "emptied" {
		t.Errorf("heard %q, want emptied at last", got)
	}

	if err := client.Ban(ctx, "mesh", prefixes); err != nil {
		t.Fatal(err)
	}
	if err := client.Empty(ctx, "mesh"); err != nil {
		t.Fatal(err)
	}
	if held, err = client.Banned(ctx, "mesh"); err != nil || len(held) > 0 {
		t.Errorf("holds %d, %v; want nothing", len(held), err)
	}
	if len(r.set.bans) > 0 || len(r.set.lifted()) > 0 {
		t.Errorf("the mesh was told %+v, %+v", r.set.bans, r.set.lifted())
	}
}

// await handles the action's calls until the mesh jail heard of so many things
// beside starts.
func (r *rig) await(mesh *fakeMeshJail, n int) {
	r.t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		heard := slices.DeleteFunc(mesh.heard(), func(s string) bool { return s == "started" })
		if len(heard) >= n {
			return
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("heard %q, want %d", heard, n)
		}
		r.poll()
	}
}

func TestRealCheckOfTheFedJail(t *testing.T) {
	t.Parallel()
	const recidive = "[recidive]\nenabled = true\nfilter = recidive\nlogpath = /dev/null\naction = %%(banmesh)s\n%s"
	good := startReal(t, fail2bantest.Options{Default: unbanmesh("/bin/true"), Files: blockAction,
		ExtraJail: fedJail + fmt.Sprintf(recidive, "ignoreregex = \\[mesh\\]\\s+Ban\n"), Filters: []string{"recidive.conf"}})
	findings, err := Check(t.Context(), good.realClient(), "mesh")
	if err != nil || len(findings) > 0 {
		t.Errorf("the shipped jail: %v, %+v", err, findings)
	}

	bad := startReal(t, fail2bantest.Options{Files: blockAction, Filters: []string{"recidive.conf"}, ExtraJail: fmt.Sprintf(recidive, "") + `
[short]
enabled = true
filter =
bantime = 1h
action = block
[echoes]
enabled = true
filter =
bantime = 30d
action = block
         %(banmesh)s
[bare]
enabled = true
filter =
bantime = 30d
action = banmesh[actionban="", actionprolong="", actionflush=""]
`})
	client := NewClient(ClientConfig{Command: remembering(t, bad.ClientCommand())})
	for jail, wants := range map[string][]string{
		"mesh":   {"fail2ban has no jail mesh"},
		"sshd":   {"jail sshd, the one of enforce.jail, has a filter", "jail sshd, the one of enforce.jail, tells banmesh of its bans", "has no ban action"},
		"short":  {"does not tell banmesh of unbans", "has a bantime of 1h0m0s", "jail recidive counts the bans of jail short too"},
		"echoes": {"jail echoes, the one of enforce.jail, tells banmesh of its bans"},
		"bare":   {"has no ban action", "has no actionflush beside the unban hook"},
	} {
		findings, err := Check(t.Context(), client, jail)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range wants {
			if !slices.ContainsFunc(findings, func(f Finding) bool {
				return strings.Contains(f.What, want) && f.Severity != Note && f.Why != "" && f.Fix != ""
			}) {
				t.Errorf("jail %s: no finding %q in %+v", jail, want, findings)
			}
		}
	}
}

// remembering is a client that repeats what it was answered to the same question, for
// a fail2ban that nobody changes: each start of the real one takes Python's time.
func remembering(t *testing.T, client string) string {
	t.Helper()
	dir := t.TempDir()
	const script = `#!/bin/sh
key=%[1]s/$(echo "$*" | md5sum | cut -c1-32)
if [ ! -e $key.code ]; then
	%[2]s "$@" >$key.out 2>$key.err
	echo $? >$key.code
fi
cat $key.out
cat $key.err >&2
exit $(cat $key.code)
`
	path := filepath.Join(dir, "client")
	if err := os.WriteFile(path, fmt.Appendf(nil, script, dir, client), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
