package netconfclient

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// A fakeServer is an SSH server whose subsystem netconf does what the test says, wrong things above all.
type fakeServer struct {
	addr   string
	dial   DialConfig
	host   ssh.Signer
	config *ssh.ServerConfig

	mu      sync.Mutex
	serve   func(ch io.ReadWriteCloser) // of the subsystem
	onConn  func(net.Conn) bool         // before SSH; false: the connection is done
	refused bool                        // the subsystem
	deaf    bool                        // keepalives are not answered
}

// startFake starts one; spoil changes it before the first connection.
func startFake(t testing.TB, serve func(ch io.ReadWriteCloser), spoil ...func(*fakeServer)) *fakeServer {
	t.Helper()
	dir := t.TempDir()
	newKey := func() (ssh.Signer, ed25519.PrivateKey) {
		_, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.NewSignerFromKey(private)
		if err != nil {
			t.Fatal(err)
		}
		return signer, private
	}
	f := &fakeServer{serve: serve}
	f.host, _ = newKey()
	client, private := newKey()
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	keyFile, hosts := filepath.Join(dir, "key"), filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(keyFile, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	f.config = &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if string(key.Marshal()) != string(client.PublicKey().Marshal()) {
			return nil, fmt.Errorf("unknown key")
		}
		return nil, nil
	}}
	f.config.AddHostKey(f.host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.addr = l.Addr().String()
	if err := os.WriteFile(hosts, []byte(knownhosts.Line([]string{knownhosts.Normalize(f.addr)}, f.host.PublicKey())+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f.dial = DialConfig{Address: f.addr, User: "admin", KeyFile: keyFile, KnownHosts: hosts}
	for _, s := range spoil {
		s(f)
	}
	var conns sync.Map
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			conns.Store(c, true)
			wg.Go(func() {
				defer conns.Delete(c)
				defer c.Close()
				f.handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		conns.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		wg.Wait()
	})
	return f
}

func (f *fakeServer) handle(c net.Conn) {
	f.mu.Lock()
	serve, onConn, refused := f.serve, f.onConn, f.refused
	f.mu.Unlock()
	if onConn != nil && !onConn(c) {
		return
	}
	conn, channels, requests, err := ssh.NewServerConn(c, f.config)
	if err != nil {
		return
	}
	defer conn.Close()
	if !f.deaf {
		go ssh.DiscardRequests(requests)
	}
	for nc := range channels {
		ch, reqs, err := nc.Accept()
		if err != nil {
			return
		}
		for r := range reqs {
			r.Reply(!refused, nil)
			if !refused {
				go ssh.DiscardRequests(reqs)
				serve(ch)
			}
			ch.Close()
			break
		}
	}
}

const fakeHello = `<?xml version="1.0" encoding="UTF-8"?><hello xmlns="urn:ietf:params:xml:ns:netconf:base:1.0"><capabilities>` +
	`<capability>urn:ietf:params:netconf:base:1.0</capability><capability>urn:ietf:params:netconf:capability:candidate:1.0</capability>` +
	`</capabilities><session-id>7</session-id></hello>]]>]]>`

var messageID = regexp.MustCompile(`message-id="([^"]*)"`)

// answering says hello in base:1.0, then answers each operation with what reply makes of it; "" is silence. ID in the
// answer becomes the message-id.
func answering(reply func(n int, rpc string) string) func(io.ReadWriteCloser) {
	return func(ch io.ReadWriteCloser) {
		io.WriteString(ch, fakeHello)
		frames := frameReader{r: newReader(ch)}
		if _, err := frames.read(1 << 20); err != nil {
			return
		}
		for n := 0; ; n++ {
			msg, err := frames.read(64 << 20)
			if err != nil {
				return
			}
			id := messageID.FindStringSubmatch(string(msg))
			if len(id) != 2 {
				return
			}
			answer := reply(n, string(msg))
			if answer == "" {
				continue
			}
			if _, err := io.WriteString(ch, strings.ReplaceAll(answer, "ID", id[1])+endOfMessage); err != nil {
				return
			}
		}
	}
}

const fakeOK = `<rpc-reply xmlns="urn:ietf:params:xml:ns:netconf:base:1.0" message-id="ID"><ok/></rpc-reply>`

// newECDSA is a host key of a type that is preferred to ed25519.
func newECDSA(t testing.TB) ssh.Signer {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}
