package conductorsim

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// keyring holds the conductor's SSH keys: its own, the one that it makes for a client, and those of others who may log in.
type keyring struct {
	dir       string // "" keeps everything in memory
	host      ssh.Signer
	clientPEM []byte

	mu      sync.Mutex
	allowed []ssh.PublicKey // besides those of authorized_keys
	lines   []string        // of known_hosts
}

// openKeyring reads the keys from dir and creates missing ones.
func openKeyring(dir string) (*keyring, error) {
	k := &keyring{dir: dir}
	hostPEM, _, err := k.key("host_key")
	if err != nil {
		return nil, err
	}
	if k.host, err = ssh.ParsePrivateKey(hostPEM); err != nil {
		return nil, fmt.Errorf("host_key: %w", err)
	}
	var made bool
	if k.clientPEM, made, err = k.key("client_key"); err != nil {
		return nil, err
	}
	client, err := ssh.ParsePrivateKey(k.clientPEM)
	if err != nil {
		return nil, fmt.Errorf("client_key: %w", err)
	}
	if dir == "" {
		k.allowed = append(k.allowed, client.PublicKey())
		return k, nil
	}
	path := filepath.Join(dir, "authorized_keys")
	if _, err := os.Stat(path); made || errors.Is(err, fs.ErrNotExist) {
		if err := appendFile(path, ssh.MarshalAuthorizedKey(client.PublicKey())); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// key reads the private key of that name, or creates one; made reports that.
func (k *keyring) key(name string) (text []byte, made bool, err error) {
	path := filepath.Join(k.dir, name)
	if k.dir != "" {
		text, err := os.ReadFile(path)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return text, false, err
		}
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, false, fmt.Errorf("make %s: %w", name, err)
	}
	block, err := ssh.MarshalPrivateKey(private, "conductor sim")
	if err != nil {
		return nil, false, fmt.Errorf("make %s: %w", name, err)
	}
	text = pem.EncodeToMemory(block)
	if k.dir != "" {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			return nil, false, err
		}
	}
	return text, true, nil
}

func appendFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		f.Close()
		return err
	}
	return f.Close()
}

// authorize allows another key to log in.
func (k *keyring) authorize(key ssh.PublicKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.allowed = append(k.allowed, key)
}

// authorized reports whether a key may log in. Like sshd it reads the file each time, because a test may change it.
func (k *keyring) authorized(key ssh.PublicKey) bool {
	k.mu.Lock()
	allowed := slices.Clone(k.allowed)
	k.mu.Unlock()
	if k.dir != "" {
		rest, err := os.ReadFile(filepath.Join(k.dir, "authorized_keys"))
		for err == nil {
			var a ssh.PublicKey
			if a, _, _, rest, err = ssh.ParseAuthorizedKey(rest); err == nil {
				allowed = append(allowed, a)
			}
		}
	}
	return slices.ContainsFunc(allowed, func(a ssh.PublicKey) bool { return bytes.Equal(a.Marshal(), key.Marshal()) })
}

// serveOn adds the known_hosts line for a listening address, and writes the file.
func (k *keyring) serveOn(addr net.Addr) error {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return nil
	}
	port := fmt.Sprint(tcp.Port)
	names := []string{net.JoinHostPort(tcp.IP.String(), port), tcp.IP.String()}
	if tcp.IP.IsUnspecified() {
		names = append(names, net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port))
	}
	if tcp.IP.IsUnspecified() || tcp.IP.IsLoopback() {
		names = append(names, net.JoinHostPort("localhost", port))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	line := knownhosts.Line(names, k.host.PublicKey())
	if slices.Contains(k.lines, line) {
		return nil
	}
	k.lines = append(k.lines, line)
	if k.dir == "" {
		return nil
	}
	return writeFile(filepath.Join(k.dir, "known_hosts"), k.knownHosts(), 0o644)
}

// knownHosts returns the file's content; k.mu is held.
func (k *keyring) knownHosts() []byte {
	var b bytes.Buffer
	for _, l := range k.lines {
		b.WriteString(l + "\n")
	}
	return b.Bytes()
}
