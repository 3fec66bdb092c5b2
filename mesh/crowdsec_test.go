package mesh

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/mesh/crowdsec"
	"banmesh/store"
)

// The agent bans with the ends that CrowdSec gives, marks where they are from, and
// lifts what is taken back there; fail2ban's ban of the same address stays.
func TestCrowdSecDecidesAndTakesBack(t *testing.T) {
	t.Parallel()
	answers := make(chan string, 4)
	lapi := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case text := <-answers:
			fmt.Fprint(w, text)
		default:
			fmt.Fprint(w, `{"new":null,"deleted":null}`)
		}
	}))
	defer lapi.Close()
	key := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(key, []byte("a-key"), 0o600); err != nil {
		t.Fatal(err)
	}
	decision := func(id int, value, left string) string {
		return fmt.Sprintf(`{"id":%d,"type":"ban","scope":"Ip","value":%q,"duration":%q,"scenario":"crowdsecurity/ssh-bf","origin":"crowdsec"}`, id, value, left)
	}
	answers <- `{"new":[` + decision(1, "203.0.113.7", "2h") + "," + decision(2, "203.0.113.8", "1h") + `],"deleted":[]}`
	a := started(t, "router1", func(c *config.Config) {
		c.CrowdSec.URL, c.CrowdSec.KeyFile, c.CrowdSec.Interval = lapi.URL, key, config.Duration(time.Second)
		c.HTTP.Listen = "127.0.0.1:0"
	})
	eventually(t, "the decisions", func() bool { return len(listing(t, a)) == 2 })
	b := listing(t, a)["203.0.113.7/32"]
	if r := b.Records[0]; r.Jail != "crowdsec" || r.Reason != "crowdsecurity/ssh-bf" || time.Until(b.Until.Time()).Round(time.Minute) != 2*time.Hour {
		t.Errorf("banned as %+v", b)
	}
	if _, err := a.Ban(t.Context(), control.BanCall{Prefixes: control.Prefixes{netip.MustParsePrefix("203.0.113.8/32")}, Jail: "sshd", Until: control.UntilAt(time.Now().Add(time.Hour))}); err != nil {
		t.Fatal(err)
	}

	// What came from CrowdSec is given to all but those who name other origins.
	given := func(query string) (values []string) {
		t.Helper()
		r, err := http.Get("http://" + a.HTTPAddr() + "/v1/decisions" + query)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var all []struct{ Value, Origin string }
		if err := json.NewDecoder(r.Body).Decode(&all); err != nil {
			t.Fatal(err)
		}
		for _, d := range all {
			values = append(values, d.Origin+" "+d.Value)
		}
		return values
	}
	eventually(t, "a settled agent", func() bool { return a.settledOrWhy() == nil })
	eventually(t, "the ban of fail2ban in the decisions", func() bool { return fmt.Sprint(given("")) == "[crowdsec 203.0.113.7 banmesh 203.0.113.8]" })
	if got := fmt.Sprint(given("?origins=banmesh")); got != "[banmesh 203.0.113.8]" {
		t.Errorf("of banmesh's own: %s", got)
	}
	if got := fmt.Sprint(given("?origins=banmesh,crowdsec")); got != "[crowdsec 203.0.113.7 banmesh 203.0.113.8]" {
		t.Errorf("of both origins: %s", got)
	}

	answers <- `{"new":[],"deleted":[` + decision(1, "203.0.113.7", "-1s") + "," + decision(2, "203.0.113.8", "-1s") + `]}`
	eventually(t, "the lifts", func() bool {
		all := listing(t, a)
		return len(all) == 1 && len(all["203.0.113.8/32"].Records) == 1 && all["203.0.113.8/32"].Records[0].Jail == "sshd"
	})
}

