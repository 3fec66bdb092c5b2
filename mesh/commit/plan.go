package commit

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"banmesh/internal/ipranges"
	"banmesh/store"
)

// Plan is what one commit changes, and what it leaves out for a reason. All lists are sorted; no prefix is in both Add and
// Remove.
type Plan struct {
	Add      []netip.Prefix
	Remove   []netip.Prefix
	Foreign  []netip.Prefix // in the tenant, but placed by no member: kept
	Capped   []netip.Prefix // effective, kept out by max_addresses
	Held     []netip.Prefix // lifted or allowed, held for a forced commit
	HeldAdd  []netip.Prefix // effective, held for a forced commit: wide, or too many at once
	deferred []netip.Prefix // ended, but the clocks disagree or the ban's record is missing
	byHand   []netip.Prefix // effective, but somebody has removed them by hand

	reasons map[netip.Prefix]reason
	size    int // how much of ours is in the tenant before it
}

// reason says why a prefix is removed.
type reason string

// The reasons.
const (
	reasonExpired reason = "expired"
	reasonLifted  reason = "lifted"
	reasonAllowed reason = "allowed"
	reasonCapped  reason = "capped"  // others are newer or reported by more
	reasonMerged  reason = "merged"  // a wider prefix of the same plan covers it
	reasonForeign reason = "foreign" // no member placed it, and its time is over
)

// Empty reports whether there is nothing to commit.
func (p Plan) Empty() bool { return len(p.Add) == 0 && len(p.Remove) == 0 }

// reason says why a prefix of Remove is removed.
func (p Plan) reason(prefix netip.Prefix) reason { return p.reasons[prefix] }

// facts is everything that a plan is made from. Making a plan modifies none of it.
type facts struct {
	now        time.Time // of notBefore and foreignSince
	date       time.Time // of the leases
	bans       []ban
	placed     map[netip.Prefix]store.Millis // until when
	running    []netip.Prefix
	exemptions ipranges.Set
	gone       func(netip.Prefix) store.Gone

	notBefore    map[netip.Prefix]time.Time // removed by hand: when it may be added again
	foreignSince map[netip.Prefix]time.Time // first seen

	known   []netip.Prefix            // not in running, and needs no confirmation: confirmed already, or it was there
	waiting map[netip.Prefix]struct{} // additions that were held
	before  int                       // how much of ours was there one growthWindow ago; negative: unknown

	frozen, clocksAgree, force bool

	maxAddresses, maxShrink int
	maxGrowth, growthFloor  int
	aggregate               bool
	removeForeign           bool
	foreignAfter            time.Duration
	lease, missingWait      time.Duration
}

// ban is a part of an effective ban.
type ban struct {
	prefix           netip.Prefix
	newest           store.Millis
	origins, records int
	wanted           bool // enough members have reported it
	unconfirmed      bool // wanted, but it has to wait for an operator
	wide             bool // a ban that an operator must confirm, or a part of one
}

// shrinkFloor is the size below which a tenant may lose any share.
const shrinkFloor = 20

// draft is a plan being made.
type draft struct {
	facts
	plan    Plan
	live    map[netip.Prefix]int // index into bans, by exact prefix
	present map[netip.Prefix]struct{}
	space   ipranges.Set // of all live bans, made on first use

	kept  []netip.Prefix // ours, in running, wanted: the cap may remove them
	fixed int            // how many stay whatever the cap says
	parts []netip.Prefix // parts of removed prefixes that must stay covered
	stay  []netip.Prefix // ours that stay although no ban covers them: held, deferred
}

// makePlan decides what a commit changes. It adds what is effective and absent, and removes only what was placed and is no
// longer covered by a live ban.
func makePlan(f facts) Plan {
	// The order matters: sortOut finds the size by which guardGrowth measures, guardGrowth decides what is wanted
	// before keepLive and the additions look at that, and the cap comes last.
	d := draft{facts: f}
	d.plan.reasons = make(map[netip.Prefix]reason)
	d.index()
	d.sortOut()
	d.guardGrowth()
	d.keepLive()
	if f.aggregate {
		d.addSpace()
	} else {
		d.addEach()
	}
	d.capAddresses()
	for _, l := range []*[]netip.Prefix{&d.plan.Add, &d.plan.Remove, &d.plan.Foreign, &d.plan.Capped, &d.plan.Held, &d.plan.HeldAdd, &d.plan.deferred, &d.plan.byHand} {
		slices.SortFunc(*l, comparePrefixes)
		*l = slices.Compact(*l)
	}
	return d.plan
}

