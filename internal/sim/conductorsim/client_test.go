package conductorsim_test

import (
	"bufio"
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"banmesh/internal/sim/conductorsim"
)

const baseNS = "urn:ietf:params:xml:ns:netconf:base:1.0"

// server is a simulated conductor on a port of loopback.
type server struct {
	*conductorsim.Sim
	addr string
}

// serve starts a conductor that ends with the test.
func serve(t *testing.T, configure ...func(*conductorsim.Config)) *server {
	t.Helper()
	cfg := conductorsim.DefaultConfig()
	for _, c := range configure {
		c(&cfg)
	}
	sim, err := conductorsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{Sim: sim}
	s.addr = s.listen(t, 1).Addr().String()
	t.Cleanup(func() {
		if err := sim.Close(); err != nil {
			t.Errorf("close the conductor: %v", err)
		}
	})
	return s
}

// listen serves a node on another port.
func (s *server) listen(t *testing.T, node int) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := s.ServeNode(node, ln); err != nil {
			t.Errorf("serve node %d: %v", node, err)
		}
	}()
	return ln
}

// client is a NETCONF client of few words: what it sends is given as text, what it gets is kept as it came.
type client struct {
	t       *testing.T
	ssh     *ssh.Client
	in      io.WriteCloser
	out     *bufio.Reader
	chunked bool
	hello   string
	id      int
	Session uint64
}

const (
	base10 = "urn:ietf:params:netconf:base:1.0"
	base11 = "urn:ietf:params:netconf:base:1.1"
)

// dial connects and says hello with base:1.1.
func (s *server) dial(t *testing.T) *client { return dial(t, s.Sim, s.addr, "admin", base10, base11) }

func dial(t *testing.T, sim *conductorsim.Sim, addr, user string, versions ...string) *client {
	t.Helper()
	c, err := open(t, sim, addr, user)
	if err != nil {
		t.Fatal(err)
	}
	c.send(hello(versions...))
	c.greeted(versions...)
	return c
}

// open connects as far as the subsystem.
func open(t *testing.T, sim *conductorsim.Sim, addr, user string) (*client, error) {
	key, err := ssh.ParsePrivateKey(sim.ClientKey())
	if err != nil {
		return nil, err
	}
	conn, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(key)},
		HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	session, err := conn.NewSession()
	if err != nil {
		return nil, err
	}
	c := &client{t: t, ssh: conn}
	if c.in, err = session.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := session.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, session.RequestSubsystem("netconf")
}

func hello(versions ...string) string {
	var b strings.Builder
	for _, v := range versions {
		fmt.Fprintf(&b, "<capability>%s</capability>", v)
	}
	return fmt.Sprintf(`<hello xmlns="%s"><capabilities>%s</capabilities></hello>`, baseNS, b.String()) + "]]>]]>"
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.in, text); err != nil {
		c.t.Fatal(err)
	}
}

// greeted reads the server's hello.
func (c *client) greeted(versions ...string) {
	c.t.Helper()
	msg, err := c.receive()
	if err != nil {
		c.t.Fatal(err)
	}
	c.hello = msg
	var h struct {
		Session uint64 `xml:"session-id"`
	}
	if err := xml.Unmarshal([]byte(msg), &h); err != nil {
		c.t.Fatal(err)
	}
	c.Session = h.Session
	c.chunked = strings.Contains(msg, base11+"<") && strings.Contains(strings.Join(versions, " "), base11)
}

func (c *client) frame(msg string) string {
	if c.chunked {
		return fmt.Sprintf("\n#%d\n%s\n##\n", len(msg), msg)
	}
	return msg + "]]>]]>"
}

// receive reads one message.
func (c *client) receive() (string, error) {
	if c.chunked {
		return c.receiveChunks()
	}
	var b bytes.Buffer
	for !bytes.HasSuffix(b.Bytes(), []byte("]]>]]>")) {
		x, err := c.out.ReadByte()
		if err != nil {
			return b.String(), err
		}
		b.WriteByte(x)
	}
	return strings.TrimSuffix(b.String(), "]]>]]>"), nil
}

func (c *client) receiveChunks() (string, error) {
	var b strings.Builder
	for {
		if line, err := c.out.ReadString('\n'); err != nil || line != "\n" {
			return b.String(), fmt.Errorf("chunk starts with %q: %w", line, err)
		}
		line, err := c.out.ReadString('\n')
		if err != nil {
			return b.String(), err
		}
		if line == "##\n" {
			return b.String(), nil
		}
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(line, "#")))
		if err != nil {
			return b.String(), err
		}
		if _, err := io.CopyN(&b, c.out, int64(n)); err != nil {
			return b.String(), err
		}
	}
}

