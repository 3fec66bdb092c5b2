package rest

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"banmesh/mesh/conductor"
)

// A Certificate is a conductor's certificate as offered. Nothing vouches for it yet.
type Certificate struct {
	Fingerprint         string // SHA-256 of its DER form, 64 hexadecimal digits, as Config.PinSHA256 takes it
	Subject, Issuer     string
	Names               []string // host names and addresses that it is valid for
	NotBefore, NotAfter time.Time
	PEM                 string // usable as CAFile if it is self-signed
}

// certificateOf keeps the PEM text too: it is what --ca-file writes if the operator accepts it.
func certificateOf(leaf *x509.Certificate) Certificate {
	c := Certificate{
		Fingerprint: fingerprint(leaf), Subject: leaf.Subject.String(), Issuer: leaf.Issuer.String(),
		Names: slices.Clone(leaf.DNSNames), NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw})),
	}
	for _, ip := range leaf.IPAddresses {
		c.Names = append(c.Names, ip.String())
	}
	return c
}

// fingerprint is of the whole certificate, as `openssl x509 -fingerprint -sha256` prints it, in small letters
// and without colons.
func fingerprint(leaf *x509.Certificate) string {
	sum := sha256.Sum256(leaf.Raw)
	return hex.EncodeToString(sum[:])
}

// A CertificateError says which certificate was offered and what is wrong with it. It is an ErrCertificate.
type CertificateError struct {
	address     string // host:port
	Certificate Certificate
	reason      string
	err         error // the verification's error, if that is what failed
}

func (e *CertificateError) Error() string {
	return fmt.Sprintf("certificate of %s (%s, SHA-256 %s) %s", e.address, e.Certificate.Subject, e.Certificate.Fingerprint, e.reason)
}

// Is makes a *CertificateError an ErrCertificate.
func (e *CertificateError) Is(target error) bool { return target == ErrCertificate }

// Unwrap gives the verification's error to errors.As.
func (e *CertificateError) Unwrap() error { return e.err }

// parsePins reads fingerprints, separated by commas or blanks.
func parsePins(s string) ([]string, error) {
	var pins []string
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		// openssl prints capitals, with a colon after every two.
		pin := strings.ToLower(f)
		pin = strings.TrimPrefix(pin, "sha256:")
		pin = strings.ReplaceAll(pin, ":", "")
		if b, err := hex.DecodeString(pin); err != nil || len(b) != sha256.Size {
			return nil, fmt.Errorf("%q is no SHA-256 in hexadecimal (64 digits)", f)
		}
		pins = append(pins, pin)
	}
	if len(pins) == 0 && s != "" {
		return nil, errors.New("holds no fingerprint")
	}
	return pins, nil
}

// trust is what a conductor's certificate is checked against.
type trust struct {
	pins  []string
	roots *x509.CertPool // nil: only the pins count
	now   func() time.Time

	mu   sync.Mutex
	ends map[string]time.Time // when each accepted certificate expires, by server
}

// endsSoon is how long before its expiry the operator is warned of a certificate: once it expires, every router stops
// committing in the same minute.
const endsSoon = 30 * 24 * time.Hour

// ending returns the warning of a certificate that expires soon; "" if it does not, or none was seen.
func (t *trust) ending(url string) string {
	t.mu.Lock()
	at, seen := t.ends[strings.TrimPrefix(url, "https://")]
	t.mu.Unlock()
	left := at.Sub(t.now())
	if !seen || left > endsSoon {
		return ""
	}
	return fmt.Sprintf("the certificate of %s ends on %s, in %d days: then no router can commit; give the conductor a new one, and pin that",
		url, at.UTC().Format(time.DateOnly), int(left.Hours()/24))
}

// loadTrust reads the files once, when the driver is made.
func loadTrust(c Config, now func() time.Time) (*trust, error) {
	t := &trust{now: now, ends: make(map[string]time.Time)}
	var err error
	if t.pins, err = parsePins(c.PinSHA256); err != nil {
		return nil, err
	}
	if c.CAFile == "" {
		return t, nil
	}
	text, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("%w: ca_file: %w", ErrCertificate, err)
	}
	// Empty, and not the system's: only the authorities that the operator names may vouch for a conductor.
	t.roots = x509.NewCertPool()
	if !t.roots.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%w: ca_file %s holds no certificate in PEM form", ErrCertificate, c.CAFile)
	}
	return t, nil
}

