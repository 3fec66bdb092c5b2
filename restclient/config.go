package restclient

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Validation says which validation a commit asks for.
type Validation string

// The values of Validation. A distributed validation asks every router and hangs while one is offline.
const (
	ValidationLocal       Validation = "local"
	ValidationDistributed Validation = "distributed"
	ValidationNone        Validation = "none" // the commit does not say; the release decides
)

// ValidateMode says how a change is validated before it is committed.
type ValidateMode string

// The values of ValidateMode.
const (
	ValidateAuto     ValidateMode = "auto"     // a validate call before the commit, where the release has one
	ValidateExplicit ValidateMode = "explicit" // a validate call; a release without one is an error
	ValidateNone     ValidateMode = "none"     // left to the commit itself
)

// Config says where the conductor is, how to log in, and which tenant to keep.
type Config struct {
	URLs []string // https://HOST[:PORT] of the conductor's nodes, tried in turn; the one that worked last comes first

	// Either User and PasswordFile, or TokenFile. Both files hold the secret on their first line, and are readable by
	// their owner only. A token file is read again when the token is refused.
	User         string
	PasswordFile string
	TokenFile    string

	// At least one of them. CAFile holds the PEM certificates of those who may sign the conductor's, whose name is then
	// checked. PinSHA256 is the SHA-256 of the conductor's own certificate (its DER form) in hexadecimal, with or
	// without colons; several, for several nodes, are separated by commas. Where both are set, both must agree.
	CAFile    string
	PinSHA256 string

	Tenant       string // at most 63 characters, no dot (a dot means hierarchy)
	Neighborhood string
	Description  string // of the tenant where it is created, or has none; never overwrites one

	Validation   Validation
	ValidateMode ValidateMode

	DialTimeout time.Duration // bound of connect, login and first answer of one node
	Timeout     time.Duration // bound of each call after that; a context may be shorter
	MaxReply    int           // bytes of the largest answer taken
	Logger      *slog.Logger

	settle time.Duration // for which a reading has to stay the same before anything is undone on its strength
}

// DefaultConfig is a Config without URLs, secret and certificate.
func DefaultConfig() Config {
	return Config{
		User:         "admin",
		Tenant:       "blacklist-fail2ban",
		Neighborhood: "internet",
		Description:  "Blacklist maintained by fail2ban",
		Validation:   ValidationLocal,
		ValidateMode: ValidateAuto,
		DialTimeout:  10 * time.Second,
		Timeout:      90 * time.Second,
		MaxReply:     64 << 20,
	}
}

// The model's types tenant-name (less its dots) and name-id.
var entryName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)
})

// Validate names every field that cannot be used, with its value.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, why string) {
		errs = append(errs, fmt.Errorf("%s %q: %s", field, fmt.Sprint(value), why))
	}
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
	if !entryName().MatchString(c.Tenant) {
		bad("tenant", c.Tenant, "1 to 63 letters, digits, - and _, beginning and ending with a letter or digit, no dot")
	}
	if !entryName().MatchString(c.Neighborhood) {
		bad("neighborhood", c.Neighborhood, "1 to 63 letters, digits, - and _, beginning and ending with a letter or digit")
	}
	if !plainText(c.Description) || len(c.Description) > 1024 {
		bad("description", c.Description, "at most 1024 bytes of plain text on one line")
	}
	if !slices.Contains([]Validation{ValidationLocal, ValidationDistributed, ValidationNone}, c.Validation) {
		bad("validation", c.Validation, "one of local, distributed, none")
	}
	if !slices.Contains([]ValidateMode{ValidateAuto, ValidateExplicit, ValidateNone}, c.ValidateMode) {
		bad("validate", c.ValidateMode, "one of auto, explicit, none over REST")
	}
	if c.DialTimeout <= 0 {
		bad("dial timeout", c.DialTimeout, "must be positive")
	}
	if c.Timeout <= 0 {
		bad("timeout", c.Timeout, "must be positive")
	}
	if c.MaxReply < 4096 {
		bad("max reply", c.MaxReply, "at least 4096 bytes")
	}
	return errors.Join(errs...)
}

// withDefaults fills what was left at its zero value and has a sensible default.
func (c Config) withDefaults() Config {
	d := DefaultConfig()
	if c.Validation == "" {
		c.Validation = d.Validation
	}
	if c.ValidateMode == "" {
		c.ValidateMode = d.ValidateMode
	}
	if c.Timeout == 0 {
		c.Timeout = d.Timeout
	}
	if c.DialTimeout == 0 {
		c.DialTimeout = min(d.DialTimeout, c.Timeout)
	}
	if c.MaxReply == 0 {
		c.MaxReply = d.MaxReply
	}
	if c.settle == 0 {
		c.settle = min(3*time.Second, c.Timeout/10)
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// parseURL reads a conductor's address: https://HOST[:PORT], with or without the path of the API.
func parseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("is no URL")
	case u.Scheme != "https":
		return nil, errors.New("must be https://HOST or https://HOST:PORT")
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

// plainText tells whether a string holds only what one line of a terminal can hold.
func plainText(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0xfffd || r == 0xfffe || r == 0xffff {
			return false
		}
	}
	return true
}
