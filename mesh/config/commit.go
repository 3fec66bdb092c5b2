package config

import (
	"fmt"
	"net/url"
	"strings"

	"banmesh/internal/shell"
	"banmesh/store/text"
)

// Leader says whether this agent may commit, and how much it is preferred.
type Leader struct {
	Eligible bool `yaml:"eligible"`
	Priority int  `yaml:"priority"` // higher is preferred
}

// Commit says where and how the merged set is committed.
// Both drivers share one section: an operator who changes the driver keeps everything else.
type Commit struct {
	Driver     string   `yaml:"driver"`     // none, netconf or rest
	Conductors []string `yaml:"conductors"` // IP:port, or https URLs for rest; tried in turn
	User       string   `yaml:"user"`
	Key        string   `yaml:"key"`         // private SSH key file
	KnownHosts string   `yaml:"known_hosts"` // host keys of the conductors
	// HostKeyAlgorithms are accepted beside the usual ones: ssh-rsa, for a conductor that has no other.
	HostKeyAlgorithms []string `yaml:"host_key_algorithms"`
	Tenant            string   `yaml:"tenant"`
	Neighborhood      string   `yaml:"neighborhood"`
	Description       string   `yaml:"description"`
	Validation        string   `yaml:"validation"` // local, distributed or none: the vendor's leaf in <commit>
	Validate          string   `yaml:"validate"`   // auto, explicit, test-then-set or none

	PasswordFile string `yaml:"password_file"`
	TokenFile    string `yaml:"token_file"`
	CAFile       string `yaml:"ca_file"`
	PinSHA256    string `yaml:"pin_sha256"`
	Candidate    string `yaml:"candidate"` // rest: auto, shared, node or user: whose the candidate is

	Window             Duration `yaml:"window"`
	MaxWait            Duration `yaml:"max_wait"`
	Timeout            Duration `yaml:"timeout"`
	MaxAddresses       int      `yaml:"max_addresses"`
	MaxShrinkPercent   int      `yaml:"max_shrink_percent"`
	MaxGrowthPercent   int      `yaml:"max_growth_percent"`
	GrowthFloor        int      `yaml:"growth_floor"`
	MinInterval        Duration `yaml:"min_interval"`
	Foreign            string   `yaml:"foreign"` // keep or remove
	RemoveForeignAfter Duration `yaml:"remove_foreign_after"`
	CutSessions        bool     `yaml:"cut_sessions"`
	SaveStartup        bool     `yaml:"save_startup"` // netconf servers with a startup datastore: copy running to it after a commit
}

// shown refuses what a terminal would obey or not show: a machine that joins by a token takes these from its inviter.
func shown(key, value string) error {
	if text.Clean(value, len(value)) != value {
		return field(key, "%q holds a control or format character or an unusual space", value)
	}
	return nil
}

