package page

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"banmesh/mesh/control"
)

// manyBans are bans of n addresses by a router each in turn.
func manyBans(n int) []control.Ban {
	bans := make([]control.Ban, n)
	for i := range bans {
		origin := fmt.Sprintf("router%d", 1+i%3)
		bans[i] = control.Ban{
			Prefix: fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255), Effective: i%2 == 0, Until: control.Never,
			Records: []control.Record{{Origin: origin, Jail: "sshd", Start: 1_800_000_000_000, Until: control.Never, Failures: 5}},
		}
		if i%2 == 1 {
			bans[i].ReasonNotEffective = "never banned: 10.0.0.0/8 is protected by router2"
		}
	}
	return bans
}

func TestAllBansAreShownInParts(t *testing.T) {
	f := newFake()
	f.bans = manyBans(250)
	p := idlePage(t, f)
	first := text(t, p, "/bans")
	wants(t, "the first part", first, "1–100 of 250", `<a href="/bans?page=2">Next</a>`, `<a href="/bans?page=3">Last</a>`, "10.0.0.99",
		`href="/router?name=router1"`, `href="/address?of=10.0.0.0%2F32"`, "never banned: 10.0.0.0/8 is protected by router2", `aria-sort="ascending"`)
	if strings.Contains(first, "10.0.0.100<") || strings.Contains(first, "Previous") {
		t.Error("the first part shows what belongs to another")
	}
	last := text(t, p, "/bans?page=3")
	wants(t, "the last part", last, "201–250 of 250", "10.0.0.249", `href="/bans?page=2">Previous`)
	if strings.Contains(last, "Next") {
		t.Error("there is something after the last part")
	}
	wants(t, "a part that is gone", text(t, p, "/bans?page=900"), "250 in all, and none on this page", `<a href="/bans?page=3">Previous</a>`)
}

func TestAFilterIsPartOfTheAddress(t *testing.T) {
	f := newFake()
	f.bans = manyBans(250)
	p := idlePage(t, f)
	got := text(t, p, "/bans?q=10.0.0.0/8&router=router1&jail=my+jail&state=effective&sort=start&page=2")
	yes := true
	q := f.queries[len(f.queries)-1]
	if q.Prefix.String() != "10.0.0.0/8" || q.Origin != "router1" || q.Jail != "my jail" || q.Effective == nil || *q.Effective != yes || q.Sort != "start" || q.Offset != 100 || q.Limit != 100 {
		t.Errorf("the agent was asked for %+v", q)
	}
	wants(t, "the filtered list", got, `value="router1"`, `value="my jail"`, `<option value="effective" selected>`, `aria-sort="descending"`, `<option value="start" selected>newest first</option>`,
		`href="/bans?jail=my&#43;jail&amp;page=3&amp;q=10.0.0.0%2F8&amp;router=router1&amp;sort=start&amp;state=effective">Next`)
	// Another order begins on its first page.
	wants(t, "the heads", got, `href="/bans?jail=my&#43;jail&amp;q=10.0.0.0%2F8&amp;router=router1&amp;sort=until&amp;state=effective">Ends`)

	asked := len(f.queries)
	wants(t, "a bad prefix", text(t, p, "/bans?q=router1"), "That is no address and no prefix", `value="router1"`)
	if len(f.queries) != asked {
		t.Error("a prefix that is none was asked for")
	}
	wants(t, "what makes no sense", text(t, p, "/bans?sort=colour&state=odd&page=-4"), "1–100 of 250")
}

func TestAnAddressHasAPage(t *testing.T) {
	f := newFake()
	f.bans = manyBans(30)
	f.why = control.Why{Known: true, Banned: true, Effective: true, Bans: []control.WhyBan{{Prefix: "203.0.113.0/24", State: "live", Record: control.Record{Origin: "router2", Jail: "sshd"}}}}
	ended := control.Until(1_700_000_000_000)
	f.past = control.History{More: true, Events: []control.Past{
		{Time: 1_700_000_000_000, Event: "lift", Prefix: "203.0.113.7/32", Origin: "router1", By: "router3"},
		{Time: 1_600_000_000_000, Event: "ban", Prefix: "203.0.113.7/32", Origin: "router1", Jail: "dovecot", Reason: "5 failures", Until: &ended},
	}}
	p := idlePage(t, f)
	wants(t, "the past", text(t, p, "/address?of=203.0.113.7"), "What was", "dovecot", "5 failures", ", by router3", "banmesh history 203.0.113.7")
	wants(t, "the page", text(t, p, "/address?of=203.0.113.7"), "203.0.113.7", "It is banned", "Bans in <span class=\"mono\">203.0.113.0/24</span>", "All 30")
	wants(t, "of IPv6", text(t, p, "/address?of=2001:db8:1:2::3"), "2001:db8:1::/48")
	wants(t, "of none", text(t, p, "/address?of=nonsense"), "That is not an IP address")
	if w := get(t, p, "/address"); w.Code != http.StatusSeeOther {
		t.Errorf("no address is answered with %d", w.Code)
	}
}

