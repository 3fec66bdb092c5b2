package control

import (
	"fmt"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"testing"
)

func TestAListQuerySurvivesTheWay(t *testing.T) {
	yes, no := true, false
	for _, q := range []ListQuery{
		{},
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Jail: "my jail & (ü)", Origin: "router-1", Since: 1767225600000, Until: 1767225600001, Effective: &yes, Sort: "until", Limit: 5},
		{Effective: &no},
	} {
		v, err := url.ParseQuery(q.encode())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ParseListQuery(v.Get); err != nil || !reflect.DeepEqual(got, q) {
			t.Errorf("%s comes back as %+v, %v; want %+v", q.encode(), got, err, q)
		}
	}
	for _, bad := range []string{"prefix=x", "since=yesterday", "until=1", "effective=perhaps", "sort=colour", "limit=x", "limit=-1"} {
		v, _ := url.ParseQuery(bad)
		if q, err := ParseListQuery(v.Get); err == nil {
			t.Errorf("%s is taken as %+v", bad, q)
		}
	}
}

func TestAListQuerySelectsByOneRecord(t *testing.T) {
	b := Ban{Effective: true, Records: []Record{{Origin: "a", Jail: "sshd", Start: 1000}, {Origin: "b", Jail: "web", Start: 5000}}}
	yes, no := true, false
	for _, tt := range []struct {
		q    ListQuery
		want bool
	}{
		{ListQuery{}, true}, {ListQuery{Jail: "sshd"}, true}, {ListQuery{Jail: "ftp"}, false}, {ListQuery{Origin: "b"}, true},
		{ListQuery{Jail: "sshd", Origin: "b"}, false}, {ListQuery{Jail: "web", Since: 5000}, true}, {ListQuery{Jail: "sshd", Since: 5000}, false},
		{ListQuery{Until: 1000}, false}, {ListQuery{Until: 1001}, true}, {ListQuery{Since: 2000, Until: 4000}, false},
		{ListQuery{Effective: &yes}, true}, {ListQuery{Effective: &no}, false},
	} {
		if got := tt.q.Selects(&b); got != tt.want {
			t.Errorf("%+v selects it: %v, want %v", tt.q, got, tt.want)
		}
	}
}

func TestAListQueryOrders(t *testing.T) {
	bans := func() []Ban {
		return []Ban{
			{Prefix: "a", Until: Never, Records: []Record{{Origin: "r2", Jail: "x", Start: 1, Failures: 9}}},
			{Prefix: "b", Until: 5, Records: []Record{{Origin: "r1", Jail: "z", Start: 3}, {Origin: "r2", Jail: "z", Start: 2}}},
			{Prefix: "c", Until: 7, Records: []Record{{Origin: "r3", Jail: "y", Start: 9, Failures: 10}}},
		}
	}
	for sort, want := range map[string]string{"": "abc", "prefix": "abc", "until": "bca", "start": "cba", "failures": "cab", "routers": "bac", "origin": "bac", "jail": "acb"} {
		all := bans()
		ListQuery{Sort: sort}.Order(all)
		var got strings.Builder
		for _, b := range all {
			fmt.Fprint(&got, b.Prefix)
		}
		if got.String() != want {
			t.Errorf("by %q: %s, want %s", sort, &got, want)
		}
	}
}
