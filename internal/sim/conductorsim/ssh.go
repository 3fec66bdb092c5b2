package conductorsim

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"golang.org/x/crypto/ssh"
)

const (
	handshakeTimeout = 30 * time.Second
	lingerTimeout    = 2 * time.Second // for a client to close a connection whose session is over
)

// sshConfig lets users with an authorized key in.
func (s *Sim) sshConfig(node int) *ssh.ServerConfig {
	c := &ssh.ServerConfig{
		ServerVersion: "SSH-2.0-conductorsim",
		PublicKeyCallback: func(conn ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if !slices.Contains(s.cfg.Users, conn.User()) {
				return nil, fmt.Errorf("user %q is not known", clip(conn.User()))
			}
			if !s.keys.authorized(key) {
				return nil, errors.New("the key is not authorized")
			}
			if _, refused := s.faults.fires(FaultLoginRefused, node); refused {
				return nil, errors.New("simulated refusal")
			}
			return &ssh.Permissions{}, nil
		},
		AuthLogCallback: func(conn ssh.ConnMetadata, method string, err error) {
			if method != "none" && err != nil {
				s.refusedLogin(node, conn.User(), err.Error())
			}
		},
	}
	c.AddHostKey(s.keys.host)
	return c
}

// serveSSH serves one connection until it is closed.
func (s *Sim) serveSSH(node int, tcp net.Conn) {
	defer tcp.Close()
	log := s.cfg.Logger.With("remote", tcp.RemoteAddr().String(), "node", node)
	if err := s.thaw(s.ctx, node, ""); err != nil {
		return
	}
	// A deadline on a connection to memory cannot fail in a way that matters: the handshake would only wait longer.
	_ = tcp.SetDeadline(time.Now().Add(handshakeTimeout))
	conn, channels, requests, err := ssh.NewServerConn(tcp, s.sshConfig(node))
	if err != nil {
		log.Info("ssh handshake failed", "error", err)
		return
	}
	defer conn.Close()
	_ = tcp.SetDeadline(time.Time{})
	s.tasks.Go(func() { s.keepalive(node, requests) })
	for c := range channels {
		if c.ChannelType() != "session" {
			_ = c.Reject(ssh.UnknownChannelType, "only sessions") // a dead connection shows in the next receive
			continue
		}
		channel, requests, err := c.Accept()
		if err != nil {
			return
		}
		s.tasks.Go(func() { s.serveChannel(node, conn, channel, requests) })
	}
}

// keepalive answers global requests, unless the server is frozen.
func (s *Sim) keepalive(node int, requests <-chan *ssh.Request) {
	for r := range requests {
		if s.thaw(s.ctx, node, "") == nil && r.WantReply {
			_ = r.Reply(false, nil) // a dead connection ends the loop
		}
	}
}

// stream is an SSH channel that closes with its whole connection: only that makes a stopped peer let go.
type stream struct {
	ssh.Channel
	conn *ssh.ServerConn
}

func (c stream) Close() error { return c.conn.Close() }

// serveChannel waits for the subsystem netconf to be asked for and runs it.
func (s *Sim) serveChannel(node int, conn *ssh.ServerConn, channel ssh.Channel, requests <-chan *ssh.Request) {
	defer channel.Close()
	started := false
	for r := range requests {
		var subsystem struct{ Name string }
		ok := !started && r.Type == "subsystem" && ssh.Unmarshal(r.Payload, &subsystem) == nil && subsystem.Name == "netconf"
		if r.WantReply {
			_ = r.Reply(ok, nil) // a dead connection ends the loop
		}
		if !ok {
			continue
		}
		started = true
		s.tasks.Go(func() {
			s.serveNETCONF(node, conn.User(), stream{channel, conn})
			// The last reply must arrive: the client closes, or is closed once it had the time to read it.
			_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{}))
			_ = channel.Close()
			time.AfterFunc(lingerTimeout, func() { conn.Close() })
		})
	}
}
