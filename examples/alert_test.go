package examples

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"banmesh/internal/need"
)

// alerted runs a script with an event as alert.command does, and returns what came at the other end and what it said.
func alerted(t *testing.T, status int, script, event string, arg func(url string) string) (path string, body []byte, said string, err error) {
	t.Helper()
	need.Programs(t, "python3")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type")
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(status)
	}))
	defer s.Close()
	cmd := exec.Command("/bin/sh", "-c", "alert/"+script+" "+arg(s.URL))
	cmd.Stdin = strings.NewReader(event + "\n")
	out, err := cmd.CombinedOutput()
	return path, body, string(out), err
}

const (
	begins = `{"time":"2026-01-02T03:09:05.000Z","router":"router1","alert":"member","name":"router2","state":"begins","since":"2026-01-02T03:04:05.000Z","detail":"no word of <!channel> router2"}`
	ends   = `{"time":"2026-01-02T04:00:00.000Z","router":"router1","alert":"commit","state":"ends","since":"2026-01-02T03:04:05.000Z","detail":"commits work again"}`
)

func TestSlackIsTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "webhook")
	hook := func(url string) string {
		if err := os.WriteFile(file, []byte(url+"/services/T0/B0/SECRET\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	for event, want := range map[string]string{
		begins: ":warning: *member router2* at router1: no word of &lt;!channel&gt; router2 (since 2026-01-02T03:04:05.000Z)",
		ends:   ":white_check_mark: over: *commit* at router1: commits work again (since 2026-01-02T03:04:05.000Z)",
	} {
		path, body, said, err := alerted(t, 200, "banmesh-alert-slack", event, hook)
		var got struct{ Text string }
		if json.Unmarshal(body, &got) != nil || err != nil || said != "" || path != "POST /services/T0/B0/SECRET application/json" || got.Text != want {
			t.Errorf("%s %s, said %q, %v; want the text %q", path, body, said, err, want)
		}
	}
	if _, _, said, err := alerted(t, 500, "banmesh-alert-slack", begins, hook); err == nil || strings.Count(said, "\n") != 1 || strings.Contains(said, "SECRET") {
		t.Errorf("where it is refused: %q, %v; want one line without the address", said, err)
	}
}

func TestAlertmanagerIsTold(t *testing.T) {
	for event, want := range map[string]string{
		begins: `"labels": {"alertname": "banmesh_member", "router": "router1", "severity": "warning", "member": "router2"}`,
		ends:   `"startsAt": "2026-01-02T03:04:05.000Z", "endsAt": "2026-01-02T04:00:00.000Z"`,
	} {
		path, body, said, err := alerted(t, 200, "banmesh-alert-alertmanager", event, func(url string) string { return url + "/" })
		if err != nil || said != "" || path != "POST /api/v2/alerts application/json" || !strings.Contains(string(body), want) || !json.Valid(body) {
			t.Errorf("%s %s, said %q, %v; want %s in it", path, body, said, err, want)
		}
	}
	if _, _, said, err := alerted(t, 500, "banmesh-alert-alertmanager", begins, func(url string) string { return url }); err == nil || strings.Count(said, "\n") != 1 {
		t.Errorf("where it is refused: %q, %v", said, err)
	}
}
