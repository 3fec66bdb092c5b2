package commit

import (
	"net/netip"
	"slices"
	"time"

	"banmesh/store"
)

// lost lists what is ours and has no record that counts, sorted.
func (m *memory) lost(placed map[netip.Prefix]store.Millis) []netip.Prefix {
	var ps []netip.Prefix
	for p := range m.ours {
		if _, ok := placed[p]; !ok {
			ps = append(ps, p)
		}
	}
	slices.SortFunc(ps, comparePrefixes)
	return ps
}

// settleStrangers makes what has been in the tenant for long enough, without a record of who placed it, somebody else's for
// as long as it stays: a record that comes later would have this mesh remove an administrator's address. A leader records
// before it commits, so that an honest record is here once all who are alive have held what this member holds. It may be long
// until then: with TCP closed members are alive and tell next to nothing. What a member has placed that cannot be heard counts
// later too, if it is known here and may lead; what one placed that joined beyond a cut stays in the tenant. Who is alone may
// be cut off from all of them.
func (c *Committer) settleStrangers() {
	if c.cfg.Peers == nil || !c.cfg.Ready() {
		return
	}
	peers := c.cfg.Peers()
	if len(peers) == 0 {
		return
	}
	placed, now := c.placed(), time.Now()
	told := now // up to when all who are alive have told what they hold
	var failed []string
	for _, p := range peers {
		switch {
		case p.Failed && p.MayLead:
			failed = append(failed, p.Name)
		case p.Alive && p.Agreed.Before(told):
			told = p.Agreed
		}
	}
	c.tenant.Lock()
	defer c.tenant.Unlock()
	found := false
	for p, s := range c.memory.foreign {
		if _, recorded := placed[p]; recorded || s.firm {
			continue
		}
		switch {
		case told.Before(s.since): // again, if one has come alive since
			s.heard = time.Time{}
		case s.heard.IsZero():
			s.heard = now
		case now.Sub(s.heard) >= c.cfg.tuning.StrangerWait:
			s.firm, s.except, found = true, failed, true
		}
		c.memory.foreign[p] = s
	}
	if found {
		c.memory.knowStrangers()
	}
}

// knowStrangers makes strangers anew.
func (m *memory) knowStrangers() {
	n := make(map[netip.Prefix][]string)
	for p, s := range m.foreign {
		if s.firm {
			n[p] = s.except
		}
	}
	m.strangers = n
}
