package config

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
