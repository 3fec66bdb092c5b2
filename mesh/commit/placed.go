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

// A leader records as placed what it is about to add to the tenant: only the record distinguishes it from what others put
// there.
//
//	place   before the lock    a record of this member's own, durable and with the others
//	replace after the commit   the same for what is in running and was lifted meanwhile
//	renew   each minute        the same where the lease is short, or others have lifted what is ours
//
// A record goes when it is no longer true, and not before: otherwise what is in the tenant stays for ever.
//
//	withdraw       the edit could not begin, or does not add it    this member's record, if the edit brought it
//	unplace        running was read without what a plan removed    everybody's
//	unplaceUnused  neither wanted nor there for AbsentWait, while  everybody's
//	               the candidate is clean
//
// No record is lifted whose prefix a reading shows in the tenant, with one exception: an own record of a moment ago, if
// somebody else turns out to have added that very address (notAdded). A lift against this rule is false or a mistake: what a
// leader has seen as ours for longer than that stays ours to it as long as it is there, whatever happens to the records.

// errRecord means that the set does not take the Placed records, so nothing may be added.
var errRecord = errors.New("the store cannot record what is placed")

const (
	recordTimeout = 5 * time.Second
	spreadTimeout = time.Second
)

// placed is what the records say about the tenant, without the prefixes that this member has found foreign for good. Records of
// members that may not lead now count too, because those may have led before: otherwise what they placed would stay for ever.
func (c *Committer) placed() map[netip.Prefix]store.Millis {
	c.tenant.Lock()
	foreign := c.memory.knownForeign
	var own []netip.Prefix // what this member is about to add where a foreign prefix was
	for p := range c.memory.mine {
		if _, known := foreign[p]; known {
			own = append(own, p)
		}
	}
	c.tenant.Unlock()
	entries := c.cfg.Set.PlacedBy(func(origin string, p netip.Prefix) bool {
		from, known := foreign[p]
		return !known || slices.Contains(from, origin) || origin == c.cfg.Name && slices.Contains(own, p)
	})
	m := make(map[netip.Prefix]store.Millis, len(entries))
	for p, e := range entries {
		m[p] = e.Until
	}
	return m
}

// own lists what this member has a live record of, including from earlier runs.
func (c *Committer) own() map[netip.Prefix]store.PlacedEntry {
	return c.cfg.Set.PlacedBy(func(origin string, _ netip.Prefix) bool { return origin == c.cfg.Name })
}

// place records what is about to be added, durably and with other members: whatever happens to this member, another one can
// tell the prefix from a foreign one and remove it in time. It returns what nobody had placed before, and what this member
// itself had not placed before, in earlier runs either.
func (c *Committer) place(ctx context.Context, add []netip.Prefix) (news, first []netip.Prefix, err error) {
	placed, own := c.placed(), c.own()
	c.tenant.Lock()
	fresh := make([]netip.Prefix, 0, len(add))
	for _, p := range add {
		// This member writes its own record even if another member has one: the other's may already be lifted without this
		// member knowing.
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

// replace records once more what is in running and was placed, if a member that did not see it there has lifted its record
// meanwhile.
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

// renew extends the leases with less than below left, and records once more what others have lifted although it is ours and
// there. Records that are no longer needed are lifted elsewhere, once that is certain.
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

// lifted lists what is ours and has no record any more. Another leader may have removed it and lifted the record: running
// tells.
func (c *Committer) lifted(ctx context.Context, placed map[netip.Prefix]store.Millis) []netip.Prefix {
	c.tenant.Lock()
	lost := c.memory.lost(placed)
	c.tenant.Unlock()
	if len(lost) == 0 {
		return nil
	}
	if _, err := c.read(ctx); err != nil {
		return nil // the next reading tells
	}
	c.tenant.Lock()
	lost = c.memory.lost(placed)
	c.tenant.Unlock()
	if len(lost) > 0 {
		c.log.Warn("records of what is in the tenant were lifted: they are written again", "prefixes", len(lost), "some", prefixset.Some(lost))
	}
	return lost
}

// notAdded are the prefixes that were placed for an edit which then did not add them, because running was not what the last
// reading showed. A prefix that is there already is foreign if nobody had placed it. A prefix that is not there needs no record
// from this member if it had none. Otherwise this mesh would adopt somebody else's address, and a prefix that another leader
// removed would look like one removed by hand.
func notAdded(running conductor.Running, add, fresh, first []netip.Prefix) (unused []netip.Prefix) {
	if len(first) == 0 {
		return nil
	}
	there, added, news := setOfPrefixes(running.Addresses), setOfPrefixes(add), setOfPrefixes(fresh)
	for _, p := range first {
		switch {
		case added.ContainsPrefix(p):
		case !there.ContainsPrefix(p), news.ContainsPrefix(p):
			unused = append(unused, p)
		}
	}
	return unused
}

// placedOnly leaves out of a plan made under the lock what was not placed before it; the next commit adds it.
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

// withdraw takes back the records of an edit that did not happen: an administrator who holds the lock may be adding the very
// same address, which is then theirs. So may another leader, whose own record stays.
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

// lift lifts the records of placed prefixes, and forgets what was seen of them.
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
		delete(c.memory.unused, p)
		delete(c.memory.absent, p)
		delete(c.memory.ours, p)
	}
	c.tenant.Unlock()
}

// unplaceUnused lifts the records of prefixes that were placed, never came into running and are no longer wanted. It is called
// after the candidate was seen to be clean: without its record, a leftover in the candidate would look like somebody else's
// work.
func (c *Committer) unplaceUnused(ctx context.Context, p Plan) {
	c.unplace(ctx, slices.DeleteFunc(c.longUnused(), func(x netip.Prefix) bool { return slices.Contains(p.Add, x) }))
}

// longUnused lists what unplaceUnused may lift.
func (c *Committer) longUnused() []netip.Prefix {
	now := time.Now()
	c.tenant.Lock()
	defer c.tenant.Unlock()
	var ps []netip.Prefix
	for x, since := range c.memory.unused {
		if now.Sub(since) >= c.cfg.tuning.AbsentWait {
			ps = append(ps, x)
		}
	}
	return ps
}
