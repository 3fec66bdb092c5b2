package install

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"banmesh/internal/safefile"
	"banmesh/mesh/config"
	"banmesh/mesh/enforce"
	"banmesh/mesh/gossip"
)

// Machine is the machine that banmesh is installed on. Open returns one.
type Machine struct {
	Config string // the agent's configuration file
	Record *Record
	File   *config.File // the configuration's current content
	Say    func(format string, args ...any)

	root     string // "" except in tests: prefix of every path but the configuration's
	run      func(ctx context.Context, name string, args ...string) (string, error)
	probe    func() error                // reports whether nftables can be used
	clear    func(context.Context) error // removes the agent's table of nftables
	text     []byte                      // of the configuration; nil if there is none
	uid, gid int                         // the agent's user; -1 if it has none of its own
	started  bool
}

// serviceUser is the user that the packages create for the agent.
const serviceUser = "banmesh"

// Open examines a machine and changes nothing.
func Open(config string, say func(format string, args ...any)) (*Machine, error) {
	m := &Machine{Config: config, Say: say, run: execute, uid: -1, gid: -1}
	if u, err := user.Lookup(serviceUser); err == nil {
		// Ids are decimal numbers on POSIX systems. Without that user -1 leaves new files to whoever runs this.
		m.uid, _ = strconv.Atoi(u.Uid)
		m.gid, _ = strconv.Atoi(u.Gid)
	}
	return m, m.look()
}

// look reads what is there already: the record of an earlier set-up, the configuration. No configuration is an empty one, and no
// error.
func (m *Machine) look() error {
	var err error
	if m.Record, err = loadRecord(m.recordPath()); err != nil {
		return err
	}
	m.text, err = config.Read(m.Config)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	m.File, err = config.Parse(m.Config, m.text)
	if m.probe == nil {
		m.probe = func() error { return enforce.Probe(m.File.Enforce.NetNS) }
	}
	if m.clear == nil {
		m.clear = func(ctx context.Context) error { return enforce.RemoveTable(ctx, m.File.Enforce.NetNS) }
	}
	return err
}

// at returns a path below the root.
func (m *Machine) at(path string) string {
	if m.root == "" || strings.HasPrefix(path, m.root+"/") {
		return path
	}
	return filepath.Join(m.root, path)
}

// execute runs a program of the machine for at most a minute, and returns its output.
func execute(ctx context.Context, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	// A daemon that the program has started may keep its output open.
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, lastLine(string(out)))
	}
	return string(out), nil
}

// lastLine is where programs say what went wrong.
func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// keyring returns the path of the gossip keys.
func (m *Machine) keyring() string {
	if k := m.File.Gossip.Keyring; k != "" {
		return k
	}
	return filepath.Join(filepath.Dir(m.Config), "keyring.json")
}

