package config

import (
	"strings"
	"testing"
)

// What a terminal shows as it is may be of any length, such as the fingerprints of several nodes.
func TestOnlyWhatSteersATerminalIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Commit)
		says   string // of the error; "" where it is taken
	}{
		"a long description": {func(k *Commit) { k.Description = strings.Repeat("d", 300) }, ""},
		"a block of YAML":    {func(k *Commit) { k.Description = "one line\n\tand another\n" }, ""},
		"four fingerprints":  {func(k *Commit) { k.PinSHA256 = strings.Repeat(strings.Repeat("a", 64)+",", 4) }, ""},
		"an escape":          {func(k *Commit) { k.Description = "\x1b[2J" }, "commit.description"},
		"a reversed text":    {func(k *Commit) { k.PinSHA256 = "\u202eaaaa" }, "commit.pin_sha256"},
		"no UTF-8":           {func(k *Commit) { k.Tenant = "\x9b2J" }, "commit.tenant"},
	} {
		cfg := Default()
		c.change(&cfg.Commit)
		err := cfg.validateCommit()
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want a word about %q", name, err, c.says)
		}
	}
}