// index checks every ban once more against the exemptions and against /0, whatever made it effective, and indexes the rest.
func (d *draft) index() {
	d.live = make(map[netip.Prefix]int, len(d.bans))
	kept := make([]ban, 0, len(d.bans))
	put := func(b ban) {
		i, ok := d.live[b.prefix]
		if !ok {
			d.live[b.prefix] = len(kept)
			kept = append(kept, b)
			return
		}
		k := &kept[i]
		k.newest = max(k.newest, b.newest)
		k.origins, k.records = max(k.origins, b.origins), max(k.records, b.records)
		k.wanted = k.wanted || b.wanted
		k.wide = k.wide && b.wide // a narrow ban of the same prefix makes up for the wide one
	}
	for _, b := range d.bans {
		if !d.date.IsZero() { // a start in the future must not push the others out
			b.newest = min(b.newest, store.At(d.date))
		}
		b.wide = b.wide || tooWide(b.prefix)
		switch {
		// Left out without a word: no store makes such a ban, and the tenant must never hold a /0.
		case !b.prefix.IsValid() || b.prefix.Bits() == 0 || b.prefix != b.prefix.Masked():
		case d.exemptions.OverlapsPrefix(b.prefix):
			for _, p := range d.exemptions.Outside(b.prefix) {
				part := b
				part.prefix = p
				put(part)
			}
		default:
			put(b)
		}
	}
	d.bans = kept
	d.present = make(map[netip.Prefix]struct{}, len(d.running))
	for _, p := range d.running {
		d.present[p] = struct{}{}
	}
}

// covered reports whether live bans cover all of p.
func (d *draft) covered(p netip.Prefix) bool {
	if _, ok := d.live[p]; ok {
		return true
	}
	return d.liveSpace().ContainsPrefix(p)
}

// liveSpace is what any live ban covers, worked out at most once a plan, and only if the plan asks.
func (d *draft) liveSpace() ipranges.Set {
	if d.space.IPSet == nil {
		var b netipx.IPSetBuilder
		for _, x := range d.bans {
			b.AddPrefix(x.prefix)
		}
		d.space = setOf(&b)
	}
	return d.space
}

// sortOut goes through the tenant and decides what stays, what goes, and what is not ours.
func (d *draft) sortOut() {
	ours := 0
	var guarded []judged
	for _, p := range d.running {
		if _, ok := d.placed[p]; !ok {
			d.foreigner(p)
			continue
		}
		ours++
		if d.covered(p) {
			d.kept = append(d.kept, p)
			continue
		}
		switch j := d.judge(p); {
		case j.reason == "":
			d.plan.deferred = append(d.plan.deferred, p)
			d.stay = append(d.stay, p)
		case (j.reason == reasonLifted || j.reason == reasonAllowed) && !j.confirmed:
			guarded = append(guarded, j)
		default:
			d.remove(j)
		}
	}
	// Expiry is not among them: what ends by itself may empty the tenant.
	if !d.force && ours >= shrinkFloor && len(guarded)*100 > ours*d.maxShrink {
		for _, j := range guarded {
			d.plan.Held = append(d.plan.Held, j.prefix)
			d.stay = append(d.stay, j.prefix)
		}
	} else {
		for _, j := range guarded {
			d.remove(j)
		}
	}
	// Neither is in force by a ban that counts, and both take room from those that are.
	d.fixed = len(d.stay) + len(d.plan.Foreign)
	d.plan.size = ours
}

