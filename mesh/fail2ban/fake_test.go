package fail2ban

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"banmesh/store"
)

// fakeServer speaks as fail2ban-client prints, for the jails it is given.
type fakeServer struct {
	mu      sync.Mutex
	down    error
	jails   map[string]*fakeJail
	calls   []string // what changed something
	onUnban func(jail string, b Banned)
}

type fakeJail struct {
	banned  []Banned
	ignored []string
}

func newFakeServer(jails ...string) *fakeServer {
	s := &fakeServer{jails: make(map[string]*fakeJail)}
	for _, name := range jails {
		s.jails[name] = &fakeJail{}
	}
	return s
}

func (s *fakeServer) client() *Client {
	return NewClientWith(ClientConfig{location: time.UTC}, s.run)
}

func (s *fakeServer) run(ctx context.Context, args ...string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return "", s.down
	}
	if slices.Equal(args, []string{"status"}) {
		var names []string
		for name := range s.jails {
			names = append(names, name)
		}
		slices.Sort(names)
		return fmt.Sprintf("Status\n|- Number of jail:\t%d\n`- Jail list:\t%s\n", len(names), strings.Join(names, ", ")), nil
	}
	if slices.Equal(args, []string{"-d"}) {
		return "", nil
	}
	j := s.jails[args[1]]
	if j == nil {
		return "", fmt.Errorf("%w: Sorry but the jail '%s' does not exist", ErrNoJail, args[1])
	}
	switch args[0] + " " + args[2] {
	case "get banip":
		var out strings.Builder
		for _, b := range j.banned {
			end := "9999-12-31 23:59:59"
			if b.BanTime >= 0 {
				end = b.Start.Add(b.BanTime).UTC().Format(timeLayout)
			}
			fmt.Fprintf(&out, "%s \t%s + %d = %s\n", formatPrefix(b.Prefix), b.Start.UTC().Format(timeLayout), int(b.BanTime.Seconds()), end)
		}
		return out.String(), nil
	case "set unbanip":
		s.calls = append(s.calls, strings.Join(args, " "))
		j.banned = slices.DeleteFunc(j.banned, func(b Banned) bool {
			hit := slices.Contains(args[3:], formatPrefix(b.Prefix))
			if hit && s.onUnban != nil {
				s.onUnban(args[1], b)
			}
			return hit
		})
		return "1\n", nil
	case "get ignoreip":
		if len(j.ignored) == 0 {
			return "No IP address/network is ignored\n", nil
		}
		return "These IP addresses/networks are ignored:\n|- " + strings.Join(j.ignored[:len(j.ignored)-1], "\n|- ") +
			"\n`- " + j.ignored[len(j.ignored)-1] + "\n", nil
	case "set addignoreip":
		s.calls = append(s.calls, strings.Join(args, " "))
		j.ignored = append(j.ignored, args[3:]...)
		return "", nil
	case "set delignoreip":
		s.calls = append(s.calls, strings.Join(args, " "))
		j.ignored = slices.DeleteFunc(j.ignored, func(p string) bool { return p == args[3] })
		return "", nil
	}
	return "", fmt.Errorf("fake fail2ban: unknown command %q", args)
}

func (s *fakeServer) hold(jail string, bans ...Banned) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jails[jail].banned = append(s.jails[jail].banned, bans...)
}

func (s *fakeServer) did() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// fakeSet records what is written, and is a queue of notices.
type fakeSet struct {
	mu      sync.Mutex
	bans    []store.BanRequest
	lifts   []store.LiftRequest
	notices []store.Notice
	allows  []store.AllowEntry
	meta    map[string][]byte
	outcome store.BanOutcome // of each ban
	err     error
}

func (s *fakeSet) Ban(_ context.Context, bans []store.BanRequest) ([]store.Banned, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.bans = append(s.bans, bans...)
	return slices.Repeat([]store.Banned{{Outcome: s.outcome}}, len(bans)), nil
}

func (s *fakeSet) Lift(_ context.Context, lift store.LiftRequest) ([]store.Lifted, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	s.lifts = append(s.lifts, lift)
	return nil, nil
}

func (s *fakeSet) Notices() []store.Notice {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.notices)
}

func (s *fakeSet) DoneNotice(_ context.Context, ids ...uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.notices = slices.DeleteFunc(s.notices, func(n store.Notice) bool { return slices.Contains(ids, n.ID) })
	return nil
}

func (s *fakeSet) Allows() []store.AllowEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.allows)
}

func (s *fakeSet) SaveMeta(_ context.Context, key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.meta == nil {
		s.meta = make(map[string][]byte)
	}
	s.meta[key] = value
	return nil
}

func (s *fakeSet) Meta(key string) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.meta[key]
	return value, ok
}

func (s *fakeSet) lifted() []store.LiftRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.lifts)
}

func (s *fakeSet) allow(text string, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, err := parsePrefix(text)
	if err != nil {
		panic(err)
	}
	s.allows = append(s.allows, store.AllowEntry{Prefix: p, Until: store.At(until)})
	s.notices = append(s.notices, store.Notice{ID: uint64(len(s.notices) + 1000), Kind: store.NoticeAllow, Prefix: p, Until: store.At(until)})
}

var (
	_ replicatedSet = (*fakeSet)(nil)
	_ notices       = (*fakeSet)(nil)
	_ replicatedSet = (*store.Store)(nil)
	_ notices       = (*store.Store)(nil)
)

func prefix(t testing.TB, s string) netip.Prefix {
	t.Helper()
	p, err := parsePrefix(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func banned(t testing.TB, addr string, start time.Time, bantime time.Duration) Banned {
	t.Helper()
	return Banned{Prefix: prefix(t, addr), Start: start.Truncate(time.Second), BanTime: bantime}
}
