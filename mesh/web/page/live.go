package page

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"time"
)

const (
	// mostViewers bounds the streams; the page of one more asks every few seconds
	// instead.
	mostViewers = 128

	// viewerPatience is how long a viewer may leave what it is sent unread.
	viewerPatience = 5 * time.Second

	// beat is how often a stream shows that it lives while nothing changes.
	beat = 15 * time.Second
)

// serveState answers with the whole state at once, for the page that has no
// stream.
func (p *Page) serveState(w http.ResponseWriter, r *http.Request) {
	p.buildFrame(r.Context())
	state, _ := p.frames.all()
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(&state); err != nil {
		p.log.Debug("the state was not read", "error", err)
	}
}

// serveLive streams what changes, until the viewer goes, does not read, or the
// agent stops.
func (p *Page) serveLive(w http.ResponseWriter, r *http.Request) {
	if p.viewers.Add(1) > mostViewers {
		p.viewers.Add(-1)
		w.Header().Set("Retry-After", "30")
		http.Error(w, "too many viewers: ask for /state instead", http.StatusServiceUnavailable)
		return
	}
	defer p.viewers.Add(-1)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // a proxy in between must not hold it back
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

// stream is one viewer's.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (s *stream) send(messages ...[]byte) error {
	// Servers without deadlines are those of tests.
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
	p.buildFrame(r.Context())
	p.poke() // the pace is another one from the first viewer on
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