// config returns the TLS configuration for one address. All verification is our own (VerifyConnection), so that a refusal can
// name the offered certificate. The library's own verification would come first, so it is off.
func (t *trust) config(addr, serverName string) *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         serverName,
		InsecureSkipVerify: true,
		VerifyConnection:   func(s tls.ConnectionState) error { return t.verify(addr, serverName, s.PeerCertificates) },
	}
}

// verify takes the place of crypto/tls's own verification, which knows no pins. It checks all that is configured: a pinned
// certificate must still be within its dates, and if there is a ca_file as well, be signed for this name. It notes when the
// certificate ends, for the warning before that.
func (t *trust) verify(addr, serverName string, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return &CertificateError{address: addr, reason: "was not offered"}
	}
	leaf := chain[0]
	offered := certificateOf(leaf)
	refuse := func(err error, format string, args ...any) error {
		return &CertificateError{address: addr, Certificate: offered, reason: fmt.Sprintf(format, args...), err: err}
	}
	if len(t.pins) > 0 && !slices.Contains(t.pins, offered.Fingerprint) {
		return refuse(nil, "is not the pinned one; if the conductor was given a new one, compare it there, then: banmesh conductor trust %s", addr)
	}
	// A pin identifies a certificate, but does not make it valid for ever.
	switch now := t.now(); {
	case now.After(leaf.NotAfter):
		return refuse(nil, "expired on %s; give the conductor a new one", leaf.NotAfter.UTC().Format(time.DateOnly))
	case now.Before(leaf.NotBefore):
		return refuse(nil, "is not valid before %s; is this machine's clock right?", leaf.NotBefore.UTC().Format(time.DateTime))
	}
	t.mu.Lock()
	// Under both spellings, since a URL may leave out the port of https.
	t.ends[addr], t.ends[strings.TrimSuffix(addr, ":443")] = leaf.NotAfter, leaf.NotAfter
	t.mu.Unlock()
	if t.roots == nil {
		if len(t.pins) == 0 {
			return refuse(nil, "has nothing to be checked against")
		}
		return nil
	}
	// What the server sends may complete the chain; trust comes from the roots alone.
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: t.roots, Intermediates: between, DNSName: serverName, CurrentTime: t.now()})
	if err == nil {
		return nil
	}
	var name x509.HostnameError
	switch {
	case errors.As(err, &name) && len(offered.Names) == 0:
		return refuse(err, "names no host: it has no subjectAltName; give the conductor one that has, or set pin_sha256 alone, without ca_file")
	case errors.As(err, &name):
		return refuse(err, "is for %s, not for %s", strings.Join(offered.Names, ", "), serverName)
	case len(chain) == 1 && offered.Issuer != offered.Subject:
		return refuse(err, "was issued by %s, and the conductor did not send that one's certificate: add it to what the conductor sends, or to the ca_file: %v", offered.Issuer, err)
	}
	return refuse(err, "is not signed by anybody in the ca_file: %v", err)
}

// FetchCertificate asks the server at addr (https://HOST[:PORT], HOST:PORT or HOST) for its certificate. It neither logs in
// nor trusts the server. The context bounds it.
func FetchCertificate(ctx context.Context, addr string) (Certificate, error) {
	if !strings.Contains(addr, "://") {
		addr = "https://" + addr
	}
	u, err := parseURL(addr)
	if err != nil {
		return Certificate{}, fmt.Errorf("address %q: %w", addr, err)
	}
	// Unverified on purpose: the certificate is only shown, and nothing is sent to the server.
	d := tls.Dialer{Config: &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.Hostname(), InsecureSkipVerify: true}}
	conn, err := d.DialContext(ctx, "tcp", hostPort(u))
	if err != nil {
		return Certificate{}, fmt.Errorf("fetch certificate of %s: %w: %w", u.Host, conductor.ErrUnreachable, err)
	}
	defer conn.Close()
	chain := conn.(*tls.Conn).ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return Certificate{}, fmt.Errorf("fetch certificate of %s: %w: none was offered", u.Host, conductor.ErrProtocol)
	}
	return certificateOf(chain[0]), nil
}

// hostPort fills in the port of https.
func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(u.Hostname(), port)
}
