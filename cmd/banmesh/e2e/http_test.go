package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

const httpToken = "0123456789abcdef0123456789abcdef"

// fetched is an answer, and how long it took.
type fetched struct {
	status int
	header http.Header
	body   string
}

// fetch asks a path of an agent; header holds names and values in turn.
func fetch(t testing.TB, method, url string, header ...string) fetched {
	t.Helper()
	r, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
		} else {
			r.Header.Set(header[i], header[i+1])
		}
	}
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableCompression: true, DisableKeepAlives: true}}
	res, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return fetched{res.StatusCode, res.Header, string(body)}
}

// TestHTTPShowsTheMesh: a ban on one router is in the feeds and the metrics of
// the other, and leaves them with its unban.
func TestHTTPShowsTheMesh(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	one := newAgent(t, "router1", settings{}).start()
	two := newAgent(t, "router2", settings{join: []*agent{one}, extra: fmt.Sprintf("http: {listen: %q}\n", addr)}).start()
	awaitMembers(t, []*agent{one, two}, 2)
	base := "http://" + addr
	eventually(t, 20*time.Second, "ready", func() bool { return fetch(t, "GET", base+"/readyz").body == "ready\n" })
	if a := fetch(t, "GET", base+"/healthz"); a.status != 200 || a.body != "ok\n" {
		t.Errorf("/healthz: %d %q", a.status, a.body)
	}

	one.must("ban", "203.0.113.7", "--for", "1h", "--jail", "sshd")
	one.must("ban", "203.0.113.6", "--for", "2h", "--jail", "sshd")
	two.must("ban", "2001:db8:7::/48", "--for", "1h")
	one.must("ban", "198.51.100.0/24", "--for", "1h")
	one.must("allow", "add", "198.51.100.128/25", "--for", "1h")
	plain := func(query string) string { t.Helper(); return fetch(t, "GET", base+"/feed/plain"+query).body }
	const all = "198.51.100.0/25\n203.0.113.6\n203.0.113.7\n2001:db8:7::/48\n"
	eventually(t, 10*time.Second, "the feed to show the bans", func() bool { return plain("") == all })
	for query, want := range map[string]string{
		"?family=4&aggregate=1": "198.51.100.0/25\n203.0.113.6/31\n",
		"?family=6":             "2001:db8:7::/48\n",
		"?family=4&cidr=1":      "198.51.100.0/25\n203.0.113.6/32\n203.0.113.7/32\n",
	} {
		if got := plain(query); got != want {
			t.Errorf("/feed/plain%s: %q, want %q", query, got, want)
		}
	}

	a := fetch(t, "GET", base+"/feed/json")
	var entries []struct {
		Prefix string     `json:"prefix"`
		Until  *time.Time `json:"until"`
	}
	if err := json.Unmarshal([]byte(a.body), &entries); err != nil {
		t.Fatal(err)
	}
	if len(entries) != 4 || entries[1].Prefix != "203.0.113.6/32" || entries[1].Until == nil || time.Until(*entries[1].Until) < 90*time.Minute {
		t.Errorf("/feed/json: %s", a.body)
	}

	tgz := filepath.Join(t.TempDir(), "feed.tgz")
	if err := os.WriteFile(tgz, []byte(fetch(t, "GET", base+"/feed/srx").body), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("tar", "-xzOf", tgz, "banmesh/bans").CombinedOutput(); err != nil || string(out) != all {
		t.Errorf("/feed/srx: %v: %q, want %q", err, out, all)
	}

	etag := fetch(t, "HEAD", base+"/feed/plain").header.Get("ETag")
	if a := fetch(t, "GET", base+"/feed/plain", "If-None-Match", etag); a.status != 304 || a.body != "" {
		t.Errorf("asked for again: %d %q, want 304", a.status, a.body)
	}

	metrics := fetch(t, "GET", base+"/metrics")
	for _, line := range []string{
		`banmesh_members{state="alive"} 2`, `banmesh_bans_live 4`, `banmesh_bans_effective 4`, `banmesh_bans_own 1`, `banmesh_allows 1`,
		`banmesh_propagation_seconds_count 3`, `banmesh_settled 1`, `banmesh_store_healthy 1`, `banmesh_commit_state{state="off"} 1`,
		`banmesh_enforce_state{state="off"} 1`, `banmesh_frozen 0`, `banmesh_bans_arrived_late_total 0`,
	} {
		if !strings.Contains(metrics.body, "\n"+line+"\n") {
			t.Errorf("not in /metrics: %s", line)
		}
	}
	problems, err := promlint.New(bytes.NewReader([]byte(metrics.body))).Lint()
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "banmesh_") {
			t.Errorf("promlint: %s: %s", p.Metric, p.Text)
		}
	}
	if err != nil {
		t.Errorf("promlint: %v", err)
	}

	two.must("unban", "203.0.113.7")
	eventually(t, 10*time.Second, "the feed to let it go", func() bool {
		return !strings.Contains(plain(""), "203.0.113.7")
	})
	if a := fetch(t, "GET", base+"/feed/plain", "If-None-Match", etag); a.status != 200 {
		t.Errorf("after an unban: %d, want the new feed", a.status)
	}
	if page := fetch(t, "GET", base+"/"); page.status != 200 || !strings.Contains(page.header.Get("Content-Type"), "text/html") {
		t.Errorf("/: %d %s", page.status, page.header.Get("Content-Type"))
	}

	// A stream that is read by nobody holds up no stop.
	stream, err := http.Get(base + "/live")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if took := two.terminate(); took > 4*time.Second {
		t.Errorf("the stop took %v", took)
	}
}

