package install

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"

	"banmesh/examples"
	"banmesh/internal/safefile"
)

// Paths of other programs' files.
const (
	systemdRuns  = "/run/systemd/system"
	dropIn       = "/etc/systemd/system/banmesh.service.d/nftables.conf"
	fail2banDir  = "/etc/fail2ban"
	action       = fail2banDir + "/action.d/banmesh.conf"
	jail         = fail2banDir + "/jail.d/banmesh.conf"
	journalJail  = fail2banDir + "/jail.d/ssh-journal.conf"
	agentUnit    = "banmesh.service"
	helperSocket = "banmesh-fail2ban.socket"
)

// noSSHLog is part of fail2ban-client -t's output on a Debian without rsyslog.
const noSSHLog = "Have not found any log file for sshd jail"

// ErrNoService says that nothing on this machine starts the agent: systemd does not run or lacks the unit.
var ErrNoService = errors.New("no service")

// systemd reports whether systemd runs here.
func (m *Machine) systemd() bool {
	_, err := os.Stat(m.at(systemdRuns))
	return err == nil
}

// hasUnit looks at the files, because systemctl needs a running systemd, which an image that is being built
// lacks.
func (m *Machine) hasUnit(unit string) bool {
	for _, dir := range []string{"/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"} {
		if _, err := os.Stat(m.at(dir + unit)); err == nil {
			return true
		}
	}
	return false
}

// Start makes systemd run the agent, now and after each boot. If systemd cannot, the error is ErrNoService.
func (m *Machine) Start(ctx context.Context) error {
	if !m.systemd() {
		return fmt.Errorf("%w: systemd does not run here", ErrNoService)
	}
	if !m.hasUnit(agentUnit) {
		return fmt.Errorf("%w: systemd has no unit %s: install the package, or examples/systemd", ErrNoService, agentUnit)
	}
	// The unit has no capability; this drop-in gives it the one that nftables needs.
	if m.File.Enforce.Driver == "nftables" {
		if err := m.create(dropIn, safefile.Of(0o644), examples.NFTablesDropIn, false); err != nil {
			return err
		}
	}
	if _, err := m.run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err := m.run(ctx, "systemctl", "is-active", "--quiet", agentUnit)
	if err == nil {
		if !m.Record.Restart {
			return nil
		}
		// It runs with the old configuration.
		if _, err := m.run(ctx, "systemctl", "restart", agentUnit); err != nil {
			return err
		}
	} else {
		if err := m.enable(ctx, agentUnit); err != nil {
			return err
		}
		m.Say("started %s, now and at every start of this machine", agentUnit)
	}
	m.Record.Restart = false
	return m.save()
}

// enable records that a unit is enabled, and enables it.
func (m *Machine) enable(ctx context.Context, unit string) error {
	// A unit that was enabled before is not ours to disable.
	if _, err := m.run(ctx, "systemctl", "is-enabled", "--quiet", unit); err != nil && !slices.Contains(m.Record.Units, unit) {
		m.Record.Units = append(m.Record.Units, unit)
		if err := m.save(); err != nil {
			return err
		}
	}
	_, err := m.run(ctx, "systemctl", "enable", "--now", unit)
	return err
}

// HasFail2ban reports whether fail2ban is installed here.
func (m *Machine) HasFail2ban() bool {
	if info, err := os.Stat(m.at(fail2banDir)); err != nil || !info.IsDir() {
		return false
	}
	// A test has the files and not the program.
	if m.root != "" {
		return true
	}
	_, err := exec.LookPath("fail2ban-client")
	return err == nil
}

// Fail2banHooked reports whether fail2ban already shares its bans.
func (m *Machine) Fail2banHooked() bool {
	if m.Record.Fail2ban {
		return false // the files may be there without fail2ban using them
	}
	// Both: a jail without its action keeps fail2ban from starting, and an action that no jail names does
	// nothing.
	for _, path := range []string{action, jail} {
		if _, err := os.Stat(m.at(path)); err != nil {
			return false
		}
	}
	return true
}

