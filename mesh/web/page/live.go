package page

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"
)

const (
	// mostViewers bounds the streams; further pages poll every few seconds instead.
	mostViewers = 128

	// viewerPatience is how long a viewer may leave sent data unread.
	viewerPatience = 5 * time.Second

	// beat is how often an idle stream shows that it is alive.
	beat = 15 * time.Second
)

// serveState serves the whole state at once, for pages without a stream.
func (p *Page) serveState(w http.ResponseWriter, r *http.Request) {
	p.buildFrame(r.Context())
	state, _ := p.frames.all()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(&state); err != nil {
		p.log.Debug("the state was not read", "error", err)
	}
}

// serveLive streams changes until the viewer leaves, does not read, or the agent stops.
func (p *Page) serveLive(w http.ResponseWriter, r *http.Request) {
	if p.viewers.Add(1) > mostViewers {
		p.viewers.Add(-1)
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many viewers: ask for /state instead", http.StatusServiceUnavailable)
		return
	}
	defer p.viewers.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // keep proxies from buffering the stream
	// HEAD asks for the header alone, and a stream would not end.
	if r.Method == http.MethodHead {
		return
	}
	s := stream{w: w, control: http.NewResponseController(w)}
	err := p.show(r, &s)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		p.log.Info("a viewer of the page does not read and was dropped", "viewer", r.RemoteAddr)
	case err != nil && r.Context().Err() == nil:
		p.log.Debug("a viewer of the page has gone", "viewer", r.RemoteAddr, "error", err)
	}
}

// stream is the stream to one viewer.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// send gives up on a viewer that does not read: each stream has a goroutine, and a browser that sleeps would
// keep it.
func (s *stream) send(messages ...[]byte) error {
	// Servers in tests may not support deadlines.
	if err := s.control.SetWriteDeadline(time.Now().Add(viewerPatience)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	for _, m := range messages {
		if _, err := s.w.Write(m); err != nil {
			return err
		}
	}
	return s.control.Flush()
}

func (s *stream) tell(event string, v any) error {
	m, err := message(event, v)
	if err != nil {
		return err
	}
	return s.send(m)
}

// show sends the whole state and then each frame.
func (p *Page) show(r *http.Request, s *stream) error {
	// While nobody watches no frames are built, so the last one may be old.
	p.buildFrame(r.Context())
	p.poke() // the pace changes with the first viewer
	state, place := p.frames.all()
	if err := s.tell("state", &state); err != nil {
		return err
	}
	alive := time.NewTicker(beat)
	defer alive.Stop()
	for {
		frames, lost, wake := p.frames.take(place)
		switch {
		case lost > 0:
			if err := s.tell("lost", map[string]uint64{"frames": lost}); err != nil {
				return err
			}
			state, place = p.frames.all()
			if err := s.tell("state", &state); err != nil {
				return err
			}
		case wake == nil:
			if err := s.send(frames...); err != nil {
				return err
			}
			place += uint64(len(frames))
		default:
			select {
			case <-wake:
			case <-alive.C:
				if err := s.tell("beat", struct{}{}); err != nil {
					return err
				}
			case <-r.Context().Done():
				return nil
			case <-p.stopping:
				return s.tell("end", struct{}{})
			}
		}
	}
}