// What an operator has unbanned stays so when everything is told again, as after a
// restart; what is cut by bans.max_duration is not prolonged by that.
func TestAnUnbanOfADecisionSticks(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) { c.Bans.MaxDuration = config.Duration(time.Hour) })
	p, long, other := netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("203.0.113.8/32"), netip.MustParsePrefix("203.0.113.9/32")
	until := time.Now().Add(30 * time.Minute)
	tell := func(gone ...netip.Prefix) {
		t.Helper()
		c := crowdsec.Change{All: true, New: []crowdsec.Decision{{Prefix: p, Until: until}, {Prefix: long, Until: until.Add(100 * time.Hour)}}, Gone: gone}
		if err := a.decisions().apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		until = until.Add(time.Second) // as another answer words it
	}
	tell()
	if _, err := a.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{p}}); err != nil {
		t.Fatal(err)
	}
	root := status(t, a).Root
	ban(t, a, other.String())
	tell(other) // that one is an operator's
	if all := listing(t, a); len(all) != 2 || all[p.String()].Prefix != "" {
		t.Errorf("after all was told again: %v", all)
	}
	if _, err := a.Unban(t.Context(), control.UnbanCall{Prefixes: control.Prefixes{other}}); err != nil {
		t.Fatal(err)
	}
	tell()
	if now := a.store.List(store.Query{Prefix: long}); status(t, a).Root == root || len(now) != 1 || len(now[0].Records) != 1 {
		t.Errorf("the long one: %+v", now)
	}
	// A decision that is prolonged there is prolonged here.
	err := a.decisions().apply(context.Background(), crowdsec.Change{New: []crowdsec.Decision{{Prefix: p, Until: time.Now().Add(50 * time.Minute)}}})
	if err != nil || listing(t, a)[p.String()].Prefix == "" {
		t.Errorf("a new decision about what was unbanned: %v, %v", err, listing(t, a))
	}
}

// A decision that cannot become a ban keeps no other out, and what was taken back is
// lifted all the same.
func TestADecisionThatIsRefusedStopsNoOther(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", func(c *config.Config) { c.Limits.LivePerOrigin, c.Limits.StoredPerOrigin = 10, 10 })
	until := time.Now().Add(time.Hour)
	decision := func(p string) crowdsec.Decision {
		return crowdsec.Decision{Prefix: netip.MustParsePrefix(p), Until: until}
	}
	wide := []crowdsec.Decision{decision("198.18.0.0/15"), decision("2001:db8::/31"), decision("203.0.113.7/32")}
	if err := a.decisions().apply(t.Context(), crowdsec.Change{All: true, New: wide}); err != nil {
		t.Errorf("a wide one: %v", err)
	}
	if all := listing(t, a); len(all) != 1 || all["203.0.113.7/32"].Prefix == "" {
		t.Errorf("beside a wide one: %v", all)
	}
	var many []crowdsec.Decision
	for i := range 20 {
		many = append(many, decision(fmt.Sprintf("192.0.2.%d/32", i)))
	}
	c := crowdsec.Change{All: true, New: many, Gone: []netip.Prefix{netip.MustParsePrefix("203.0.113.7/32")}}
	if err := a.decisions().apply(t.Context(), c); err == nil {
		t.Error("more than fit are taken")
	}
	if all := listing(t, a); len(all) < 5 || all["203.0.113.7/32"].Prefix != "" {
		t.Errorf("with more than fit: %v", all)
	}
}

// Where the longer of two decisions is taken back, the ban ends with the other.
func TestADecisionTakenBackShortensTheBan(t *testing.T) {
	t.Parallel()
	a := started(t, "router1", nil)
	p, now := netip.MustParsePrefix("203.0.113.7/32"), time.Now()
	short, long := crowdsec.Decision{Prefix: p, Until: now.Add(4 * time.Hour)}, crowdsec.Decision{Prefix: p, Until: now.Add(168 * time.Hour)}
	tell := func(c crowdsec.Change, want time.Duration) {
		t.Helper()
		if err := a.decisions().apply(t.Context(), c); err != nil {
			t.Fatal(err)
		}
		if got := listing(t, a)[p.String()].Until.Time().Sub(now).Round(time.Minute); got != want {
			t.Errorf("banned for %v, want %v", got, want)
		}
	}
	tell(crowdsec.Change{New: []crowdsec.Decision{short, long}}, 168*time.Hour)
	tell(crowdsec.Change{New: []crowdsec.Decision{short}}, 168*time.Hour)
	tell(crowdsec.Change{Left: []crowdsec.Decision{long}}, 168*time.Hour)
	tell(crowdsec.Change{Left: []crowdsec.Decision{short}}, 4*time.Hour)
	root := status(t, a).Root
	tell(crowdsec.Change{All: true, New: []crowdsec.Decision{short}, Left: []crowdsec.Decision{short}}, 4*time.Hour)
	if status(t, a).Root != root {
		t.Error("told again, it is banned anew")
	}
}
