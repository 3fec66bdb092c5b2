package conductorsim

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"banmesh/internal/sim/conductorsim/history"
)

// helloTimeout is how long a client may take to say hello.
const helloTimeout = 30 * time.Second

// sessionInfo is what the conductor knows of an open session, to end it from outside.
type sessionInfo struct {
	actor Actor
	kill  context.CancelCauseFunc
	conn  io.Closer     // ends the session
	done  chan struct{} // closed when the session has given everything back
}

// session is one NETCONF session on a stream.
type session struct {
	sim   *Sim
	ops   operations
	frame *framer
	conn  io.Closer
}

// serveNETCONF speaks NETCONF with user on conn until the session ends, whichever way. It closes conn only to break it
// off.
func (s *Sim) serveNETCONF(node int, user string, conn io.ReadWriteCloser) {
	if most := s.cfg.MaxSessions; most > 0 && len(s.Sessions()) >= most {
		conn.Close()
		return
	}
	actor, ctx, end := s.enter(Actor{User: user, Via: "netconf", Node: node}, conn)
	defer end()
	ses := &session{sim: s, ops: operations{sim: s, actor: actor}, frame: newFramer(conn, s.cfg.MaxMessage), conn: conn}
	log := s.cfg.Logger.With("session", actor.Session, "user", user, "node", node)
	if err := ses.run(ctx); err != nil && !errors.Is(err, io.EOF) {
		log.Info("netconf session broke off", "error", err)
	}
}

// enter registers a session; end gives back all that it holds. ctx ends when the session is killed or the server closed.
func (s *Sim) enter(a Actor, conn io.Closer) (actor Actor, ctx context.Context, end func()) {
	ctx, kill := context.WithCancelCause(s.ctx)
	s.mu.Lock()
	s.nextID++
	a.Session = s.nextID
	info := &sessionInfo{actor: a, kill: kill, conn: conn, done: make(chan struct{})}
	s.sessions[a.Session] = info
	open := len(s.sessions)
	s.mu.Unlock()
	if open > 4 {
		s.cfg.Logger.Warn("more sessions than a conductor wants", "open", open, "limit", 4)
	}
	s.stores.record(a, history.Event{Kind: history.Open})
	return a, ctx, func() {
		kill(nil)
		s.stores.Release(a)
		s.mu.Lock()
		delete(s.sessions, a.Session)
		s.mu.Unlock()
		// A test that waits for the event must not find the session still there.
		s.stores.record(a, history.Event{Kind: history.Closed})
		close(info.done)
	}
}

// kill ends a session, gives up what it is doing, and returns once its locks are released, or ctx ends.
func (s *Sim) kill(ctx context.Context, id uint64) bool {
	s.mu.Lock()
	info := s.sessions[id]
	s.mu.Unlock()
	if info == nil {
		return false
	}
	info.kill(errKilled)
	info.conn.Close()
	select {
	case <-info.done:
	case <-ctx.Done():
	}
	return true
}

