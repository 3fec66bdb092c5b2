package conductor

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"banmesh/mesh/conductor/prefixset"
)

// A Key identifies our member in a configuration.
type Key struct{ Tenant, Neighborhood string }

// A Tenant is our tenant as one datastore holds it.
type Tenant struct {
	Exists      bool
	Described   bool
	Description string
	Member      bool           // our neighborhood's member exists
	Addresses   []netip.Prefix // canonical, sorted, without duplicates
	Unread      []string       // values that are not prefixes, sorted; they are left alone

	// Everything else in the tenant, other members included, and in our member, in a form that the session can compare and
	// write back. Nil if there is nothing.
	Rest, MemberRest any
	// Assigned says that Rest holds only single values and containers of such, MemberAssigned that MemberRest does. A server may
	// give those to new entries, for example the model's hidden id.
	Assigned, MemberAssigned bool

	spelled map[netip.Prefix][]string // texts of a prefix that is spelled in other ways than the canonical one
}

// Add adds an address in its textual form. Finish must follow the last Add.
func (t *Tenant) Add(text string) {
	p, exact, ok := prefixset.Parse(text)
	if !ok {
		t.Unread = append(t.Unread, text)
		return
	}
	t.Addresses = append(t.Addresses, p)
	if !exact {
		if t.spelled == nil {
			t.spelled = make(map[netip.Prefix][]string)
		}
		t.spelled[p] = append(t.spelled[p], text)
	}
}

// Finish sorts what was added. The canonical spelling of a prefix goes last among its texts.
func (t *Tenant) Finish() {
	counts := make(map[netip.Prefix]int, len(t.spelled))
	if len(t.spelled) > 0 {
		for _, p := range t.Addresses {
			if _, odd := t.spelled[p]; odd {
				counts[p]++
			}
		}
	}
	for p, texts := range t.spelled {
		canonical := counts[p] > len(texts)
		slices.Sort(texts)
		texts = slices.Compact(texts)
		if canonical {
			texts = append(texts, p.String())
		}
		t.spelled[p] = texts
	}
	t.Addresses = prefixset.Sort(t.Addresses)
	slices.Sort(t.Unread)
}

// WithoutMember returns the tenant without our member.
func (t *Tenant) WithoutMember() *Tenant {
	out := *t
	out.Member, out.Addresses, out.Unread, out.spelled, out.MemberRest, out.MemberAssigned = false, nil, nil, nil, nil, false
	return &out
}

// Texts returns the spellings of a prefix in the datastore; t may be nil.
func (t *Tenant) Texts(p netip.Prefix) []string {
	if t != nil {
		if s := t.spelled[p]; len(s) > 0 {
			return s
		}
	}
	return []string{p.String()}
}

// A Difference describes how the candidate differs from running.
type Difference struct {
	Running, Candidate *Tenant // both nil if the two configurations are the same text
	Foreign            string  // the first difference outside our tenant; "" for none
	// Behind says that the candidate holds no edits and differs because others have committed since it was begun. Only the
	// server of a PrivateCandidate can tell.
	Behind bool
	// Text is a hash of the candidate's whole text, comparable within this process; 0 if unknown.
	Text uint64

	change change
}

// Explain compares the two tenants in terms of our edits; description is the one that our edits set.
func (d *Difference) Explain(description string) {
	if d.Running != nil {
		d.change = compareTenants(d.Candidate, d.Running, description)
	}
}

// Clean reports whether there is no difference.
func (d *Difference) Clean() bool { return d.Foreign == "" && d.change.empty() }

// OnlyOurs reports whether our edits could have made the whole difference.
func (d *Difference) OnlyOurs() bool { return d.Foreign == "" && d.change.foreign == "" }

// Detail names the first place where the candidate differs.
func (d *Difference) Detail() string {
	switch {
	case d.Foreign != "":
		return d.Foreign
	case d.change.foreign != "":
		return d.change.foreign
	}
	return "addresses of the tenant were edited by somebody else"
}

// created names what our edit created, or deleted for a moment to create it again.
type created struct {
	tenant, member, description bool
	remade                      bool // the member is being replaced: the tenant's description carries the mark
}

// change describes how our tenant in the candidate differs from that in running.
type change struct {
	added, removed []netip.Prefix
	created        created
	foreign        string // what we could not have made; "" for nothing
}

func (c change) empty() bool {
	return len(c.added) == 0 && len(c.removed) == 0 && c.created == created{} && c.foreign == ""
}

func (c change) equal(d change) bool {
	return slices.Equal(c.added, d.added) && slices.Equal(c.removed, d.removed) && c.created == d.created && c.foreign == d.foreign
}

// inForce reports whether running holds all addresses of the change.
func (c change) inForce(running *Tenant) bool {
	return len(prefixset.Minus(c.added, running.Addresses)) == 0 && len(prefixset.Both(c.removed, running.Addresses)) == 0
}

// Rewriting marks the description of a tenant while its member is deleted and created again, where an API cannot replace it.
// After an interruption the next administrator or agent can tell this state from a deliberate deletion.
const Rewriting = " (banmesh is rewriting this member: revert if it stays)"

// tenantGone describes a candidate without the tenant that running has.
const tenantGone = "the tenant was removed"

// memberGone describes an interrupted replacement without the mark. Only the process that was interrupted can tell it from an
// administrator's deletion.
const memberGone = "the tenant's member was removed; if nobody did that on purpose, an agent was interrupted while it made the member anew: revert the candidate"

