package helper

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/internal/peercred"
)

const (
	maxRequest = 16 << 10         // a request, in bytes
	maxOutput  = 32 << 20         // an answer: about 400,000 bans
	readTime   = 5 * time.Second  // for the request to come
	runTime    = 60 * time.Second // for fail2ban to answer
	maxCalls   = 8                // at a time; the agent makes one or two
)

// Server answers requests. Client is the program that asks fail2ban, with its arguments; Users are the user ids that may
// call beside root; MeshJail is the jail that the agent fills, "" for none; Idle ends Serve where nobody has called for that
// long, 0 for never.
type Server struct {
	Client   []string
	Users    []uint32
	MeshJail string
	Idle     time.Duration
	Logger   *slog.Logger
}

// Serve answers calls on a unix socket until ctx ends, or nobody calls.
func (s *Server) Serve(ctx context.Context, ln *net.UnixListener) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var calls sync.WaitGroup
	defer calls.Wait()
	var open atomic.Int32
	slots := make(chan struct{}, maxCalls)
	for {
		if s.Idle > 0 {
			ln.SetDeadline(time.Now().Add(s.Idle))
		}
		conn, err := ln.AcceptUnix()
		var timeout net.Error
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &timeout) && timeout.Timeout():
			if open.Load() == 0 {
				return nil
			}
			continue
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		slots <- struct{}{}
		open.Add(1)
		calls.Go(func() {
			defer func() { open.Add(-1); <-slots }()
			defer conn.Close()
			s.answer(ctx, conn)
		})
	}
}

// answer serves one connection. A caller that is not let in learns nothing.
func (s *Server) answer(ctx context.Context, conn *net.UnixConn) {
	peer, err := peercred.Of(conn)
	uid, pid := peer.UID, peer.PID
	if err != nil || uid != 0 && !slices.Contains(s.Users, uid) {
		s.Logger.Warn("refused a caller other than the agent's user", "uid", uid, "pid", pid, "error", err)
		return
	}
	conn.SetReadDeadline(time.Now().Add(readTime))
	var words []string
	dec := json.NewDecoder(&limited{conn, maxRequest})
	if err := dec.Decode(&words); err != nil {
		s.Logger.Warn("not a request", "uid", uid, "pid", pid, "error", err)
		return
	}
	reply := s.do(ctx, words)
	if reply.Code == CodeRefused {
		s.Logger.Warn("refused", "uid", uid, "pid", pid, "words", words[:min(len(words), 4)], "error", reply.Error)
	} else if len(words) > 0 && words[0] != "get" && words[0] != "status" {
		s.Logger.Info("done", "words", words[:min(len(words), 4)], "error", reply.Error)
	}
	conn.SetWriteDeadline(time.Now().Add(readTime))
	if err := json.NewEncoder(conn).Encode(reply); err != nil {
		s.Logger.Warn("the answer was not taken", "error", err)
	}
}

// do checks a request and runs it.
func (s *Server) do(ctx context.Context, words []string) Reply {
	if err := check(words, s.MeshJail); err != nil {
		return Reply{Error: err.Error(), Code: CodeRefused}
	}
	ctx, cancel := context.WithTimeout(ctx, runTime)
	defer cancel()
	if words[0] == "set" {
		// fail2ban takes some first words of a set for settings of its own, such as logtarget: only a jail's name is let through.
		if r := s.run(ctx, "status", words[1], "short"); r.Error != "" {
			return r
		}
	}
	return s.run(ctx, words...)
}

// run starts fail2ban's client without a shell. An error has the beginning of what the client printed.
func (s *Server) run(ctx context.Context, words ...string) Reply {
	argv := append(s.Client[:len(s.Client):len(s.Client)], words...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	out, said := &capped{left: maxOutput}, &capped{left: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, said
	cmd.WaitDelay = time.Second
	err := cmd.Run()
	switch {
	case err == nil && out.cut:
		return Reply{Error: fmt.Sprintf("more than %d bytes of answer", maxOutput)}
	case err == nil:
		return Reply{Out: out.String()}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return Reply{Error: err.Error(), Code: CodeNoClient}
	}
	why := strings.Join(strings.Fields(out.String()+" "+said.String()), " ")
	return Reply{Error: fmt.Sprintf("%v: %s", err, strings.ToValidUTF8(why[:min(len(why), 300)], ""))}
}

// limited reads no more than left bytes.
type limited struct {
	conn net.Conn
	left int
}

// Read refuses a request that is too long instead of cutting it.
func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		return 0, errors.New("the request is too long")
	}
	n, err := l.conn.Read(p[:min(len(p), l.left)])
	l.left -= n
	return n, err
}

// capped keeps the first bytes written to it and swallows the rest, so that a full pipe stops nobody.
type capped struct {
	bytes.Buffer
	left int
	cut  bool
}

// Write goes on after the bound, so that the client can end, and remembers that something is missing.
func (c *capped) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.cut = c.cut || n < len(p)
	c.left -= n
	c.Buffer.Write(p[:n])
	return len(p), nil
}
