package web

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"banmesh/internal/safefile"
)

// TLSFiles name the files of the listener's certificate; the zero value is plain HTTP.
type TLSFiles struct {
	Cert string // PEM: the certificate, then its issuers'
	Key  string // PEM; only its owner and group may read it
	// ClientCA is PEM with the authorities of clients. If it is set, clients need a certificate of one of them.
	ClientCA string
}

// maxPEM bounds the size of such a file.
const maxPEM = 1 << 20

// Check returns what is wrong with the files.
func (f TLSFiles) Check() error {
	_, err := f.load()
	return err
}

// Leaf returns the listener's certificate from the file.
func (f TLSFiles) Leaf() (*x509.Certificate, error) {
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	return c.Certificates[0].Leaf, nil
}

// load reads all files anew; a pair that does not fit leaves the certificate in use as it is.
func (f TLSFiles) load() (*tls.Config, error) {
	cert, err := readPEM("http.cert_file", f.Cert, false)
	if err != nil {
		return nil, err
	}
	key, err := readPEM("http.key_file", f.Key, true)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("http.cert_file %s with http.key_file %s: %w", f.Cert, f.Key, err)
	}
	// No HTTP/2: it would put any number of requests on one of the counted connections.
	c := &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	if f.ClientCA == "" {
		return c, nil
	}
	ca, err := readPEM("http.client_ca_file", f.ClientCA, false)
	if err != nil {
		return nil, err
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("http.client_ca_file: %s holds no certificate in PEM", f.ClientCA)
	}
	return c, nil
}

// readPEM refuses a private key that others can read.
func readPEM(key, path string, secret bool) ([]byte, error) {
	if path == "" {
		return nil, fmt.Errorf("%s is empty", key)
	}
	allow := safefile.Anyone
	if secret {
		allow = safefile.OwnerAndGroup
	}
	_, b, err := safefile.ReadPrivate(path, allow, maxPEM, "PEM")
	if err != nil {
		return nil, fmt.Errorf("%s: %w", key, err)
	}
	return b, nil
}

// certificates gives each connection the certificate from the files. It reads them again when they change, for example after
// a renewal, and keeps the last usable ones while the new ones cannot be used.
type certificates struct {
	files TLSFiles
	now   func() time.Time
	log   *slog.Logger
	stat  func(string) (fs.FileInfo, error) // os.Stat; nil the same
	look  look

	mu     sync.Mutex
	config *tls.Config
	seen   [3]fs.FileInfo
	looked time.Time
	failed string // the last error, logged once
}

// lookEvery is the least time between two looks at the files.
const lookEvery = time.Second

// newCertificates fails at the start; later failures are logged and leave the last good certificate in use.
func newCertificates(files TLSFiles, now func() time.Time, log *slog.Logger) (*certificates, error) {
	c := &certificates{files: files, now: now, log: log, looked: now()}
	c.seen = c.stats()
	var err error
	c.config, err = files.load()
	return c, err
}

// stats looks before load reads, so that a change in between is seen at the next look.
func (c *certificates) stats() (out [3]fs.FileInfo) {
	stat := c.stat
	if stat == nil {
		stat = os.Stat
	}
	for i, path := range []string{c.files.Cert, c.files.Key, c.files.ClientCA} {
		if path != "" {
			out[i], _ = stat(path)
		}
	}
	return out
}

// sameFile compares mode as well: a key that was made readable for others must not be used any longer.
func sameFile(a, b fs.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && a.Mode() == b.Mode()
}

// forClient looks for a renewed certificate with each connection, at most once in a while, see refresh.
func (c *certificates) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.refresh()
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.config, nil
}

// trouble says why the files cannot be used, or that the certificate in use has expired; "" if all is well.
func (c *certificates) trouble() string {
	c.refresh()
	if since := c.look.hangs(); since > 0 {
		return fmt.Sprintf("the disk of %s has not answered for %v; the HTTP listener uses the certificate that was read before (dmesg)", c.files.Cert, since)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	ends := c.config.Certificates[0].Leaf.NotAfter
	switch {
	case c.failed != "":
		return fmt.Sprintf("the HTTP listener still uses its previous certificate, valid until %s: %s", ends.UTC().Format(time.DateOnly), c.failed)
	case c.now().After(ends):
		return fmt.Sprintf("the HTTP listener's certificate %s expired on %s, and clients refuse it: renew it; the agent loads the new one by itself", c.files.Cert, ends.UTC().Format(time.DateOnly))
	}
	return ""
}

// refresh has the files looked at, at most each lookEvery.
func (c *certificates) refresh() {
	now := c.now()
	c.mu.Lock()
	age := now.Sub(c.looked)
	fresh := age >= 0 && age < lookEvery
	if !fresh {
		c.looked = now
	}
	c.mu.Unlock()
	if !fresh {
		c.look.take(c.read)
	}
}

// read reads the files again if they have changed. Only c.look calls it: without the lock, because the disk may hang.
func (c *certificates) read() {
	seen := c.stats()
	c.mu.Lock()
	same := slices.EqualFunc(seen[:], c.seen[:], sameFile)
	if same {
		c.failed = ""
	}
	c.mu.Unlock()
	if same {
		return
	}
	fresh, err := c.files.load()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil { // tried again, because a renewal writes one file after the other
		if text := err.Error(); text != c.failed {
			c.failed = text
			c.log.Error("http: the new certificate cannot be used, the one before goes on", "error", err)
		}
		return
	}
	c.config, c.seen, c.failed = fresh, seen, ""
	c.log.Info("http: the certificate was read again", "until", fresh.Certificates[0].Leaf.NotAfter)
}

// server returns the configuration for http.Server.
func (c *certificates) server() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}, GetConfigForClient: c.forClient}
}
