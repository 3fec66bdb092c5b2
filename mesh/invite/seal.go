package invite

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"time"
)

// First is the first byte of every stream of this package: a TLS handshake record (RFC 8446 §5.1).
const First = 0x16

// protocol is negotiated by ALPN, to distinguish later versions.
const protocol = "banmesh-join/1"

// errStranger says that the other side does not know the secret.
var errStranger = errors.New("the other side does not know the token's secret")

// certificate wraps a key in the form that TLS needs. Its other content does not matter: the other side compares the key.
func certificate(key ed25519.PrivateKey) (tls.Certificate, error) {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "banmesh"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// sealed returns the configuration of a side that shows own and accepts only other. TLS proves that each side holds the
// private half of the key that it shows (RFC 8446 §4.4.3).
func sealed(own ed25519.PrivateKey, other ed25519.PublicKey) (*tls.Config, error) {
	cert, err := certificate(own)
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		// Tickets are off: a resumed session would skip the proof.
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true, SessionTicketsDisabled: true, // no authority: VerifyConnection compares the key
		VerifyConnection: func(s tls.ConnectionState) error {
			if len(s.PeerCertificates) != 1 || s.NegotiatedProtocol != protocol {
				return errStranger
			}
			if key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey); !ok || !key.Equal(other) {
				return errStranger
			}
			return nil
		},
	}, nil
}

// serverName carries the invitation's id in the first message. It must look like a host name.
func serverName(id string) string { return id + ".banmesh" }
