package config

import (
	"path/filepath"
)

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