func TestARouterHasAPage(t *testing.T) {
	f := newFake()
	f.bans = manyBans(30)
	f.status.Blocked = []string{"router3", "x; reboot"}
	f.members[1].Seen = control.At(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	p := idlePage(t, f)
	wants(t, "a name for a shell", text(t, p, "/router?name=x%3B+reboot"), "banmesh revoke --origin &#39;x; reboot&#39; --unblock")
	wants(t, "the leader", text(t, p, "/router?name=router2"), "of at most 200,000", `last heard of <time data-ago datetime="2026-03-01T`, "leads", "&#43;12 ms", "192.0.2.2:7946", "All 30", `href="/bans?router=router2"`)
	wants(t, "a blocked one", text(t, p, "/router?name=router3"), "none of its bans counts", "banmesh revoke --origin router3 --unblock", "no answer")
	wants(t, "one that has gone", text(t, p, "/router?name=old"), "No member of the mesh has that name; its bans count until they end")
	f.bans = nil
	if w := get(t, p, "/router?name=nobody"); w.Code != http.StatusNotFound {
		t.Errorf("a router that nobody knows is answered with %d", w.Code)
	}
}

func TestNumbersHaveAPage(t *testing.T) {
	f := newFake()
	f.stats = control.Stats{
		From: 1_700_000_000_000, Bans: control.Share{Live: 1234, Past: 56789, Total: 58023}, Lifts: 321,
		Jails:     []control.NamedShare{{Name: "my jail", Share: control.Share{Live: 1000, Past: 2000}}},
		Routers:   []control.NamedShare{{Name: "router10", Share: control.Share{Live: 7}}, {Name: "router2", Share: control.Share{Live: 7}}},
		Networks:  []control.NetShare{{Prefix: "203.0.113.0/24", Place: control.Place{ASName: "EXAMPLE-AS"}}},
		Repeaters: []control.Repeater{{Prefix: "203.0.113.7/32", Times: 12, Last: 1_700_000_000_000}},
	}
	p := idlePage(t, f)
	got := text(t, p, "/stats")
	if a, b := strings.Index(got, ">router2<"), strings.Index(got, ">router10<"); a < 0 || b < a {
		t.Error("of two routers with as many offences router10 stands before router2")
	}
	wants(t, "the page", got, "1,234", "56,789", "321", `href="/bans?jail=my&#43;jail"`, `href="/router?name=router2"`,
		`href="/bans?q=203.0.113.0%2F24"`, "EXAMPLE-AS", `href="/address?of=203.0.113.7%2F32"`, ">12<")
	f.err = errors.New("the history is closed")
	wants(t, "without an answer", text(t, p, "/stats"), "The agent does not answer: the history is closed")
}

func TestTheAllowListHasAPage(t *testing.T) {
	f := newFake()
	f.allows = []control.Allow{{Prefix: "203.0.113.7/32", Origin: "router1", Until: control.Never, Comment: "the office"}, {Prefix: "203.0.113.8/32", Origin: "bad", Ignored: "origin bad is blocked"}}
	f.never = []control.WhyNeverBan{{Prefix: "10.0.0.0/8", Origin: "router10"}, {Prefix: "10.0.0.0/8", Origin: "router2"}, {Prefix: "192.0.2.1/32", Origin: "router1"}}
	got := text(t, idlePage(t, f), "/allows")
	wants(t, "the page", got, "the office", `<span class="phone">the office, without end</span>`, "203.0.113.7", "does not count: origin bad is blocked", "without end")
	// What most protect is first, and names stand as people order them.
	if a, b := strings.Index(got, "10.0.0.0/8"), strings.Index(got, "192.0.2.1"); a < 0 || b < a {
		t.Error("what most routers protect is not first")
	}
	if a, b := strings.Index(got, ">router2<"), strings.Index(got, ">router10<"); a < 0 || b < a {
		t.Error("router10 stands before router2")
	}
}

func TestWarningsOfThePastAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		p := idlePage(t, f)
		wants(t, "the page", text(t, p, "/warnings"), "None since")
		f.status.Warnings = []string{"no answer from router3: check it"}
		time.Sleep(2 * lookPace)
		wants(t, "the page", text(t, p, "/warnings"), "no answer from router3: check it", ">now<")
		f.status.Warnings = []string{"the disk is full: run `df`"}
		time.Sleep(2 * lookPace)
		got := text(t, p, "/warnings")
		wants(t, "the page", got, "no answer from router3: check it", ">over<", "<code>df</code>")
		if strings.Index(got, "the disk") > strings.Index(got, "router3: check") {
			t.Error("the newest is not first")
		}
		for i := range 3 * keptWarnings {
			f.status.Warnings = []string{fmt.Sprint("warning ", i)}
			time.Sleep(2 * lookPace)
			text(t, p, "/warnings")
		}
		if n := len(p.timeline.pastWarnings()); n != keptWarnings {
			t.Errorf("%d warnings are kept", n)
		}
	})
}
