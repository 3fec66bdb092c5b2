// Package config is the configuration of an agent: its keys, their defaults and what
// they may be, read from a YAML file and written to one without touching the rest of it.
//
// A key stands once, as a field with its yaml tag; the JSON schema, the settings that an
// inviter tells and what a reload may change are derived from there.
package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban/helper"
	"banmesh/mesh/gossip"
	"banmesh/mesh/history"
	"banmesh/store"
)

// Config is an agent's configuration, as the YAML file holds it. Default
// gives the defaults, Load reads a file over them, Validate checks what
// came out.
type Config struct {
	Name        string `yaml:"name"`         // stable, unique in the mesh; default the host name
	DataDir     string `yaml:"data_dir"`     // holds the store and the spool
	Socket      string `yaml:"socket"`       // unix socket of the control API
	SocketGroup string `yaml:"socket_group"` // group that may use the socket; "" keeps the agent's own

	Gossip   Gossip   `yaml:"gossip"`
	Join     []string `yaml:"join"` // host:port of members to look for at start
	Bans     Bans     `yaml:"bans"`
	Share    Share    `yaml:"share"`
	Quorum   Quorum   `yaml:"quorum"`
	NeverBan []Prefix `yaml:"never_ban"`
	Limits   Limits   `yaml:"limits"`
	Leader   Leader   `yaml:"leader"`
	Commit   Commit   `yaml:"commit"`
	Fail2ban Fail2ban `yaml:"fail2ban"`
	Enforce  Enforce  `yaml:"enforce"`
	HTTP     HTTP     `yaml:"http"`
	History  History  `yaml:"history"`
	Geo      Geo      `yaml:"geo"`
	CrowdSec CrowdSec `yaml:"crowdsec"`
	Alert    Alert    `yaml:"alert"`
	Log      Log      `yaml:"log"`
}

// Gossip says how the agent talks to its peers.
type Gossip struct {
	Bind      string `yaml:"bind"`      // IP:port, UDP and TCP; port 0 takes a free one
	Advertise string `yaml:"advertise"` // IP or IP:port that the peers reach it at; "" is the bound one
	Profile   string `yaml:"profile"`   // lan, wan or local: timeouts
	Keyring   string `yaml:"keyring"`   // file with the encryption keys
	Label     string `yaml:"label"`     // keeps meshes apart that share a network
	Insecure  bool   `yaml:"insecure"`  // no keyring although not every address is loopback
	// RemoteKeyring lets `banmesh keyring` at other routers change this one's keys.
	RemoteKeyring bool `yaml:"remote_keyring"`
}

// Bans bounds what is taken as a ban.
type Bans struct {
	MaxDuration Duration `yaml:"max_duration"` // 0 is no limit
	MinDuration Duration `yaml:"min_duration"` // shorter ones stay on this router
	Aggregate   bool     `yaml:"aggregate"`    // minimal prefixes at the conductor
}

// Share names the jails whose bans leave this router. Empty Jails is all.
type Share struct {
	Jails       []string `yaml:"jails"`
	ExceptJails []string `yaml:"except_jails"`
}

// Has says whether the bans of a jail are shared.
func (s *Share) Has(jail string) bool {
	return (len(s.Jails) == 0 || slices.Contains(s.Jails, jail)) && !slices.Contains(s.ExceptJails, jail)
}

// Quorum is the number of routers that must have seen an address before the
// conductor gets it.
type Quorum struct {
	Default int            `yaml:"default"`
	Jails   map[string]int `yaml:"jails"`
}

// Leader says whether this agent may commit, and how much it is preferred.
type Leader struct {
	Eligible bool `yaml:"eligible"`
	Priority int  `yaml:"priority"` // higher is preferred
}

// Commit says where and how the merged set is committed.
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

// Fail2ban says how the local fail2ban is reached, to tell it of lifts.
type Fail2ban struct {
	Client string `yaml:"client"` // command, with arguments if need be
	Socket string `yaml:"socket"` // its -s option; "" leaves it out
	Helper string `yaml:"helper"` // socket of root's helper, asked where client and socket are the defaults and it is there
	Unban  bool   `yaml:"unban"`  // tell the local fail2ban of lifts
	// What it may be told from afar; 0 is no bound.
	WidestIgnoreIPv4 int `yaml:"widest_ignore_ipv4"` // shortest prefix length of an allow that it ignores
	WidestIgnoreIPv6 int `yaml:"widest_ignore_ipv6"`
	ToldPerMinute    int `yaml:"told_per_minute"` // addresses that it lets go, allows that it ignores
}

