package control

import (
	"net/netip"
	"net/url"
	"reflect"
	"testing"
)

func TestAListQuerySurvivesTheWay(t *testing.T) {
	yes, no := true, false
	for _, q := range []ListQuery{
		{},
		{Prefix: netip.MustParsePrefix("2001:db8::/32"), Jail: "my jail & (ü)", Origin: "router-1", Since: 1767225600000, Until: 1767225600001, Effective: &yes, Sort: "until", Offset: 7, Limit: 5},
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
	for _, bad := range []string{"prefix=x", "since=yesterday", "until=1", "effective=perhaps", "sort=colour", "limit=x", "limit=-1", "offset=x", "offset=-1"} {
		v, _ := url.ParseQuery(bad)
		if q, err := ParseListQuery(v.Get); err == nil {
			t.Errorf("%s is taken as %+v", bad, q)
		}
	}
}
