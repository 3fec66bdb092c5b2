package conductor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"regexp"
	"slices"
	"sync"
	"time"
)

// Validation selects the kind of validation that a commit asks for.
type Validation string

// The values of Validation. A distributed validation asks every router, and hangs while one of them is offline.
const (
	ValidationLocal       Validation = "local"
	ValidationDistributed Validation = "distributed"
	ValidationNone        Validation = "none" // the commit does not name one; the release decides
)

// ValidateMode selects how a change is validated before the commit.
type ValidateMode string

// The values of ValidateMode.
const (
	ValidateAuto        ValidateMode = "auto"          // the best way that the server is known to support
	ValidateExplicit    ValidateMode = "explicit"      // a validate operation before the commit
	ValidateTestThenSet ValidateMode = "test-then-set" // NETCONF: the test-option of edit-config
	ValidateNone        ValidateMode = "none"          // left to the commit itself
)

// Config holds the settings common to all drivers: which tenant to keep, and how.
type Config struct {
	Tenant       string // at most 63 characters, no dot (a dot means hierarchy)
	Neighborhood string
	Description  string // given to a tenant that is new or has none; never overwrites one

	// OwnAccount says that no person works with the agents' account, so that what nobody touches for long in a candidate of the
	// account's own was left there by an agent.
	OwnAccount bool

	Validation   Validation
	ValidateMode ValidateMode

	DialTimeout time.Duration // for connect, login and first answer of one node
	Timeout     time.Duration // for each later operation; a context may be shorter
	MaxReply    int           // size limit of a reply in bytes
	Logger      *slog.Logger

	// Dial opens connections. Nil uses the network; a simulation sets its own.
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
}

// DefaultConfig returns the defaults.
func DefaultConfig() Config {
	return Config{
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

// modelName matches the model's types tenant-name (without dots) and name-id. It is compiled on first use, because compiling
// it at start would slow down every command of the program.
var modelName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9_-]{0,61}[a-zA-Z0-9])?$`)
})

// Bad returns an error that names an unusable field of a configuration and its value.
func Bad(field string, value any, why string) error {
	return fmt.Errorf("%s %q: %s", field, fmt.Sprint(value), why)
}

// Validate returns an error that names every unusable field and its value.
func (c Config) Validate() error {
	var errs []error
	bad := func(field string, value any, why string) { errs = append(errs, Bad(field, value, why)) }
	if !modelName().MatchString(c.Tenant) {
		bad("tenant", c.Tenant, "1 to 63 letters, digits, - and _, beginning and ending with a letter or digit, no dot")
	}
	if !modelName().MatchString(c.Neighborhood) {
		bad("neighborhood", c.Neighborhood, "1 to 63 letters, digits, - and _, beginning and ending with a letter or digit")
	}
	if !PlainText(c.Description) || len(c.Description) > 1024 {
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

// WithDefaults sets fields at their zero value to their defaults.
func (c Config) WithDefaults() Config {
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

// Key returns the key of our member.
func (c Config) Key() Key { return Key{c.Tenant, c.Neighborhood} }

// PlainText reports whether XML, JSON and a line on a terminal can all hold the string.
func PlainText(s string) bool {
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0xfffd || r == 0xfffe || r == 0xffff {
			return false
		}
	}
	return true
}