// compareTenants describes a candidate's tenant in terms of running's and of what our edits do to it.
func compareTenants(candidate, running *Tenant, description string) change {
	c := change{
		added:   prefixset.Minus(candidate.Addresses, running.Addresses),
		removed: prefixset.Minus(running.Addresses, candidate.Addresses),
		created: created{
			tenant:      candidate.Exists && !running.Exists,
			member:      candidate.Member && !running.Member,
			description: candidate.Described && !running.Described && candidate.Description == description,
		},
	}
	if before, marked := strings.CutSuffix(candidate.Description, Rewriting); marked && before == running.Description {
		c.created.remade = true
	}
	switch {
	case running.Exists && !candidate.Exists:
		c.foreign = tenantGone
	case !reflect.DeepEqual(candidate.Rest, running.Rest) && !(c.created.tenant && candidate.Assigned):
		c.foreign = "the tenant holds something that is not ours"
	case c.created.remade && !candidate.Member:
	case !c.created.remade && !c.created.description &&
		(candidate.Described != running.Described || candidate.Description != running.Description):
		c.foreign = "the tenant's description was changed"
	case running.Member && !candidate.Member:
		c.foreign = memberGone
	case !reflect.DeepEqual(candidate.MemberRest, running.MemberRest) && !(c.created.member && candidate.MemberAssigned),
		!slices.Equal(candidate.Unread, running.Unread):
		c.foreign = "the tenant's member holds something that is not ours"
	}
	return c
}

// undo returns the change that reverts c, for a candidate that holds now, to the state in base. It reverts exactly what c
// names, and drops what c created unless something else is left in it.
func undo(now, base *Tenant, c change) Change {
	u := Change{Like: base}
	added := prefixset.Both(c.added, now.Addresses)
	alone := len(now.Addresses) == len(added) && len(now.Unread) == 0 && (now.MemberRest == nil || now.MemberAssigned)
	switch {
	case !now.Exists:
		if c.foreign == tenantGone && (base.Rest == nil || base.Assigned) && (base.MemberRest == nil || base.MemberAssigned) {
			u.Add, u.Describe = base.Addresses, base.Description
		}
		return u
	case c.created.tenant && alone && (now.Rest == nil || now.Assigned) && (c.created.description || !now.Described):
		u.DropTenant = true
		return u
	case c.created.member && alone:
		u.DropMember = now.Member
	case base.Member && !now.Member:
		if c.created.remade || c.foreign != "" {
			u.Add = base.Addresses
		}
	default:
		u.Remove, u.Add = added, prefixset.Minus(c.removed, now.Addresses)
	}
	if (c.created.description || c.created.remade) && now.Described {
		if u.Describe = base.Description; u.Describe == "" {
			u.DropDescription = true
		}
	}
	return u
}

// leftover is an edit that stayed in a candidate because it could not be reverted, or because the outcome of its commit is
// unknown.
type leftover struct {
	made   change         // by the edit
	change change         // made, corrected by how running has moved since
	holds  []netip.Prefix // the candidate's addresses with it
	at     time.Time
	acked  time.Time // when its commit was answered with success without running showing it; zero if it was not
	sent   time.Time // when its commit was given up without an answer; zero if there was one
}

// remembered limits how long a leftover or a reverted change explains a difference. Later an administrator may have made the
// same change, unless everything still stands as it was left.
const remembered = 10 * time.Minute

// explains reports whether the leftover accounts for a change of the candidate.
func (l *leftover) explains(c change, now time.Time) bool {
	switch {
	case l == nil, now.Sub(l.at) >= remembered:
		return false
	case c.foreign == memberGone && l.change.created.remade && len(c.added) == 0:
		return true // between deleting and re-creating the member
	}
	return c.foreign == "" && l.created(c) &&
		len(prefixset.Minus(c.added, l.change.added)) == 0 && len(prefixset.Minus(c.removed, l.change.removed)) == 0
}

// created reports whether the leftover created everything that the change has created.
func (l *leftover) created(c change) bool {
	made := c.created
	return (!made.tenant || l.change.created.tenant) && (!made.member || l.change.created.member) &&
		(!made.description || l.change.created.description)
}

// late reports whether running may show the leftover's commit only later.
func (l *leftover) late(now time.Time, timeout time.Duration) bool {
	return l != nil && (now.Sub(l.acked) < timeout || now.Sub(l.sent) < timeout)
}

// remains reports whether the candidate holds exactly the leftover. That holds until the candidate is seen clean, wherever
// running has moved to meanwhile.
func (l *leftover) remains(d *Difference) bool {
	return l != nil && d.Candidate != nil && d.change.foreign == "" && l.created(d.change) && slices.Equal(d.Candidate.Addresses, l.holds)
}

// undone is a change that was reverted in a candidate. If the reading behind that decision was old, the candidate now lacks
// something that is in force, and we caused it.
type undone struct {
	change change
	at     time.Time
}

// explains reports whether a difference is what an undone edit of ours left behind: the candidate lacks some
// of what that edit added, or holds some of what it removed, and nothing else differs. It is believed for a
// while only.
func (u undone) explains(c change, now time.Time) bool {
	dropped := c.foreign == tenantGone && u.change.created.tenant || c.foreign == memberGone && u.change.created.member
	return (dropped || c.foreign == "" && len(c.added)+len(c.removed) > 0) && c.created == created{} && now.Sub(u.at) < remembered &&
		len(prefixset.Minus(c.removed, u.change.added)) == 0 && len(prefixset.Minus(c.added, u.change.removed)) == 0
}
