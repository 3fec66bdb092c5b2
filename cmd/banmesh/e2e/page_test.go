package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
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
}

// browse runs a case in a real browser. Its screenshots are kept where
// $BANMESH_SHOTS says, else until the test ends.
func browse(t *testing.T, name string, v visit) {
	t.Helper()
	v.Shots = os.Getenv("BANMESH_SHOTS")
	if v.Shots == "" {
		v.Shots = t.TempDir()
	} else if err := os.MkdirAll(v.Shots, 0o755); err != nil {
		t.Fatal(err)
	}
	var err error
	if v.Chromium, err = exec.LookPath("chromium"); err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	if _, err := os.Stat(filepath.Join("browser", "node_modules", "playwright-core")); err != nil {
		t.Fatalf("%v: make deps installs it", err)
	}
	v.Banmesh = banmesh
	given, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "page.mjs", name, string(given))
	cmd.Dir = "browser"
	cmd.WaitDelay = time.Second
	// The browser keeps its profile and its sockets there.
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "HOME="+t.TempDir())
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s in a browser: %v\n%s%s", name, err, out.Bytes(), stderr.Bytes())
	}
	t.Logf("%s: %s, screenshots in %s", name, bytes.TrimSpace(out.Bytes()), v.Shots)
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
	for _, name := range []string{"loads", "ban", "search", "noscript", "access"} {
		if !t.Run(name, func(t *testing.T) { browse(t, name, v) }) {
			return
		}
	}
	t.Run("leader", func(t *testing.T) {
		v := v
		v.URL, v.Socket = urls[others[0].name], lead.socket
		browse(t, "leader", v)
	})
	t.Run("lost", func(t *testing.T) {
		v := v
		v.URL, v.Socket = urls[others[1].name], others[1].socket
		browse(t, "lost", v)
	})
}
