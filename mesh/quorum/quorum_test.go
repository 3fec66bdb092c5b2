package quorum

import (
	"slices"
	"testing"

	"banmesh/mesh/config"
	"banmesh/mesh/control"
	"banmesh/store"
)

func TestItIsOfAJail(t *testing.T) {
	q := &config.Quorum{Default: 2, Jails: map[string]int{"recidive": 1, "web": 3}}
	alive := map[string]bool{"router1": true, "router2": true, "router3": true}
	ban := func(seen ...store.Sighting) store.EffectiveBan {
		b := store.EffectiveBan{Seen: seen}
		for _, s := range seen {
			at := slices.IndexFunc(b.Jails, func(j store.JailSeen) bool { return j.Jail == s.Jail })
			if at < 0 {
				at, b.Jails = len(b.Jails), append(b.Jails, store.JailSeen{Jail: s.Jail})
			}
			b.Jails[at].Origins++
		}
		return b
	}
	seen := func(jail, origin string) store.Sighting { return store.Sighting{Jail: jail, Origin: origin} }
	for _, c := range []struct {
		name string
		ban  store.EffectiveBan
		want bool
	}{
		{"one router", ban(seen("sshd", "router1")), false},
		{"two routers", ban(seen("sshd", "router1"), seen("sshd", "router2")), true},
		{"a router and a name", ban(seen("sshd", "router1"), seen("sshd", "ghost")), false},
		{"two routers and a name", ban(seen("sshd", "ghost"), seen("sshd", "router1"), seen("sshd", "router2")), true},
		{"two routers in two jails", ban(seen("sshd", "router1"), seen("nginx", "router2")), false},
		{"a jail that trusts one", ban(seen("recidive", "router1"), seen("sshd", "router1")), true},
		{"a jail that trusts one, and a name", ban(seen("recidive", "ghost")), false},
		{"a jail that wants three", ban(seen("web", "router1"), seen("web", "router2")), false},
		{"an operator's word", ban(seen("manual", "router1")), true},
		{"an operator nowhere", ban(seen("manual", "ghost")), false},
	} {
		if got := reached(q, c.ban, alive); got != c.want {
			t.Errorf("%s: reached %v, want %v", c.name, got, c.want)
		}
	}
	q.Jails["manual"] = 2
	if reached(q, ban(seen("manual", "router1")), alive) {
		t.Error("an operator's word counts alone although the configuration wants two")
	}
}

func TestWaitNamesTheNearestJail(t *testing.T) {
	q := New(&config.Quorum{Default: 3, Jails: map[string]int{"web": 2}}, nil, nil)
	alive := map[string]bool{"router1": true, "router2": true, "router3": true}
	e := store.Entry{Effective: true, Records: []store.BanRecord{
		{Origin: "router1", Jail: "sshd"}, {Origin: "router2", Jail: "web"}, {Origin: "router1", Jail: "sshd"},
		{Origin: "router9", Jail: "web", Ignored: true}, {Origin: "ghost", Jail: "web"},
	}}
	if got := q.Wait(&e, alive); got == nil || *got != (control.QuorumWait{Jail: "web", Seen: 1, Needed: 2}) {
		t.Errorf("waits %+v, want for web, 1 of 2", got)
	}
	e.Records = append(e.Records, store.BanRecord{Origin: "router3", Jail: "web"})
	if got := q.Wait(&e, alive); got != nil {
		t.Errorf("waits %+v with its quorum reached", got)
	}
}