// HelperSocket is the socket of root's helper, which asks the system's own fail2ban and
// no other; "" where the configuration names another one.
func (f *Fail2ban) HelperSocket() string {
	if own := Default().Fail2ban; f.Client != own.Client || f.Socket != own.Socket {
		return ""
	}
	return f.Helper
}

// Enforce names the driver that makes bans take effect on this router at once.
type Enforce struct {
	Driver string `yaml:"driver"` // none, nftables or fail2ban
	Jail   string `yaml:"jail"`   // driver fail2ban: the jail that is fed
	Limit  int    `yaml:"limit"`  // driver fail2ban: bans in that jail at most
	NetNS  string `yaml:"netns"`  // driver nftables: network namespace, by its name for `ip netns` or as a file; "" is the agent's own

	// Ingress names interfaces at which the driver nftables drops before a bridge
	// that they are ports of takes a frame.
	Ingress []string `yaml:"ingress"`

	// What others ban is blocked by this router, and in its feeds and exports, up to
	// this width and all together; the rest is held here. 0 is
	// no bound.
	WidestIPv4 int `yaml:"widest_ipv4"`
	WidestIPv6 int `yaml:"widest_ipv6"`
	SpaceIPv4  int `yaml:"space_ipv4"` // as much as one prefix of this length
	SpaceIPv6  int `yaml:"space_ipv6"`
}

// HTTP is the listener for metrics, health, feed and page; "" is off.
type HTTP struct {
	Listen       string `yaml:"listen"`
	AllowRemote  bool   `yaml:"allow_remote"`
	TokenFile    string `yaml:"token_file"`
	CertFile     string `yaml:"cert_file"`      // PEM; with it the listener speaks TLS
	KeyFile      string `yaml:"key_file"`       // PEM; nobody else may read it
	ClientCAFile string `yaml:"client_ca_file"` // PEM; clients must show a certificate of one of these authorities
}

// History bounds what this router remembers of the bans that were.
type History struct {
	Keep       Duration `yaml:"keep"`        // 0 is no bound
	MaxEntries int      `yaml:"max_entries"` // 0 remembers nothing
}

// Geo names files in MaxMind's format, which tell where an address belongs.
type Geo struct {
	ASNDB     string `yaml:"asn_db"`
	CountryDB string `yaml:"country_db"`
}

// Alert is the command that is run when something is wrong for long.
type Alert struct {
	Command string   `yaml:"command"`
	After   Duration `yaml:"after"`
}

// Log says what is logged on standard error.
type Log struct {
	Level  string `yaml:"level"`  // debug, info, warn or error
	Format string `yaml:"format"` // text or json
}

// Default returns the configuration of an agent for which no file says
// otherwise. Its name is the host name.
func Default() Config {
	host, _ := os.Hostname()
	return Config{
		Name:    host,
		DataDir: "/var/lib/banmesh",
		Socket:  "/run/banmesh/banmesh.sock",
		Gossip: Gossip{
			RemoteKeyring: true,
			Bind:          "0.0.0.0:7946",
			Profile:       "lan",
		},
		Bans:   Bans{MaxDuration: Duration(720 * time.Hour)},
		Quorum: Quorum{Default: 1},
		Limits: defaultLimits(),
		Leader: Leader{Eligible: true},
		Commit: Commit{
			Driver:             "none",
			User:               "admin",
			Tenant:             "blacklist-fail2ban",
			Neighborhood:       "internet",
			Description:        "Blacklist maintained by fail2ban",
			Validation:         "local",
			Candidate:          "auto",
			Validate:           "auto",
			Window:             Duration(2 * time.Second),
			MaxWait:            Duration(10 * time.Second),
			Timeout:            Duration(90 * time.Second),
			MaxAddresses:       10000,
			MaxShrinkPercent:   50,
			MaxGrowthPercent:   200,
			GrowthFloor:        5000,
			MinInterval:        Duration(30 * time.Second),
			Foreign:            "keep",
			RemoveForeignAfter: Duration(24 * time.Hour),
		},
		Fail2ban: Fail2ban{Client: "fail2ban-client", Helper: helper.DefaultSocket, Unban: true, WidestIgnoreIPv4: 16, WidestIgnoreIPv6: 32, ToldPerMinute: 100},
		Enforce:  defaultEnforce(),
		CrowdSec: CrowdSec{Origins: []string{"crowdsec", "cscli"}, Jail: "crowdsec", Interval: Duration(10 * time.Second)},
		History:  History{Keep: Duration(history.DefaultKeep), MaxEntries: history.DefaultMaxEntries},
		Alert:    Alert{After: Duration(5 * time.Minute)},
		Log:      Log{Level: "info", Format: "text"},
	}
}