// rpcError is one error of a reply.
type rpcError struct {
	Type    string `xml:"error-type"`
	Tag     string `xml:"error-tag"`
	Path    string `xml:"error-path"`
	Message string `xml:"error-message"`
	Bad     string `xml:"error-info>bad-element"`
	Session string `xml:"error-info>session-id"`
}

// reply is a parsed answer.
type reply struct {
	ID     string     `xml:"message-id,attr"`
	OK     *struct{}  `xml:"ok"`
	Errors []rpcError `xml:"rpc-error"`
	Data   struct {
		XML string `xml:",innerxml"`
	} `xml:"data"`
	text string
}

// request sends an operation and does not wait.
func (c *client) request(op string) {
	c.t.Helper()
	c.id++
	c.send(c.frame(fmt.Sprintf(`<rpc xmlns="%s" message-id="%d">%s</rpc>`, baseNS, c.id, op)))
}

// try runs an operation; the error is one of the connection.
func (c *client) try(op string) (reply, error) {
	c.t.Helper()
	c.request(op)
	var r reply
	msg, err := c.receive()
	if err != nil {
		return r, err
	}
	r.text = msg
	return r, xml.Unmarshal([]byte(msg), &r)
}

// do runs an operation and gets an answer.
func (c *client) do(op string) reply {
	c.t.Helper()
	r, err := c.try(op)
	if err != nil {
		c.t.Fatalf("%s: %v", op, err)
	}
	if r.ID != strconv.Itoa(c.id) {
		c.t.Fatalf("%s: message-id %q, want %d", op, r.ID, c.id)
	}
	return r
}

// ok runs an operation that must succeed.
func (c *client) ok(op string) reply {
	c.t.Helper()
	r := c.do(op)
	if len(r.Errors) > 0 {
		c.t.Fatalf("%s: refused: %+v", op, r.Errors)
	}
	return r
}

// refused runs an operation that must be refused, with that tag at first.
func (c *client) refused(op, tag string) rpcError {
	c.t.Helper()
	r := c.do(op)
	if len(r.Errors) == 0 {
		c.t.Fatalf("%s: accepted, want %s: %s", op, tag, r.text)
	}
	if r.Errors[0].Tag != tag {
		c.t.Fatalf("%s: refused with %+v, want %s", op, r.Errors[0], tag)
	}
	return r.Errors[0]
}

// kill breaks the connection off.
func (c *client) kill() { c.ssh.Close() }

const (
	lockCandidate   = `<lock><target><candidate/></target></lock>`
	unlockCandidate = `<unlock><target><candidate/></target></unlock>`
	lockRunning     = `<lock><target><running/></target></lock>`
	unlockRunning   = `<unlock><target><running/></target></unlock>`
	commit          = `<commit/>`
	discard         = `<discard-changes/>`
	validate        = `<validate><source><candidate/></source></validate>`
	getRunning      = `<get-config><source><running/></source></get-config>`
	getCandidate    = `<get-config><source><candidate/></source></get-config>`
	closeSession    = `<close-session/>`
)

// edit is an edit-config of the candidate; inside is what is in authority, options stand before config.
func edit(inside string, options ...string) string {
	return `<edit-config><target><candidate/></target>` + strings.Join(options, "") + `<config>` + config(inside) + `</config></edit-config>`
}

// config is a configuration document of the device.
func config(inside string) string {
	return `<t128:config xmlns:t128="http://128technology.com/t128" xmlns:nc="` + baseNS + `">` +
		`<authy:authority xmlns:authy="http://128technology.com/t128/config/authority-config" ` +
		`xmlns:svc="http://128technology.com/t128/config/service-config">` + inside + `</authy:authority></t128:config>`
}

// tenant is the tenant "black" with addresses in its member "internet".
func tenant(addresses ...string) string {
	var b strings.Builder
	b.WriteString(`<authy:tenant><authy:name>black</authy:name><authy:member><authy:neighborhood>internet</authy:neighborhood>`)
	for _, a := range addresses {
		if rest, ok := strings.CutPrefix(a, "-"); ok {
			fmt.Fprintf(&b, `<authy:address nc:operation="delete">%s</authy:address>`, rest)
			continue
		}
		fmt.Fprintf(&b, `<authy:address>%s</authy:address>`, a)
	}
	b.WriteString(`</authy:member></authy:tenant>`)
	return b.String()
}

// within fails the test when f takes longer than a generous time, and says what was waited for.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s: nothing after 10 s", what)
	}
}
