package commit

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh/conductor"
	"banmesh/mesh/conductor/prefixset"
	"banmesh/store"
)

// What a leader adds to the tenant it first records as placed, for nothing but that tells it from what others put there.
//
//	place   before the lock    a record of this member's own, durable and with the others
//	replace after the commit   the same for what is in running and was lifted meanwhile
//	renew   each minute        the same where the lease is short, or others have lifted what is ours
//
// A record goes when it must not speak any more, and not sooner, or what is in the tenant stays for ever:
//
//	withdraw  the edit could not begin, or does not add it    this member's record, if the edit brought it
//	unplace   running was read without what a plan removed    everybody's
//	clearVain neither wanted nor there for AbsentWait, while  everybody's
//	          the candidate is clean
//
// No record is lifted of what a reading shows to be there, but one's own of a moment ago, where somebody else turns out to
// have added that very address (notAdded). Whoever does it otherwise has lied or erred: what a leader has seen to be ours for
// longer than that stays ours to it as long as it is there, whatever becomes of the records.

// errRecord: what is placed cannot be written down, so nothing may be placed.
var errRecord = errors.New("the store cannot record what is placed")

const (
	recordTimeout = 5 * time.Second
	spreadTimeout = time.Second
)

// placed is what the records say of the tenant, but of what this member has seen there as somebody else's for good. Who may
// not lead now may have led before, so that what it placed counts: else it would stay for ever.
func (c *Committer) placed() map[netip.Prefix]store.Millis {
	c.tenant.Lock()
	strangers := c.memory.strangers
	var own []netip.Prefix // that this member is about to add, where a stranger was
	for p := range c.memory.mine {
		if _, strange := strangers[p]; strange {
			own = append(own, p)
		}
	}
	c.tenant.Unlock()
	entries := c.cfg.Set.PlacedBy(func(origin string, p netip.Prefix) bool {
		from, strange := strangers[p]
		return !strange || slices.Contains(from, origin) || origin == c.cfg.Name && slices.Contains(own, p)
	})
	m := make(map[netip.Prefix]store.Millis, len(entries))
	for p, e := range entries {
		m[p] = e.Until
	}
	return m
}

// own is what this member has a live record of, from an earlier run as well.
func (c *Committer) own() map[netip.Prefix]store.PlacedEntry {
	return c.cfg.Set.PlacedBy(func(origin string, _ netip.Prefix) bool { return origin == c.cfg.Name })
}

// place records durably, and lets the others know, what is about to be added:
// whatever becomes of this member, somebody can tell it from a foreign address
// and remove it in time. It returns what nobody had placed before, and what this member had not, in an earlier run neither.
func (c *Committer) place(ctx context.Context, add []netip.Prefix) (news, first []netip.Prefix, err error) {
	placed, own := c.placed(), c.own()
	c.tenant.Lock()
	fresh := make([]netip.Prefix, 0, len(add))
	for _, p := range add {
		// A record of this member's own, also where another one has placed it: that
		// one's may be lifted already where this member cannot see it.
		until, mine := c.memory.mine[p]
		if !mine || placed[p] < until {
			fresh = append(fresh, p)
		}
		if _, earlier := own[p]; !mine && !earlier {
			first = append(first, p)
		}
		if _, ok := placed[p]; !ok {
			news = append(news, p)
		}
	}
	c.tenant.Unlock()
	if len(fresh) > 0 {
		until := store.At(c.cfg.Now().Add(c.cfg.tuning.Lease))
		if err := c.cfg.Set.Place(ctx, fresh, until); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", errRecord, err)
		}
		c.tenant.Lock()
		for _, p := range fresh {
			c.memory.mine[p] = until
		}
		c.tenant.Unlock()
		placed = c.placed()
		c.tenant.Lock()
		for _, p := range add {
			c.memory.absent[p] = placed[p]
		}
		c.tenant.Unlock()
	}
	if c.cfg.spread != nil {
		ctx, done := context.WithTimeout(ctx, spreadTimeout)
		defer done()
		if err := c.cfg.spread(ctx); err != nil {
			c.log.Info("no other member has confirmed what is to be placed", "err", err)
		}
	}
	return news, first, nil
}

