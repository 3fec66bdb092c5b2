package config

import (
	"net/url"
	"time"

	"banmesh/mesh/control"
)

// CrowdSec is a CrowdSec local API whose decisions become bans.
type CrowdSec struct {
	URL      string   `yaml:"url"`      // "" is off
	KeyFile  string   `yaml:"key_file"` // the API key of a bouncer
	CAFile   string   `yaml:"ca_file"`  // authorities of an https URL; "" is the system's
	Origins  []string `yaml:"origins"`  // of decisions; none is all
	Jail     string   `yaml:"jail"`     // marks the bans that came from there, on every router
	Interval Duration `yaml:"interval"` // between two questions
}

// validate checks the jail even if the section is off: its default must be valid too.
func (c *CrowdSec) validate() error {
	var bad faults
	if err := control.CheckJail(c.Jail); err != nil || c.Jail == "" {
		bad.add(field("crowdsec.jail", "%q: want the name of a jail", c.Jail))
	}
	if c.URL == "" {
		return bad.err()
	}
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" {
		bad.add(field("crowdsec.url", "%q: want the URL of a local API, as http://127.0.0.1:8080", c.URL))
	}
	if c.KeyFile == "" {
		bad.add(field("crowdsec.key_file", "is empty: name a file with the key that `cscli bouncers add banmesh` shows"))
	}
	// CrowdSec's own bouncers ask every ten seconds by default.
	if least := time.Second; time.Duration(c.Interval) < least {
		bad.add(field("crowdsec.interval", "%v is less than %v", time.Duration(c.Interval), least))
	}
	return bad.err()
}
