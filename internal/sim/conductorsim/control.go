package conductorsim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
)

// controlSocket is the name, in a Config's Dir, of the unix socket by which another process breaks the conductor. It
// takes ControlRequests and answers ControlReplies, one JSON object a line.
const controlSocket = "faults.sock"

// ControlRequest asks for one thing. Do is
//
//	inject        puts Fault in force
//	clear         ends the faults of Kinds, all when empty
//	faults        lists those in force
//	dirty         leaves half-finished work in the candidate: valid or, with Invalid, not
//	admin         does Op (edit with Config, commit, discard, lock, unlock, close) as administrator User, whose
//	              session lasts as long as this connection
//	addresses     lists those of Tenant's Member in running
//	show          prints Tenant as the device's CLI does
//	sessions      lists open sessions
//	kill          ends Session, as kill-session does
//	expire-tokens makes all REST logins invalid
type ControlRequest struct {
	Do      string      `json:"do"`
	Fault   Fault       `json:"fault,omitzero"`
	Kinds   []FaultKind `json:"kinds,omitempty"`
	Invalid bool        `json:"invalid,omitempty"`
	User    string      `json:"user,omitempty"`
	Op      string      `json:"op,omitempty"`
	Config  string      `json:"config,omitempty"`
	Tenant  string      `json:"tenant,omitempty"`
	Member  string      `json:"member,omitempty"`
	Session uint64      `json:"session,omitempty"`
}

// ControlReply answers a ControlRequest. Error is empty when it was done.
type ControlReply struct {
	Error     string   `json:"error,omitempty"`
	Faults    []Fault  `json:"faults,omitempty"`
	Text      string   `json:"text,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
	Sessions  []Actor  `json:"sessions,omitempty"`
	Session   uint64   `json:"session,omitempty"`
}

// shortPath returns a path to name in dir that fits a unix socket's address (108 bytes); done gives back what it needs.
func shortPath(dir, name string) (path string, done func(), err error) {
	if path = filepath.Join(dir, name); len(path) < 100 {
		return path, func() {}, nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return "", nil, err
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), name), func() { d.Close() }, nil
}

// listenControl opens the control socket in dir. A socket that a killed conductor left is replaced; one that answers is
// another conductor's.
func listenControl(dir string) (ln net.Listener, done func(), err error) {
	path, done, err := shortPath(dir, controlSocket)
	if err != nil {
		return nil, nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		done()
		return nil, nil, fmt.Errorf("another conductor is running in %s: give each one its own directory", dir)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		done()
		return nil, nil, err
	}
	if ln, err = net.Listen("unix", path); err != nil {
		done()
		return nil, nil, err
	}
	return ln, done, nil
}

// serveControl answers one control connection.
func (s *Sim) serveControl(_ int, conn net.Conn) {
	defer conn.Close()
	admins := make(map[string]*Admin)
	defer func() {
		for _, a := range admins {
			a.Close()
		}
	}()
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, s.cfg.MaxMessage)
	for lines.Scan() {
		var q ControlRequest
		var r ControlReply
		err := json.Unmarshal(lines.Bytes(), &q)
		if err == nil {
			r, err = s.control(q, admins)
		}
		if err != nil {
			r.Error = err.Error()
		}
		b, err := json.Marshal(r)
		if err != nil {
			return
		}
		if _, err := conn.Write(append(b, '\n')); err != nil {
			return
		}
	}
}

func (s *Sim) control(q ControlRequest, admins map[string]*Admin) (r ControlReply, err error) {
	switch q.Do {
	case "inject":
		err = s.Inject(q.Fault)
	case "clear":
		s.Clear(q.Kinds...)
	case "faults":
		r.Faults = s.Faults()
	case "dirty":
		err = s.Dirty(!q.Invalid)
	case "admin":
		r.Session, err = s.controlAdmin(q, admins)
	case "addresses":
		r.Addresses = s.Addresses(q.Tenant, q.Member)
	case "show":
		text, ok := s.ShowTenant(q.Tenant)
		if r.Text = text; !ok {
			err = fmt.Errorf("there is no tenant %q", q.Tenant)
		}
	case "sessions":
		r.Sessions = s.Sessions()
	case "kill":
		if !s.kill(s.ctx, q.Session) {
			err = fmt.Errorf("there is no session %d", q.Session)
		}
	case "expire-tokens":
		s.ExpireTokens()
	default:
		err = fmt.Errorf("do %q is not known", q.Do)
	}
	return r, err
}

func (s *Sim) controlAdmin(q ControlRequest, admins map[string]*Admin) (session uint64, err error) {
	user := q.User
	if user == "" {
		user = "operator"
	}
	a := admins[user]
	if a == nil {
		a = s.Admin(user)
		admins[user] = a
	}
	switch q.Op {
	case "edit":
		err = a.Edit(q.Config)
	case "commit":
		err = a.Commit()
	case "discard":
		err = a.Discard()
	case "lock":
		err = a.Lock()
	case "unlock":
		err = a.Unlock()
	case "close":
		a.Close()
		delete(admins, user)
	default:
		err = fmt.Errorf("op %q is not known", q.Op)
	}
	return a.Session(), err
}

// Control steers a conductor in another process by the socket in its directory. It is for one goroutine.
type Control struct {
	conn net.Conn
	r    *bufio.Reader
}

// DialControl connects to the conductor that runs in dir. Close it.
func DialControl(dir string) (*Control, error) {
	path, done, err := shortPath(dir, controlSocket)
	if err != nil {
		return nil, fmt.Errorf("find conductor: %w", err)
	}
	defer done()
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, fmt.Errorf("connect to conductor in %s: %w", dir, err)
	}
	return &Control{conn: conn, r: bufio.NewReader(conn)}, nil
}

// Do asks for one thing; the error is the conductor's or the connection's.
func (c *Control) Do(q ControlRequest) (ControlReply, error) {
	var r ControlReply
	b, err := json.Marshal(q)
	if err != nil {
		return r, fmt.Errorf("ask conductor: %w", err)
	}
	if _, err := c.conn.Write(append(b, '\n')); err != nil {
		return r, fmt.Errorf("ask conductor: %w", err)
	}
	line, err := c.r.ReadBytes('\n')
	if err != nil {
		return r, fmt.Errorf("answer of conductor: %w", err)
	}
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("answer of conductor: %w", err)
	}
	if r.Error != "" {
		return r, fmt.Errorf("conductor: %s: %s", q.Do, r.Error)
	}
	return r, nil
}

// Inject puts a fault in force.
func (c *Control) Inject(f Fault) error {
	_, err := c.Do(ControlRequest{Do: "inject", Fault: f})
	return err
}

// Clear ends faults of the given kinds, all with none given.
func (c *Control) Clear(kinds ...FaultKind) error {
	_, err := c.Do(ControlRequest{Do: "clear", Kinds: kinds})
	return err
}

// Close ends the connection and the sessions of administrators that it opened.
func (c *Control) Close() error { return c.conn.Close() }
