package gossip

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"banmesh/internal/shell"
)

// maxKeys bounds a keyring: each packet that no key opens costs one try a key.
const maxKeys = 16

// key is one key of the mesh, with its cipher made once.
type key struct {
	raw  []byte
	aead cipher.AEAD
}

// newKey takes the key sizes of AES-128, -192 and -256, as memberlist does.
func newKey(raw []byte) (*key, error) {
	switch len(raw) {
	case 16, 24, 32:
	default:
		return nil, fmt.Errorf("a key has %d bytes, not 16, 24 or 32", len(raw))
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return &key{raw: bytes.Clone(raw), aead: aead}, nil
}

// keyring holds the keys in use: the first seals, all open. Readers get an
// immutable slice, so that a rotation never races with a packet.
type keyring struct {
	mu   sync.Mutex // writers
	keys atomic.Pointer[[]*key]
}

// newKeyring takes the keys in the order of the file: the first one encrypts, all of them decrypt. Readers
// take the whole list from an atomic pointer, so that a change of keys stops no packet.
func newKeyring(raw [][]byte) (*keyring, error) {
	if len(raw) == 0 {
		return nil, errors.New("a keyring needs at least one key")
	}
	if len(raw) > maxKeys {
		return nil, fmt.Errorf("a keyring of %d keys is more than %d", len(raw), maxKeys)
	}
	keys := make([]*key, 0, len(raw))
	for i, r := range raw {
		k, err := newKey(r)
		if err != nil {
			return nil, fmt.Errorf("key %d: %w", i+1, err)
		}
		keys = append(keys, k)
	}
	r := &keyring{}
	r.keys.Store(&keys)
	return r, nil
}

// openKeyring makes the ring of the configured keys; nil without any, which means no encryption.
func openKeyring(cfg *Config) (*keyring, error) {
	raw := cfg.Keys
	if len(raw) == 0 && cfg.KeyringFile != "" {
		var err error
		if raw, err = LoadKeyring(cfg.KeyringFile); err != nil {
			return nil, err
		}
	}
	if len(raw) == 0 {
		return nil, nil
	}
	ring, err := newKeyring(raw)
	if err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	return ring, nil
}

func (r *keyring) all() []*key { return *r.keys.Load() }

func (r *keyring) raw() [][]byte {
	var out [][]byte
	for _, k := range r.all() {
		out = append(out, k.raw)
	}
	return out
}

// names are those of the keys, the one that seals first.
func (r *keyring) names() []string {
	var out []string
	for _, k := range r.all() {
		out = append(out, KeyName(k.raw))
	}
	return out
}

func (r *keyring) has(raw []byte) bool {
	for _, k := range r.all() {
		if bytes.Equal(k.raw, raw) {
			return true
		}
	}
	return false
}

// install adds a key that opens, without using it yet.
func (r *keyring) install(raw []byte) error {
	k, err := newKey(raw)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.has(raw) {
		return nil
	}
	old := r.all()
	if len(old) >= maxKeys {
		return fmt.Errorf("the keyring already holds %d keys: remove one first", len(old))
	}
	keys := append(append(make([]*key, 0, len(old)+1), old...), k)
	r.keys.Store(&keys)
	return nil
}

// use makes an installed key the one that seals.
func (r *keyring) use(raw []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first *key
	var rest []*key
	for _, k := range r.all() {
		if bytes.Equal(k.raw, raw) {
			first = k
		} else {
			rest = append(rest, k)
		}
	}
	if first == nil {
		return errors.New("the key is not installed")
	}
	keys := append([]*key{first}, rest...)
	r.keys.Store(&keys)
	return nil
}

// remove drops a key that is not the one that seals.
func (r *keyring) remove(raw []byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.all()
	if bytes.Equal(old[0].raw, raw) {
		return errors.New("the key in use cannot be removed: use another one first")
	}
	var keys []*key
	for _, k := range old {
		if !bytes.Equal(k.raw, raw) {
			keys = append(keys, k)
		}
	}
	r.keys.Store(&keys)
	return nil
}

// find returns the key that is meant: in base64 any, by its name one that is
// installed.
func (r *keyring) find(key string) ([]byte, error) {
	if !strings.HasPrefix(key, keyNamePrefix) {
		return ParseKey(key)
	}
	for _, k := range r.all() {
		if KeyName(k.raw) == key {
			return k.raw, nil
		}
	}
	return nil, fmt.Errorf("no key of the name %.64q is installed here: banmesh keyring list shows those that are", key)
}

const keyNamePrefix = "SHA256:"

// KeyName is what a key is called where the key itself must not be shown: the
// first 96 bits of its SHA-256, in base64.
func KeyName(raw []byte) string {
	sum := sha256.Sum256(raw)
	return keyNamePrefix + base64.RawURLEncoding.EncodeToString(sum[:12])
}

// NewKey makes a random key of 32 bytes, in base64.
func NewKey() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return base64.StdEncoding.EncodeToString(b)
}

