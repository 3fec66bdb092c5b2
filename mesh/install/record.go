// Package install puts banmesh in place on a machine, as `banmesh init` and `banmesh join` do, and takes it back.
//
// Whatever is changed is written into a record before it is done, so that it can be taken back from every point at which it
// may have stopped. What is there already stays: no key is overwritten, no other file of the operator's is, and of the
// configuration only what is still at its default is set.
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

// recordName is the record's name, beside the configuration. It belongs to root: what it names is removed by root.
const recordName = "installed.json"

// Record is what was put in place, and by what.
type Record struct {
	By      string    `json:"by"` // init or join
	At      time.Time `json:"at"`
	Token   string    `json:"token,omitempty"`   // its id: the token itself is a secret
	Machine string    `json:"machine,omitempty"` // shown with the token
	Name    string    `json:"name,omitempty"`    // in the mesh
	// Configured: keys and configuration are there, and the token is not needed any more.
	Configured bool `json:"configured,omitempty"`
	Done       bool `json:"done,omitempty"`

	// What follows from a change that was made, and has not been done with success yet.
	Restart  bool `json:"restart,omitempty"`  // the agent, with what was written for it
	Fail2ban bool `json:"fail2ban,omitempty"` // fail2ban, tested and restarted with its files as they are now

	Files  []RecordedFile `json:"files,omitempty"`
	Dirs   []string       `json:"dirs,omitempty"` // in the order in which they were made
	Edited *EditedConfig  `json:"edited,omitempty"`
	Units  []string       `json:"units,omitempty"`  // enabled and started
	Data   string         `json:"data,omitempty"`   // the data directory
	Before []string       `json:"before,omitempty"` // what it held
}

// RecordedFile is one that was written where none was.
type RecordedFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
	Kept   bool   `json:"kept,omitempty"` // the agent writes it itself from then on, as the keyring
}

// EditedConfig is the configuration.
type EditedConfig struct {
	Path   string `json:"path"`
	Before []byte `json:"before"`            // null: there was none
	SHA256 string `json:"sha256"`            // of what was written
	Was    string `json:"was"`               // the same of what stood there until then
	ByHand bool   `json:"by_hand,omitempty"` // changed by somebody else since the first edit: it is not taken back
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// loadRecord reads the record; nil where there is none.
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
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s can be changed by others than you: it is not believed; move it away", path)
	}
	r := &Record{}
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("%s: %w: move it away", path, err)
	}
	return r, nil
}

func (m *Machine) save() error {
	b, err := json.MarshalIndent(m.Record, "", "  ")
	if err != nil {
		return err
	}
	return safefile.Replace(m.recordPath(), safefile.Of(0o600), func([]byte) ([]byte, error) { return append(b, '\n'), nil })
}

func (m *Machine) recordPath() string { return filepath.Join(filepath.Dir(m.Config), recordName) }

// create writes a file where none is, and reports whether it did. What is there stays.
func (m *Machine) create(path string, rights safefile.Rights, content []byte, kept bool) (bool, error) {
	path = m.at(path)
	switch b, err := os.ReadFile(path); {
	case err == nil && string(b) == string(content):
		return false, nil
	case err == nil:
		m.Say("%s is there already: it stays as it is", path)
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, err
	}
	if err := m.mkdir(filepath.Dir(path), 0o755, -1, -1); err != nil {
		return false, err
	}
	if !slices.ContainsFunc(m.Record.Files, func(f RecordedFile) bool { return f.Path == path }) {
		m.Record.Files = append(m.Record.Files, RecordedFile{path, sum(content), kept})
	}
	if m.isFail2ban(path) {
		m.Record.Fail2ban = true
	} else {
		m.Record.Restart = true
	}
	if err := m.save(); err != nil {
		return false, err
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
	return err == nil, err
}

// mkdir makes a directory, with those above it, where it is not there.
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
	if m.started { // before that there is no directory for the record
		if err := m.save(); err != nil {
			return err
		}
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	return errors.Join(os.Lchown(path, uid, gid), os.Chmod(path, mode))
}
