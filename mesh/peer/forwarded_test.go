package peer

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
)

// couple are a follower and the leader, whose packets lose tells to drop.
func couple(lose func(from string) bool, commit func(context.Context, bool) (control.CommitReply, error)) (follower, leader *Messenger) {
	ends := make(map[string]*Messenger)
	end := func(name string) *Messenger {
		ends[name] = New(Config{
			Name: name, Commit: commit, Random: rand.NewPCG(1, 2), Logger: slog.New(slog.DiscardHandler),
			Send: func(to string, payload []byte) error {
				if !lose(name) {
					go ends[to].Receive(name, payload)
				}
				return nil
			},
		})
		return ends[name]
	}
	return end("follower"), end("leader")
}

// A request whose packets are lost is repeated until its result comes, and is carried out
// once.
func TestAForwardedCommitIsCarriedOutOnce(t *testing.T) {
	for _, lossy := range []string{"follower", "leader", "nobody"} {
		synctest.Test(t, func(t *testing.T) {
			var sent, commits atomic.Int32
			follower, _ := couple(
				func(from string) bool { return from == lossy && sent.Add(1) <= 3 },
				func(_ context.Context, force bool) (control.CommitReply, error) {
					if !force {
						t.Error("the word of --force is lost on the way")
					}
					commits.Add(1)
					time.Sleep(3 * time.Second) // the request comes again meanwhile
					return control.CommitReply{Committed: true, Detail: "2 added"}, nil
				})
			reply, err := follower.CommitAt(t.Context(), "leader", true)
			if err != nil || !reply.Committed || reply.Leader != "leader" || reply.Detail != "2 added" {
				t.Errorf("%s loses packets: %+v, %v", lossy, reply, err)
			}
			synctest.Wait()
			if n := commits.Load(); n != 1 {
				t.Errorf("%s loses packets: %d commits", lossy, n)
			}
		})
	}
}

func TestAForwardedCommitTellsWhyItFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		follower, _ := couple(func(string) bool { return false }, func(context.Context, bool) (control.CommitReply, error) {
			return control.CommitReply{}, errors.New("the conductor is busy")
		})
		if _, err := follower.CommitAt(t.Context(), "leader", false); err == nil || err.Error() != "leader, who leads: the conductor is busy" {
			t.Errorf("%v", err)
		}
	})
}
