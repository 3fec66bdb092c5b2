package rest

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

func TestAnObjectWithoutEntriesShowsNoMembers(t *testing.T) {
	for members, want := range map[string]bool{
		`{}`: true, `{"_links":{"self":{"href":"x"}}}`: true, `{"@context":{}}`: true, `{"href":"x"}`: true, `null`: true, `["internet"]`: true,
		`[]`: false, `{"lan":{"address":[]}}`: false,
	} {
		got, shallow, err := parseTenant(fmt.Appendf(nil, `{"name":%q,"member":%s}`, fuzzKey.Tenant, members), fuzzKey)
		if err != nil || shallow != want || got.Member || shallow && got.Rest != nil {
			t.Errorf("%s: %+v, to be asked for %v, %v; want to be asked for %v", members, got, shallow, err, want)
		}
	}
}

// Where a member was read is no part of it: it is another place in each datastore.
func TestLinksOfAnotherMemberAreNoEdit(t *testing.T) {
	read := func(store, address string) any {
		got, _, err := parseTenant(fmt.Appendf(nil, `{"name":%q,"member":[{"neighborhood":"lan","address":[%q],"_links":{"self":{"href":%q}}}]}`, fuzzKey.Tenant, address, store), fuzzKey)
		if err != nil {
			t.Fatal(err)
		}
		return got.Rest
	}
	if a, b := read(running, "10.0.0.0/8"), read(candidate, "10.0.0.0/8"); !reflect.DeepEqual(a, b) {
		t.Errorf("running holds %v, the candidate %v", a, b)
	}
	if a, b := read(running, "10.0.0.0/8"), read(candidate, "10.0.0.0/9"); reflect.DeepEqual(a, b) {
		t.Error("another address is not seen")
	}
}

func TestAnAddressInTwoSpellingsIsWrittenOnce(t *testing.T) {
	got, _, err := parseTenant(fmt.Appendf(nil, `{"name":%q,"member":[{"neighborhood":%q,"address":["192.0.2.1","192.0.2.1/32","2001:DB8::/48","2001:db8::/48"]}]}`, fuzzKey.Tenant, fuzzKey.Neighborhood), fuzzKey)
	if err != nil {
		t.Fatal(err)
	}
	list := texts(got, nil, []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/48")})
	if want := []string{"192.0.2.1/32", "2001:DB8::/48", "2001:db8::/48"}; !slices.Equal(list, want) {
		t.Errorf("written are %q, want %q", list, want)
	}
}