// StorePath is the durable file of the replicated set.
func (c *Config) StorePath() string { return filepath.Join(c.DataDir, "store.db") }

// SpoolDir is where calls wait that found no agent.
func (c *Config) SpoolDir() string { return filepath.Join(c.DataDir, "spool") }

// fieldError says which key of a configuration is wrong, and why. Load
// adds the file and the line.
type fieldError struct {
	Key    string // dotted, as in commit.window
	Reason string // includes the value where there is one
}

func (e *fieldError) Error() string { return e.Key + ": " + e.Reason }

func field(key, format string, args ...any) error {
	return &fieldError{Key: key, Reason: fmt.Sprintf(format, args...)}
}

// faults are several things that are wrong with a configuration, in one line; each
// is a *fieldError, or one that Load has given its place.
type faults []error

// maxFaults is how many are told: a file that is no configuration has thousands.
const maxFaults = 20

func (f faults) Error() string {
	var texts []string
	for _, err := range f[:min(len(f), maxFaults)] {
		texts = append(texts, err.Error())
	}
	if more := len(f) - maxFaults; more > 0 {
		texts = append(texts, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives the single faults.
func (f faults) Unwrap() []error { return f }

func (f *faults) add(err error) {
	var several faults
	switch {
	case err == nil:
	case errors.As(err, &several):
		*f = append(*f, several...)
	default:
		*f = append(*f, err)
	}
}

// err is the faults as an error: none is nil, a single one itself.
func (f faults) err() error {
	switch len(f) {
	case 0:
		return nil
	case 1:
		return f[0]
	}
	return f
}

// Validate checks everything that can be checked without touching the network or
// another file, and returns all that is wrong, each with its key.
func (c *Config) Validate() error {
	var bad faults
	for _, check := range []func() error{c.validateAgent, c.validateGossip, c.validateBans, c.validateCommit, c.validateOther} {
		bad.add(check())
	}
	return bad.err()
}

func (c *Config) validateAgent() error {
	var bad faults
	if err := CheckName(c.Name); err != nil {
		bad.add(field("name", "%q %v", c.Name, err))
	}
	if !filepath.IsAbs(c.DataDir) {
		bad.add(field("data_dir", "%q is not an absolute path", c.DataDir))
	}
	if !filepath.IsAbs(c.Socket) {
		bad.add(field("socket", "%q is not an absolute path", c.Socket))
	}
	// sun_path of struct sockaddr_un holds 108 bytes with the closing zero
	// (unix(7)).
	if len(c.Socket) > 107 {
		bad.add(field("socket", "%q is longer than the 107 bytes a unix socket's path may have", c.Socket))
	}
	return bad.err()
}

// CheckName allows what is safe in a file name, a log line and a table.
func CheckName(name string) error {
	if name == "" {
		return errors.New("is empty: give the router a name that stays the same")
	}
	if len(name) > 63 {
		return errors.New("is longer than 63 characters")
	}
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return fmt.Errorf("has the character %q: letters, digits, '.', '_' and '-' are allowed", r)
		}
	}
	return nil
}

func (c *Config) validateGossip() error {
	var bad faults
	bind, err := netip.ParseAddrPort(c.Gossip.Bind)
	if err != nil {
		bad.add(field("gossip.bind", "%q is not IP:port", c.Gossip.Bind))
		return bad.err()
	}
	if bind.Addr().Zone() != "" {
		bad.add(field("gossip.bind", "%q has a zone", c.Gossip.Bind))
	}
	if a := c.Gossip.Advertise; a != "" {
		if _, err := parseAdvertise(a, bind.Port()); err != nil {
			bad.add(field("gossip.advertise", "%q is not IP or IP:port", a))
		}
	}
	bad.add(oneOf("gossip.profile", c.Gossip.Profile))
	if c.Gossip.Keyring == "" && !c.Gossip.Insecure && !bind.Addr().IsLoopback() {
		bad.add(field("gossip.keyring", "is not set, and %s is not a loopback address: make one with `banmesh keygen`, or set gossip.insecure: true", c.Gossip.Bind))
	}
	for i, addr := range c.Join {
		if err := gossip.CheckAddr(addr); err != nil {
			bad.add(field(fmt.Sprintf("join[%d]", i), "%v", err))
		}
	}
	return bad.err()
}

func (c *Config) validateBans() error {
	var bad faults
	if c.Bans.MaxDuration < 0 {
		bad.add(field("bans.max_duration", "is negative: 0 is no limit"))
	}
	if c.Bans.MinDuration < 0 {
		bad.add(field("bans.min_duration", "is negative"))
	}
	if c.Bans.MaxDuration > 0 && c.Bans.MinDuration > c.Bans.MaxDuration {
		bad.add(field("bans.min_duration", "is longer than bans.max_duration"))
	}
	bad.add(c.Limits.validate(c.Name))
	bad.add(c.Quorum.validate())
	bad.add(c.Fail2ban.validate())
	if len(c.NeverBan) > 200 {
		bad.add(field("never_ban", "has %d prefixes: at most 200", len(c.NeverBan)))
	}
	for i, p := range c.NeverBan {
		widest := 8
		if p.Addr().Is6() {
			widest = 16
		}
		if p.Bits() < widest {
			bad.add(field(fmt.Sprintf("never_ban[%d]", i), "%v is wider than /%d", p, widest))
		}
	}
	own := make([]netip.Prefix, len(c.NeverBan))
	for i, p := range c.NeverBan {
		own[i] = p.Prefix
	}
	if wide := store.UncountedNeverBans(own); len(wide) > 0 {
		bad.add(field(fmt.Sprintf("never_ban[%d]", slices.Index(own, wide[0])), "%v does not count beside the others: together they may be no wider than one /8 (IPv4) or /16 (IPv6) of the public Internet", wide[0]))
	}
	return bad.err()
}

func (c *Config) validateCommit() error {
	var bad faults
	k := &c.Commit
	for _, f := range []struct{ key, got string }{
		{"commit.driver", k.Driver}, {"commit.validation", k.Validation}, {"commit.validate", k.Validate},
		{"commit.candidate", k.Candidate}, {"commit.foreign", k.Foreign},
	} {
		bad.add(oneOf(f.key, f.got))
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

func (c *Config) validateREST() error {
	var bad faults
	k := &c.Commit
	if len(k.Conductors) == 0 {
		bad.add(field("commit.conductors", "is empty: name the conductor as https://HOST"))
		return bad.err()
	}
	for i, text := range k.Conductors {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			bad.add(field(fmt.Sprintf("commit.conductors[%d]", i), "%q is not https://HOST or https://HOST:PORT, which commit.driver rest needs", text))
		}
	}
	switch {
	case (k.PasswordFile == "") == (k.TokenFile == ""):
		bad.add(field("commit.password_file", "or commit.token_file is needed, and not both: a file with the secret on its first line"))
	case k.CAFile == "" && k.PinSHA256 == "":
		bad.add(field("commit.pin_sha256", "or commit.ca_file is needed: `banmesh conductor trust %s` shows the certificate's", k.Conductors[0]))
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

func (c *Config) validateOther() error {
	var bad faults
	bad.add(c.validateEnforce())
	bad.add(c.validateHTTP())
	bad.add(c.validateHistory())
	bad.add(c.CrowdSec.validate())
	if strings.ContainsRune(c.Alert.Command, 0) {
		bad.add(field("alert.command", "%q holds a zero byte", c.Alert.Command))
	}
	if c.Alert.After < 0 {
		bad.add(field("alert.after", "is negative"))
	}
	bad.add(oneOf("log.level", c.Log.Level))
	bad.add(oneOf("log.format", c.Log.Format))
	return bad.err()
}

func (c *Config) validateEnforce() error {
	var bad faults
	e := &c.Enforce
	bad.add(oneOf("enforce.driver", e.Driver))
	if err := control.CheckJail(e.Jail); err != nil {
		bad.add(field("enforce.jail", "%s", strings.TrimPrefix(err.Error(), "jail ")))
	}
	if e.Limit < 1 {
		bad.add(field("enforce.limit", "%d: at least 1", e.Limit))
	}
	for _, f := range []struct {
		key    string
		v, max int
	}{{"widest_ipv4", e.WidestIPv4, 32}, {"widest_ipv6", e.WidestIPv6, 128}, {"space_ipv4", e.SpaceIPv4, 32}, {"space_ipv6", e.SpaceIPv6, 64}} {
		if f.v < 0 || f.v > f.max {
			bad.add(field("enforce."+f.key, "%d is not from 0 to %d", f.v, f.max))
		}
	}
	switch {
	case e.NetNS == "":
	case e.Driver != "nftables":
		bad.add(field("enforce.netns", "%q: only enforce.driver nftables has one", e.NetNS))
	case !filepath.IsAbs(e.NetNS) && (strings.ContainsAny(e.NetNS, "/\x00") || e.NetNS == "." || e.NetNS == ".."):
		bad.add(field("enforce.netns", "%q: want a name that `ip netns list` shows, or the absolute path of a namespace's file", e.NetNS))
	}
	if len(e.Ingress) > 0 && e.Driver != "nftables" {
		bad.add(field("enforce.ingress", "only enforce.driver nftables drops at interfaces"))
	}
	for i, name := range e.Ingress {
		if name == "" || len(name) > 15 || strings.ContainsAny(name, "/: \t\n\x00") || slices.Contains(e.Ingress[:i], name) {
			bad.add(field("enforce.ingress", "%q: want names of interfaces that `ip link` shows, each once", name))
		}
	}
	return bad.err()
}

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
	case h.TokenFile == "" && h.ClientCAFile == "":
		bad.add(field("http.token_file", "is empty, and http.listen %s is open to others: name a file that holds the token they must show, or an http.client_ca_file", h.Listen))
	}
	return bad.err()
}

// maxHistory bounds history.max_entries: at 60 bytes an entry, half a gigabyte.
const maxHistory = 10_000_000

func (c *Config) validateHistory() error {
	var bad faults
	if c.History.Keep < 0 {
		bad.add(field("history.keep", "is negative: 0 is no bound"))
	}
	if n := c.History.MaxEntries; n < 0 || n > maxHistory {
		bad.add(field("history.max_entries", "%d is not from 0 to %d", n, maxHistory))
	}
	for _, f := range []struct{ key, path string }{{"geo.asn_db", c.Geo.ASNDB}, {"geo.country_db", c.Geo.CountryDB}} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			bad.add(field(f.key, "%q is not an absolute path", f.path))
		}
	}
	return bad.err()
}

