package conductor

import (
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"banmesh/mesh/conductor/prefixset"
)

// A Key finds our member in a configuration.
type Key struct{ Tenant, Neighborhood string }

// A Tenant is our tenant as a datastore holds it.
type Tenant struct {
	Exists      bool
	Described   bool
	Description string
	Member      bool           // our neighborhood's member exists
	Addresses   []netip.Prefix // canonical, sorted, without duplicates
	Unread      []string       // values that are no prefix, sorted; they are left alone

	// What else is in the tenant, other members included, and in our member: what a session can compare and write back.
	// Nil where there is nothing.
	Rest, MemberRest any
	// Assigned says that Rest holds single values alone, MemberAssigned that MemberRest does. A server may give them to what
	// is created, as the model's hidden id.
	Assigned, MemberAssigned bool

	spelled map[netip.Prefix][]string // the texts of a prefix, where they are not just the canonical one
}

// Add takes in the text of an address. Finish has to follow the last.
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

// Finish sorts what was collected. Where a prefix is there in the canonical spelling and in another, that spelling comes
// last of its texts.
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

// WithoutMember is the tenant without our member.
func (t *Tenant) WithoutMember() *Tenant {
	out := *t
	out.Member, out.Addresses, out.Unread, out.spelled, out.MemberRest, out.MemberAssigned = false, nil, nil, nil, nil, false
	return &out
}

// Texts are the spellings of a prefix in the datastore; t may be nil.
func (t *Tenant) Texts(p netip.Prefix) []string {
	if t != nil {
		if s := t.spelled[p]; len(s) > 0 {
			return s
		}
	}
	return []string{p.String()}
}

// A Difference tells how the candidate differs from running.
type Difference struct {
	Running, Candidate *Tenant // both nil where the two configurations are the same text
	Foreign            string  // where they differ first outside of our tenant; "" where they do not
	// Behind says that the candidate holds no edits and still differs: others have committed since it was begun. Only the
	// server of a PrivateCandidate can tell.
	Behind bool
	// Text is a hash of the candidate's whole text, for comparison with others of this process; 0 where it is not known.
	Text uint64

	change change
}

// Explain compares the two tenants by what our edits do; description is what ours give.
func (d *Difference) Explain(description string) {
	if d.Running != nil {
		d.change = compareTenants(d.Candidate, d.Running, description)
	}
}

// Clean reports whether there is no difference.
func (d *Difference) Clean() bool { return d.Foreign == "" && d.change.empty() }

// OnlyOurs reports whether nothing differs that our edits could not have made.
func (d *Difference) OnlyOurs() bool { return d.Foreign == "" && d.change.foreign == "" }

// Detail says where the candidate differs.
func (d *Difference) Detail() string {
	switch {
	case d.Foreign != "":
		return d.Foreign
	case d.change.foreign != "":
		return d.change.foreign
	}
	return "addresses of the tenant were edited by somebody else"
}

// created is what came with our edit, or went with it for a moment.
type created struct {
	tenant, member, description bool
	remade                      bool // the member is being replaced: the tenant is marked so
}

// change is how our tenant in the candidate differs from running's.
type change struct {
	added, removed []netip.Prefix
	created        created
	foreign        string // what we could not have made; "" where there is nothing such
}

func (c change) empty() bool {
	return len(c.added) == 0 && len(c.removed) == 0 && c.created == created{} && c.foreign == ""
}

func (c change) equal(d change) bool {
	return slices.Equal(c.added, d.added) && slices.Equal(c.removed, d.removed) && c.created == d.created && c.foreign == d.foreign
}

// inForce tells whether all addresses of the change are in running as it has them.
func (c change) inForce(running *Tenant) bool {
	return len(prefixset.Minus(c.added, running.Addresses)) == 0 && len(prefixset.Both(c.removed, running.Addresses)) == 0
}

// Rewriting marks the description of a tenant whose member is being deleted and created anew, where an API cannot replace
// it. Should that be interrupted, the next administrator or agent can tell it from a deletion on purpose.
const Rewriting = " (banmesh is rewriting this member: revert if it stays)"

// memberGone is the trace of an interrupted replacement without the mark; it cannot be told from an administrator's
// deletion by anybody but the process that did it.
const memberGone = "the tenant's member was removed; if nobody did that on purpose, an agent was interrupted while it made the member anew: revert the candidate"

// compareTenants explains a candidate's tenant by running's and what our edits do to it.
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
		c.foreign = "the tenant was removed"
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

// undo is the change that takes c back in a candidate that holds now, as base has it: exactly what is named, and what was
// created as far as nothing else is left in it.
func undo(now, base *Tenant, c change) Change {
	u := Change{Like: base}
	added := prefixset.Both(c.added, now.Addresses)
	alone := len(now.Addresses) == len(added) && len(now.Unread) == 0 && (now.MemberRest == nil || now.MemberAssigned)
	switch {
	case !now.Exists:
		return u
	case c.created.tenant && alone && (now.Rest == nil || now.Assigned) && (c.created.description || !now.Described):
		u.DropTenant = true
		return u
	case c.created.member && alone:
		u.DropMember = now.Member
	case base.Member && !now.Member:
		u.Add = base.Addresses
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

// leftover is what an edit left in a candidate because it could not take it back, or because the outcome of its commit is
// not known.
type leftover struct {
	made   change         // by the edit
	change change         // made, and what running has moved by since
	holds  []netip.Prefix // what the candidate's tenant holds with it
	at     time.Time
	acked  time.Time // when its commit was answered with success, which running does not show; zero: it was not
}

// remembered is for how long what was left or taken back is believed: later the same change can be an administrator's,
// unless all of it still stands where it was left.
const remembered = 10 * time.Minute

// explains tells whether a change of the candidate is what was left there.
func (l *leftover) explains(c change, now time.Time) bool {
	switch {
	case l == nil, now.Sub(l.at) >= remembered:
		return false
	case c.foreign == memberGone && l.change.created.remade && len(c.added) == 0:
		return true // between the deletion of the member and its creation
	}
	return c.foreign == "" && l.created(c) &&
		len(prefixset.Minus(c.added, l.change.added)) == 0 && len(prefixset.Minus(c.removed, l.change.removed)) == 0
}

// created tells whether all that a change has created was created by what was left.
func (l *leftover) created(c change) bool {
	made := c.created
	return (!made.tenant || l.change.created.tenant) && (!made.member || l.change.created.member) &&
		(!made.description || l.change.created.description)
}

// remains tells whether the candidate holds exactly what was left there. That is believed for as long as the candidate was
// not seen clean since, wherever running has moved to meanwhile.
func (l *leftover) remains(d *Difference) bool {
	return l != nil && d.Candidate != nil && d.change.foreign == "" && l.created(d.change) && slices.Equal(d.Candidate.Addresses, l.holds)
}

// undone is what was taken back in a candidate: should the reading that this was decided by have been an old one, the
// candidate now lacks what is in force, and it was us.
type undone struct {
	change change
	at     time.Time
}

func (u undone) explains(c change, now time.Time) bool {
	return c.foreign == "" && c.created == created{} && now.Sub(u.at) < remembered && len(c.added)+len(c.removed) > 0 &&
		len(prefixset.Minus(c.removed, u.change.added)) == 0 && len(prefixset.Minus(c.added, u.change.removed)) == 0
}
