package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/sim/netconfdtest"
	"banmesh/netconfclient"
)

// addresses are n single ones from one to another block of 198.18.0.0/15.
func addresses(block, n int) (bare, prefixes []string) {
	for i := range n {
		addr := fmt.Sprintf("198.%d.%d.%d", 18+block/200, block%200, i)
		bare, prefixes = append(bare, addr), append(prefixes, addr+"/32")
	}
	return bare, prefixes
}

// ncclient reads the tenant as a client does that is not ours.
func ncclient(t *testing.T, s *netconfdtest.Server) []string {
	t.Helper()
	got := slices.Clone(s.NcclientRead(t, "blacklist-fail2ban", "internet").Addresses)
	slices.Sort(got)
	return got
}

// blockSize is how many bans freezeAt gives at once.
const blockSize = 150

// freezeAt gives bans until the server is caught in the middle of a change of
// that datastore, by the leader's edit-config or its commit, and is frozen there.
// caught is asked then. It returns what was banned, and in how many commits.
func freezeAt(t *testing.T, server *netconfdtest.Server, datastore string, from *agent, caught func() bool) (banned []string, commits int) {
	t.Helper()
	for block := range 6 {
		before := changes(t, server, datastore)
		bare, prefixes := addresses(block, blockSize)
		from.must(append([]string{"ban", "--for", "1h"}, bare...)...)
		banned = append(banned, prefixes...)
		for deadline := time.Now().Add(60 * time.Second); changes(t, server, datastore) == before; {
			if time.Now().After(deadline) {
				t.Fatalf("the server's log tells of no change of %s for 60 s", datastore)
			}
		}
		server.Freeze(t)
		if caught() {
			return banned, block + 1
		}
		server.Thaw(t) // it was too quick
	}
	t.Fatalf("of six changes of %s not one was caught", datastore)
	return nil, 0
}

// changes counts what the server's log tells.
func changes(t *testing.T, server *netconfdtest.Server, datastore string) int {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(server.Dir, "netconfd.log"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(log), "on target '"+datastore+"'")
}

func TestNetconfdLeaderKilledUnderTheLock(t *testing.T) {
	t.Parallel()
	server := netconfdtest.Start(t)
	agents := trio(t, settings{commit: commitTo(server, ", min_interval: 1s")})
	lead, others := leaderOf(t, agents)
	// Committing it stays, because nothing more is answered.
	want, _ := freezeAt(t, server, "candidate", others[0], func() bool { return lead.status().Commit.State == "committing" })
	others[0].must("ban", "203.0.113.1", "--for", "1h")
	want = append(want, "203.0.113.1/32")
	lead.kill()
	server.Thaw(t)
	slices.Sort(want)
	eventually(t, 90*time.Second, "another router to commit everything", func() bool { return slices.Equal(ncclient(t, server), want) })
	next, _ := leaderOf(t, others)
	eventually(t, 30*time.Second, next.name+" to be done", func() bool {
		s := next.status().Commit
		return s.State == "idle" && s.LastError == nil && s.Committed == len(want)
	})
	// Nobody is locked out, and nothing half done waits in the candidate.
	admin := netconfdAdmin(t, server)
	if err := admin.Lock(t.Context(), netconfclient.CandidateStore); err != nil {
		t.Errorf("lock after it all: %v", err)
	}
}

// TestNetconfdFrozenInMidOperation: the agents give up on the answer; what the
// server makes of it later they learn by reading.
func TestNetconfdFrozenInMidOperation(t *testing.T) {
	for _, c := range []struct {
		operation, changes string
		say                []string // one of them
	}{
		{"edit-config", "candidate", []string{"unreachable"}},
		// Where it was frozen right after its answer, running cannot be read any more.
		{"commit", "running", []string{"outcome of the commit is unknown", "running did not show it in time"}},
	} {
		t.Run(c.operation, func(t *testing.T) {
			t.Parallel()
			server := netconfdtest.Start(t)
			section := strings.Replace(commitTo(server, ", min_interval: 1s"), "timeout: 20s", "timeout: 3s", 1)
			agents := trio(t, settings{commit: section})
			lead, others := leaderOf(t, agents)
			want, commits := freezeAt(t, server, c.changes, others[0], func() bool {
				// It may have got as far as to unlock.
				eventually(t, 60*time.Second, "the leader to give up", func() bool { return lead.status().Commit.State != "committing" })
				return slices.ContainsFunc(strings.Split(lead.readLog(), "\n"), func(line string) bool {
					return strings.Contains(line, "commit failed") &&
						slices.ContainsFunc(c.say, func(say string) bool { return strings.Contains(line, say) })
				})
			})
			eventually(t, 60*time.Second, "status to tell of it", func() bool {
				s := lead.status().Commit
				return s.LastError != nil && s.State == "failing"
			})
			t.Logf("status: %s", *lead.status().Commit.LastError)
			server.Thaw(t)
			slices.Sort(want)
			eventually(t, 120*time.Second, "everything in running, once", func() bool { return slices.Equal(ncclient(t, server), want) })
			eventually(t, 120*time.Second, "a leader that is content", func() bool {
				s := agents[0].status()
				return s.Leader != nil && s.Commit.State == "idle" && s.Commit.LastError == nil && s.Commit.Committed == len(want)
			})
			candidate := slices.Sorted(slices.Values(server.NcclientReadFrom(t, "candidate", "blacklist-fail2ban", "internet").Addresses))
			if !slices.Equal(candidate, want) {
				t.Errorf("the candidate holds %d addresses, running %d", len(candidate), len(want))
			}
			// The log has one change for the tenant that comes with its first block, and
			// one for each address that comes later: none twice.
			if got, want := changes(t, server, "running"), 1+(commits-1)*blockSize; got != want {
				t.Errorf("running was changed %d times, want %d", got, want)
			}
		})
	}
}