// TestHTTPRefuses: who may not read, what may not be done, how it may not be
// configured.
func TestHTTPRefuses(t *testing.T) {
	t.Parallel()
	addr := freeAddr(t)
	local := newAgent(t, "router1", settings{extra: fmt.Sprintf("http: {listen: %q}\n", addr)}).start()
	base := "http://" + addr
	for _, path := range []string{"/", "/metrics", "/feed/plain", "/healthz"} {
		if a := fetch(t, "GET", base+path, "Host", "stranger.example"); a.status != http.StatusMisdirectedRequest {
			t.Errorf("%s as stranger.example: %d, want 421", path, a.status)
		}
		if a := fetch(t, "POST", base+path); a.status != http.StatusMethodNotAllowed || a.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("POST %s: %d, Allow %q", path, a.status, a.header.Get("Allow"))
		}
	}
	if a := fetch(t, "GET", base+"/feed/plain?familiy=4"); a.status != 400 {
		t.Errorf("a misspelled filter: %d, want 400", a.status)
	}

	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(httpToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(freeAddr(t), ":")
	open := newAgent(t, "router2", settings{
		extra: fmt.Sprintf("http: {listen: \"0.0.0.0:%s\", allow_remote: true, token_file: %q}\n", port, token),
	}).start()
	base = "http://127.0.0.1:" + port
	for _, path := range []string{"/", "/metrics", "/feed/plain", "/live"} {
		if a := fetch(t, "GET", base+path); a.status != 401 || len(a.header.Values("WWW-Authenticate")) != 2 {
			t.Errorf("%s without a token: %d, %v", path, a.status, a.header)
		}
	}
	if a := fetch(t, "GET", base+"/metrics", "Authorization", "Bearer wrong"); a.status != 401 {
		t.Errorf("a wrong token: %d, want 401", a.status)
	}
	if a := fetch(t, "GET", base+"/metrics", "Authorization", "Bearer "+httpToken, "Host", "router2.example"); a.status != 200 {
		t.Errorf("the token: %d, want 200", a.status)
	}
	if a := fetch(t, "GET", base+"/healthz"); a.status != 200 {
		t.Errorf("/healthz without a token: %d, want 200", a.status)
	}
	if log := open.readLog(); !strings.Contains(log, "a wrong token was shown") || !strings.Contains(log, "127.0.0.1") || strings.Contains(log, httpToken) {
		t.Errorf("the log names not who showed a wrong token, or shows the token:\n%s", tail(log, 60))
	}

	world := filepath.Join(t.TempDir(), "world")
	if err := os.WriteFile(world, []byte(httpToken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(world, 0o644); err != nil {
		t.Fatal(err)
	}
	for config, want := range map[string]string{
		`{listen: "0.0.0.0:0"}`:                                           "http.listen",
		`{listen: "192.0.2.1:7980", allow_remote: true}`:                  "http.token_file",
		`{listen: "localhost:7980"}`:                                      "is not IP:port",
		fmt.Sprintf(`{listen: "127.0.0.1:0", token_file: %q}`, world):     "others can read or change it",
		fmt.Sprintf(`{listen: "127.0.0.1:0", token_file: %q}`, world+"0"): "no such file",
		fmt.Sprintf(`{listen: %q}`, addr) + " # taken by router1":         "address already in use",
	} {
		bad := newAgent(t, "router3", settings{extra: "http: " + config + "\n"})
		if r := command(t, nil, "agent", "--config", bad.config); r.code == 0 || !strings.Contains(r.err, want) {
			t.Errorf("http: %s: exit %d: %s, want %q", config, r.code, r.err, want)
		}
	}
	if local.hasEnded() || open.hasEnded() {
		t.Error("an agent ended meanwhile")
	}
}
