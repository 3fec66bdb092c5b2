package netconfclient

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// A HostKeyError says which key was offered, and where it was looked for. It is ErrHostKey.
type HostKeyError struct {
	Address     string   // host:port
	File        string   // known_hosts
	Type        string   // of the offered key, "ssh-ed25519"
	Fingerprint string   // of the offered key, "SHA256:…"; "" where the file could not be read
	Known       []string // fingerprints that the file has for the address; empty where it has none
	Revoked     bool
	Err         error // why the file could not be read
}

func (e *HostKeyError) Error() string {
	trust := "banmesh conductor trust " + e.Address
	switch {
	case e.Err != nil:
		return fmt.Sprintf("host key of %s cannot be checked against %s: %v; write the file with: %s", e.Address, e.File, e.Err, trust)
	case e.Revoked:
		return fmt.Sprintf("host key of %s (%s %s) is marked as revoked in %s", e.Address, e.Type, e.Fingerprint, e.File)
	case len(e.Known) > 0:
		return fmt.Sprintf("host key of %s has changed: offered %s %s, %s has %s; if the conductor was reinstalled, remove the old line and: %s",
			e.Address, e.Type, e.Fingerprint, e.File, e.Known[0], trust)
	default:
		return fmt.Sprintf("host key of %s is not known: offered %s %s, %s has none for it; compare it at the conductor, then: %s",
			e.Address, e.Type, e.Fingerprint, e.File, trust)
	}
}

// Is makes a *HostKeyError an ErrHostKey.
func (e *HostKeyError) Is(target error) bool { return target == ErrHostKey }

func (e *HostKeyError) Unwrap() error { return e.Err }

// hostKeys checks one address against a known_hosts file.
type hostKeys struct {
	address string
	file    string
	check   ssh.HostKeyCallback
	failed  *HostKeyError // set where the offered key was refused
	passed  bool
}

func loadHostKeys(address, file string) (*hostKeys, error) {
	check, err := knownhosts.New(file)
	if err != nil {
		return nil, &HostKeyError{Address: address, File: file, Err: err}
	}
	return &hostKeys{address: address, file: file, check: check}, nil
}

// callback is for one connection.
func (h *hostKeys) callback(_ string, remote net.Addr, key ssh.PublicKey) error {
	err := h.check(h.address, remote, key)
	if err == nil {
		h.passed = true
		return nil
	}
	h.failed = &HostKeyError{Address: h.address, File: h.file, Type: key.Type(), Fingerprint: ssh.FingerprintSHA256(key)}
	var known *knownhosts.KeyError
	var revoked *knownhosts.RevokedError
	switch {
	case errors.As(err, &revoked):
		h.failed.Revoked = true
	case errors.As(err, &known):
		for _, k := range known.Want {
			h.failed.Known = append(h.failed.Known, ssh.FingerprintSHA256(k.Key))
		}
	default:
		h.failed.Err = err
	}
	return h.failed
}

// algorithms are those of the keys that the file has for the address, so that a server with several keys offers
// the one that is known. Nil leaves the choice to the library.
func (h *hostKeys) algorithms() []string {
	var known *knownhosts.KeyError
	if !errors.As(h.check(h.address, placeholderAddr{}, placeholderKey{}), &known) {
		return nil
	}
	var out []string
	for _, k := range known.Want {
		algos := []string{k.Key.Type()}
		if k.Key.Type() == ssh.KeyAlgoRSA {
			algos = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, a := range algos {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// placeholderKey is no host's key: asking for it makes the file tell which keys it has.
type placeholderKey struct{}

func (placeholderKey) Type() string                        { return "none" }
func (placeholderKey) Marshal() []byte                     { return []byte("none") }
func (placeholderKey) Verify([]byte, *ssh.Signature) error { return errors.ErrUnsupported }

type placeholderAddr struct{}

func (placeholderAddr) Network() string { return "tcp" }
func (placeholderAddr) String() string  { return "0.0.0.0:0" }

// A HostKey is a host key as a server offered it; nothing vouches for it yet.
type HostKey struct {
	Type        string // "ssh-ed25519"
	Fingerprint string // "SHA256:…", as ssh-keygen -l prints it
	Line        string // for known_hosts, without the newline
}

// FetchHostKey asks the server at addr (host:port) for its host key, without logging in. The context bounds it.
// A server has several; the one preferred by OpenSSH (ed25519, ecdsa, rsa) is fetched.
func FetchHostKey(ctx context.Context, addr string) (HostKey, error) {
	if err := CheckAddress(addr); err != nil {
		return HostKey{}, fmt.Errorf("address %q: %w", addr, err)
	}
	var got HostKey
	conn, stop, err := connect(ctx, addr)
	if err != nil {
		return HostKey{}, err
	}
	defer stop()
	defer conn.Close()
	config := &ssh.ClientConfig{
		User: "banmesh",
		HostKeyAlgorithms: []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
			ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256},
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			got = HostKey{
				Type:        key.Type(),
				Fingerprint: ssh.FingerprintSHA256(key),
				Line:        knownhosts.Line([]string{knownhosts.Normalize(addr)}, key),
			}
			return errKeySeen
		},
	}
	c, _, _, err := ssh.NewClientConn(conn, addr, config)
	if err == nil {
		c.Close()
	}
	if got.Line == "" {
		return HostKey{}, fmt.Errorf("fetch host key of %s: %w: %w", addr, ErrUnreachable, cause(ctx, err))
	}
	return got, nil
}

// errKeySeen ends the handshake once the key is known.
var errKeySeen = errors.New("key seen")

// connect opens a TCP connection that is closed when the context ends, until stop is called.
func connect(ctx context.Context, addr string) (conn net.Conn, stop func() bool, err error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	conn, err = d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w: %w", addr, ErrUnreachable, cause(ctx, err))
	}
	return conn, context.AfterFunc(ctx, func() { conn.Close() }), nil
}

// cause prefers why the context ended over the error of the connection that its end closed.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// loadKey reads a private key that nobody but its owner can read.
func loadKey(file string) (ssh.Signer, error) {
	fail := func(format string, args ...any) (ssh.Signer, error) {
		return nil, fmt.Errorf("%w: %s %w", ErrKeyFile, file, fmt.Errorf(format, args...))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return fail("cannot be examined: %w", err)
	case !st.Mode().IsRegular():
		return fail("is not a regular file")
	case st.Mode().Perm()&0o077 != 0:
		return fail("has mode %#o, others can read it; run: chmod 600 %s", st.Mode().Perm(), file)
	case st.Size() > 64<<10:
		return fail("has %d bytes, too many for a private key", st.Size())
	}
	pem := make([]byte, st.Size())
	if _, err := io.ReadFull(f, pem); err != nil {
		return fail("cannot be read: %w", err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	var locked *ssh.PassphraseMissingError
	switch {
	case errors.As(err, &locked):
		return fail("is protected by a passphrase; a service needs a key without one")
	case err != nil:
		return fail("holds no private key: %w", err)
	}
	return signer, nil
}

// CheckAddress tells whether a text is host:port.
func CheckAddress(a string) error {
	host, port, err := net.SplitHostPort(a)
	if err != nil {
		return errors.New("must be host:port, an IPv6 address in brackets")
	}
	if host == "" || strings.ContainsAny(host, " \t\r\n,/\x00") {
		return errors.New("has no usable host")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return errors.New("port must be 1 to 65535")
	}
	return nil
}
