package config

import (
	"slices"
)

// choices are the values of the keys that have a fixed few.
// Validate and the JSON schema both read it, so that an editor offers what the agent takes.
var choices = map[string][]string{
	"gossip.profile": {"lan", "wan", "local"}, "enforce.driver": {"none", "nftables", "fail2ban"},
	"commit.driver": {"none", "netconf", "rest"}, "commit.validation": {"local", "distributed", "none"},
	"commit.validate": {"auto", "explicit", "test-then-set", "none"}, "commit.candidate": {"auto", "shared", "node", "user"},
	"commit.foreign": {"keep", "remove"}, "log.level": {"debug", "info", "warn", "error"}, "log.format": {"text", "json"},
}

// oneOf uses the same table as the schema and the completion.
func oneOf(key, got string) error {
	if slices.Contains(choices[key], got) {
		return nil
	}
	return field(key, "%q must be one of %v", got, choices[key])
}
