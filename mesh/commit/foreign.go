package commit

import (
	"net/netip"
	"slices"
	"time"

	"banmesh/store"
)

// lost lists the prefixes that are ours although no record that counts says so, sorted.
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

// decideForeign decides that an address is foreign, for as long as it stays in the tenant, if it has been there for long
// enough without a record of its author: a record that arrives later would make this mesh remove an administrator's address. A
// leader records before it commits, so an honest record has arrived once every alive member has been in agreement with this
// one. That can take long: with TCP closed, members are alive and share next to nothing. Records of a known, eligible member
// that cannot be heard count later too. What a member placed that joined beyond a partition stays in the tenant. A member that
// is alone may be cut off from all others.
func (c *Committer) decideForeign() {
	if c.cfg.Peers == nil || !c.cfg.Ready() {
		return
	}
	peers := c.cfg.Peers()
	if len(peers) == 0 {
		return
	}
	placed, now := c.placed(), time.Now()
	told := now // every alive member has shared what it held up to then
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
		case told.Before(s.since): // again, if a member has come alive since
			s.heard = time.Time{}
		case s.heard.IsZero():
			s.heard = now
		case now.Sub(s.heard) >= c.cfg.tuning.ForeignWait:
			s.firm, s.except, found = true, failed, true
		}
		c.memory.foreign[p] = s
	}
	if found {
		c.memory.listForeign()
	}
}

// listForeign recomputes knownForeign.
func (m *memory) listForeign() {
	n := make(map[netip.Prefix][]string)
	for p, s := range m.foreign {
		if s.firm {
			n[p] = s.except
		}
	}
	m.knownForeign = n
}
