package crowdsec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

// unpacked is where make deps unpacks Debian's crowdsec, whose package can only be
// configured where systemd runs.
const unpacked = "/usr/local/lib/banmesh-test/crowdsec"

// TestDebiansCrowdSec follows a LAPI of Debian's crowdsec: bans, a range, one that is
// taken back, a key that is refused.
func TestDebiansCrowdSec(t *testing.T) {
	program, cscli := filepath.Join(unpacked, "usr/bin/crowdsec"), filepath.Join(unpacked, "usr/bin/cscli")
	need.Files(t, program, cscli)
	dir := t.TempDir()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	login := write("lapi.yaml", "")
	write("index.json", "{}")
	write("simulation.yaml", "simulation: false\n")
	write("profiles.yaml", "name: default\nfilters: [\"Alert.Remediation == true\"]\ndecisions: [{type: ban, duration: 4h}]\non_success: break\n")
	write("acquis.yaml", "")
	config := write("config.yaml", strings.NewReplacer("DIR", dir, "ADDR", addr).Replace(`
common: {daemonize: false, log_media: stdout, log_level: info, log_dir: DIR}
config_paths: {config_dir: DIR, data_dir: DIR, simulation_path: DIR/simulation.yaml, hub_dir: DIR, index_path: DIR/index.json, notification_dir: DIR, plugin_dir: DIR}
crowdsec_service: {enable: false, acquisition_path: DIR/acquis.yaml, parser_routines: 1}
cscli: {output: human}
db_config: {type: sqlite, db_path: DIR/crowdsec.db, flush: {max_items: 5000, max_age: 7d}}
api:
  client: {credentials_path: DIR/lapi.yaml}
  server: {listen_uri: "ADDR", profiles_path: DIR/profiles.yaml}
prometheus: {enabled: false}
`))
	run := func(args ...string) string {
		t.Helper()
		var errs bytes.Buffer
		cmd := exec.Command(cscli, append([]string{"-c", config}, args...)...)
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("cscli %s: %v\n%s%s", strings.Join(args, " "), err, out, &errs)
		}
		return string(out)
	}
	run("machines", "add", "test", "--password", "of-a-test", "-f", login)
	write("lapi.yaml", "url: http://"+addr+"\nlogin: test\npassword: of-a-test\n")
	key := write("key", run("bouncers", "add", "banmesh", "-o", "raw")+"\n")

	var log bytes.Buffer
	lapi := exec.Command(program, "-c", config, "-no-cs")
	lapi.Stdout, lapi.Stderr = &log, &log
	if err := lapi.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = lapi.Process.Kill()
		_ = lapi.Wait()
		if t.Failed() {
			t.Log(log.String())
		}
	}()

	var told []string
	s, err := New(Config{
		URL: "http://" + addr, KeyFile: key, Origins: []string{"crowdsec", "cscli"}, Interval: time.Second, Logger: slog.New(slog.DiscardHandler),
		Apply: func(_ context.Context, c Change) error {
			for _, d := range c.New {
				told = append(told, fmt.Sprintf("+%v %v %s", d.Prefix, time.Until(d.Until).Round(10*time.Minute), d.Scenario))
			}
			for _, p := range c.Gone {
				told = append(told, "-"+p.String())
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	poll := func(all bool, want ...string) {
		t.Helper()
		told = nil
		if err := s.poll(t.Context(), all); err != nil {
			t.Fatal(err)
		}
		if slices.Sort(told); !slices.Equal(told, want) {
			t.Errorf("told %q, want %q", told, want)
		}
	}
	for began := time.Now(); ; {
		err := s.poll(t.Context(), true)
		if err == nil {
			break
		}
		if refused := new(net.OpError); !errors.As(err, &refused) || time.Since(began) > 30*time.Second {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // between two tries to connect
	}
	run("decisions", "add", "--ip", "203.0.113.7", "--duration", "2h", "--reason", "a test")
	run("decisions", "add", "--range", "198.51.100.0/24", "--duration", "1h", "--reason", "a test")
	poll(true, "+198.51.100.0/24 1h0m0s a test", "+203.0.113.7/32 2h0m0s a test")
	run("decisions", "delete", "--ip", "203.0.113.7")
	poll(false, "-203.0.113.7/32")
	write("key", "another")
	if err := s.poll(t.Context(), true); err == nil || !strings.Contains(err.Error(), "refuses the key") {
		t.Errorf("another key: %v", err)
	}
}