// ParseKey reads one key in base64: 16, 24 or 32 bytes.
func ParseKey(s string) ([]byte, error) {
	raw, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, errors.New("a key is not base64: make one with banmesh keygen")
	}
	if _, err := newKey(raw); err != nil {
		return nil, err
	}
	return raw, nil
}

// LoadKeyring reads a keyring file: a JSON array of base64 keys, the first of
// which encrypts (the format of serf's keyring file). It refuses a file that
// others than owner and group can touch, and says how to fix it.
func LoadKeyring(path string) ([][]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may be a pipe
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("keyring %s does not exist: copy it from another member, or for the first one: echo \"[\\\"$(banmesh keygen)\\\"]\" | install -T -o %d -g %d -m 0600 /dev/stdin %s", path, os.Geteuid(), os.Getegid(), shell.Quote(path))
	}
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read keyring: %w", err)
	}
	if !fi.Mode().IsRegular() {
		return nil, fmt.Errorf("keyring %s is not a regular file", path)
	}
	if m := fi.Mode().Perm(); m&0o027 != 0 {
		return nil, fmt.Errorf("keyring %s has mode %04o, others than its owner can read or change it: chmod 640 %s", path, m, shell.Quote(path))
	}
	b, err := io.ReadAll(io.LimitReader(f, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("read keyring %s: %w", path, err)
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return nil, fmt.Errorf("keyring %s is not a JSON array of base64 keys, like [\"…\"]: make a key with banmesh keygen", path)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("keyring %s holds no key: make one with banmesh keygen", path)
	}
	var raw [][]byte
	for i, s := range list {
		k, err := ParseKey(s)
		if err != nil {
			return nil, fmt.Errorf("keyring %s, key %d: %w", path, i+1, err)
		}
		raw = append(raw, k)
	}
	if _, err := newKeyring(raw); err != nil {
		return nil, fmt.Errorf("keyring %s: %w", path, err)
	}
	return raw, nil
}

// saveKeyring writes the keys back in their order, atomically, with the mode
// the file had.
func saveKeyring(path string, raw [][]byte) error {
	mode := fs.FileMode(0o600)
	var uid, gid = -1, -1
	if fi, err := os.Stat(path); err == nil {
		mode = fi.Mode().Perm()
		uid, gid = owner(fi)
	}
	list := make([]string, len(raw))
	for i, r := range raw {
		list[i] = base64.StdEncoding.EncodeToString(r)
	}
	b, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	// A new file of a name that nobody can foresee, 0600: others may write in the
	// directory, and what they have put there must not receive the keys.
	f, err := os.CreateTemp(filepath.Dir(path), ".keyring-*.new")
	if err != nil {
		return fmt.Errorf("write keyring: %w", err)
	}
	tmp := f.Name()
	_, err = f.Write(append(b, '\n'))
	if err == nil && uid >= 0 {
		// Best effort: an agent that is not root keeps its own group.
		_ = f.Chown(uid, gid)
	}
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
		return fmt.Errorf("write keyring %s: %w", path, err)
	}
	return nil
}
