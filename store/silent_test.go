package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// hungDisk is a disk one of whose methods does not return while it is frozen, as one under fsfreeze(8).
type hungDisk struct {
	*memDisk
	frozen chan struct{} // nil: it works; guarded by mu
	hangs  string        // the method; guarded by mu
}

func (d *hungDisk) freeze() (thaw func()) { return d.freezeIn("commit") }

func (d *hungDisk) freezeIn(method string) (thaw func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c := make(chan struct{})
	d.frozen, d.hangs = c, method
	return func() {
		d.mu.Lock()
		d.frozen = nil
		d.mu.Unlock()
		close(c)
	}
}

func (d *hungDisk) wait(method string) {
	d.mu.Lock()
	frozen := d.frozen
	if method != d.hangs {
		frozen = nil
	}
	d.mu.Unlock()
	if frozen != nil {
		<-frozen
	}
}

func (d *hungDisk) commit(b *batch) error {
	d.wait("commit")
	return d.memDisk.commit(b)
}

func (d *hungDisk) seqs(log uint32) ([]uint64, error) {
	d.wait("seqs")
	return d.memDisk.seqs(log)
}

func (d *hungDisk) tend(Millis, func()) (was, is int64, err error) {
	d.wait("tend")
	return 0, 0, nil
}

// A write that neither succeeds nor fails makes the store unhealthy after five seconds, and only its answer heals it.
func TestADiskThatDoesNotAnswerIsUnhealthy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &hungDisk{memDisk: newMemDisk()}
		n := newNode(t, "a", newClock(), nil, func(c *Config) { c.openDisk = func(string) (disk, error) { return d, nil } })
		defer n.Close() // within the bubble
		thaw := d.freeze()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := n.Ban(ctx, []BanRequest{n.request("192.0.2.1", time.Hour)}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a ban on a frozen disk: %v", err)
		}
		time.Sleep(3900 * time.Millisecond)
		if err := n.Health(); err != nil {
			t.Errorf("after 4.9 s: %v", err)
		}
		time.Sleep(200 * time.Millisecond)
		var silent *SilentError
		if err := n.Health(); !errors.As(err, &silent) || silent.since < 5*time.Second || silent.since > 6*time.Second {
			t.Errorf("after 5.1 s: %v", err)
		}
		time.Sleep(time.Hour)
		if err := n.Health(); err == nil || fmt.Sprint(err) != "the disk of memory has not answered for 1h0m5s" {
			t.Errorf("after an hour: %v", err)
		}
		thaw()
		synctest.Wait()
		if err := n.Health(); err != nil {
			t.Errorf("once it has answered: %v", err)
		}
		if !n.live("192.0.2.1/32") {
			t.Error("the ban that the writer held is lost")
		}
	})
}

// What comes from others waits 5 s at most for a disk that does not answer, goes on in memory, and is in the file when it
// answers again.
func TestOthersRecordsDoNotWaitForAHungDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &hungDisk{memDisk: newMemDisk()}
		c := newClock()
		cfg := func(c *Config) { c.openDisk = func(string) (disk, error) { return d, nil } }
		n := newNode(t, "a", c, nil, cfg)
		defer n.Close()
		peer := newNode(t, "b", c, nil)
		defer peer.Close()
		const each, calls = 2000, 70
		for i := range calls {
			var reqs []BanRequest
			for k := range each {
				reqs = append(reqs, peer.request(fmt.Sprintf("10.%d.%d.%d", i, k/250, k%250), time.Hour))
			}
			if _, err := peer.Ban(context.Background(), reqs); err != nil {
				t.Fatal(err)
			}
		}
		thaw := d.freeze()
		began := time.Now()
		for seq := uint64(0); seq < peer.Head().Seq; {
			chunk, last := peer.Since(seq, 200_000)
			if _, err := n.Merge(chunk); err != nil {
				t.Fatal(err)
			}
			seq = last
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("merging took %v", took)
		}
		if got := n.Counts().Live; got != each*calls {
			t.Errorf("%d bans in memory, want %d", got, each*calls)
		}
		if n.pending.bytes > maxPending+1<<20 {
			t.Errorf("%d bytes wait for the disk", n.pending.bytes)
		}
		thaw()
		synctest.Wait()
		if err := n.Health(); err != nil {
			t.Error(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		again := newNode(t, "a", c, nil, cfg)
		defer again.Close()
		if got := again.Counts().Live; got != each*calls {
			t.Errorf("%d bans in the file, want %d", got, each*calls)
		}
	})
}

// The writer waits for the disk not only in its transactions: where it hangs while the file is made smaller, or while a log
// that the disk had refused is compared with it, that is told all the same. A simulated disk makes no difference.
func TestADiskThatHangsBetweenTransactionsIsUnhealthy(t *testing.T) {
	for _, method := range []string{"tend", "seqs"} {
		for _, simulated := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, simulated %v", method, simulated), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := &hungDisk{memDisk: newMemDisk()}
					c := newClock()
					n := newNode(t, "a", c, nil, func(c *Config) {
						c.openDisk = func(string) (disk, error) { return d, nil }
						if simulated {
							c.Commit = func(write func() error) error { return write() }
						}
					})
					defer n.Close()
					peer := newNode(t, "b", c, nil)
					defer peer.Close()
					peer.ban("192.0.2.1", time.Hour)
					synctest.Wait()
					if method == "seqs" {
						d.setFail(errTest)
						n.pull(peer)
						synctest.Wait()
						if n.Health() == nil {
							t.Fatal("the disk does not fail")
						}
						d.setFail(nil)
					}
					thaw := d.freezeIn(method)
					if method == "tend" {
						n.must(n.SaveMeta(context.Background(), "any", nil))
					}
					time.Sleep(silentAfter + retryAfter + time.Second)
					var silent *SilentError
					if err := n.Health(); !errors.As(err, &silent) {
						t.Errorf("while it hangs: %v", err)
					}
					thaw()
					time.Sleep(retryAfter * 3 / 2) // between two tries
					synctest.Wait()
					if err := n.Health(); err != nil {
						t.Errorf("once it has answered: %v", err)
					}
				})
			})
		}
	}
}
