package mesh

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/mesh/control"
)

// `banmesh commit` on a router that does not lead is a request that is forwarded to the leader:
// the asking is repeated until the outcome comes back, since both may be lost;
// its number keeps a repetition from being done twice.

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

// expect makes room for the outcome of a new forwarded request.
func (e *forwarded) expect() (id uint64, got chan forwardResult, forget func()) {
	id, got = e.random.Uint64(), make(chan forwardResult, 1)
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.waiting == nil {
		e.waiting = make(map[uint64]chan forwardResult)
	}
	e.waiting[id] = got
	return id, got, func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		delete(e.waiting, id)
	}
}

func (e *forwarded) answered(o forwardResult) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if got, ok := e.waiting[o.ID]; ok {
		select {
		case got <- o:
		default: // a repetition
		}
	}
}

// asked starts a request that is new; of one that is done it says the outcome
// again, through run.
func (e *forwarded) asked(from string, ask forwardRequest) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if done, ok := e.known[ask.ID]; ok && done == nil {
		return // under way
	} else if !ok {
		if e.known == nil {
			e.known = make(map[uint64]*forwardResult)
		}
		if len(e.order) >= maxForwarded {
			if e.known[e.order[0]] == nil {
				return // too many under way: it will be asked again
			}
			delete(e.known, e.order[0])
			e.order = e.order[1:]
		}
		e.known[ask.ID] = nil
		e.order = append(e.order, ask.ID)
	}
	go e.run(from, ask)
}

func (e *forwarded) outcome(id uint64) (forwardResult, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o := e.known[id]; o != nil {
		return *o, true
	}
	return forwardResult{}, false
}

func (e *forwarded) done(o forwardResult) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known[o.ID] = &o
}

// commitFor commits for another router and tells it what came of it.
func (a *Agent) commitFor(from string, ask forwardRequest) {
	o, ok := a.forwarded.outcome(ask.ID)
	if !ok {
		ctx, cancel := context.WithTimeout(context.Background(), time.Duration(a.cfg.Commit.Timeout))
		// Force from afar could be anybody's who has the gossip key.
		reply, err := a.commitHere(ctx, false)
		cancel()
		if held := len(reply.Held) + len(reply.HeldAdd); err == nil && ask.Force && held > 0 {
			err = fmt.Errorf("%d changes are held, and --force confirms them only on the leader itself: run `banmesh commit --force` on %s", held, a.cfg.Name)
		}
		o = forwardResult{
			ID: ask.ID, Committed: reply.Committed, Add: int64(len(reply.Add)), Remove: int64(len(reply.Remove)),
			Detail: excerpt.Cut(reply.Detail, maxReportText),
		}
		if err != nil {
			o.Error = excerpt.Cut(err.Error(), 2*maxReportText)
		}
		a.forwarded.done(o)
	}
	message, err := encodeMessage(messageResult, &o)
	if err == nil {
		err = a.mesh.Send(from, message)
	}
	if err != nil {
		a.log.Warn("tell the outcome of a commit", "to", from, "error", err)
	}
}

// commitAt has the leader commit.
func (a *Agent) commitAt(ctx context.Context, leader string, force bool) (control.CommitReply, error) {
	id, got, forget := a.forwarded.expect()
	defer forget()
	message, err := encodeMessage(messageForward, &forwardRequest{ID: id, Force: force})
	if err != nil {
		return control.CommitReply{}, err
	}
	ticker := time.NewTicker(forwardRepeat)
	defer ticker.Stop()
	for {
		_ = a.mesh.Send(leader, message) // repeated until it is answered
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
