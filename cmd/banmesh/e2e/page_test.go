package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

// visit is what one case of browser/page.mjs is given.
type visit struct {
	URL      string `json:"url"`
	Shots    string `json:"shots"` // the directory for its screenshots
	Chromium string `json:"chromium"`
	Banmesh  string `json:"banmesh"`
	Socket   string `json:"socket"` // of the agent that it commands
	Leader   string `json:"leader"`
	IP       string `json:"ip"` // one that is banned
	Token    string `json:"token"`
	Config   string `json:"config"` // of the agent that it starts again
}

// browse runs cases in a real browser, one after the other, their names parted by
// commas. Its screenshots are kept where $BANMESH_SHOTS says, else until the test ends.
func browse(t *testing.T, names string, v visit) {
	t.Helper()
	v.Shots = os.Getenv("BANMESH_SHOTS")
	if v.Shots == "" {
		v.Shots = t.TempDir()
	} else if err := os.MkdirAll(v.Shots, 0o755); err != nil {
		t.Fatal(err)
	}
	need.Programs(t, "chromium", "node")
	need.Files(t, filepath.Join("browser", "node_modules", "playwright-core"))
	var err error
	if v.Chromium, err = exec.LookPath("chromium"); err != nil {
		t.Fatal(err)
	}
	v.Banmesh = banmesh
	given, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(3+strings.Count(names, ","))*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "page.mjs", names, string(given))
	cmd.Dir = "browser"
	cmd.WaitDelay = time.Second
	// The browser keeps its profile and its sockets there.
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "HOME="+t.TempDir())
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s in a browser: %v\n%s%s", names, err, out.Bytes(), stderr.Bytes())
	}
	t.Logf("%s: %s, screenshots in %s", names, bytes.TrimSpace(out.Bytes()), v.Shots)
}

// withPages are three agents that each serve their page, with a conductor.
func withPages(t *testing.T) (agents []*agent, urls map[string]string) {
	t.Helper()
	cond := startConductor(t)
	urls = make(map[string]string)
	s := settings{commit: cond.commitTo("")}
	for i := range 3 {
		name, addr := fmt.Sprintf("router%d", i+1), freeAddr(t)
		s.extra = fmt.Sprintf("http: {listen: %q}\n", addr)
		a := newAgent(t, name, s).start()
		agents, urls[name] = append(agents, a), "http://"+addr
		s.join = agents[:1]
	}
	awaitMembers(t, agents, 3)
	return agents, urls
}

// TestPageInABrowser: what people see of three real agents, in a real browser.
func TestPageInABrowser(t *testing.T) {
	agents, urls := withPages(t)
	lead, others := leaderOf(t, agents)
	v := visit{URL: urls["router1"], Socket: agents[1].socket, Leader: lead.name, IP: "203.0.113.10"}
	// Each stands on the one before: the ban makes what is searched for.
	if !t.Run("member", func(t *testing.T) { browse(t, "loads,ban,search,noscript,pages,access", v) }) {
		return
	}
	t.Run("crowded", func(t *testing.T) {
		defer viewers(t, v.URL, 128)()
		browse(t, "crowded", v)
	})
	t.Run("leader", func(t *testing.T) {
		v := v
		v.URL, v.Socket = urls[others[0].name], lead.socket
		browse(t, "leader", v)
	})
	t.Run("lost", func(t *testing.T) {
		v := v
		v.URL, v.Socket, v.Config = urls[others[1].name], others[1].socket, others[1].config
		browse(t, "lost", v)
	})
}

// TestPageBehindAToken: a browser that has been given the password.
func TestPageBehindAToken(t *testing.T) {
	const token = "a-token-of-some-length"
	file, addr := filepath.Join(t.TempDir(), "token"), freeAddr(t)
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := newAgent(t, "router1", settings{extra: fmt.Sprintf("http: {listen: %q, token_file: %q}\n", addr, file)}).start()
	browse(t, "token", visit{URL: "http://" + addr, Socket: a.socket, Token: token})
}

// viewers open the page's stream and never read it, until they leave.
func viewers(t *testing.T, url string, n int) (leave func()) {
	t.Helper()
	addr := strings.TrimPrefix(url, "http://")
	var all []net.Conn
	// From another host than the browser's: one host has half of the listener's connections.
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	for range n {
		conn, err := from.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, conn)
		conn.(*net.TCPConn).SetReadBuffer(2048)
		if _, err := fmt.Fprintf(conn, "GET /live HTTP/1.1\r\nHost: %s\r\n\r\n", addr); err != nil {
			t.Fatal(err)
		}
		// The head says that the stream is on; nothing is read after it.
		head := make([]byte, 12)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Read(head); err != nil || string(head) != "HTTP/1.1 200" {
			t.Fatalf("the stream answers %q, %v", head, err)
		}
	}
	return func() {
		for _, conn := range all {
			conn.Close()
		}
	}
}
