// Package install sets up banmesh on a machine for `banmesh init` and `banmesh join`, and undoes that for `banmesh
// uninstall`.
//
// Open examines the machine. Begin, Configure, Start and HookFail2ban change it, and Uninstall takes the changes back. Each
// change is recorded, durably, before it is made, so that it can be undone or continued wherever an earlier run stopped.
// Existing things stay: no key and no other file of the operator's is overwritten, and only settings of the configuration
// that are still at their default are set.
//
// A command uses a Machine from one goroutine; the package starts none and has no locks.
package install

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"banmesh/internal/safefile"
)

// recordName is the record's name, beside the configuration. It belongs to root, because root removes the files that it
// names.
const recordName = "installed.json"

// Record says what was put in place, and by which command.
type Record struct {
	By      string    `json:"by"` // init or join
	At      time.Time `json:"at"`
	Token   string    `json:"token,omitempty"`   // its id only: the token is a secret
	Machine string    `json:"machine,omitempty"` // shown with the token
	Name    string    `json:"name,omitempty"`    // in the mesh
	// Configured says that keys and configuration are in place, so that the token is not needed any more.
	Configured bool `json:"configured,omitempty"`
	Done       bool `json:"done,omitempty"`

	// Steps that a change calls for and that have not succeeded yet.
	Restart  bool `json:"restart,omitempty"`  // the agent must be restarted to use what was written
	Fail2ban bool `json:"fail2ban,omitempty"` // fail2ban must be tested and restarted with its present files

	Files  []RecordedFile `json:"files,omitempty"`
	Dirs   []string       `json:"dirs,omitempty"` // in the order of their creation
	Edited *EditedConfig  `json:"edited,omitempty"`
	Units  []string       `json:"units,omitempty"`  // enabled and started
	Data   string         `json:"data,omitempty"`   // the data directory
	Before []string       `json:"before,omitempty"` // its content before
}

// RecordedFile is a file that was created.
type RecordedFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Kept   bool   `json:"kept,omitempty"` // the agent rewrites it from then on, like the keyring
}

// EditedConfig says how the configuration was changed.
type EditedConfig struct {
	Path   string `json:"path"`
	Before []byte `json:"before"`            // null if there was none
	SHA256 string `json:"sha256"`            // of what was written
	Was    string `json:"was"`               // of what it replaced
	ByHand bool   `json:"by_hand,omitempty"` // changed by somebody else since the first edit, so it is not restored
}

// sum tells apart what was written here and what somebody has changed since; nothing is protected by it.
func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// loadRecord reads the record; nil if there is none.
func loadRecord(path string) (*Record, error) {
	b, err := safefile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	// Uninstall removes, as root, what the record names: a record that the agent's user can write would be a
	// way to remove any file.
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s can be changed by others than you: it is not believed; move it away", path)
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w: move it away", path, err)
	}
	return r, nil
}

// save is called after each step, so that a run that breaks off can still be undone.
func (m *Machine) save() error {
	b, err := json.MarshalIndent(m.Record, "", "  ")
	if err != nil {
		return err
	}
	return safefile.Replace(m.recordPath(), safefile.Of(0o600), func([]byte) ([]byte, error) { return append(b, '\n'), nil })
}

func (m *Machine) recordPath() string { return filepath.Join(filepath.Dir(m.Config), recordName) }

// maxCreated bounds what is compared with what would be written; a keyring and known_hosts are far smaller.
const maxCreated = 16 << 20

// create writes a new file. It leaves an existing one alone.
func (m *Machine) create(path string, rights safefile.Rights, content []byte, kept bool) error {
	path = m.at(path)
	switch _, b, err := safefile.ReadPrivate(path, safefile.Anyone, maxCreated, "it"); {
	case err == nil && string(b) == string(content):
		return nil
	case err == nil:
		m.Say("%s is there already: it stays as it is", path)
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := m.mkdir(filepath.Dir(path), 0o755, -1, -1); err != nil {
		return err
	}
	// Recorded, durably, before it is there: a run that breaks off in between leaves a name in the record and
	// no file, which remove takes for done.
	if !slices.ContainsFunc(m.Record.Files, func(f RecordedFile) bool { return f.Path == path }) {
		m.Record.Files = append(m.Record.Files, RecordedFile{path, sum(content), kept})
	}
	if m.isFail2ban(path) {
		m.Record.Fail2ban = true
	} else {
		m.Record.Restart = true
	}
	if err := m.save(); err != nil {
		return err
	}
	err := safefile.Replace(path, rights, func(old []byte) ([]byte, error) {
		if old != nil {
			return nil, fmt.Errorf("%s has appeared meanwhile: give the command again", path)
		}
		return content, nil
	})
	if err == nil {
		m.Say("wrote %s", path)
	}
	return err
}

// mkdir creates a directory and its missing parents.
func (m *Machine) mkdir(path string, mode fs.FileMode, uid, gid int) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if err := m.mkdir(filepath.Dir(path), 0o755, -1, -1); err != nil {
		return err
	}
	if !slices.Contains(m.Record.Dirs, path) {
		m.Record.Dirs = append(m.Record.Dirs, path)
	}
	if m.started { // before that, the record has no directory
		if err := m.save(); err != nil {
			return err
		}
	}
	// Closed until it has its owner; the mode that others need comes last.
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return errors.Join(os.Lchown(path, uid, gid), os.Chmod(path, mode))
}
