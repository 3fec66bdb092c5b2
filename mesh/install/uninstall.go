package install

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"banmesh/internal/safefile"
	"banmesh/mesh/spool"
)

// errNotInstalled says that neither init nor join has put anything in place here.
var errNotInstalled = errors.New("nothing was put in place here by `banmesh init` or `banmesh join`")

// Uninstall undoes what the record names, and nothing else. leave makes the agent leave the mesh and stop. It is called after
// fail2ban has dropped the action and before the agent's files go.
func (m *Machine) Uninstall(ctx context.Context, leave func() error) error {
	r := m.Record
	if r == nil {
		return errNotInstalled
	}
	m.started = true
	// First, so that fail2ban calls no agent that is about to go. Every step may find its work done: the
	// command is given again after an error.
	if err := m.unhookFail2ban(ctx); err != nil {
		return err
	}
	if err := leave(); err != nil {
		return err
	}
	for _, unit := range r.Units {
		if !m.systemd() {
			continue
		}
		if _, err := m.run(ctx, "systemctl", "disable", "--now", unit); err != nil {
			// A unit that systemd cannot stop must not keep the files here; it is said.
			m.Say("%v", err)
			continue
		}
		m.Say("stopped and disabled %s", unit)
	}
	// An agent that leaves has done this already; one that was stopped before left its bans in the kernel.
	if m.File.Enforce.Driver == "nftables" {
		if err := m.clear(ctx); err != nil {
			m.Say("what is banned is still dropped in this machine's kernel: %v", err)
		}
	}
	if err := m.restore(); err != nil {
		return err
	}
	if err := m.removeFiles(); err != nil {
		return err
	}
	if m.systemd() {
		if _, err := m.run(ctx, "systemctl", "daemon-reload"); err != nil {
			m.Say("%v", err)
		}
	}
	if err := m.removeData(); err != nil {
		return err
	}
	// The record goes once nothing is left but directories, which are empty or stay.
	if err := os.Remove(m.recordPath()); err != nil {
		return err
	}
	for _, dir := range slices.Backward(r.Dirs) {
		if filepath.Dir(m.File.Socket) == dir { // files that an agent leaves beside its socket
			for _, e := range entries(dir) {
				os.Remove(filepath.Join(dir, e.Name()))
			}
		}
		switch err := os.Remove(dir); {
		case err == nil, errors.Is(err, fs.ErrNotExist):
		default:
			m.Say("%s is not empty: it stays", dir)
		}
	}
	m.Record = nil
	return nil
}

// Waiting counts the calls that have not reached the agent and that Uninstall would remove.
func (m *Machine) Waiting() (n int) {
	if m.Record == nil || m.Record.Data == "" {
		return 0
	}
	n, _ = spool.Quick(m.File.Socket).Len()
	if dir := m.File.SpoolDir(); !slices.Contains(m.Record.Before, filepath.Base(dir)) { // else it stays
		calls, _ := spool.New(dir).Len()
		n += calls
	}
	return n
}

// unhookFail2ban makes fail2ban drop the action.
func (m *Machine) unhookFail2ban(ctx context.Context) error {
	own := m.ofFail2ban()
	if len(own) == 0 && !m.Record.Fail2ban {
		return nil
	}
	if err := m.removeFail2ban(true); err != nil {
		return err
	}
	if !m.HasFail2ban() {
		m.Record.Fail2ban = false
		return m.save()
	}
	said, err := m.run(ctx, "fail2ban-client", "-t")
	if err != nil && strings.Contains(said, noSSHLog) && slices.ContainsFunc(own, func(f RecordedFile) bool { return f.Path == m.at(journalJail) }) {
		m.Say("fail2ban finds no log file of sshd, and does not start, as before")
		// It does not start, as before the set-up; the restart only makes it let go of the action.
		_ = m.restartFail2ban(ctx)
		err = nil
	} else if err != nil {
		err = fmt.Errorf("fail2ban would not start any more, so it was not restarted and still runs with the action: correct what it names, then give the same command again: %w", err)
	} else if err = m.restartFail2ban(ctx); err != nil {
		err = fmt.Errorf("fail2ban was not restarted: start it, then give the same command again: %w", err)
	}
	if err != nil {
		return err
	}
	m.Record.Fail2ban = false
	return m.save()
}

func (m *Machine) ofFail2ban() (own []RecordedFile) {
	for _, f := range slices.Backward(m.Record.Files) {
		if _, err := os.Lstat(f.Path); err == nil && m.isFail2ban(f.Path) {
			own = append(own, f)
		}
	}
	return own
}

// restore restores the configuration.
func (m *Machine) restore() error {
	e := m.Record.Edited
	switch {
	case e == nil, m.text == nil:
		return nil
	case e.ByHand, sum(m.text) != e.SHA256:
		// Somebody has restored it by hand: nothing to say.
		if sum(m.text) != sum(e.Before) {
			m.Say("%s was changed since: it stays as it is", e.Path)
		}
		return nil
	case e.Before == nil:
		if err := os.Remove(e.Path); err != nil {
			return err
		}
		m.Say("removed %s", e.Path)
		return nil
	}
	rights, err := rightsOf(e.Path)
	if err != nil {
		return err
	}
	err = safefile.Replace(e.Path, rights, func([]byte) ([]byte, error) { return e.Before, nil })
	if err == nil {
		m.Say("%s is as it was before", e.Path)
	}
	return err
}

// removeData removes the agent's data: if this machine later joins another mesh, it must not bring this one's bans.
func (m *Machine) removeData() error {
	r := m.Record
	if r.Data == "" { // the agent was never started
		return nil
	}
	for _, e := range entries(r.Data) {
		if slices.Contains(r.Before, e.Name()) {
			m.Say("%s was there before: it stays", filepath.Join(r.Data, e.Name()))
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.Data, e.Name())); err != nil {
			return fmt.Errorf("remove the agent's data: %w", err)
		}
	}
	if err := os.RemoveAll(spool.Quick(m.File.Socket).Dir()); err != nil {
		return fmt.Errorf("remove the calls that wait: %w", err)
	}
	return nil
}