// KeyNames returns the names of the machine's keys; none without a keyring.
func (m *Machine) KeyNames() ([]string, error) {
	keys, err := gossip.LoadKeyring(m.keyring())
	// No keyring is no error; one that cannot be read is.
	if _, serr := os.Lstat(m.keyring()); errors.Is(serr, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, k := range keys {
		names = append(names, gossip.KeyName(k))
	}
	return names, err
}

// Begin starts a record, or continues one. Nothing is changed before it.
func (m *Machine) Begin(r Record) error {
	if m.Record == nil {
		m.Record = &r
	}
	mode, uid, gid := fs.FileMode(0o755), -1, -1
	if m.gid >= 0 { // as in the packages: the agent can add files, but cannot replace root's
		mode, uid, gid = fs.ModeSticky|0o770, 0, m.gid
	}
	if err := m.mkdir(filepath.Dir(m.Config), mode, uid, gid); err != nil {
		return err
	}
	// The record has its directory from here on, see mkdir.
	m.started = true
	return m.save()
}

// entries takes a directory that cannot be read for empty, as one that is not there.
func entries(dir string) []fs.DirEntry {
	e, _ := os.ReadDir(dir)
	return e
}

// Want is the wanted content of the configuration and of the files beside it.
type Want struct {
	Keyring    []string // base64, the primary key first
	KnownHosts string   // of the conductor
	Settings   []config.Setting
}

// Configure writes keys and configuration.
func (m *Machine) Configure(w Want) error {
	for _, k := range w.Keyring { // they may come from another machine
		if _, err := gossip.ParseKey(k); err != nil {
			return fmt.Errorf("the mesh's keys: %w", err)
		}
	}
	ring := m.keyring()
	secret := safefile.Rights{Mode: 0o600, UID: m.uid, GID: m.gid}
	text, err := json.MarshalIndent(w.Keyring, "", "  ")
	if err != nil {
		return err
	}
	if err := m.create(ring, secret, append(text, '\n'), true); err != nil {
		return err
	}
	settings := append(slices.Clone(w.Settings), config.Setting{Key: "gossip.keyring", Value: ring})
	if w.KnownHosts != "" {
		path := filepath.Join(filepath.Dir(m.Config), "known_hosts")
		if err := m.create(path, safefile.Of(0o644), []byte(w.KnownHosts), false); err != nil {
			return err
		}
		settings = append(settings, config.Setting{Key: "commit.known_hosts", Value: path})
	}
	if err := m.edit(settings); err != nil {
		return err
	}
	// What was in the data directory before is none of ours: removeData leaves it. Listed once, because a
	// second run would list what the agent has written since.
	if m.Record.Data == "" {
		m.Record.Data, m.Record.Before = m.File.DataDir, []string{}
		for _, e := range entries(m.File.DataDir) {
			m.Record.Before = append(m.Record.Before, e.Name())
		}
	}
	for _, d := range []struct {
		path string
		mode fs.FileMode
	}{{m.File.DataDir, 0o750}, {filepath.Dir(m.File.Socket), 0o755}} {
		if err := m.mkdir(d.path, d.mode, m.uid, m.gid); err != nil {
			return err
		}
	}
	m.Record.Name, m.Record.Configured = m.File.Name, true
	return m.save()
}

// edit applies settings to the configuration.
func (m *Machine) edit(settings []config.Setting) error {
	base := m.text
	if base == nil {
		base = []byte("# The configuration of the banmesh agent, written by `banmesh " + m.Record.By + "`. All keys: banmesh.yaml among the examples.\n")
	}
	edited, set, kept, err := config.Edit(m.Config, base, settings)
	if err != nil {
		return err
	}
	for _, s := range kept {
		m.Say("%s: %s stays as it is", m.Config, s)
	}
	// All of it is set already. A file that is not there is written even without a setting.
	if len(set) == 0 && m.text != nil {
		return nil
	}
	file, err := config.Parse(m.Config, edited)
	if err == nil {
		// Before it is written: a file that the agent would refuse is worse than an error now.
		err = file.Validate()
	}
	if err != nil {
		return err
	}
	// The agent's group may read it and not write it; without that user everybody may, as there is nobody else
	// to name. An existing file keeps its rights.
	rights := safefile.Rights{Mode: 0o640, UID: -1, GID: m.gid}
	if m.gid < 0 {
		rights.Mode = 0o644
	}
	if m.text != nil {
		if rights, err = rightsOf(m.Config); err != nil {
			return err
		}
	}
	e := m.Record.Edited
	if e == nil {
		e = &EditedConfig{Path: m.Config, Before: m.text}
		m.Record.Edited = e
	} else if now := sum(m.text); now != e.SHA256 && now != e.Was {
		// Neither what the last run wrote, nor what it meant to replace and did not if it broke off after the record.
		e.ByHand = true
	}
	e.SHA256, e.Was, m.Record.Restart = sum(edited), sum(m.text), true
	if err := m.save(); err != nil {
		return err
	}
	err = safefile.Replace(m.Config, rights, func(old []byte) ([]byte, error) {
		// An editor may be open on it: what was read at the beginning is what was edited.
		if string(old) != string(m.text) {
			return nil, fmt.Errorf("%s was changed meanwhile: give the command again", m.Config)
		}
		return edited, nil
	})
	if err != nil {
		return err
	}
	m.text, m.File = edited, file
	for _, s := range set {
		m.Say("%s: %s", m.Config, s)
	}
	return nil
}

// ConductorKey creates this machine's own key for the conductor if the configuration names a missing one. It returns the
// public half, or "" if the conductor takes no key.
func (m *Machine) ConductorKey() (public string, err error) {
	k := m.File.Commit
	if k.Driver != "netconf" || k.Key == "" {
		return "", nil
	}
	comment := "banmesh@" + m.File.Name
	// A key from before, the operator's or an earlier run's, is used; its public half is told again.
	if b, err := safefile.Read(k.Key); err == nil {
		signer, err := ssh.ParsePrivateKey(b)
		if err != nil {
			return "", fmt.Errorf("%s: %w", k.Key, err)
		}
		return publicLine(signer.PublicKey(), comment), nil
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return "", err
	}
	block, err := ssh.MarshalPrivateKey(key, comment)
	if err != nil {
		return "", err
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return "", err
	}
	err = m.create(k.Key, safefile.Rights{Mode: 0o600, UID: m.uid, GID: m.gid}, pem.EncodeToMemory(block), true)
	return publicLine(signer.PublicKey(), comment), err
}

func publicLine(key ssh.PublicKey, comment string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + " " + comment
}

// CanDrop returns why this machine's kernel cannot drop banned packets, nil if it can.
func (m *Machine) CanDrop() error { return m.probe() }

// Done records that everything is in place.
func (m *Machine) Done() error {
	m.Record.Done = true
	return m.save()
}
