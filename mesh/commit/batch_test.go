package commit

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func newBatch() batch {
	return batch{window: 2 * time.Second, maxWait: 10 * time.Second, expiryWait: 5 * time.Minute, interval: 30 * time.Second, burst: 3}
}

func TestNothingPendingIsNeverDue(t *testing.T) {
	b := newBatch()
	if at := b.due(); !at.IsZero() {
		t.Errorf("due = %s, want never", at)
	}
}

func TestManyLiftsDoNotMakeAdditionsWaitForLong(t *testing.T) {
	b := newBatch()
	now := noon
	for range 50 {
		b.note(now, Removal)
		now = b.due()
		b.take()
		b.committed(now)
	}
	b.note(now, Addition)
	if wait := b.due().Sub(now); wait > 30*time.Second {
		t.Errorf("an addition waits %s after 50 lifts, want at most the interval", wait)
	}
}

func TestWhatAFailedCommitTookIsDueAsBefore(t *testing.T) {
	b := newBatch()
	b.note(noon, Addition)
	due := b.due()
	p := b.take()
	b.note(noon.Add(time.Minute), Addition)
	b.restore(p)
	if at := b.due(); at.After(due.Add(b.maxWait)) {
		t.Errorf("due = %s, want about %s", at, due)
	}
}

// TestBatchLaws plays any stream of changes through the batch with commits that
// take no time.
func TestBatchLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBatch()
		now := noon
		var commits []time.Time
		var waiting [urgencies]time.Time
		urgent := 0
		commit := func(at time.Time) {
			now = at
			for u, since := range waiting {
				if since.IsZero() {
					continue
				}
				wait := now.Sub(since)
				switch {
				case Urgency(u) == Removal && wait > b.maxWait:
					t.Fatalf("a lift waited %s", wait)
				case Urgency(u) == Addition && wait > b.maxWait+b.interval:
					t.Fatalf("an addition waited %s", wait)
				case wait > b.expiryWait+b.interval:
					t.Fatalf("an expiry waited %s", wait)
				}
			}
			if waiting[Removal].IsZero() {
				commits = append(commits, now)
			} else {
				urgent++
			}
			waiting = [urgencies]time.Time{}
			b.take()
			b.committed(now)
		}
		for range rapid.IntRange(1, 60).Draw(t, "changes") {
			next := now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "after ms")) * time.Millisecond)
			for at := b.due(); !at.IsZero() && !at.After(next); at = b.due() {
				commit(later(at, now))
			}
			now = next
			u := Urgency(rapid.IntRange(0, int(urgencies)-1).Draw(t, "urgency"))
			if waiting[u].IsZero() {
				waiting[u] = now
			}
			b.note(now, u)
			if b.due().IsZero() {
				t.Fatal("a change waits and nothing is due")
			}
		}
		for i := range commits { // any window of the commits that have to take turns
			for j := i; j < len(commits); j++ {
				if n, most := j-i+1, b.burst+int(commits[j].Sub(commits[i])/b.interval); n > most {
					t.Fatalf("%d commits within %s, want at most %d", n, commits[j].Sub(commits[i]), most)
				}
			}
		}
	})
}
