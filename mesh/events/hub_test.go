package events

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
)

// numbered are n events that carry their number, from first on.
func numbered(first, n int) []control.Event {
	out := make([]control.Event, n)
	for i := range out {
		out[i] = control.Event{Event: "ban", Term: uint64(first + i)}
	}
	return out
}

func TestEveryReaderGetsEveryEventInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		const readers, batches, size = 7, 200, 5
		got := make([][]uint64, readers)
		for i := range readers {
			go h.Read(ctx, func(e control.Event) error { got[i] = append(got[i], e.Term); return nil })
		}
		synctest.Wait()
		var want []uint64
		for b := range batches {
			events := numbered(b*size, size)
			for _, e := range events {
				want = append(want, e.Term)
			}
			h.Publish(events...)
			if b%3 == 0 {
				synctest.Wait()
			}
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		for i := range got {
			if !slices.Equal(got[i], want) {
				t.Errorf("reader %d got %d events, want the %d in order", i, len(got[i]), len(want))
			}
		}
	})
}

func TestASlowReaderIsToldWhatItLostAndTheOthersLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var fast int
		go h.Read(ctx, func(control.Event) error { fast++; return nil })
		proceed := make(chan struct{})
		var got []uint64
		lost, told := 0, 0
		go h.Read(ctx, func(e control.Event) error {
			if e.Lost > 0 {
				lost, told = lost+e.Lost, told+1
				return nil
			}
			got = append(got, e.Term)
			if len(got) == 1 {
				<-proceed
			}
			return nil
		})
		synctest.Wait()
		const batch, flood = 1000, 3 * heldEvents
		h.Publish(numbered(0, 1)...)
		for first := 1; first <= flood; first += batch {
			h.Publish(numbered(first, min(batch, flood+1-first))...)
			synctest.Wait()
		}
		if fast != flood+1 {
			t.Errorf("the fast reader got %d events, want %d", fast, flood+1)
		}
		close(proceed)
		synctest.Wait()
		if lost != flood-heldEvents || told != 1 || len(got) != heldEvents+1 {
			t.Errorf("the slow reader got %d events and was told %d times of %d lost ones, want %d, once of %d",
				len(got), told, lost, heldEvents+1, flood-heldEvents)
		}
		if want := uint64(flood - heldEvents + 1); got[1] != want || got[len(got)-1] != flood {
			t.Errorf("it goes on with events %d to %d, want %d to %d", got[1], got[len(got)-1], want, flood)
		}
	})
}

func TestOneBatchLargerThanWhatIsHeldIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got, lost int
		go h.Read(ctx, func(e control.Event) error { got++; lost += e.Lost; return nil })
		synctest.Wait()
		h.Publish(numbered(0, heldEvents+10)...)
		synctest.Wait()
		if got != heldEvents+1 || lost != 10 {
			t.Errorf("%d events and %d lost, want %d with the word of it, and 10", got, lost, heldEvents+1)
		}
	})
}

func TestAReaderThatNeverCatchesUpIsDroppedAndTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		var publisher sync.WaitGroup
		publisher.Go(func() { // faster than the reader, for ever
			for ctx.Err() == nil {
				h.Publish(numbered(0, heldEvents)...)
				time.Sleep(time.Second)
			}
		})
		defer publisher.Wait()
		defer cancel()
		began := time.Now()
		var last control.Event
		err := h.Read(ctx, func(e control.Event) error {
			last = e
			time.Sleep(time.Millisecond) // a batch takes it 16 s
			return nil
		})
		if !errors.Is(err, errSlowReader) || last.Event != "error" || last.Lost == 0 {
			t.Errorf("the stream ended with %v after %+v, want errSlowReader after the word of it", err, last)
		}
		if took := time.Since(began); took < slowFor || took > 3*slowFor {
			t.Errorf("dropped after %v, want some more than %v", took, slowFor)
		}
		if h.Watched() {
			t.Error("a reader that is gone still counts")
		}
	})
}

func TestAReaderThatCatchesUpInBetweenIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var h Hub
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		told := 0
		go func() {
			done <- h.Read(ctx, func(e control.Event) error {
				if e.Lost > 0 {
					told++
				}
				time.Sleep(time.Millisecond)
				return nil
			})
		}()
		synctest.Wait()
		for range 6 { // one that is too much, then a minute to read what is held
			h.Publish(numbered(0, heldEvents+1)...)
			time.Sleep(time.Minute)
		}
		cancel()
		if err := <-done; err != nil || told != 6 {
			t.Errorf("ended with %v after %d words of lost events, want nil after 6", err, told)
		}
	})
}

func TestNothingIsHeldWithoutReaders(t *testing.T) {
	var h Hub
	h.Publish(numbered(0, 10)...)
	if h.held != 0 || len(h.batches) != 0 {
		t.Errorf("%d events held for nobody", h.held)
	}
	ctx, cancel := context.WithCancel(t.Context())
	entered, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		ended <- h.Read(ctx, func(control.Event) error { close(entered); return nil })
	}()
	for deadline := time.Now().Add(10 * time.Second); !h.Watched(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the reader did not come")
		}
	}
	h.Publish(numbered(0, 1)...)
	<-entered
	cancel()
	if err := <-ended; err != nil || h.held != 0 {
		t.Errorf("ended with %v and %d events held, want nil and 0", err, h.held)
	}
}

// stalled are readers that have taken one event and do not come back for the
// next.
func stalled(tb testing.TB, h *Hub, n int) {
	ctx, cancel := context.WithCancel(context.Background())
	var in atomic.Int32
	for range n {
		go h.Read(ctx, func(control.Event) error { in.Add(1); <-ctx.Done(); return nil })
	}
	tb.Cleanup(cancel)
	for deadline := time.Now().Add(10 * time.Second); int(in.Load()) < n; time.Sleep(time.Millisecond) {
		h.Publish(control.Event{Event: "ban"})
		if time.Now().After(deadline) {
			tb.Fatalf("%d of %d readers came", in.Load(), n)
		}
	}
}

// BenchmarkPublish is what a change of the set pays for its readers, one reader
// that keeps up always among them.
func BenchmarkPublish(b *testing.B) {
	for _, n := range []int{0, 100} {
		b.Run(fmt.Sprintf("stalled=%d", n), func(b *testing.B) {
			var h Hub
			go h.Read(b.Context(), func(control.Event) error { return nil })
			stalled(b, &h, n)
			event := control.Event{Event: "ban", Prefix: "203.0.113.7/32", Origin: "router1", Jail: "sshd"}
			b.ReportAllocs()
			for b.Loop() {
				h.Publish(event)
			}
		})
	}
}