// run exchanges hellos and answers requests until the session ends.
func (s *session) run(ctx context.Context) error {
	hello, err := s.ops.announce()
	if err != nil {
		return err
	}
	if err := s.frame.write(hello, 0); err != nil {
		return fmt.Errorf("send hello: %w", err)
	}
	swallow, err := s.greet()
	if err != nil {
		return fmt.Errorf("hello of the client: %w", err)
	}
	for {
		msg, err := s.frame.read()
		if err != nil {
			return err
		}
		if swallow {
			swallow = false
			continue
		}
		end, err := s.request(ctx, msg)
		if err != nil || end {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// greet reads the client's hello and settles the framing. swallow says that the request that came with it is to go
// unanswered.
func (s *session) greet() (swallow bool, err error) {
	late := time.AfterFunc(helloTimeout, func() { s.conn.Close() })
	defer late.Stop()
	msg, err := s.frame.read()
	if err != nil {
		return false, err
	}
	hello, err := parseXML(msg, s.sim.cfg.MaxDepth)
	if err != nil {
		return false, err
	}
	if hello.Name != (xml.Name{Space: nsBase, Local: "hello"}) {
		return false, fmt.Errorf("%w: %s instead of hello", errMalformed, hello.Name.Local)
	}
	if hello.child("session-id") != nil {
		return false, fmt.Errorf("%w: a client has no session-id", errMalformed)
	}
	offers := map[string]bool{}
	if list := hello.child("capabilities"); list != nil {
		for _, c := range list.Children {
			offers[c.Text] = true
		}
	}
	f := s.sim.cfg.Features
	switch {
	case f.Base11 && offers[baseURI11]:
		s.frame.chunked = true
	case f.Base10 && offers[baseURI10]:
	default:
		return false, errors.New("no version of the protocol in common")
	}
	if s.frame.pending() {
		_, swallow = s.sim.faults.fires(FaultFirstUnanswered, s.ops.actor.Node)
	}
	return swallow, nil
}

// request answers one message; end says that the session is over.
func (s *session) request(ctx context.Context, msg []byte) (end bool, err error) {
	rpc, err := parseXML(msg, s.sim.cfg.MaxDepth)
	if err != nil {
		e := &RPCError{Type: "rpc", Tag: "malformed-message", Message: err.Error()}
		return false, s.reply(nil, "", nil, refuse(e))
	}
	if rpc.Name != (xml.Name{Space: nsBase, Local: "rpc"}) {
		e := &RPCError{Type: "rpc", Tag: "unknown-element", BadElement: rpc.Name.Local, Message: "an rpc is expected"}
		return false, s.reply(nil, "", nil, refuse(e))
	}
	if _, ok := rpc.attr("", "message-id"); !ok {
		e := &RPCError{Type: "rpc", Tag: "missing-attribute", BadAttribute: "message-id", BadElement: "rpc",
			Message: "the request has no message-id"}
		return false, s.reply(rpc, "", nil, refuse(e))
	}
	if len(rpc.Children) != 1 {
		e := &RPCError{Type: "rpc", Tag: "missing-element", BadElement: "operation", Message: "a request has one operation"}
		return false, s.reply(rpc, "", nil, refuse(e))
	}
	op := rpc.Children[0]
	name, node := op.Name.Local, s.ops.actor.Node
	if err := s.sim.thaw(ctx, node, name); err != nil {
		return true, err
	}
	f, drop := s.sim.faults.fires(FaultDrop, node, forOp(name))
	killed := false
	if !drop {
		f, killed = s.sim.faults.fires(FaultKilled, node, forOp(name))
		drop = killed
	}
	if drop && f.At != "after" {
		if killed && f.At == "before" {
			s.sim.restart()
		}
		s.conn.Close()
		if f.At == "before" {
			return true, nil
		}
	}
	answer, end, err := s.ops.do(ctx, op)
	if drop {
		if killed {
			s.sim.restart()
		}
		return true, nil
	}
	// A server that froze while it worked does not answer either.
	if err := s.sim.thaw(ctx, node, ""); err != nil {
		return true, err
	}
	return end, s.reply(rpc, name, answer, err)
}

// reply answers the request rpc, which may be nil when it could not be read.
func (s *session) reply(rpc *Element, op string, answer answer, refusal error) error {
	node := s.ops.actor.Node
	_, wrongID := s.sim.faults.fires(FaultWrongMessageID, node, forOp(op))
	w := newWriter()
	w.open(xml.Name{Space: nsBase, Local: "rpc-reply"}, replyAttrs(rpc, wrongID)...)
	var errs RPCErrors
	switch {
	case errors.As(refusal, &errs):
		for _, e := range errs {
			e.write(w)
		}
	case refusal != nil:
		failed(refusal.Error()).write(w)
	case answer != nil:
		answer(w)
	default:
		w.base("ok", "")
	}
	w.close()
	msg, err := w.bytes()
	if err != nil {
		return err
	}
	if f, cut := s.sim.faults.fires(FaultCutReply, node, forOp(op)); cut {
		var whole bytes.Buffer
		framed := framer{w: &whole, chunked: s.frame.chunked}
		if err := framed.write(msg, 0); err != nil {
			return err
		}
		_, err := s.frame.w.Write(whole.Bytes()[:max(f.N, 0)%int64(whole.Len())])
		s.conn.Close()
		return err
	}
	if f, huge := s.sim.faults.fires(FaultHugeReply, node, forOp(op)); huge {
		return s.hugeReply(msg, f.N)
	}
	size := 0
	if f, small := s.sim.faults.fires(FaultChunkSize, node, forOp(op)); small {
		size = int(min(f.N, 1<<20))
	}
	if err := s.frame.write(msg, size); err != nil {
		return fmt.Errorf("send reply: %w", err)
	}
	return nil
}

// replyAttrs are the attributes of the request, as RFC 6241 §4.2 has them in the reply.
func replyAttrs(rpc *Element, wrongID bool) []xml.Attr {
	if rpc == nil {
		return nil
	}
	var attrs []xml.Attr
	for _, a := range rpc.Attrs {
		switch {
		case a.Name.Space == "" && a.Name.Local == "xmlns":
			continue
		case a.Name.Space == "" && a.Name.Local == "message-id" && wrongID:
			a.Value += "0"
		case a.Name.Space == "xmlns":
			a.Name = xml.Name{Local: "xmlns:" + a.Name.Local}
		case a.Name.Space != "":
			if a.Name = qualified(rpc, a.Name); a.Name.Local == "" {
				continue
			}
		}
		attrs = append(attrs, a)
	}
	return attrs
}

// qualified writes a name with the prefix that e declares for its namespace.
func qualified(e *Element, name xml.Name) xml.Name {
	for _, a := range e.Attrs {
		if a.Name.Space == "xmlns" && a.Value == name.Space {
			return xml.Name{Local: a.Name.Local + ":" + name.Local}
		}
	}
	return xml.Name{}
}

// hugeReply sends msg with n blanks before its last tag, without ever holding them.
func (s *session) hugeReply(msg []byte, n int64) error {
	cut := bytes.LastIndex(msg, []byte("</"))
	blanks := bytes.Repeat([]byte(" "), 64<<10)
	send := func(piece []byte) error {
		if s.frame.chunked {
			if _, err := fmt.Fprintf(s.frame.w, "\n#%d\n", len(piece)); err != nil {
				return err
			}
		}
		_, err := s.frame.w.Write(piece)
		return err
	}
	if err := send(msg[:cut]); err != nil {
		return err
	}
	for n > 0 {
		piece := blanks[:min(n, int64(len(blanks)))]
		n -= int64(len(piece))
		if err := send(piece); err != nil {
			return err
		}
	}
	if err := send(msg[cut:]); err != nil {
		return err
	}
	end := endOfMessage
	if s.frame.chunked {
		end = "\n##\n"
	}
	_, err := io.Copy(s.frame.w, strings.NewReader(end))
	return err
}

// thaw waits while the server is frozen for operation op; an error says that the session ended meanwhile.
func (s *Sim) thaw(ctx context.Context, node int, op string) error {
	for {
		frozen, again := s.faults.frozen(node, op)
		if !frozen {
			return nil
		}
		select {
		case <-again:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
