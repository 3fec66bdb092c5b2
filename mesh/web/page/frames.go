package page

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
)

// keptFrames is how many frames a viewer may lag behind before it is told that
// it has lost some and begins anew with the whole state.
const keptFrames = 16

// frame is what has changed, as it goes to every viewer.
type frame struct {
	At    string            `json:"at"`
	Title string            `json:"title"`
	Parts map[string]string `json:"parts"`
	Moves []move            `json:"moves,omitempty"`
	Moved int               `json:"moved,omitempty"` // all arrivals, also those not in Moves
}

// message is one of the stream of server-sent events.
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

// frames are the latest ones, held once for all viewers: a viewer is a place in
// them.
type frames struct {
	mu    sync.Mutex
	next  uint64             // the number of the next frame
	ring  [keptFrames][]byte // frame n is at n % keptFrames
	state frame              // all parts as of the last frame
	wake  chan struct{}      // closed by the next frame; nil while nobody waits
}

// buildFrame renders what is new and hands it to the viewers.
func (p *Page) buildFrame(ctx context.Context) {
	p.building.Lock()
	defer p.building.Unlock()
	v := p.view(ctx)
	if ctx.Err() != nil {
		return
	}
	f := frame{At: v.At.Machine, Title: v.Title, Parts: make(map[string]string)}
	f.Moves, f.Moved = p.feed.takeMoves()
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

// add keeps a frame with all its parts, and tells what differs from the one
// before.
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
	fs.state.Moves, fs.state.Moved = nil, 0
	if len(changed.Parts) == 0 && changed.Moved == 0 {
		return
	}
	b, err := message("state", changed)
	if err != nil { // it holds strings only
		return
	}
	fs.ring[fs.next%keptFrames] = b
	fs.next++
	if fs.wake != nil {
		close(fs.wake)
		fs.wake = nil
	}
}

// all is the whole state, and the place after it.
func (fs *frames) all() (f frame, place uint64) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	return fs.state, fs.next
}

// take returns the frames from a place on. Where the place is no longer held it
// returns how many are lost instead, and where there is none yet, what is closed
// when there is.
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