// netconfdAdmin is another administrator's session. One whose first operation is
// not answered, as happens there now and then, is replaced.
func netconfdAdmin(t *testing.T, s *netconfdtest.Server) *netconfclient.Session {
	t.Helper()
	var err error
	for range 5 {
		var n *netconfclient.Session
		n, err = netconfclient.Dial(t.Context(), netconfclient.DialConfig{Address: s.Addr, User: s.User, KeyFile: s.KeyFile, KnownHosts: s.KnownHosts})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		_, err = n.GetConfig(ctx, netconfclient.RunningStore, netconfclient.Filter{})
		cancel()
		if err == nil {
			t.Cleanup(func() { n.Close() })
			return n
		}
		n.Close()
	}
	t.Fatal(err)
	return nil
}

func TestNetconfdStatusNamesWhoHoldsTheLock(t *testing.T) {
	t.Parallel()
	server := netconfdtest.Start(t)
	agents := trio(t, settings{commit: commitTo(server, "")})
	leaderOf(t, agents)
	admin := netconfdAdmin(t, server)
	if err := admin.Lock(t.Context(), netconfclient.CandidateStore); err != nil {
		t.Fatal(err)
	}
	agents[1].must("ban", "203.0.113.1", "--for", "1h")
	say := fmt.Sprintf("waiting for session %d", admin.ID())
	for _, a := range agents {
		eventually(t, 30*time.Second, a.name+" to say "+say, func() bool {
			s := a.status().Commit
			return s.State == "waiting" && strings.Contains(s.Detail, say)
		})
	}
	if got := ncclient(t, server); len(got) != 0 {
		t.Errorf("running holds %v while another session holds the lock", got)
	}
	if err := admin.Unlock(t.Context(), netconfclient.CandidateStore); err != nil {
		t.Fatalf("the other session was disturbed: %v", err)
	}
	eventually(t, 60*time.Second, "the commit", func() bool { return slices.Equal(ncclient(t, server), []string{"203.0.113.1/32"}) })
}

func TestNetconfdNothingIsSentToAnotherHostKey(t *testing.T) {
	t.Parallel()
	server := netconfdtest.Start(t)
	a := newAgent(t, "router1", settings{commit: commitTo(server, "")}).start()
	a.must("ban", "203.0.113.1", "--for", "1h")
	eventually(t, 30*time.Second, "the first commit", func() bool { return slices.Equal(ncclient(t, server), []string{"203.0.113.1/32"}) })

	server.ChangeHostKey(t, "ed25519")
	a.must("ban", "203.0.113.2", "--for", "1h")
	eventually(t, 30*time.Second, "status to say that the host key is another", func() bool {
		s := a.status()
		return s.Commit.State == "failing" && s.Commit.LastError != nil && strings.Contains(*s.Commit.LastError, "host key") &&
			slices.ContainsFunc(s.Warnings, func(w string) bool { return strings.Contains(w, "host key") })
	})
	t.Logf("status: %s", *a.status().Commit.LastError)
	if got := changes(t, server, "candidate"); got != 1 {
		t.Errorf("the candidate was edited %d times, want nothing sent to a server with another key", got)
	}
	server.TrustHostKey(t) // an operator has compared the fingerprints
	eventually(t, 90*time.Second, "the commit once the key is pinned", func() bool {
		return slices.Equal(ncclient(t, server), []string{"203.0.113.1/32", "203.0.113.2/32"})
	})
}

// TestNetconfdLieIsFoundByReadingBack: after an explicit validate this server
// answers ok to a commit, drops what was added and does what was removed.
func TestNetconfdLieIsFoundByReadingBack(t *testing.T) {
	t.Parallel()
	server := netconfdtest.Start(t)
	a := newAgent(t, "router1", settings{commit: commitTo(server, ", validate: explicit")}).start()
	a.must("ban", "203.0.113.1", "--for", "1h")
	// What was answered with success may show late: it is waited for as long as the timeout of 20 s.
	eventually(t, 90*time.Second, "status to say what is missing", func() bool {
		s := a.status().Commit
		return s.State == "failing" && s.LastError != nil && strings.Contains(*s.LastError, "203.0.113.1/32")
	})
	s := a.status()
	t.Logf("status: %s", *s.Commit.LastError)
	if s.Commit.Committed != 0 || s.Commit.Commits != 0 || s.Commit.PendingAdd != 1 {
		t.Errorf("%d committed in %d commits, %d to add; want 0, 0, 1", s.Commit.Committed, s.Commit.Commits, s.Commit.PendingAdd)
	}
	if a.banned("203.0.113.1/32").Committed {
		t.Error("a ban is called committed that the conductor has dropped")
	}
	if got := ncclient(t, server); len(got) != 0 {
		t.Fatalf("running holds %v: this server does not lie, and the test tests nothing", got)
	}
}
