package page

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
)

// keptFrames is how many frames a viewer may lag behind. Beyond that it is told that it lost some, and starts again with the
// whole state.
const keptFrames = 16

// frame is what has changed, as sent to every viewer.
type frame struct {
	At    string            `json:"at"`
	Title string            `json:"title"`
	Parts map[string]string `json:"parts"`
	Moves []move            `json:"moves,omitempty"`
	Moved int               `json:"moved,omitempty"` // all arrivals, also those not in Moves
}

// message encodes one server-sent event.
func message(event string, v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	b.WriteString("event: " + event + "\ndata: ")
	b.Write(data)
	b.WriteString("\n\n")
	return b.Bytes(), nil
}

// frames holds the latest frames once for all viewers; a viewer is only a position in them.
type frames struct {
	mu    sync.Mutex
	next  uint64             // the number of the next frame
	ring  [keptFrames][]byte // frame n is at n % keptFrames
	state frame              // all parts as of the last frame
	wake  chan struct{}      // closed by the next frame; nil while nobody waits
}

// buildFrame renders the changes and hands them to the viewers.
func (p *Page) buildFrame(ctx context.Context) {
	p.building.Lock()
	defer p.building.Unlock()
	v := p.view(ctx)
	// A viewer that has gone: what was read for it may be cut short, and must not be everybody's next frame.
	if ctx.Err() != nil {
		return
	}
	f := frame{At: v.At.Machine, Title: v.Title, Parts: make(map[string]string)}
	f.Moves, f.Moved = p.timeline.takeMoves()
	for _, name := range parts {
		text, err := p.render(name, v)
		if err != nil {
			p.log.Error("the page cannot be shown", "error", err)
			return
		}
		f.Parts[name] = text
	}
	p.frames.add(f)
}

// add stores a frame with all its parts, and sends the parts that differ from the frame before.
func (fs *frames) add(f frame) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	changed := f
	changed.Parts = make(map[string]string)
	for name, text := range f.Parts {
		if fs.state.Parts[name] != text {
			changed.Parts[name] = text
		}
	}
	fs.state = f
	// Arrivals are shown once. A viewer that comes later gets the state without them.
	fs.state.Moves, fs.state.Moved = nil, 0
	if len(changed.Parts) == 0 && changed.Moved == 0 {
		return
	}
	b, err := message("state", changed)
	if err != nil { // cannot happen: the frame holds only strings
		return
	}
	fs.ring[fs.next%keptFrames] = b
	fs.next++
	if fs.wake != nil {
		close(fs.wake)
		fs.wake = nil
	}
}

// all returns the whole state and the position after it.
func (fs *frames) all() (f frame, place uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.state, fs.next
}

// take returns the frames from a position on. If they are no longer kept, it returns how many are lost; if there is none yet,
// it returns a channel that is closed when there is.
func (fs *frames) take(place uint64) (out [][]byte, lost uint64, wake <-chan struct{}) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if place == fs.next {
		if fs.wake == nil {
			fs.wake = make(chan struct{})
		}
		return nil, 0, fs.wake
	}
	if behind := fs.next - place; behind > keptFrames {
		return nil, behind, nil
	}
	for ; place < fs.next; place++ {
		out = append(out, fs.ring[place%keptFrames])
	}
	return out, 0, nil
}