// keepLive adds, as prefixes of their own, bans without a quorum that were in the tenant as part of a prefix that goes: what is
// there stays while a ban of it lives.
func (d *draft) keepLive() {
	if len(d.plan.Remove) == 0 {
		return
	}
	var gone ipranges.Set
	for _, b := range d.bans {
		if b.wanted {
			continue
		}
		if gone.IPSet == nil {
			gone = setOfPrefixes(d.plan.Remove)
		}
		if gone.ContainsPrefix(b.prefix) {
			d.parts = append(d.parts, b.prefix)
		}
	}
}

// remove also notes which parts of the prefix must stay, so that they are added in the same commit.
func (d *draft) remove(j judged) {
	d.plan.Remove = append(d.plan.Remove, j.prefix)
	d.plan.reasons[j.prefix] = j.reason
	d.parts = append(d.parts, j.stays...)
}

// foreigner keeps a foreign prefix, or removes it once its time is over and no ban wants it.
func (d *draft) foreigner(p netip.Prefix) {
	since, seen := d.foreignSince[p]
	if _, wanted := d.live[p]; d.removeForeign && seen && !wanted && d.now.Sub(since) >= d.foreignAfter {
		d.remove(judged{prefix: p, reason: reasonForeign})
		return
	}
	d.plan.Foreign = append(d.plan.Foreign, p)
}

// there reports whether p, which is wanted, is in the tenant. One that was to be removed then stays.
func (d *draft) there(p netip.Prefix) bool {
	if _, ok := d.present[p]; !ok {
		return false
	}
	why, going := d.plan.reasons[p]
	if !going {
		return true
	}
	delete(d.plan.reasons, p)
	d.plan.Remove = slices.DeleteFunc(d.plan.Remove, func(x netip.Prefix) bool { return x == p })
	if why == reasonForeign {
		d.plan.Foreign = append(d.plan.Foreign, p)
		d.fixed++
	} else {
		d.kept = append(d.kept, p)
	}
	return true
}

// judged is the verdict on a placed prefix that live bans do not cover completely.
type judged struct {
	prefix    netip.Prefix
	reason    reason // "" if it has to stay for now
	confirmed bool
	stays     []netip.Prefix // parts whose own time has not come: they are added as prefixes of their own
}

// judge finds out, part by part, why the bans for which a prefix was placed are gone.
func (d *draft) judge(p netip.Prefix) judged {
	j := judged{prefix: p, confirmed: true}
	rank := 0 // of the reason: what somebody did counts more than expiry
	for _, part := range d.liveSpace().Outside(p) {
		g := d.cause(part)
		// Whatever became of its bans: it must not be blocked.
		if d.exemptions.OverlapsPrefix(part) {
			g.Cause = store.GoneAllowed
		}
		reason, r := reason(""), 0
		switch g.Cause {
		case store.GoneAllowed:
			reason, r = reasonAllowed, 3
		case store.GoneLifted:
			reason, r = reasonLifted, 2
		case store.GoneExpired:
			if d.clocksAgree {
				reason, r = reasonExpired, 1
			}
		case store.GoneUnknown:
			// Its ban ended so long ago that nobody remembers it, or it has not arrived here yet.
			left := d.placed[p].Time().Sub(d.date)
			if d.clocksAgree && d.lease-left >= d.missingWait {
				reason, r = reasonExpired, 1
			}
		}
		// Its time has not come, or cannot be told: this part stays covered.
		if r == 0 {
			j.stays = append(j.stays, part)
			continue
		}
		if r >= 2 && !g.Confirmed {
			j.confirmed = false
		}
		if r > rank {
			j.reason, rank = reason, r
		}
	}
	return j
}

// cause finds out why a part is no longer wanted. A placed prefix may join several bans: then the bans inside it tell.
func (d *draft) cause(part netip.Prefix) store.Gone {
	g := d.gone(part)
	if g.Cause != store.GoneUnknown {
		return g
	}
	// Up to 1024 addresses are asked about one by one; beyond that it would take too long.
	if host := part.Addr().BitLen() - part.Bits(); host >= 1 && host <= 10 {
		for a := part.Addr(); part.Contains(a); a = a.Next() {
			if g := d.gone(netip.PrefixFrom(a, a.BitLen())); g.Cause != store.GoneUnknown && g.Cause != store.GoneNot {
				return g
			}
		}
	}
	return g
}

