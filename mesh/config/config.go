// Package config is the configuration of an agent: its keys, their defaults and what
// they may be, read from a YAML file and written to one without touching the rest of it.
//
// A key stands once, as a field with its yaml tag; the JSON schema, the settings that an
// inviter tells and what a reload may change are derived from there.
package config

import (
	"os"
	"path/filepath"
	"strings"
	"time"

	"banmesh/mesh/fail2ban/helper"
	"banmesh/mesh/history"
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

// Alert is the command that is run when something is wrong for long.
type Alert struct {
	Command string   `yaml:"command"`
	After   Duration `yaml:"after"`
}

// Default returns the configuration of an agent for which no file says
// otherwise. Its name is the host name.
// Each default is safe on a machine of which nothing is known: nothing is committed, dropped or opened to others before
// somebody asks for it.
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

// Validate checks everything that can be checked without touching the network or
// another file, and returns all that is wrong, each with its key.
// It also judges files for other machines, where the named paths need not exist.
func (c *Config) Validate() error {
	var bad faults
	for _, check := range []func() error{c.validateAgent, c.validateGossip, c.validateBans, c.validateCommit, c.validateOther} {
		bad.add(check())
	}
	return bad.err()
}

// validateAgent wants absolute paths: the agent's working directory is systemd's choice.
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

// validateOther is for the sections that need a line or two.
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
