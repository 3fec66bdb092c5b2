package conductor

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// tenant is one of ours with these addresses.
func tenant(texts ...string) *Tenant {
	t := &Tenant{Exists: true, Described: true, Description: "ours", Member: true}
	for _, s := range texts {
		t.Add(s)
	}
	t.Finish()
	return t
}

func with(t *Tenant, f func(*Tenant)) *Tenant {
	f(t)
	return t
}

// What our edits can have made of a tenant is told from what they cannot, and is undone exactly.
func TestADifferenceIsExplainedAndUndoneExactly(t *testing.T) {
	for name, c := range map[string]struct {
		candidate, running *Tenant
		foreign            bool
		undo               string
	}{
		"the same":            {tenant("10.0.0.1/32"), tenant("10.0.0.1"), false, "{}"},
		"added":               {tenant("10.0.0.1/32", "10.0.0.2"), tenant("10.0.0.1/32"), false, "{remove [10.0.0.2/32]}"},
		"removed":             {tenant(), tenant("10.0.0.1/32"), false, "{add [10.0.0.1/32]}"},
		"created":             {tenant("10.0.0.1/32"), &Tenant{}, false, "{drop tenant}"},
		"created, not by us":  {with(tenant(), func(t *Tenant) { t.Description = "theirs" }), &Tenant{}, true, ""},
		"with another member": {with(tenant("10.0.0.1/32"), func(t *Tenant) { t.Rest = "lan" }), &Tenant{}, true, ""},
		"with an id":          {with(tenant("10.0.0.1/32"), func(t *Tenant) { t.Rest, t.Assigned = "id", true }), &Tenant{}, false, "{drop tenant}"},
		"given an id":         {with(tenant("10.0.0.1/32"), func(t *Tenant) { t.Rest, t.Assigned = "id", true }), tenant("10.0.0.1/32"), true, ""},
		"the member created":  {tenant("10.0.0.1/32"), with(tenant(), func(t *Tenant) { t.Member = false }), false, "{drop member}"},
		"the member, with more": {with(tenant("10.0.0.1/32"), func(t *Tenant) { t.MemberRest, t.MemberAssigned = "id", true }),
			with(tenant(), func(t *Tenant) { t.Member = false }), false, "{drop member}"},
		"described":             {tenant(), with(tenant(), func(t *Tenant) { t.Described, t.Description = false, "" }), false, "{drop description}"},
		"described differently": {with(tenant(), func(t *Tenant) { t.Description = "theirs" }), tenant(), true, ""},
		"the tenant gone":       {&Tenant{}, tenant("10.0.0.1/32"), true, ""},
		"the member gone":       {tenant().WithoutMember(), tenant("10.0.0.1/32"), true, ""},
		"being rewritten": {with(tenant().WithoutMember(), func(t *Tenant) { t.Description += Rewriting }), tenant("10.0.0.1/32"), false,
			"{add [10.0.0.1/32] describe ours}"},
		"rewritten": {with(tenant("10.0.0.2/32"), func(t *Tenant) { t.Description += Rewriting }), tenant("10.0.0.1/32"), false,
			"{add [10.0.0.1/32] remove [10.0.0.2/32] describe ours}"},
		"garbage": {tenant("10.0.0.1/32", "x"), tenant("10.0.0.1/32"), true, ""},
	} {
		change := compareTenants(c.candidate, c.running, "ours")
		if (change.foreign != "") != c.foreign {
			t.Errorf("%s: foreign %q", name, change.foreign)
			continue
		}
		if c.foreign {
			continue
		}
		u, s := undo(c.candidate, c.running, change), ""
		for _, part := range []struct {
			is   bool
			text string
		}{
			{len(u.Add) > 0, fmt.Sprintf("add %v", u.Add)}, {len(u.Remove) > 0, fmt.Sprintf("remove %v", u.Remove)},
			{u.DropTenant, "drop tenant"}, {u.DropMember, "drop member"}, {u.DropDescription, "drop description"},
			{u.Describe != "", "describe " + u.Describe},
		} {
			if part.is && s != "" {
				s += " "
			}
			if part.is {
				s += part.text
			}
		}
		if s = "{" + s + "}"; s != c.undo || u.Empty() != (c.undo == "{}") {
			t.Errorf("%s: undone by %s, want %s", name, s, c.undo)
		}
	}
}

// What was undone on the strength of an old reading is known again when running shows the truth, for a while.
func TestWhatWasUndoneIsKnownAgain(t *testing.T) {
	now := time.Now()
	b := []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")}
	u := undone{change{added: b}, now}
	lacks := compareTenants(tenant("10.0.0.1/32"), tenant("10.0.0.1/32", "10.0.0.2/32"), "ours")
	if !u.explains(lacks, now) || u.explains(lacks, now.Add(time.Hour)) {
		t.Errorf("%+v: explained now %v, in an hour %v", lacks, u.explains(lacks, now), u.explains(lacks, now.Add(time.Hour)))
	}
	if more := compareTenants(tenant(), tenant("10.0.0.1/32", "10.0.0.2/32"), "ours"); u.explains(more, now) {
		t.Errorf("%+v is explained by less", more)
	}
}

// atNode is a session where each node has a candidate of its own.
type atNode struct{ Session }

func (atNode) Candidate() Candidate { return NodeCandidate }

// A commit whose outcome was not known has moved running like any other, once it is found in force: what waits in the other
// node's candidate lacks it.
func TestWhatIsFoundInForceHasMovedTheOtherNodesLeftover(t *testing.T) {
	one, two := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")
	for name, inForce := range map[string]bool{"in force": true, "undone": false} {
		c := &Conductor{nodes: []*node{{name: "a"}, {name: "b"}}}
		left := func(p netip.Prefix) *leftover {
			return (&edit{base: &Tenant{}, ours: change{added: []netip.Prefix{p}}}).left(time.Time{})
		}
		c.remember(c.nodes[0], left(one))
		c.remember(c.nodes[1], left(two))
		c.moved(c.nodes[0], change{added: []netip.Prefix{netip.MustParsePrefix("192.0.2.3/32")}}) // which changes nothing about b
		running := &Tenant{}
		if inForce {
			running.Addresses = []netip.Prefix{two, netip.MustParsePrefix("192.0.2.3/32")}
		}
		e := &edit{c: c, s: atNode{}, n: c.nodes[1]}
		e.forget(&Difference{Running: running, Candidate: running})
		if c.nodes[1].leftover != nil {
			t.Errorf("%s: it is not forgotten", name)
		}
		if got := slices.Contains(c.nodes[0].leftover.change.removed, two); got != inForce {
			t.Errorf("%s: the other's is %+v", name, c.nodes[0].leftover.change)
		}
	}
}

// The same change is an administrator's, once that of ours is long ago.
func TestALeftoverIsBelievedForTenMinutes(t *testing.T) {
	now := time.Now()
	gone := change{removed: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}
	l := &leftover{change: gone, at: now}
	if !l.explains(gone, now.Add(remembered-1)) || l.explains(gone, now.Add(remembered)) {
		t.Errorf("within ten minutes %v, then %v", l.explains(gone, now.Add(remembered-1)), l.explains(gone, now.Add(remembered)))
	}
}
