package main

import (
	"fmt"
	"net/netip"

	"banmesh/mesh/control"
	"banmesh/mesh/login"
)

// refuseOwn refuses to ban the address from which the one at the shell came,
// and warns of those from which others are logged in. --force does neither.
func (c *console) refuseOwn(ps control.Prefixes) error {
	shell := login.Shell(c.getenv)
	sessions, err := login.Sessions(c.utmp)
	if err != nil {
		// Not a refusal: the ban may be urgent.
		c.warn("note: %s: who is logged in is not known", oneLine(err))
	}
	line := ""
	if !shell.IsValid() && len(sessions) > 0 {
		line = login.Terminal() // sudo takes the variables away
	}
	others := sessions[:0]
	for _, s := range sessions {
		if line != "" && s.Line == line {
			shell = s.From
		}
		// Another terminal of the same person, from the same place, is no one else's.
		if s.From != shell {
			others = append(others, s)
		}
	}
	if shell.IsValid() {
		if p, hit := covering(ps, shell); hit {
			return usagef("%s is where you are logged in from%s: the ban could lock you out; use --force to ban it anyway", shell, within(p))
		}
	}
	const most = 3
	warned := make(map[netip.Addr]bool)
	for _, s := range others {
		p, hit := covering(ps, s.From)
		if !hit || warned[s.From] || len(warned) == most {
			continue
		}
		warned[s.From] = true
		c.warn("note: %s is logged in from %s%s: keep it open with banmesh allow add %s", s.User, s.From, within(p), s.From)
	}
	return nil
}

// covering returns the prefix as well, since the operator may not see at a glance that a wide one contains
// the address.
func covering(ps control.Prefixes, a netip.Addr) (netip.Prefix, bool) {
	for _, p := range ps {
		if p.Contains(a) {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func within(p netip.Prefix) string {
	if p.IsSingleIP() {
		return ""
	}
	return fmt.Sprintf(", and in %s", p)
}
