package netconfclient

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Validation is the vendor's validation-type leaf in a commit.
type Validation string

// The values of Validation. A distributed validation asks every router and hangs while one is offline.
const (
	ValidationLocal       Validation = "local"
	ValidationDistributed Validation = "distributed"
	ValidationNone        Validation = "none" // the leaf is not sent
)

// ValidateMode says how a change is validated before it is committed.
type ValidateMode string

// The values of ValidateMode.
const (
	// ValidateAuto is test-then-set where the server offers validation, else none. An explicit validate is never
	// chosen by itself: one server answers it with ok and then commits without what was added.
	ValidateAuto        ValidateMode = "auto"
	ValidateExplicit    ValidateMode = "explicit"      // a validate operation before the commit
	ValidateTestThenSet ValidateMode = "test-then-set" // the test-option of edit-config
	ValidateNone        ValidateMode = "none"          // left to the commit itself
)

// Config says where the conductor is, how to log in, and which tenant to keep.
type Config struct {
	Addresses  []string // host:port of the conductor's nodes, tried in turn; the one that worked last comes first
	User       string
	KeyFile    string // private key in OpenSSH or PEM form, readable by its owner only
	KnownHosts string // in OpenSSH's form

	Tenant       string // at most 63 characters, no dot (a dot means hierarchy)
	Neighborhood string
	Description  string // of the tenant where it is created, or has none; never overwrites one

	Validation   Validation
	ValidateMode ValidateMode

	DialTimeout time.Duration // bound of connect, login and hello with one node
	Timeout     time.Duration // bound of each operation after that; a context may be shorter
	MaxReply    int           // bytes of the largest reply taken
	Logger      *slog.Logger
}

// DefaultConfig is a Config without addresses, key and known hosts.
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

// modelName is the model's types tenant-name (less its dots) and name-id. It is
// compiled when first needed: every command of the program would pay for it.
var modelName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)
})

// Validate names every field that cannot be used, with its value.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, why string) {
		errs = append(errs, fmt.Errorf("%s %q: %s", field, fmt.Sprint(value), why))
	}
	if len(c.Addresses) == 0 {
		bad("addresses", "", "at least one conductor's host:port is needed")
	}
	for _, a := range c.Addresses {
		if err := checkAddress(a); err != nil {
			bad("address", a, err.Error())
		}
	}
	if c.User == "" || strings.ContainsAny(c.User, " \t\r\n\x00") {
		bad("user", c.User, "must be a user name")
	}
	if c.KeyFile == "" {
		bad("key file", c.KeyFile, "is needed")
	}
	if c.KnownHosts == "" {
		bad("known hosts", c.KnownHosts, "is needed")
	}
	if !modelName().MatchString(c.Tenant) {
		bad("tenant", c.Tenant, "1 to 63 letters, digits, - and _, beginning and ending with a letter or digit, no dot")
	}
	if !modelName().MatchString(c.Neighborhood) {
		bad("neighborhood", c.Neighborhood, "1 to 63 letters, digits, - and _, beginning and ending with a letter or digit")
	}
	if !plainText(c.Description) || len(c.Description) > 1024 {
		bad("description", c.Description, "at most 1024 bytes of plain text on one line")
	}
	if !slices.Contains([]Validation{ValidationLocal, ValidationDistributed, ValidationNone}, c.Validation) {
		bad("validation", c.Validation, "one of local, distributed, none")
	}
	if !slices.Contains([]ValidateMode{ValidateAuto, ValidateExplicit, ValidateTestThenSet, ValidateNone}, c.ValidateMode) {
		bad("validate", c.ValidateMode, "one of auto, explicit, test-then-set, none")
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
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func checkAddress(a string) error {
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

// plainText tells whether a string holds only what XML and one line of a terminal can hold.
func plainText(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0xfffd || r == 0xfffe || r == 0xffff {
			return false
		}
	}
	return true
}
