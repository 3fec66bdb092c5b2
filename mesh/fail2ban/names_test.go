package fail2ban

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/fail2bantest"
	"banmesh/mesh/fail2ban/helper"
)

// TestRealJailsOfAnyName: fail2ban takes any section's name for a jail's. It is
// asked by root's helper and directly, which must make no difference.
func TestRealJailsOfAnyName(t *testing.T) {
	t.Parallel()
	names := []string{"sshd", "nginx:auth", "web server", "Wordpress (soft)", "jäil", "it's", "one, two"}
	var jails strings.Builder
	for _, name := range names[1:] {
		jails.WriteString("[" + name + "]\nenabled = true\nfilter =\naction = %(banmesh)s\n")
	}
	r := startReal(t, fail2bantest.Options{ExtraJail: jails.String()})
	direct := r.realClient()

	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	server := helper.Server{Client: strings.Fields(r.ClientCommand()), Users: []uint32{uint32(os.Getuid())}, Logger: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Serve(ctx, ln) }()
	defer func() { cancel(); <-done }()
	helped := NewClient(ClientConfig{Command: "/nowhere/fail2ban-client", Helper: socket})

	for who, client := range map[string]*Client{"directly": direct, "by the helper": helped} {
		got, err := client.jails(t.Context())
		slices.Sort(got)
		want := slices.Sorted(slices.Values(names))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: jails %q, %v; want %q", who, got, err, want)
		}
	}
	victim := netip.MustParsePrefix("203.0.113.7/32")
	for _, name := range names {
		r.client("set", name, "banip", "203.0.113.7")
		deadline := time.Now().Add(30 * time.Second)
		for c := r.next(); c.Event != EventBan || c.Jail != name; c = r.next() {
			if time.Now().After(deadline) {
				t.Fatalf("the ban of jail %q is not told", name)
			}
		}
	}
	held, err := Import(t.Context(), direct)
	if err != nil || len(held) != len(names) {
		t.Errorf("import takes in %d bans, %v; want %d", len(held), err, len(names))
	}
	for _, name := range names {
		if held, err := helped.Banned(t.Context(), name); err != nil || len(held) != 1 {
			t.Errorf("%s holds %v, %v", name, held, err)
		}
		if err := helped.ignore(t.Context(), name, []netip.Prefix{victim}); err != nil {
			t.Error(err)
		}
		if err := helped.Unban(t.Context(), name, []netip.Prefix{victim}); err != nil {
			t.Error(err)
		}
		if held, err := direct.Banned(t.Context(), name); err != nil || len(held) != 0 {
			t.Errorf("%s still holds %v, %v", name, held, err)
		}
		if got, err := helped.ignored(t.Context(), name); err != nil || !slices.Contains(got, victim) {
			t.Errorf("%s ignores %v, %v", name, got, err)
		}
		if err := helped.unignore(t.Context(), name, victim); err != nil {
			t.Error(err)
		}
	}
	if _, err := helped.Banned(t.Context(), "no such jail"); !errors.Is(err, ErrNoJail) {
		t.Errorf("a jail that is not: %v, want ErrNoJail", err)
	}
	if err := helped.Empty(t.Context(), "sshd"); err == nil {
		t.Error("the helper empties a jail that is not the agent's")
	}
	findings, err := Check(t.Context(), direct, "")
	if err != nil || len(findings) > 0 {
		t.Errorf("check: %v, %+v", err, findings)
	}
	r.Stop()
	if _, err := helped.jails(t.Context()); err == nil || !strings.Contains(err.Error(), ErrNotRunning.Error()) {
		t.Errorf("fail2ban down: %v, want %v", err, ErrNotRunning)
	}
}

func TestCheckFindsFail2bansSocketOpenedToOthers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.sock")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for mode, want := range map[os.FileMode]bool{0o700: false, 0o770: true, 0o702: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		client := newFakeServer().client()
		client.sockets, client.journal = []string{path}, noJournal
		findings, err := Check(t.Context(), client, "")
		if err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(findings, func(f Finding) bool {
			return f.Severity == Serious && strings.Contains(f.What, path) && strings.Contains(f.Fix, "banmesh-fail2ban.socket")
		})
		if got != want {
			t.Errorf("mode %04o: found %v, want %v: %+v", mode, got, want, findings)
		}
	}
}