// validateCommit checks the driver's own keys only for the driver that is set: the other's may stay in the
// file for trying it.
func (c *Config) validateCommit() error {
	var bad faults
	k := &c.Commit
	for _, f := range []struct{ key, got string }{
		{"commit.driver", k.Driver}, {"commit.validation", k.Validation}, {"commit.validate", k.Validate},
		{"commit.candidate", k.Candidate}, {"commit.foreign", k.Foreign},
	} {
		bad.add(oneOf(f.key, f.got))
	}
	for _, f := range []struct{ key, got string }{
		{"commit.user", k.User}, {"commit.tenant", k.Tenant}, {"commit.neighborhood", k.Neighborhood}, {"commit.pin_sha256", k.PinSHA256},
		// Shown by the conductor alone, and a block of YAML ends with a newline.
		{"commit.description", strings.NewReplacer("\n", " ", "\t", " ").Replace(k.Description)},
	} {
		bad.add(shown(f.key, f.got))
	}
	for _, f := range []struct {
		key string
		got []string
	}{{"commit.conductors", k.Conductors}, {"commit.host_key_algorithms", k.HostKeyAlgorithms}} {
		for i, got := range f.got {
			bad.add(shown(fmt.Sprintf("%s[%d]", f.key, i), got))
		}
	}
	for _, d := range []struct {
		key string
		d   Duration
	}{
		{"commit.window", k.Window}, {"commit.max_wait", k.MaxWait}, {"commit.min_interval", k.MinInterval},
		{"commit.remove_foreign_after", k.RemoveForeignAfter},
	} {
		if d.d < 0 {
			bad.add(field(d.key, "is negative"))
		}
	}
	if k.Timeout <= 0 {
		bad.add(field("commit.timeout", "must be greater than 0"))
	}
	// The first change waits for Window; a batch must not be cut off before it has begun.
	if k.MaxWait < k.Window {
		bad.add(field("commit.max_wait", "is shorter than commit.window"))
	}
	if k.MaxAddresses < 1 {
		bad.add(field("commit.max_addresses", "%d: at least 1", k.MaxAddresses))
	}
	if k.MaxShrinkPercent < 1 || k.MaxShrinkPercent > 100 {
		bad.add(field("commit.max_shrink_percent", "%d is not in 1..100", k.MaxShrinkPercent))
	}
	if k.MaxGrowthPercent < 1 {
		bad.add(field("commit.max_growth_percent", "%d: at least 1", k.MaxGrowthPercent))
	}
	if k.GrowthFloor < 0 {
		bad.add(field("commit.growth_floor", "%d: at least 0", k.GrowthFloor))
	}
	switch k.Driver {
	case "netconf":
		bad.add(c.validateNetconf())
	case "rest":
		bad.add(c.validateREST())
	}
	return bad.err()
}

func (c *Config) validateNetconf() error {
	var bad faults
	k := &c.Commit
	if len(k.Conductors) == 0 {
		bad.add(field("commit.conductors", "is empty: name the conductor as IP:port"))
	}
	for i, addr := range k.Conductors {
		if err := CheckHostPort(addr); err != nil {
			bad.add(field(fmt.Sprintf("commit.conductors[%d]", i), "%q %v", addr, err))
		}
	}
	for _, f := range []struct{ key, value string }{
		{"commit.user", k.User}, {"commit.key", k.Key}, {"commit.known_hosts", k.KnownHosts},
		{"commit.tenant", k.Tenant}, {"commit.neighborhood", k.Neighborhood},
	} {
		if f.value == "" {
			bad.add(field(f.key, "is empty, and commit.driver netconf needs it"))
		}
	}
	return bad.err()
}

// validateREST refuses a URL with a user or a query, in which a password could hide and end up in logs.
func (c *Config) validateREST() error {
	var bad faults
	k := &c.Commit
	if len(k.Conductors) == 0 {
		bad.add(field("commit.conductors", "is empty: name the conductor as https://HOST"))
		return bad.err()
	}
	for i, addr := range k.Conductors {
		u, err := url.Parse(addr)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			bad.add(field(fmt.Sprintf("commit.conductors[%d]", i), "%q is not https://HOST or https://HOST:PORT, which commit.driver rest needs", addr))
		}
	}
	switch {
	// Both would leave open which one is meant when the two users' rights differ.
	case (k.PasswordFile == "") == (k.TokenFile == ""):
		bad.add(field("commit.password_file", "or commit.token_file is needed, and not both: a file with the secret on its first line"))
	// A conductor's certificate is usually its own. Without either, anybody on the way would get the password.
	case k.CAFile == "" && k.PinSHA256 == "":
		bad.add(field("commit.pin_sha256", "or commit.ca_file is needed: `banmesh conductor trust %s` shows the certificate's", shell.Quote(k.Conductors[0])))
	case k.Validate == "test-then-set":
		bad.add(field("commit.validate", "test-then-set is NETCONF's: auto, explicit or none over REST"))
	}
	for _, f := range []struct{ key, value string }{
		{"commit.user", k.User}, {"commit.tenant", k.Tenant}, {"commit.neighborhood", k.Neighborhood},
	} {
		if f.value == "" {
			bad.add(field(f.key, "is empty, and commit.driver rest needs it"))
		}
	}
	return bad.err()
}
