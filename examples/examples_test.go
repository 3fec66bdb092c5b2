// Package examples holds what operators copy; its tests try it.
package examples

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
)

func run(t *testing.T, name string, args ...string) (string, error) {
	t.Helper()
	need.Programs(t, name)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	return string(out), err
}

func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestFail2banTakesTheFilesBesideItsOwn(t *testing.T) {
	dir := copyFail2ban(t)
	for _, name := range []string{"action.d/banmesh.conf", "jail.d/banmesh.conf"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(read(t, "fail2ban/"+name)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// The log that Debian's jail reads need not exist on this machine.
	log := filepath.Join(dir, "auth.log")
	if err := os.WriteFile(log, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	local := "[sshd]\nbackend = polling\nlogpath = " + log + "\n"
	if err := os.WriteFile(filepath.Join(dir, "jail.local"), []byte(local), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "fail2ban-client", "-c", dir, "-t")
	if err != nil || !strings.Contains(out, "OK: configuration test is successful") || strings.Contains(out, "ERROR") {
		t.Fatalf("%v: %s", err, out)
	}

	out, err = run(t, "fail2ban-client", "-c", dir, "-d")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var actions []string
	for _, m := range regexp.MustCompile(`\['set', 'sshd', 'addaction', '([^']+)'\]`).FindAllStringSubmatch(out, -1) {
		actions = append(actions, m[1])
	}
	if len(actions) != 2 || actions[1] != "banmesh" {
		t.Errorf("the jail sshd has the actions %q, want the ban action, then banmesh", actions)
	}
	for _, want := range []string{
		`['actionban', '/usr/bin/banmesh-hook fail2ban ban --jail="sshd" --ip="<ip>" --time="<time>" --bantime="<bantime>" --failures="<failures>" --restored="<restored>"']`,
		`['actionflush', ': <banmesh_family>; /usr/bin/banmesh-hook fail2ban flush --jail="sshd"']`,
		`['timeout', '5']`,
	} {
		if !strings.Contains(out, want) {
			t.Errorf("fail2ban does not read %s", want)
		}
	}
}

func TestActionKeepsItsRules(t *testing.T) {
	command := regexp.MustCompile(`(?m)^(action\w+) = ?(.*)$`)
	commands := make(map[string]string)
	for _, m := range command.FindAllStringSubmatch(read(t, "fail2ban/action.d/banmesh.conf"), -1) {
		commands[m[1]] = m[2]
	}
	for _, name := range []string{"actionstart", "actionstop", "actionflush", "actionban", "actionprolong", "actionunban"} {
		if !strings.Contains(commands[name], `<bin> fail2ban `+strings.TrimPrefix(name, "action")+` --jail="<name>"`) {
			t.Errorf("%s is %q", name, commands[name])
		}
	}
	if got, ok := commands["actioncheck"]; !ok || got != "" {
		t.Errorf("actioncheck is %q", got)
	}
	bare := regexp.MustCompile(`(^|[^"])<(ip|name|time|bantime|failures|restored)>|matches`)
	for name, text := range commands {
		if bare.MatchString(text) {
			t.Errorf("%s has a tag outside of quotes, or log lines: %s", name, text)
		}
	}
}

func TestUnitsAreValid(t *testing.T) {
	// The unit is told a program that exists: banmesh need not be installed here.
	dir := t.TempDir()
	unit := strings.ReplaceAll(read(t, "systemd/banmesh.service"), "/usr/bin/banmesh", "/bin/true")
	path := filepath.Join(dir, "banmesh.service")
	if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(t, "systemd-analyze", "verify", path); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
	if out, err := run(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", path); err != nil {
		t.Errorf("the sandbox is weaker than 2.0: %v: %s", err, out)
	}
	for _, name := range []string{"banmesh-fail2ban.socket", "banmesh-fail2ban.service"} {
		text := strings.ReplaceAll(read(t, "systemd/"+name), "/usr/libexec/banmesh/banmesh-fail2ban", "/bin/true")
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	helper := filepath.Join(dir, "banmesh-fail2ban.service")
	if out, err := run(t, "systemd-analyze", "verify", helper, filepath.Join(dir, "banmesh-fail2ban.socket")); err != nil || strings.TrimSpace(out) != "" {
		t.Errorf("systemd-analyze verify: %v: %s", err, out)
	}
	// It runs as root, which alone counts 0.4.
	if out, err := run(t, "systemd-analyze", "security", "--offline=true", "--threshold=20", helper); err != nil {
		t.Errorf("the helper's sandbox is weaker than 2.0: %v: %s", err, out)
	}
}

func TestConductorXMLSaysWhatTheTextSays(t *testing.T) {
	const (
		authority = "http://128technology.com/t128/config/authority-config"
		service   = "http://128technology.com/t128/config/service-config"
	)
	tenant := leaves(t, "conductor/tenant.xml")
	wantLeaves(t, "tenant.xml", tenant, map[string]string{
		authority + " tenant/name":                "blacklist-fail2ban",
		authority + " tenant/description":         "Blacklist maintained by fail2ban",
		authority + " tenant/member/neighborhood": "internet",
	})
	svc := leaves(t, "conductor/service.xml")
	wantLeaves(t, "service.xml", svc, map[string]string{
		service + " service/access-policy/source":     "blacklist-fail2ban",
		service + " service/access-policy/permission": "deny",
		service + " service/scope":                    "public",
	})
	for name, of := range map[string]map[string]string{"tenant": tenant, "service": svc} {
		words := strings.Fields(read(t, "conductor/"+name+".txt"))
		text := strings.ReplaceAll(strings.Join(words, " "), `"`, "")
		for path, value := range of {
			leaf := path[strings.LastIndexAny(path, "/ ")+1:]
			if !strings.Contains(text, leaf+" "+value) {
				t.Errorf("%s.txt does not say %s %s, as the XML does", name, leaf, value)
			}
		}
		wantClosed(t, name+".txt", read(t, "conductor/"+name+".txt"))
	}
}

// wantClosed checks that each block of the conductor's text, a line with deeper
// ones below it, is closed by an exit as deep as its head.
func wantClosed(t *testing.T, name, config string) {
	t.Helper()
	var open []int
	last := -1
	for line := range strings.Lines(config) {
		text := strings.TrimSpace(line)
		if text == "" {
			continue
		}
		depth := strings.Index(line, text)
		if depth > last && last >= 0 {
			open = append(open, last)
		}
		last = depth
		if text != "exit" {
			continue
		}
		if len(open) == 0 || open[len(open)-1] != depth {
			t.Fatalf("%s: an exit at depth %d closes nothing: open are %v", name, depth, open)
		}
		open = open[:len(open)-1]
	}
	if len(open) != 0 {
		t.Errorf("%s: blocks at the depths %v are not closed", name, open)
	}
}

func wantLeaves(t *testing.T, name string, got, want map[string]string) {
	t.Helper()
	for path, value := range want {
		if got[path] != value {
			t.Errorf("%s: %s is %q, want %q", name, path, got[path], value)
		}
	}
}

// leaves reads the values of an XML file by namespace and path below the
// authority.
func leaves(t *testing.T, name string) map[string]string {
	t.Helper()
	values := make(map[string]string)
	var path []string
	text := ""
	d := xml.NewDecoder(strings.NewReader(read(t, name)))
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return values
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			path = append(path, token.Name.Local)
			text = ""
		case xml.CharData:
			text += string(token)
		case xml.EndElement:
			if value := strings.TrimSpace(text); value != "" && len(path) > 3 {
				values[token.Name.Space+" "+strings.Join(path[3:], "/")] = value
			}
			path, text = path[:len(path)-1], ""
		}
	}
}
