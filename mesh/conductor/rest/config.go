package rest

import (
	"errors"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"banmesh/mesh/conductor"
)

// Config says where the conductor is, how to log in, and which tenant to keep.
type Config struct {
	conductor.Config

	URLs []string // https://HOST[:PORT] of the conductor's nodes, tried in turn, starting with the last one that worked

	// Either User and PasswordFile, or TokenFile. Both files hold the secret on their first line and are readable by their
	// owner only. The token file is read again when the token is refused. A user other than the default, admin, is taken to be
	// the agents' own account, also beside a TokenFile.
	User         string
	PasswordFile string
	TokenFile    string

	// At least one of them; if both are set, both must accept the certificate. CAFile holds PEM certificates of authorities
	// that may sign the conductor's; the host name is checked too. PinSHA256 is the SHA-256 of the conductor's own
	// certificate (DER) in hexadecimal, with or without colons. Commas separate the pins of several nodes.
	CAFile    string
	PinSHA256 string

	// Candidate says who shares the candidate configuration; auto asks the conductor.
	Candidate Candidate
}

// Candidate says who shares the candidate configuration; it changed with the releases.
type Candidate string

// The values of Candidate.
const (
	candidateAuto   Candidate = "auto"
	candidateShared Candidate = "shared" // up to 5.2: one for all administrators and both nodes
	candidateNode   Candidate = "node"   // 5.3 to 5.5: one per node, for all administrators
	candidateUser   Candidate = "user"   // from 5.6: one per user, merged at commit
)

// DefaultConfig returns a Config without URLs, secret and certificate.
func DefaultConfig() Config { return Config{Config: conductor.DefaultConfig(), User: "admin"} }

// Validate returns an error that names every unusable field and its value.
func (c Config) Validate() error {
	errs := []error{c.Config.Validate()}
	bad := func(field string, value any, why string) { errs = append(errs, conductor.Bad(field, value, why)) }
	if len(c.URLs) == 0 {
		bad("conductors", "", "at least one https URL is needed")
	}
	for _, u := range c.URLs {
		if _, err := parseURL(u); err != nil {
			bad("conductor", u, err.Error())
		}
	}
	switch {
	case c.TokenFile != "" && c.PasswordFile != "":
		bad("password file", c.PasswordFile, "cannot be used together with a token file")
	case c.TokenFile == "" && c.PasswordFile == "":
		bad("password file", "", "is needed, or a token file")
	case c.PasswordFile != "" && (c.User == "" || strings.ContainsAny(c.User, " \t\r\n\x00")):
		bad("user", c.User, "must be a user name")
	}
	if c.CAFile == "" && c.PinSHA256 == "" {
		bad("pin_sha256", "", "is needed, or a ca_file: no certificate is accepted unseen; run: banmesh conductor trust")
	}
	if _, err := parsePins(c.PinSHA256); err != nil {
		bad("pin_sha256", c.PinSHA256, err.Error())
	}
	if !slices.Contains([]Candidate{"", candidateAuto, candidateShared, candidateNode, candidateUser}, c.Candidate) {
		bad("candidate", c.Candidate, "one of auto, shared, node, user")
	}
	// It is the test-option of NETCONF's edit-config (RFC 6241 section 7.2).
	if c.ValidateMode == conductor.ValidateTestThenSet {
		bad("validate", c.ValidateMode, "one of auto, explicit, none over REST")
	}
	return errors.Join(errs...)
}

// parseURL parses a conductor's address: https://HOST[:PORT], with or without the path of the API.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("is no URL")
	case u.Scheme != "https":
		return nil, errors.New("must be https://HOST or https://HOST:PORT")
	// The URL is shown in errors and warnings, where no password must stand.
	case u.User != nil:
		return nil, errors.New("must not hold user or password; they come from files")
	case u.Hostname() == "" || strings.ContainsAny(u.Host, " \t\r\n,\x00"):
		return nil, errors.New("has no usable host")
	case u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" && strings.Trim(u.Path, "/") != strings.Trim(apiRoot, "/"):
		return nil, errors.New("must be https://HOST or https://HOST:PORT, without a path")
	}
	if p := u.Port(); p != "" {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return nil, errors.New("port must be 1 to 65535")
		}
	}
	if h := u.Hostname(); strings.Contains(h, ":") {
		if _, err := netip.ParseAddr(h); err != nil {
			return nil, errors.New("host is no IPv6 address")
		}
	}
	return &url.URL{Scheme: "https", Host: u.Host}, nil
}
