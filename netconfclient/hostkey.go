package netconfclient

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"banmesh/internal/safefile"
)

// A HostKeyError says which key was offered and where it was looked up. It is an ErrHostKey.
type HostKeyError struct {
	address     string   // host:port
	file        string   // known_hosts
	keyType     string   // of the offered key, "ssh-ed25519"
	fingerprint string   // of the offered key, "SHA256:…"; "" where the file could not be read
	known       []string // fingerprints that the file has for the address; empty where it has none
	revoked     bool
	certificate error // what is wrong with the certificate that was offered
	err         error // why the file could not be read
}

// Error names what to do: in each case it is another thing, and a wrong one would have the operator trust an
// attacker's key.
func (e *HostKeyError) Error() string {
	trust := "banmesh conductor trust " + e.address
	switch {
	case e.err != nil:
		return fmt.Sprintf("host key of %s cannot be checked against %s: %v; write the file with: %s", e.address, e.file, e.err, trust)
	case e.revoked:
		return fmt.Sprintf("host key of %s (%s %s) is marked as revoked in %s: whoever offers it may not be the conductor; give the conductor a new key, and trust that one", e.address, e.keyType, e.fingerprint, e.file)
	case e.certificate != nil:
		return fmt.Sprintf("host certificate of %s (%s) is not valid: %v; issue a new one for the conductor", e.address, e.fingerprint, e.certificate)
	case len(e.known) > 0:
		return fmt.Sprintf("host key of %s has changed: offered %s %s, %s has %s; if the conductor was reinstalled, remove the old line and: %s",
			e.address, e.keyType, e.fingerprint, e.file, e.known[0], trust)
	default:
		return fmt.Sprintf("host key of %s is not known: offered %s %s, %s has none for it; compare it at the conductor, then: %s",
			e.address, e.keyType, e.fingerprint, e.file, trust)
	}
}

// Is makes a *HostKeyError an ErrHostKey.
func (e *HostKeyError) Is(target error) bool { return target == ErrHostKey }

func (e *HostKeyError) Unwrap() error { return e.err }

// hostKeys is what a known_hosts file says about one address. As in OpenSSH, lines that cannot be parsed, for example with a
// new type of key, are skipped.
type hostKeys struct {
	address     string
	file        string
	known       []ssh.PublicKey
	authorities []ssh.PublicKey // whose certificates are trusted
	revoked     []ssh.PublicKey
	dial        dialer
	failed      *HostKeyError // set where the offered key was refused
	passed      bool
}

// loadHostKeys reads known_hosts as OpenSSH does (sshd(8)), for one server. Lines that it cannot read are
// left out: they are for others. A revoked key counts whatever hosts its line names.
func loadHostKeys(address, file string) (*hostKeys, error) {
	// Read for each connection, so that a key counts as soon as the operator trusts it.
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, &HostKeyError{address: address, file: file, err: err}
	}
	h := &hostKeys{address: address, file: file}
	host := strings.ToLower(knownhosts.Normalize(address))
	for line := range bytes.Lines(text) {
		fields := bytes.Fields(line)
		marker := ""
		if len(fields) > 0 && fields[0][0] == '@' {
			marker, fields = string(fields[0]), fields[1:]
		}
		if len(fields) < 3 || fields[0][0] == '#' {
			continue
		}
		if marker != "@revoked" && !matchesHost(string(fields[0]), host) {
			continue
		}
		blob, err := base64.StdEncoding.DecodeString(string(fields[2]))
		if err != nil {
			continue
		}
		key, err := ssh.ParsePublicKey(blob)
		if err != nil || key.Type() != string(fields[1]) {
			continue
		}
		switch marker {
		case "":
			h.known = append(h.known, key)
		case "@cert-authority":
			h.authorities = append(h.authorities, key)
		case "@revoked":
			h.revoked = append(h.revoked, key)
		}
	}
	return h, nil
}

