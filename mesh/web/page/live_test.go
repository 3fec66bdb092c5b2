package page

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
)

func TestAViewerGetsTheStateAndThenEachBan(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(newPage(t, f))
	t.Cleanup(server.Close)
	v := watch(t, server.URL)
	event, first := v.next()
	if event != "state" || len(first.Parts) != len(parts) || !strings.Contains(first.Title, "router1") {
		t.Fatalf("the first message is %s with %d parts and the title %q, want state with all %d", event, len(first.Parts), first.Title, len(parts))
	}
	said := time.Now()
	f.events <- banAt("203.0.113.7/32", "router2", "sshd", said)
	for {
		_, next := v.next()
		if next.Moved == 0 {
			continue
		}
		if took := time.Since(said); took > time.Second {
			t.Errorf("the ban came after %v, want within a second", took)
		}
		wants(t, "the newest", next.Parts["newest"], "203.0.113.7", "router2", "sshd")
		if len(next.Moves) != 1 || next.Moves[0] != (move{"203.0.113.7/32", "router2", "sshd"}) {
			t.Errorf("arrivals %+v, want the one", next.Moves)
		}
		if len(next.Parts) == len(parts) {
			t.Error("a ban has every part sent again")
		}
		return
	}
}

func TestANewLeaderIsShownWithoutWaiting(t *testing.T) {
	f := newFake()
	server := httptest.NewServer(newPage(t, f))
	t.Cleanup(server.Close)
	v := watch(t, server.URL)
	v.next()
	f.set(func(f *fake) {
		leader := "router3"
		f.status.Leader = &leader
	})
	f.events <- control.Event{Time: control.At(time.Now()), Event: "leader", Name: "router3", Term: 2}
	for {
		if _, next := v.next(); strings.Contains(next.Parts["summary"], "router3") {
			return
		}
	}
}

func TestAThousandBansAtOnceAreAFewFrames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		p := newPage(t, f)
		w := newWriter()
		v := begin(t, p, w)
		_, before := p.frames.all()
		const many = 1000
		for i := range many {
			f.events <- banAt(fmt.Sprintf("198.18.%d.%d/32", i>>8, i&255), "router2", "sshd", time.Now())
		}
		time.Sleep(2 * framePace)
		synctest.Wait()
		if _, now := p.frames.all(); now-before > 3 {
			t.Errorf("%d frames for bans of one moment, want at most 3", now-before)
		}
		v.end()
		told := 0
		for _, m := range w.messages(t) {
			told += m.frame.Moved
			if len(m.frame.Moves) > keptMoves {
				t.Errorf("%d arrivals told one by one, want at most %d", len(m.frame.Moves), keptMoves)
			}
		}
		if told != many {
			t.Errorf("%d arrivals were told of, want %d", told, many)
		}
	})
}

func TestNothingIsSentWhileNothingChangesButABeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage(t, newFake())
		w := newWriter()
		v := begin(t, p, w)
		time.Sleep(4*beat + time.Second)
		v.end()
		beats, states := 0, 0
		for _, m := range w.messages(t) {
			switch m.event {
			case "beat":
				beats++
			case "state":
				states++
			}
		}
		// The plots move on with the minute.
		if beats < 2 || states > 4 {
			t.Errorf("%d beats and %d states in a minute, want one in each %v and a few", beats, states, beat)
		}
	})
}

func TestAViewerThatFallsBehindIsToldAndBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		p := newPage(t, f)
		w := newWriter()
		v := begin(t, p, w)
		time.Sleep(time.Second)
		w.block()
		f.events <- banAt("203.0.113.7/32", "router2", "sshd", time.Now())
		time.Sleep(time.Second)         // it is sent, and not taken
		for i := range keptFrames + 4 { // more than are kept, in one blocked write
			state, _ := p.frames.all()
			state.Moved = i + 1
			p.frames.add(state)
		}
		w.pass()
		time.Sleep(time.Second)
		v.end()
		lost := -1
		got := w.messages(t)
		for i, m := range got {
			if m.event == "lost" {
				lost = i
			}
		}
		if lost < 0 || lost+1 >= len(got) || got[lost+1].event != "state" || len(got[lost+1].frame.Parts) != len(parts) {
			t.Errorf("%d messages, none says that frames were lost with the whole state after it", len(got))
		}
	})
}

func TestAViewerThatDoesNotReadIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		p := newPage(t, f)
		w := newWriter()
		v := begin(t, p, w)
		w.block()
		f.events <- banAt("203.0.113.7/32", "router2", "sshd", time.Now())
		time.Sleep(viewerPatience + 2*time.Second)
		synctest.Wait()
		select {
		case <-v.ended:
		default:
			t.Errorf("a viewer that reads nothing is still served after %v", viewerPatience+2*time.Second)
			w.pass()
			v.end()
		}
		if n := p.viewers.Load(); n != 0 {
			t.Errorf("%d viewers are counted, want 0", n)
		}
	})
}

func TestViewersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPage(t, newFake())
		var all []*session
		for range mostViewers {
			all = append(all, begin(t, p, newWriter()))
		}
		synctest.Wait()
		w := get(t, p, "/live")
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("one viewer more: %d, Retry-After %q, want 503 and a time", w.Code, w.Header().Get("Retry-After"))
		}
		wants(t, "the state without a stream", text(t, p, "/state"), `"parts":{`, "12,345")
		for _, v := range all {
			v.end()
		}
		begin(t, p, newWriter()).end()
	})
}

func TestStreamsEndWithTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := idlePage(t, newFake())
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { p.Run(ctx) })
		w := newWriter()
		v := begin(t, p, w)
		cancel()
		running.Wait()
		<-v.ended
		got := w.messages(t)
		if last := got[len(got)-1]; last.event != "end" {
			t.Errorf("the last message is %q, want end", last.event)
		}
	})
}

// session is a stream that is being served to a writer.
type session struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

func begin(t *testing.T, p *Page, w *writer) *session {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	v := &session{cancel, make(chan struct{})}
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/live", nil)
	go func() {
		defer close(v.ended)
		p.ServeHTTP(w, r)
	}()
	synctest.Wait()
	return v
}

func (v *session) end() {
	v.cancel()
	<-v.ended
}

// writer is a connection that takes what it is sent, or for a while does not.
type writer struct {
	mu       sync.Mutex
	head     http.Header
	body     bytes.Buffer
	blocked  chan struct{} // closed when it takes again; nil while it does
	deadline time.Time
}

func newWriter() *writer { return &writer{head: http.Header{}} }

func (w *writer) Header() http.Header { return w.head }
func (w *writer) WriteHeader(int)     {}
func (w *writer) FlushError() error   { return nil }

func (w *writer) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.deadline = t
	return nil
}

func (w *writer) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.blocked = make(chan struct{})
}

func (w *writer) pass() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.blocked)
	w.blocked = nil
}

func (w *writer) Write(b []byte) (int, error) {
	for {
		w.mu.Lock()
		blocked, left := w.blocked, time.Until(w.deadline)
		if blocked == nil {
			defer w.mu.Unlock()
			return w.body.Write(b)
		}
		w.mu.Unlock()
		timer := time.NewTimer(left)
		select {
		case <-blocked:
			timer.Stop()
		case <-timer.C:
			return 0, fmt.Errorf("write: %w", os.ErrDeadlineExceeded)
		}
	}
}

type told struct {
	event string
	frame frame
}

// messages are what it has taken, after the stream has ended.
func (w *writer) messages(t *testing.T) []told {
	t.Helper()
	lines := bufio.NewScanner(bytes.NewReader(w.body.Bytes()))
	lines.Buffer(nil, 1<<20)
	var out []told
	for {
		event, f, err := readMessage(lines)
		if err != nil {
			if !strings.Contains(err.Error(), "has ended") {
				t.Fatal(err)
			}
			return out
		}
		out = append(out, told{event, f})
	}
}

func TestAStreamThatBreaksIsNoTrouble(t *testing.T) {
	s := stream{w: httptest.NewRecorder(), control: http.NewResponseController(failing{httptest.NewRecorder()})}
	if err := s.send([]byte("x")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("error %v, want that of the connection", err)
	}
}

// failing is a connection that has gone.
type failing struct{ *httptest.ResponseRecorder }

func (failing) SetWriteDeadline(time.Time) error { return os.ErrClosed }