// HookFail2ban makes fail2ban share its bans. If fail2ban would not start with the changes, it undoes them, and the error
// says why.
func (m *Machine) HookFail2ban(ctx context.Context) error {
	for _, f := range []struct {
		path    string
		content []byte
	}{{action, examples.Fail2banAction}, {jail, examples.Fail2banJail}} {
		if err := m.create(f.path, safefile.Of(0o644), f.content, false); err != nil {
			return err
		}
	}
	if !m.Record.Fail2ban {
		return nil
	}
	// With -t fail2ban reads its configuration and exits: the running one still blocks, whatever is wrong.
	said, err := m.run(ctx, "fail2ban-client", "-t")
	if err != nil && strings.Contains(said, noSSHLog) {
		// A Debian without rsyslog is like that. fail2ban does not start there at all before it is told to read the journal.
		m.Say("fail2ban finds no log file of sshd: it is to read the journal")
		if err = m.create(journalJail, safefile.Of(0o644), examples.SSHJournalJail, false); err == nil {
			said, err = m.run(ctx, "fail2ban-client", "-t")
		}
	}
	if err != nil {
		undone := m.removeFail2ban(false)
		// The backend systemd needs a Python module, which Debian has in a package of its own.
		if strings.Contains(said, "systemd") {
			err = fmt.Errorf("%w; it may need: apt-get install python3-systemd", err)
		}
		return errors.Join(fmt.Errorf("fail2ban would not start with it, so its files were taken back: %w", err), undone)
	}
	if m.systemd() && m.hasUnit(helperSocket) {
		if err := m.enable(ctx, helperSocket); err != nil {
			return err
		}
	}
	if err := m.restartFail2ban(ctx); err != nil {
		return err
	}
	m.Record.Fail2ban = false
	return m.save()
}

func (m *Machine) isFail2ban(path string) bool { return strings.HasPrefix(path, m.at(fail2banDir)+"/") }

// removeFail2ban removes all files of the hook, whichever run created them, in reverse order: fail2ban does not start with a
// jail whose action is gone. restart says whether fail2ban must be restarted without them.
func (m *Machine) removeFail2ban(restart bool) error {
	needed := false
	for _, f := range m.ofFail2ban() {
		// Files come in reverse, so the jail was looked at first.
		if needed && f.Path == m.at(action) {
			m.Say("%s stays as well: %s needs it", f.Path, m.at(jail))
			continue
		}
		if err := m.remove(f); err != nil {
			return err
		}
		if _, err := os.Lstat(f.Path); err == nil && f.Path == m.at(jail) {
			needed = true
		}
	}
	m.Record.Files = slices.DeleteFunc(m.Record.Files, func(f RecordedFile) bool { return m.isFail2ban(f.Path) })
	m.Record.Fail2ban = restart
	return m.save()
}

// restartFail2ban restarts fail2ban. A reload would silently leave the action out of running jails.
func (m *Machine) restartFail2ban(ctx context.Context) error {
	if m.systemd() {
		_, err := m.run(ctx, "systemctl", "restart", "fail2ban")
		if err == nil {
			m.Say("restarted fail2ban")
		}
		return err
	}
	if _, err := m.run(ctx, "fail2ban-client", "ping"); err != nil {
		m.Say("fail2ban does not run: start it")
		return nil
	}
	_, err := m.run(ctx, "fail2ban-client", "restart")
	if err == nil {
		m.Say("restarted fail2ban")
	}
	return err
}

// removeFiles removes all recorded files, the last first, except those that somebody has changed.
func (m *Machine) removeFiles() error {
	for i := len(m.Record.Files) - 1; i >= 0; i-- {
		if err := m.remove(m.Record.Files[i]); err != nil {
			return err
		}
		m.Record.Files = m.Record.Files[:i]
	}
	return m.save()
}

// remove leaves what the operator has changed since: it is theirs now.
func (m *Machine) remove(f RecordedFile) error {
	b, err := safefile.Read(f.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", f.Path, err)
	// The agent itself rewrites the keyring (banmesh keyring), so its content tells nothing.
	case !f.Kept && sum(b) != f.SHA256:
		m.Say("%s was changed since: it stays", f.Path)
		return nil
	}
	if err := os.Remove(f.Path); err != nil {
		return err
	}
	m.Say("removed %s", f.Path)
	return nil
}
