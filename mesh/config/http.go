package config

import (
	"net/netip"
)

// HTTP is the listener for metrics, health, feed and page; "" is off.
type HTTP struct {
	Listen       string `yaml:"listen"`
	AllowRemote  bool   `yaml:"allow_remote"`
	TokenFile    string `yaml:"token_file"`
	CertFile     string `yaml:"cert_file"`      // PEM; with it the listener speaks TLS
	KeyFile      string `yaml:"key_file"`       // PEM; nobody else may read it
	ClientCAFile string `yaml:"client_ca_file"` // PEM; clients must show a certificate of one of these authorities
}

// validateHTTP lets nothing be reached from other hosts without a secret: opening the port takes two keys, so
// that one slip does not.
func (c *Config) validateHTTP() error {
	var bad faults
	h := &c.HTTP
	if h.Listen == "" {
		return bad.err()
	}
	addr, err := netip.ParseAddrPort(h.Listen)
	if err != nil || addr.Addr().Zone() != "" {
		bad.add(field("http.listen", "%q is not IP:port", h.Listen))
		return bad.err()
	}
	switch {
	case h.CertFile == "" && h.KeyFile != "":
		bad.add(field("http.cert_file", "is empty, and http.key_file is not: a certificate and its key go together"))
	case h.CertFile != "" && h.KeyFile == "":
		bad.add(field("http.key_file", "is empty, and http.cert_file is not: a certificate and its key go together"))
	case h.CertFile == "" && h.ClientCAFile != "":
		bad.add(field("http.cert_file", "is empty: clients show certificates (http.client_ca_file) over TLS alone, which needs http.cert_file and http.key_file"))
	}
	switch {
	case addr.Addr().Unmap().IsLoopback():
	case !h.AllowRemote:
		bad.add(field("http.listen", "%s is not a loopback address: others would reach it; if they should, set http.allow_remote: true and name an http.token_file, or an http.client_ca_file", h.Listen))
	// The page shows who bans whom, and the feeds what is let through.
	case h.TokenFile == "" && h.ClientCAFile == "":
		bad.add(field("http.token_file", "is empty, and http.listen %s is open to others: name a file that holds the token they must show, or an http.client_ca_file", h.Listen))
	}
	return bad.err()
}
