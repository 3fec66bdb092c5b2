package fail2ban

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/internal/sim/fail2bantest"
)

// noJournal is a machine without one.
func noJournal(context.Context, ...string) (string, error) { return "", os.ErrNotExist }

func TestRealCheckSaysWhyFail2banDoesNotRun(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{})
	r.Stop()
	client := r.realClient()
	client.journal = noJournal
	log := filepath.Join(filepath.Dir(r.LogPath()), "fail2ban.log")
	for _, test := range []struct {
		name, jail, log string
		what, fix       string
	}{
		{name: "stopped", what: "fail2ban does not run", fix: "systemctl start fail2ban"},
		{name: "no log file", jail: "[sshd]\nlogpath = /nowhere/auth.log\n", what: "Have not found any log file for sshd jail", fix: "ssh-journal.conf"},
		{name: "an action that is gone", jail: "[sshd]\naction = nothere\n", what: "'action.d/nothere'", fix: "take its name out"},
		{name: "our action is gone", jail: "[sshd]\naction = banmesh\n", what: "'action.d/banmesh'", fix: "action.d/banmesh.conf"},
		{name: "a slip", jail: "[sshd]\nbantime\n", what: "parsing errors", fix: "correct the line"},
		{name: "no module of systemd's", jail: "[sshd]\nbackend = systemd\n",
			log:  "Starting Fail2ban v1.0.2\nERROR an older start\nStarting Fail2ban v1.0.2\nERROR   Backend 'systemd' failed to initialize due to No module named 'systemd'\nERROR   NOK: (\"Failed to initialize any backend for Jail 'sshd'\",)\n",
			what: "Backend 'systemd' failed to initialize due to No module named 'systemd'", fix: "python3-systemd"},
		{name: "something else", log: "Starting Fail2ban v1.0.2\nERROR   the database is locked\n", what: "the database is locked", fix: "correct what it says"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r.Configure("jail.local", test.jail)
			if test.name == "our action is gone" {
				action := filepath.Join(r.Dir(), "action.d/banmesh.conf")
				if err := os.Rename(action, action+".aside"); err != nil {
					t.Fatal(err)
				}
				defer os.Rename(action+".aside", action)
			}
			if err := os.WriteFile(log, []byte(test.log), 0o600); err != nil {
				t.Fatal(err)
			}
			findings, err := Check(t.Context(), client, "")
			if err != nil || len(findings) != 1 || findings[0].Severity != Serious {
				t.Fatalf("got %v, %+v; want one serious finding", err, findings)
			}
			if f := findings[0]; strings.Contains(f.What, time.Now().Format("2006-01-")) {
				t.Errorf("%q has a part of fail2ban's log in it", f.What)
			} else if !strings.HasPrefix(f.What, "fail2ban does not run") || !strings.Contains(f.What, test.what) || !strings.Contains(f.Fix, test.fix) {
				t.Errorf("got %q, fix %q; want %q, %q", f.What, f.Fix, test.what, test.fix)
			}
		})
	}
	// What the advice comes down to, done: the finding is gone.
	r.Configure("jail.local", "")
	r.Restart()
	if findings, err := Check(t.Context(), client, ""); err != nil || len(findings) > 0 {
		t.Errorf("after the cause is gone: %v, %+v", err, findings)
	}
}

// journalOf makes a journal as journald writes it, of one line for each program.
func journalOf(t *testing.T, programs ...string) string {
	t.Helper()
	const make = "/lib/systemd/systemd-journal-remote"
	need.Programs(t, "journalctl")
	need.Files(t, make, "/usr/lib/python3/dist-packages/systemd")
	var export strings.Builder
	for i, exe := range programs {
		comm := filepath.Base(exe)
		now := time.Now().UnixMicro() + int64(i)
		for _, field := range []string{
			"__REALTIME_TIMESTAMP=" + fmt.Sprint(now), "__MONOTONIC_TIMESTAMP=" + fmt.Sprint(i+1), "_BOOT_ID=11111111111111111111111111111111",
			"_MACHINE_ID=22222222222222222222222222222222", "_COMM=" + comm, "_EXE=" + exe, "SYSLOG_IDENTIFIER=" + comm,
			"MESSAGE=Failed password for root from 203.0.113.7 port 4242 ssh2\n",
		} {
			export.WriteString(field + "\n")
		}
	}
	dir := t.TempDir()
	text, journal := filepath.Join(dir, "export"), filepath.Join(dir, "ssh.journal")
	if err := os.WriteFile(text, []byte(export.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := execute(t.Context(), []string{make, "-o", journal, text}); err != nil {
		t.Fatal(err)
	}
	return journal
}

func TestRealCheckFindsAJailThatReadsNothingOfSSHDs(t *testing.T) {
	t.Parallel()
	const old, session = "/usr/sbin/sshd", "/usr/lib/openssh/sshd-session"
	const shipped = "journalmatch = _EXE=" + old + "\n  _EXE=" + session + "\n"
	for name, test := range map[string]struct {
		wrote []string
		jail  string
		want  string // in the only finding; "" for none
	}{
		"an old sshd matched by its name":             {[]string{old}, "journalmatch = _COMM=sshd\n", ""},
		"a new sshd matched by its name":              {[]string{session}, "journalmatch = _COMM=sshd\n", "reads nothing of what sshd writes"},
		"a new sshd and the old filter":               {[]string{session}, shipped, "does not know sshd-session"},
		"a new sshd as shipped":                       {[]string{session}, shipped + "filter = sshd[_daemon=\"sshd(?:-session|-auth)?\"]\n", ""},
		"nothing was written by any sshd":             {[]string{"/usr/bin/other"}, "journalmatch = _COMM=sshd\n", ""},
		"a match for a unit that is called otherwise": {[]string{old}, "journalmatch = _SYSTEMD_UNIT=sshd.service\n", "reads nothing of what sshd writes"},
	} {
		if name == "a new sshd and the old filter" && fail2bantest.FilterHas(t, "sshd.conf", "sshd-session") {
			test.want = "" // 1.1.0's knows it
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			journal := journalOf(t, test.wrote...)
			r := startReal(t, fail2bantest.Options{Files: map[string]string{
				"jail.local": "[sshd]\nlogpath =\nbackend = systemd[journalfiles=" + journal + "]\n" + test.jail,
			}})
			client := r.realClient()
			client.journal = func(ctx context.Context, args ...string) (string, error) {
				return execute(ctx, append([]string{"journalctl", "--file=" + journal}, args...))
			}
			findings, err := Check(t.Context(), client, "")
			switch {
			case err != nil:
				t.Fatal(err)
			case test.want == "" && len(findings) > 0:
				t.Errorf("got %+v, want nothing", findings)
			case test.want != "" && (len(findings) != 1 || findings[0].Severity != Serious || !strings.Contains(findings[0].What, test.want)):
				t.Errorf("got %+v, want %q", findings, test.want)
			}
		})
	}
}

func TestRealCheckLeavesNoErrorsInFail2bansLog(t *testing.T) {
	t.Parallel()
	r := startReal(t, fail2bantest.Options{})
	log := func() string {
		text, err := os.ReadFile(filepath.Join(filepath.Dir(r.LogPath()), "fail2ban.log"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	// Who waited for the jail has asked for it before it was there.
	before := log()
	if _, err := Check(t.Context(), r.realClient(), ""); err != nil {
		t.Fatal(err)
	}
	if written := strings.TrimPrefix(log(), before); strings.Contains(written, "ERROR") {
		t.Errorf("%s", written)
	}
}
