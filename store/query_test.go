package store

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// shown is what a query selects, as the last bytes of the addresses.
func (n *node) shown(q Query) string {
	n.t.Helper()
	var out []string
	for _, e := range n.List(q) {
		a := e.Prefix.Addr().As4()
		out = append(out, fmt.Sprint(a[3]))
	}
	return strings.Join(out, " ")
}

func TestAQuerySelectsByOneRecord(t *testing.T) {
	c := newClock()
	a, b := newNode(t, "a", c, nil), newNode(t, "b", c, nil)
	begin := c.millis()
	ban := func(n *node, prefix, jail string, start Millis, failures uint32) {
		t.Helper()
		q := n.request(prefix, time.Hour)
		q.Jail, q.Start, q.Until, q.Failures = jail, start, begin+hour+start-begin, failures
		_, err := n.Ban(context.Background(), []BanRequest{q})
		n.must(err)
	}
	c.add(10 * time.Second)
	ban(a, "192.0.2.1", "sshd", begin+1000, 1)
	ban(b, "192.0.2.1", "web", begin+5000, 9)
	ban(b, "192.0.2.2", "sshd", begin+2000, 4)
	ban(a, "192.0.2.3", "mail", begin+3000, 5)
	ban(a, "198.51.100.4", "sshd", begin+4000, 6)
	a.must(a.Allow(context.Background(), []AllowRequest{{Prefix: pfx("192.0.2.3")}}))
	converge(a, b)
	yes, no := true, false
	for _, tt := range []struct {
		q    Query
		want string
	}{
		{Query{}, "1 2 3 4"},
		{Query{Jail: "sshd"}, "1 2 4"}, {Query{Jail: "ftp"}, ""}, {Query{Origin: "b"}, "1 2"},
		{Query{Jail: "sshd", Origin: "b"}, "2"}, {Query{Jail: "web", Since: begin + 5000}, "1"}, {Query{Jail: "web", Origin: "a"}, ""},
		{Query{Jail: "sshd", Since: begin + 5000}, ""}, {Query{Until: begin + 1000}, ""}, {Query{Until: begin + 1001}, "1"},
		{Query{Since: begin + 2000, Until: begin + 3000}, "2"},
		{Query{Effective: &yes}, "1 2 4"}, {Query{Effective: &no}, "3"},
		{Query{Prefix: pfx("192.0.2.0/24"), Effective: &yes}, "1 2"},
		{Query{Limit: 2}, "1 2"}, {Query{Offset: 1, Limit: 2}, "2 3"}, {Query{Offset: 9}, ""}, {Query{Offset: 3, Limit: 9}, "4"},
		{Query{Sort: ByStart}, "1 4 3 2"}, {Query{Sort: ByUntil}, "2 3 4 1"}, {Query{Sort: ByRouters}, "1 2 3 4"},
		{Query{Sort: ByFailures}, "1 4 3 2"}, {Query{Sort: ByOrigin}, "1 3 4 2"}, {Query{Sort: ByJail}, "3 1 2 4"},
		{Query{Sort: ByFailures, Offset: 1, Limit: 1}, "4"},
	} {
		for _, n := range []*node{a, b} {
			if got := n.shown(tt.q); got != tt.want {
				t.Errorf("%s: %+v selects %q, want %q", n.set.self, tt.q, got, tt.want)
			}
		}
	}
	if l, total := a.Find(Query{Jail: "sshd", Offset: 1, Limit: 1}); len(l) != 1 || total != 3 {
		t.Errorf("one of three is %d of %d", len(l), total)
	}
}

func TestAPageOfALongListIsAPartOfIt(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	var reqs []BanRequest
	for i := range 3000 {
		q := a.request(fmt.Sprintf("10.0.%d.%d", i*7%3000>>8, i*7%3000&255), time.Hour)
		q.Failures = uint32(i % 100)
		reqs = append(reqs, q)
	}
	_, err := a.Ban(context.Background(), reqs)
	a.must(err)
	for _, sort := range []Sort{ByPrefix, ByFailures, ByUntil, ByStart, ByRouters, ByJail} {
		all := a.List(Query{Sort: sort})
		for _, offset := range []int{0, 10, 20, 300, 777, 1500, 1501, 2100, 2970, 2980, 2990, 5000} {
			got, total := a.Find(Query{Sort: sort, Offset: offset, Limit: 20})
			want := all[min(offset, 3000):min(offset+20, 3000)]
			if total != 3000 || !slices.EqualFunc(got, want, func(x, y Entry) bool { return x.Prefix == y.Prefix }) {
				t.Errorf("sort %d, offset %d: %d entries of %d are not those of the whole list", sort, offset, len(got), total)
			}
		}
	}
}

// The quick look at a prefix and the entry that is made of it must agree on what is effective.
func TestWhatIsSelectedAsEffectiveIs(t *testing.T) {
	a := newNode(t, "a", newClock(), nil)
	for i := range 60 {
		a.ban(fmt.Sprintf("10.%d.0.0/%d", i, 16+i%16), time.Hour)
	}
	for i := range 30 {
		a.must(a.Allow(context.Background(), []AllowRequest{{Prefix: pfx(fmt.Sprintf("10.%d.0.0/%d", 2*i, 12+i%20)).Masked()}}))
	}
	yes, no := true, false
	in := a.List(Query{Effective: &yes})
	out := a.List(Query{Effective: &no})
	if len(in) == 0 || len(out) == 0 || len(in)+len(out) != len(a.List(Query{})) {
		t.Fatalf("%d are effective and %d are not, of %d", len(in), len(out), len(a.List(Query{})))
	}
	if slices.ContainsFunc(in, func(e Entry) bool { return !e.Effective }) || slices.ContainsFunc(out, func(e Entry) bool { return e.Effective }) {
		t.Error("an entry is not what it was selected for")
	}
}
