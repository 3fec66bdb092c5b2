package mesh

import (
	"slices"
	"strings"
	"testing"
)

func TestFollowersKnowWhatWasRemovedByHand(t *testing.T) {
	t.Parallel()
	sim, lead, follower := pair(t, nil)
	ban(t, follower, "203.0.113.7/32", "203.0.113.8/32")
	eventually(t, "both to be committed", func() bool {
		l := listing(t, follower)
		return l["203.0.113.7/32"].Committed && l["203.0.113.8/32"].Committed
	})
	ann := sim.Admin("ann")
	defer ann.Close()
	const edit = `<config xmlns="http://128technology.com/t128"><authority xmlns="http://128technology.com/t128/config/authority-config">` +
		`<tenant><name>blacklist-fail2ban</name><member><neighborhood>internet</neighborhood>` +
		`<address xmlns:nc="urn:ietf:params:xml:ns:netconf:base:1.0" nc:operation="remove">203.0.113.7/32</address></member></tenant></authority></config>`
	if err := ann.Edit(edit); err != nil {
		t.Fatal(err)
	}
	if err := ann.Commit(); err != nil {
		t.Fatal(err)
	}
	ban(t, lead, "203.0.113.9/32") // the leader reads the tenant to commit it
	for _, a := range []*Agent{lead, follower} {
		eventually(t, "the new ban to be committed at "+a.cfg.Name, func() bool { return listing(t, a)["203.0.113.9/32"].Committed })
		eventually(t, a.cfg.Name+" to tell what was removed by hand", func() bool {
			l := listing(t, a)
			return !l["203.0.113.7/32"].Committed && l["203.0.113.8/32"].Committed
		})
		if w := status(t, a).Warnings; !slices.ContainsFunc(w, func(s string) bool { return strings.Contains(s, "by hand") }) {
			t.Errorf("%s warns %q, want a word of what was removed by hand", a.cfg.Name, w)
		}
	}
}