// choices are the values of the keys that have a fixed few.
var choices = map[string][]string{
	"gossip.profile": {"lan", "wan", "local"}, "enforce.driver": {"none", "nftables", "fail2ban"},
	"commit.driver": {"none", "netconf", "rest"}, "commit.validation": {"local", "distributed", "none"},
	"commit.validate": {"auto", "explicit", "test-then-set", "none"}, "commit.candidate": {"auto", "shared", "node", "user"},
	"commit.foreign": {"keep", "remove"}, "log.level": {"debug", "info", "warn", "error"}, "log.format": {"text", "json"},
}

func oneOf(key, got string) error {
	if slices.Contains(choices[key], got) {
		return nil
	}
	return field(key, "%q is none of %v", got, choices[key])
}

func (f *Fail2ban) validate() error {
	for _, k := range []struct {
		key    string
		v, max int
	}{{"widest_ignore_ipv4", f.WidestIgnoreIPv4, 32}, {"widest_ignore_ipv6", f.WidestIgnoreIPv6, 128}, {"told_per_minute", f.ToldPerMinute, 1 << 20}} {
		if k.v < 0 || k.v > k.max {
			return field("fail2ban."+k.key, "%d is not from 0 to %d", k.v, k.max)
		}
	}
	return nil
}

// Exempted reports whether never_ban covers an address.
func (c *Config) Exempted(addr netip.Addr) bool {
	return slices.ContainsFunc(c.NeverBan, func(p Prefix) bool { return p.Contains(addr) })
}
