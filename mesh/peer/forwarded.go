package peer

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// `banmesh commit` on a router that does not lead is forwarded to the leader. Either message may be lost, so the request is
// repeated until its result arrives; its ID keeps a repeated request from being carried out twice.

// forwardRequest is the body of a message to the leader: commit now.
type forwardRequest struct {
	ID    uint64
	Force bool
}

// forwardResult is the body of the answer.
type forwardResult struct {
	ID        uint64
	Committed bool
	Add       int64
	Remove    int64
	Detail    string
	Error     string
}

const (
	forwardFields = 2
	resultFields  = 6

	forwardRepeat = time.Second
	maxForwarded  = 64 // at once, and as many remembered
)

// forwarded holds what this agent asked of the leader and what others asked of it.
type forwarded struct {
	run    func(from string, ask forwardRequest) // does one, in its own goroutine
	random rand.Source

	mu      sync.Mutex
	waiting map[uint64]chan forwardResult
	known   map[uint64]*forwardResult // asked of this agent; nil while it is being done
	order   []uint64
}

// expect makes room for the result of a new forwarded request.
func (f *forwarded) expect() (id uint64, got chan forwardResult, forget func()) {
	id, got = f.random.Uint64(), make(chan forwardResult, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.waiting == nil {
		f.waiting = make(map[uint64]chan forwardResult)
	}
	f.waiting[id] = got
	return id, got, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.waiting, id)
	}
}

// answered hands a result to who waits for it. Nobody does any more after the time limit; results are
// repeated, so one may come twice.
func (f *forwarded) answered(o forwardResult) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if got, ok := f.waiting[o.ID]; ok {
		select {
		case got <- o:
		default: // a repetition
		}
	}
}

// asked starts a request that is new; of one that is done it sends the result
// again, through run.
func (f *forwarded) asked(from string, ask forwardRequest) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if done, ok := f.known[ask.ID]; ok && done == nil {
		return // under way
	} else if !ok {
		if f.known == nil {
			f.known = make(map[uint64]*forwardResult)
		}
		if len(f.order) >= maxForwarded {
			if f.known[f.order[0]] == nil {
				return // too many under way: it will be asked again
			}
			delete(f.known, f.order[0])
			f.order = f.order[1:]
		}
		f.known[ask.ID] = nil
		f.order = append(f.order, ask.ID)
	}
	go f.run(from, ask)
}

// result and done remember what a forwarded commit came to, so that a repeated request gets the same answer
// instead of another commit.
func (f *forwarded) result(id uint64) (forwardResult, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if o := f.known[id]; o != nil {
		return *o, true
	}
	return forwardResult{}, false
}

func (f *forwarded) done(o forwardResult) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.known[o.ID] = &o
}

// carryOut commits for another router and tells it what came of it.
func (m *Messenger) carryOut(from string, ask forwardRequest) {
	o, ok := m.forwarded.result(ask.ID)
	if !ok {
		reply, err := m.c.Commit(context.Background(), ask.Force)
		o = forwardResult{
			ID: ask.ID, Committed: reply.Committed, Add: int64(len(reply.Add)), Remove: int64(len(reply.Remove)),
			Detail: excerpt.Cut(reply.Detail, maxReportText),
		}
		if err != nil {
			o.Error = excerpt.Cut(err.Error(), 2*maxReportText)
		}
		m.forwarded.done(o)
	}
	message, err := encodeMessage(messageResult, &o)
	if err == nil {
		err = m.c.Send(from, message)
	}
	if err != nil {
		m.c.Logger.Warn("tell the outcome of a commit", "to", from, "error", err)
	}
}

// CommitAt has the leader commit.
func (m *Messenger) CommitAt(ctx context.Context, leader string, force bool) (control.CommitReply, error) {
	id, got, forget := m.forwarded.expect()
	defer forget()
	message, err := encodeMessage(messageForward, &forwardRequest{ID: id, Force: force})
	if err != nil {
		return control.CommitReply{}, err
	}
	ticker := time.NewTicker(forwardRepeat)
	defer ticker.Stop()
	for {
		_ = m.c.Send(leader, message) // repeated until it is answered
		select {
		case o := <-got:
			reply := control.CommitReply{Committed: o.Committed, Leader: leader, Detail: o.Detail}
			if o.Error != "" {
				return reply, control.Errorf(control.CodeInternal, "%s, who leads: %s", leader, o.Error)
			}
			return reply, nil
		case <-ctx.Done():
			return control.CommitReply{}, control.Errorf(control.CodeUnavailable, "%s leads and has not answered: try `banmesh commit` there", leader)
		case <-ticker.C:
		}
	}
}