// held reports whether p must wait because somebody removed it by hand.
func (d *draft) held(p netip.Prefix) bool {
	at, ok := d.notBefore[p]
	return ok && d.now.Before(at)
}

// addEach adds the effective prefixes one by one.
func (d *draft) addEach() {
	var freed, stay ipranges.Set
	if d.frozen {
		freed = setOfPrefixes(d.plan.Remove)
	}
	stay = setOfPrefixes(d.stay)
	add := func(p netip.Prefix) {
		switch {
		case d.there(p):
		case stay.ContainsPrefix(p): // covered by what has to stay
		// A freeze stops additions, but not one that only replaces something wider.
		case d.frozen && !freed.ContainsPrefix(p):
		// Somebody at the conductor has taken it out, and may know why.
		case d.held(p):
			d.plan.byHand = append(d.plan.byHand, p)
		default:
			d.plan.Add = append(d.plan.Add, p)
		}
	}
	for _, b := range d.bans {
		if b.wanted {
			add(b.prefix)
		}
	}
	for _, p := range d.parts {
		add(p)
	}
}

// capAddresses leaves out what exceeds max_addresses: the oldest bans, reported by the fewest members. Among equals, what is in
// the tenant stays.
func (d *draft) capAddresses() {
	if d.maxAddresses <= 0 {
		return
	}
	// What stays whatever the cap says has taken its room already.
	room := max(d.maxAddresses-d.fixed, 0)
	if len(d.kept)+len(d.plan.Add) <= room {
		return
	}
	type ranked struct {
		ban
		there bool
	}
	all := make([]ranked, 0, len(d.kept)+len(d.plan.Add))
	at := make(map[netip.Prefix]int, cap(all))
	for _, p := range d.kept {
		at[p] = len(all)
		all = append(all, ranked{ban{prefix: p}, true})
	}
	for _, p := range d.plan.Add {
		if _, ok := at[p]; !ok {
			at[p] = len(all)
			all = append(all, ranked{ban: ban{prefix: p}})
		}
	}
	for _, b := range d.bans {
		// One that waits would lend its worth to a wider prefix, be free once that is in, and take its worth back: the tenant
		// would change with each plan.
		if b.unconfirmed {
			continue
		}
		for bits := b.prefix.Bits(); bits > 0; bits-- { // find the prefix that carries it
			i, ok := at[netip.PrefixFrom(b.prefix.Addr(), bits).Masked()]
			if !ok {
				continue
			}
			r := &all[i]
			r.newest = max(r.newest, b.newest)
			r.origins, r.records = max(r.origins, b.origins), max(r.records, b.records)
			break
		}
	}
	slices.SortFunc(all, func(a, b ranked) int {
		if c := a.compareWorth(b.ban); c != 0 {
			return c
		}
		if a.there != b.there {
			if a.there {
				return -1
			}
			return 1
		}
		return a.compareAge(b.ban)
	})
	d.plan.Add = d.plan.Add[:0]
	for i, r := range all {
		switch {
		case i < room && !r.there:
			d.plan.Add = append(d.plan.Add, r.prefix)
		case i < room:
		// It gives way to a worthier one: it is removed, and told as left out.
		case r.there:
			d.remove(judged{prefix: r.prefix, reason: reasonCapped})
			fallthrough
		default:
			d.plan.Capped = append(d.plan.Capped, r.prefix)
		}
	}
}

// compareWorth sorts first what is newer by a minute, or reported by more members.
func (b ban) compareWorth(o ban) int {
	const minute = store.Millis(60_000)
	return cmp.Or(cmpDesc(b.newest/minute, o.newest/minute), cmpDesc(b.origins, o.origins), cmpDesc(b.records, o.records))
}

// compareAge breaks ties.
func (b ban) compareAge(o ban) int {
	return cmp.Or(cmpDesc(b.newest, o.newest), comparePrefixes(b.prefix, o.prefix))
}

// cmpDesc orders the greater first.
func cmpDesc[T int | store.Millis](a, b T) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}
