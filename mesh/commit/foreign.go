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
// before it commits, so that an honest record comes in time, but from a member that cannot be heard. Who is alone may be
// cut off from all of them.
func (c *Committer) settleStrangers() {
	if c.cfg.Peers == nil || !c.cfg.Ready() {
		return
	}
	peers := c.cfg.Peers()
	if len(peers) == 0 {
		return
	}
	var failed []string
	for _, p := range peers {
		if p.Failed && p.MayLead {
			failed = append(failed, p.Name)
		}
	}
	placed, now := c.placed(), time.Now()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	found := false
	for p, s := range c.memory.foreign {
		if _, recorded := placed[p]; !recorded && !s.firm && now.Sub(s.since) >= c.cfg.tuning.StrangerWait {
			c.memory.foreign[p] = sighting{since: s.since, firm: true, except: failed}
			found = true
		}
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