// replace records once more what is in running and was placed, where its record
// was lifted meanwhile by a member that did not see it there.
func (c *Committer) replace(ctx context.Context, add []netip.Prefix, present map[netip.Prefix]struct{}) {
	placed := c.placed()
	var lost []netip.Prefix
	for _, p := range add {
		if _, there := present[p]; present != nil && !there {
			continue
		}
		if _, ok := placed[p]; !ok {
			lost = append(lost, p)
		}
	}
	if len(lost) == 0 {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer done()
	if err := c.cfg.Set.Place(ctx, lost, store.At(c.cfg.Now().Add(c.cfg.tuning.Lease))); err != nil {
		c.log.Error("what is in the tenant cannot be recorded as placed", "prefixes", lost, "err", err)
	}
}

// renew prolongs the leases that have less than below left, and writes down once more what others have lifted although it is
// ours and there. A record that is not needed any more is lifted elsewhere, once that is certain.
func (c *Committer) renew(ctx context.Context, below time.Duration, lead bool) {
	now := c.cfg.Now()
	placed := c.placed()
	var low []netip.Prefix
	for p, until := range placed {
		if until.Time().Sub(now) < below {
			low = append(low, p)
		}
	}
	if lead {
		low = append(low, c.lifted(ctx, placed)...)
	}
	if len(low) == 0 {
		return
	}
	ctx, done := context.WithTimeout(ctx, c.cfg.Timeout)
	defer done()
	until := store.At(now.Add(c.cfg.tuning.Lease))
	if err := c.cfg.Set.Place(ctx, low, until); err != nil {
		c.log.Error("leases on what is in the tenant cannot be renewed", "prefixes", len(low), "err", err)
		return
	}
	c.log.Info("leases renewed", "prefixes", len(low))
	renewed := c.placed()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	for _, p := range low {
		if was, ok := c.memory.seen[p]; ok && was == placed[p] {
			c.memory.seen[p] = renewed[p]
		}
		if was, ok := c.memory.absent[p]; ok && was == placed[p] {
			c.memory.absent[p] = renewed[p]
		}
	}
}

// lifted lists what is ours and has no record any more. Another leader may have taken it out, and then said so: running
// tells.
func (c *Committer) lifted(ctx context.Context, placed map[netip.Prefix]store.Millis) []netip.Prefix {
	c.tenant.Lock()
	lost := c.memory.lost(placed)
	c.tenant.Unlock()
	if len(lost) == 0 {
		return nil
	}
	if _, err := c.read(ctx); err != nil {
		return nil // the next look tells
	}
	c.tenant.Lock()
	lost = c.memory.lost(placed)
	c.tenant.Unlock()
	if len(lost) > 0 {
		c.log.Warn("records of what is in the tenant were lifted: they are written again", "prefixes", len(lost), "some", prefixset.Some(lost))
	}
	return lost
}

// notAdded are the prefixes that were placed for an edit which then did not add them, because running was another one than
// the last reading: what is there already is somebody else's where nobody had placed it, and what is not there needs no
// record of this member's where it had none. Without that an address of others would be adopted, and one that another leader
// removed would pass for one that was removed by hand.
func notAdded(running conductor.Running, add, fresh, first []netip.Prefix) (vain []netip.Prefix) {
	if len(first) == 0 {
		return nil
	}
	there, added, news := setOfPrefixes(running.Addresses), setOfPrefixes(add), setOfPrefixes(fresh)
	for _, p := range first {
		switch {
		case added.ContainsPrefix(p):
		case !there.ContainsPrefix(p), news.ContainsPrefix(p):
			vain = append(vain, p)
		}
	}
	return vain
}

// placedOnly leaves out of a plan made under the lock what was not placed before it: the next commit adds it.
func (c *Committer) placedOnly(p Plan) Plan {
	placed := c.placed()
	c.tenant.Lock()
	add := slices.DeleteFunc(slices.Clone(p.Add), func(x netip.Prefix) bool {
		until, mine := c.memory.mine[x]
		return !mine || placed[x] < until
	})
	c.tenant.Unlock()
	if len(add) < len(p.Add) {
		c.mu.Lock()
		c.batch.hurry(time.Now())
		c.mu.Unlock()
	}
	p.Add = add
	return p
}

// withdraw takes back what was placed for an edit that did not come to be: an administrator who holds the lock may be
// adding the very same address, which is then theirs. So may another leader, whose record stays.
func (c *Committer) withdraw(ctx context.Context, fresh []netip.Prefix) {
	c.lift(ctx, fresh, c.cfg.Set.UnplaceOwn)
	c.tenant.Lock()
	for _, p := range fresh {
		delete(c.memory.mine, p)
	}
	c.tenant.Unlock()
}

// unplace records that prefixes have left running.
func (c *Committer) unplace(ctx context.Context, gone []netip.Prefix) {
	c.lift(ctx, gone, c.cfg.Set.Unplace)
}

// lift has records of what was placed lifted, and forgets what was seen of it.
func (c *Committer) lift(ctx context.Context, gone []netip.Prefix, lift func(context.Context, []netip.Prefix) error) {
	recorded := c.cfg.Set.PlacedBy(func(string, netip.Prefix) bool { return true })
	gone = slices.DeleteFunc(slices.Clone(gone), func(p netip.Prefix) bool {
		_, ok := recorded[p]
		return !ok // foreign, or lifted already
	})
	if len(gone) == 0 {
		return
	}
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer done()
	if err := lift(ctx, gone); err != nil {
		c.log.Error("what is not in the tenant cannot be recorded", "prefixes", len(gone), "err", err)
		return
	}
	c.tenant.Lock()
	for _, p := range gone {
		delete(c.memory.seen, p)
		delete(c.memory.vain, p)
		delete(c.memory.absent, p)
		delete(c.memory.ours, p)
	}
	c.tenant.Unlock()
}

// clearVain lifts the record of what was placed, never came into running, and is
// not wanted any more. It is called when the candidate was seen to be clean: a
// leftover in there could not be told from somebody else's work without it.
func (c *Committer) clearVain(ctx context.Context, p Plan) {
	c.unplace(ctx, slices.DeleteFunc(c.ripe(), func(x netip.Prefix) bool { return slices.Contains(p.Add, x) }))
}

// ripe lists what clearVain may lift.
func (c *Committer) ripe() []netip.Prefix {
	now := time.Now()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	var ps []netip.Prefix
	for x, since := range c.memory.vain {
		if now.Sub(since) >= c.cfg.tuning.AbsentWait {
			ps = append(ps, x)
		}
	}
	return ps
}
