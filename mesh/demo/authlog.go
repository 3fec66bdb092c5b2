package demo

import (
	_ "embed"
	"net/netip"
	"regexp"
	"strings"
	"sync"
)

// authLog is made up; its addresses are those set aside for documentation
// (RFC 5737, RFC 3849).
//
//go:embed auth.log
var authLog string

// failure is what fail2ban's sshd filter looks for.
var failure = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\S+ +\d+ \S+ (\S+) sshd\[\d+\]: Failed password for .* from (\S+) port \d+`)
})

// attempt is one line of the log: at which router, and the address that failed
// to log in; the address is zero on any other line.
type attempt struct {
	line, router string
	addr         netip.Addr
}

func attempts(log string) []attempt {
	var out []attempt
	for line := range strings.Lines(log) {
		a := attempt{line: strings.TrimSpace(line)}
		if m := failure().FindStringSubmatch(a.line); m != nil {
			if addr, err := netip.ParseAddr(m[2]); err == nil {
				a.router, a.addr = m[1], addr
			}
		}
		out = append(out, a)
	}
	return out
}

// maxRetry is how many failures of an address a router takes, as fail2ban's
// option of that name.
const maxRetry = 3

// jail counts failures for each router and address, as the fail2ban of each
// router does.
type jail map[attempt]int

// failed counts one failure and says whether the address is to be banned.
func (j jail) failed(a attempt) bool {
	a.line = ""
	j[a]++
	return j[a] == maxRetry
}
