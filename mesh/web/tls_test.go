package web

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	n    int64
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *authority) pool() *x509.CertPool { p := x509.NewCertPool(); p.AddCert(a.cert); return p }

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw})
}

// issue returns a certificate for 127.0.0.1 and its key, in PEM.
func (a *authority) issue(name string) (cert, key []byte) {
	a.t.Helper()
	a.n++
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1 + a.n), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, own.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(own)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw})
}

// files writes a certificate and its key.
func (a *authority) files(dir, name string) TLSFiles {
	a.t.Helper()
	f := TLSFiles{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	cert, key := a.issue(name)
	put(a.t, f.Cert, cert, 0o644)
	put(a.t, f.Key, key, 0o600)
	return f
}

// put replaces a file in one step, as a renewal does.
func put(t *testing.T, path string, b []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path+".new", b, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// secure is a client that trusts an authority and may have a certificate.
func secure(t *testing.T, trusts *authority, own ...tls.Certificate) *http.Client {
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusts.pool(), Certificates: own}, DisableKeepAlives: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func TestTLSWithATokenIsOpenToOthers(t *testing.T) {
	ca := newAuthority(t, "ca")
	base, _ := serve(t, newServer(t, Config{TokenFile: tokens(t, goodToken, 0o600), TLS: ca.files(t.TempDir(), "one")}), "0.0.0.0:0")
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(base, "http://"))
	url := "https://127.0.0.1:" + port
	client := secure(t, ca)
	for path, want := range map[string]int{"/healthz": 200, "/feed/plain": 200, "/v1/decisions": 200} {
		req, _ := http.NewRequest("GET", url+path, nil)
		req.SetBasicAuth("palo-alto", goodToken) // as PAN-OS does it for an external dynamic list
		res, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want || res.ProtoMajor != 1 {
			t.Errorf("%s with the token as a password: %d over %s, want %d over HTTP/1.1", path, res.StatusCode, res.Proto, want)
		}
	}
	res, err := client.Get(url + "/feed/plain")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 401 {
		t.Errorf("without a token: %d, want 401", res.StatusCode)
	}
	// Plain HTTP is told so, and nothing else.
	if res := get(t, "http://127.0.0.1:"+port+"/feed/plain"); res.StatusCode != 400 {
		t.Errorf("plain HTTP: %d, want 400", res.StatusCode)
	}
	if _, err := secure(t, newAuthority(t, "another")).Get(url); err == nil {
		t.Error("an authority that did not sign it was believed")
	}
	old := &tls.Config{RootCAs: ca.pool(), MaxVersion: tls.VersionTLS11}
	if c, err := tls.Dial("tcp", "127.0.0.1:"+port, old); err == nil {
		c.Close()
		t.Error("TLS 1.1 is spoken")
	}
}

func TestClientCertificatesAreRequiredWhereAnAuthorityIsNamed(t *testing.T) {
	ca, clients := newAuthority(t, "ca"), newAuthority(t, "clients")
	dir := t.TempDir()
	files := ca.files(dir, "one")
	files.ClientCA = filepath.Join(dir, "clients.pem")
	put(t, files.ClientCA, clients.pem(), 0o644)
	base, _ := serve(t, newServer(t, Config{TLS: files}), "0.0.0.0:0") // in place of a token
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(base, "http://"))
	url := "https://127.0.0.1:" + port + "/feed/plain"
	pair := func(a *authority) tls.Certificate {
		cert, key := a.issue("prometheus")
		p, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	res, err := secure(t, ca, pair(clients)).Get(url)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		t.Errorf("with a certificate: %d", res.StatusCode)
	}
	if _, err := secure(t, ca).Get(url); err == nil {
		t.Error("let in without a certificate")
	}
	if _, err := secure(t, ca, pair(ca)).Get(url); err == nil {
		t.Error("let in with a certificate of another authority")
	}
}

func TestARenewedCertificateIsReadAgain(t *testing.T) {
	ca := newAuthority(t, "ca")
	dir := t.TempDir()
	files := ca.files(dir, "one")
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	var log bytes.Buffer
	s := newServer(t, Config{TLS: files, Now: func() time.Time { return time.Unix(0, clock.Load()) }, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	base, stop := serve(t, s, "127.0.0.1:0")
	shown := func() string {
		t.Helper()
		c, err := tls.Dial("tcp", strings.TrimPrefix(base, "http://"), &tls.Config{RootCAs: ca.pool()})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	if got := shown(); got != "one" {
		t.Fatal(got)
	}
	warns := func(want string) {
		t.Helper()
		if w := strings.Join(s.Warnings(), "\n"); want == "" && w != "" || !strings.Contains(w, want) {
			t.Errorf("warns of %q, want %q", w, want)
		}
	}
	// In the middle of a renewal the key does not fit yet.
	cert, key := ca.issue("two")
	put(t, files.Cert, cert, 0o644)
	clock.Add(int64(lookEvery))
	if got := shown(); got != "one" {
		t.Errorf("with half of a new certificate: %s, want the one before", got)
	}
	warns("still uses its previous certificate, valid until ")
	put(t, files.Key, key, 0o600)
	clock.Add(int64(lookEvery))
	if got := shown(); got != "two" {
		t.Errorf("after the renewal: %s", got)
	}
	warns("")
	if err := os.Remove(files.Cert); err != nil {
		t.Fatal(err)
	}
	clock.Add(int64(lookEvery))
	if got := shown(); got != "two" {
		t.Errorf("with the file gone: %s", got)
	}
	clock.Add(int64(100 * 365 * 24 * time.Hour))
	put(t, files.Cert, cert, 0o644)
	warns("expired on ")
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if text := log.String(); strings.Count(text, "the one before goes on") != 2 || strings.Count(text, "was read again") != 2 {
		t.Errorf("logged:\n%s", text)
	}
}

func TestUnusableCertificatesAreRefused(t *testing.T) {
	ca := newAuthority(t, "ca")
	good := ca.files(t.TempDir(), "one")
	other := ca.files(t.TempDir(), "two")
	dir := t.TempDir()
	open, empty := filepath.Join(dir, "open.pem"), filepath.Join(dir, "empty.pem")
	key, err := os.ReadFile(good.Key)
	if err != nil {
		t.Fatal(err)
	}
	put(t, open, key, 0o644)
	put(t, empty, nil, 0o600)
	for _, c := range []struct {
		files TLSFiles
		want  string
	}{
		{TLSFiles{Cert: good.Cert}, "http.key_file is empty"},
		{TLSFiles{Key: good.Key}, "http.cert_file is empty"},
		{TLSFiles{Cert: good.Cert, Key: open}, "chmod g-w,o="},
		{TLSFiles{Cert: good.Cert, Key: other.Key}, "private key does not match"},
		{TLSFiles{Cert: empty, Key: good.Key}, "failed to find any PEM data"},
		{TLSFiles{Cert: filepath.Join(dir, "none"), Key: good.Key}, "no such file"},
		{TLSFiles{Cert: dir, Key: good.Key}, "not a regular file"},
		{TLSFiles{Cert: good.Cert, Key: good.Key, ClientCA: empty}, "holds no certificate in PEM"},
	} {
		_, err := New(Config{Set: &fakeSet{}, TLS: c.files})
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(fmt.Sprint(err), "PRIVATE KEY") {
			t.Errorf("%+v: %v, want %q", c.files, err, c.want)
		}
	}
}