// matchesHost reports whether the first field of a line matches a normalised host: patterns separated by commas, where an
// exclamation mark excludes, or one hash (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
func matchesHost(patterns, host string) bool {
	if hash, ok := strings.CutPrefix(patterns, "|1|"); ok {
		salt, sum, _ := strings.Cut(hash, "|")
		key, err := base64.StdEncoding.DecodeString(salt)
		want, errSum := base64.StdEncoding.DecodeString(sum)
		if err != nil || errSum != nil {
			return false
		}
		// The format prescribes SHA-1. It only hides the names of hosts; no trust in a key rests on it.
		mac := hmac.New(sha1.New, key)
		mac.Write([]byte(host))
		return hmac.Equal(mac.Sum(nil), want)
	}
	found := false
	for p := range strings.SplitSeq(strings.ToLower(patterns), ",") {
		if not, excluded := strings.CutPrefix(p, "!"); excluded {
			if not != "" && wildcard(not, host) {
				return false
			}
		} else if wildcard(p, host) {
			found = true
		}
	}
	return found
}

// wildcard matches * with anything and ? with one character.
func wildcard(pattern, s string) bool {
	// Going back to the last star is enough, so that a pattern of many stars cannot take exponential time.
	star, mark := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func holdsKey(keys []ssh.PublicKey, key ssh.PublicKey) bool {
	return slices.ContainsFunc(keys, func(k ssh.PublicKey) bool { return bytes.Equal(k.Marshal(), key.Marshal()) })
}

// callback checks the offered key; it serves one connection.
func (h *hostKeys) callback(_ string, remote net.Addr, key ssh.PublicKey) error {
	h.failed = &HostKeyError{address: h.address, file: h.file, keyType: key.Type(), fingerprint: ssh.FingerprintSHA256(key)}
	cert, certified := key.(*ssh.Certificate)
	switch {
	// First, because a key can be listed as known and as revoked.
	case holdsKey(h.revoked, key) || certified && (holdsKey(h.revoked, cert.Key) || holdsKey(h.revoked, cert.SignatureKey)):
		h.failed.revoked = true
	case holdsKey(h.known, key):
		h.failed, h.passed = nil, true
		return nil
	case certified && holdsKey(h.authorities, cert.SignatureKey):
		// The line of the authority has been matched with this host already; what is left are dates and names.
		check := ssh.CertChecker{IsHostAuthority: func(ssh.PublicKey, string) bool { return true }}
		err := check.CheckHostKey(h.address, remote, key)
		if err == nil {
			h.failed, h.passed = nil, true
			return nil
		}
		h.failed.certificate = err
	}
	for _, k := range h.known {
		h.failed.known = append(h.failed.known, ssh.FingerprintSHA256(k))
	}
	return h.failed
}

// algorithms returns those of the keys that the file has for the address, so that a server with several keys offers the known
// one. A certificate goes before its plain key. Nil leaves the choice to the library.
func (h *hostKeys) algorithms(more []string) []string {
	var out []string
	add := func(algos ...string) {
		for _, a := range algos {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	if len(h.authorities) > 0 {
		add(ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
			ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, k := range h.known {
		if k.Type() == ssh.KeyAlgoRSA {
			// An RSA key signs with SHA-2 (RFC 8332); the name of its type, ssh-rsa, would ask for SHA-1.
			add(ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			add(k.Type())
		}
	}
	if out != nil || len(more) > 0 {
		if out == nil {
			add(plainAlgorithms...)
		}
		add(more...)
	}
	return out
}

// plainAlgorithms are the algorithms of keys without a certificate, in OpenSSH's order.
var plainAlgorithms = []string{ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
	ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}

// otherType explains a handshake that failed because the server has none of the requested types of key: its key has changed
// its type, or only has a type that is refused by default.
func (h *hostKeys) otherType(ctx context.Context, err error) error {
	var none *ssh.AlgorithmNegotiationError
	if !errors.As(err, &none) || !strings.Contains(err.Error(), "host key") {
		return nil
	}
	key, fetchErr := fetchAnyHostKey(ctx, h.dial, h.address)
	switch {
	case fetchErr != nil:
		return nil
	case key.legacy:
		return fmt.Errorf("%w: %s has only a host key of ssh-rsa (SHA-1), which is refused; give it a newer one, or allow ssh-rsa in the configuration (host_key_algorithms)",
			ErrUnreachable, h.address)
	}
	e := &HostKeyError{address: h.address, file: h.file, keyType: key.Type, fingerprint: key.Fingerprint}
	for _, k := range h.known {
		e.known = append(e.known, ssh.FingerprintSHA256(k))
	}
	return e
}

// A ServerKey is a host key as a server offered it. Nothing vouches for it yet.
type ServerKey struct {
	Type        string // "ssh-ed25519"
	Fingerprint string // "SHA256:…", as ssh-keygen -l prints it
	Line        string // for known_hosts, without the newline

	legacy bool // the server offers only ssh-rsa with SHA-1
}

// FetchHostKey asks the server at addr (host:port) for its host key without logging in. Of several keys it fetches the one
// that OpenSSH prefers (ed25519, ecdsa, rsa). The context bounds it.
func FetchHostKey(ctx context.Context, addr string) (ServerKey, error) {
	if err := CheckAddress(addr); err != nil {
		return ServerKey{}, fmt.Errorf("address %q: %w", addr, err)
	}
	return fetchAnyHostKey(ctx, nil, addr)
}

// fetchAnyHostKey also asks an old server that only signs with SHA-1, and says so, as the configuration must
// allow that algorithm.
func fetchAnyHostKey(ctx context.Context, dial dialer, addr string) (ServerKey, error) {
	key, err := fetchHostKey(ctx, dial, addr, plainAlgorithms)
	if none := (*ssh.AlgorithmNegotiationError)(nil); errors.As(err, &none) {
		if legacy, legacyErr := fetchHostKey(ctx, dial, addr, []string{ssh.KeyAlgoRSA}); legacyErr == nil {
			legacy.legacy = true
			return legacy, nil
		}
	}
	return key, err
}

// fetchHostKey ends the handshake as soon as the server has proved that it holds the key; no login is tried.
func fetchHostKey(ctx context.Context, dial dialer, addr string, algorithms []string) (ServerKey, error) {
	var got ServerKey
	conn, stop, err := connect(ctx, dial, addr)
	if err != nil {
		return ServerKey{}, err
	}
	defer stop()
	defer conn.Close()
	config := &ssh.ClientConfig{
		User:              "banmesh",
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			got = ServerKey{
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
	// The handshake always ends with an error; it has done its work if the key was seen.
	if got.Line == "" {
		return ServerKey{}, fmt.Errorf("fetch host key of %s: %w: %w", addr, ErrUnreachable, cause(ctx, err))
	}
	return got, nil
}

// errKeySeen ends the handshake once the key is known.
var errKeySeen = errors.New("key seen")

// dialer opens connections; nil uses the network.
type dialer func(ctx context.Context, network, addr string) (net.Conn, error)

// connect opens a TCP connection that is closed when the context ends, until stop is called.
func connect(ctx context.Context, dial dialer, addr string) (conn net.Conn, stop func() bool, err error) {
	if dial == nil {
		d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
		dial = d.DialContext
	}
	conn, err = dial(ctx, "tcp", addr)
	if err != nil {
		return nil, nil, fmt.Errorf("connect to %s: %w: %w", addr, ErrUnreachable, cause(ctx, err))
	}
	return conn, context.AfterFunc(ctx, func() { conn.Close() }), nil
}

// cause returns why the context ended, if it has, rather than the error of the connection that this closed.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// loadSigners reads a private key and, if there is one, its certificate in FILE-cert.pub. The certificate comes first, as in
// OpenSSH.
func loadSigners(file string) ([]ssh.Signer, error) {
	key, err := loadKey(file)
	if err != nil {
		return nil, err
	}
	name := file + "-cert.pub"
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return []ssh.Signer{key}, nil
	}
	fail := func(err error) ([]ssh.Signer, error) {
		return nil, fmt.Errorf("%w: %s holds no certificate of the key beside it (%w); replace or remove it", ErrKeyFile, name, err)
	}
	if err != nil {
		return fail(err)
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return fail(err)
	}
	certificate, ok := public.(*ssh.Certificate)
	if !ok {
		return fail(fmt.Errorf("it is a %s", public.Type()))
	}
	signer, err := ssh.NewCertSigner(certificate, key)
	if err != nil {
		return fail(err)
	}
	return []ssh.Signer{signer, key}, nil
}

// loadKey reads a private key that only its owner can read.
func loadKey(file string) (ssh.Signer, error) {
	fail := func(format string, args ...any) (ssh.Signer, error) {
		return nil, fmt.Errorf("%w: %s %w", ErrKeyFile, file, fmt.Errorf(format, args...))
	}
	_, pem, err := safefile.ReadPrivate(file, safefile.OwnerOnly, 64<<10, "a private key")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKeyFile, err)
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

// CheckAddress checks that a text is host:port.
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
