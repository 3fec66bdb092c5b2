package control

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ListQuery selects and orders bans. The zero ListQuery is all of them, in the order of their prefixes. A ban is selected
// where one record of it fits Jail, Origin, Since and Until together.
type ListQuery struct {
	Prefix       netip.Prefix // this prefix, what covers it and what is inside
	Jail, Origin string
	Since, Until Time // the offence began then or later, or before
	Effective    *bool
	Sort         string // one of ListSorts; "" is prefix
	Limit        int    // 0 is no limit
}

// ListSorts are the orders of a list: by prefix; the first to end, the latest offence, the most routers, the most failures
// first; by the names of the router and the jail of the first record.
var ListSorts = []string{"prefix", "until", "start", "routers", "failures", "origin", "jail"}

// Validate refuses an order that is not known.
func (q ListQuery) Validate() error {
	if q.Sort != "" && !slices.Contains(ListSorts, q.Sort) {
		return fmt.Errorf("sort %s: want one of %s", Show(q.Sort), strings.Join(ListSorts, ", "))
	}
	if q.Limit < 0 {
		return fmt.Errorf("limit %d: want a number above 0", q.Limit)
	}
	return nil
}

// query is the query of a request. By hand: net/url is more than the commands load that fail2ban waits for.
type query []byte

// set adds a value, unless it is "".
func (q *query) set(key, value string) {
	if value == "" {
		return
	}
	b := *q
	if len(b) > 0 {
		b = append(b, '&')
	}
	b = append(append(b, key...), '=')
	for i := range len(value) { // RFC 3986 §2.3
		if c := value[i]; c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~:/", c) >= 0 {
			b = append(b, c)
		} else {
			b = append(b, '%', "0123456789ABCDEF"[c>>4], "0123456789ABCDEF"[c&15])
		}
	}
	*q = b
}

// encode writes the query of a request, "" for all.
func (q ListQuery) encode() string {
	var e query
	if q.Prefix.IsValid() {
		e.set("prefix", q.Prefix.String())
	}
	e.set("jail", q.Jail)
	e.set("origin", q.Origin)
	e.set("since", q.Since.String())
	e.set("until", q.Until.String())
	if q.Effective != nil {
		e.set("effective", strconv.FormatBool(*q.Effective))
	}
	e.set("sort", q.Sort)
	if q.Limit > 0 {
		e.set("limit", strconv.Itoa(q.Limit))
	}
	return string(e)
}

// ParseListQuery reads what encode writes: get returns the value of a key, "" where there is none.
func ParseListQuery(get func(key string) string) (q ListQuery, err error) {
	if s := get("prefix"); s != "" {
		if q.Prefix, err = ParsePrefix(s); err != nil {
			return q, err
		}
	}
	q.Jail, q.Origin, q.Sort = get("jail"), get("origin"), get("sort")
	for key, to := range map[string]*Time{"since": &q.Since, "until": &q.Until} {
		if s := get(key); s != "" {
			if *to, err = ParseTime(s); err != nil {
				return q, fmt.Errorf("%s: %w", key, err)
			}
		}
	}
	if s := get("effective"); s != "" {
		yes, err := strconv.ParseBool(s)
		if err != nil {
			return q, fmt.Errorf("effective %s: want true or false", Show(s))
		}
		q.Effective = &yes
	}
	if s := get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil {
			return q, fmt.Errorf("limit %s: want a number", Show(s))
		}
	}
	return q, q.Validate()
}

// Selects says whether a ban fits everything but the prefix, which selected it already.
func (q ListQuery) Selects(b *Ban) bool {
	if q.Effective != nil && b.Effective != *q.Effective {
		return false
	}
	if q.Jail == "" && q.Origin == "" && q.Since == 0 && q.Until == 0 {
		return true
	}
	return slices.ContainsFunc(b.Records, func(r Record) bool {
		return (q.Jail == "" || r.Jail == q.Jail) && (q.Origin == "" || r.Origin == q.Origin) &&
			r.Start >= q.Since && (q.Until == 0 || r.Start < q.Until)
	})
}

// Ordered says whether the order is another one than that in which bans come.
func (q ListQuery) Ordered() bool { return q.Sort != "" && q.Sort != "prefix" }

// Order sorts bans as asked; those that are equal stay in the order of their prefixes.
func (q ListQuery) Order(bans []Ban) {
	key := func(b *Ban, of func(Record) int64) (most int64) {
		for _, r := range b.Records {
			most = max(most, of(r))
		}
		return most
	}
	routers := func(b *Ban) int {
		var names []string
		for _, r := range b.Records {
			if !slices.Contains(names, r.Origin) {
				names = append(names, r.Origin)
			}
		}
		return len(names)
	}
	first := func(b *Ban) (r Record) {
		if len(b.Records) > 0 {
			r = b.Records[0]
		}
		return r
	}
	compare := map[string]func(a, b *Ban) int{
		"until":    func(a, b *Ban) int { return cmp.Compare(a.Until, b.Until) },
		"start":    func(a, b *Ban) int { return cmp.Compare(key(b, start), key(a, start)) },
		"failures": func(a, b *Ban) int { return cmp.Compare(key(b, failures), key(a, failures)) },
		"routers":  func(a, b *Ban) int { return cmp.Compare(routers(b), routers(a)) },
		"origin":   func(a, b *Ban) int { return cmp.Compare(first(a).Origin, first(b).Origin) },
		"jail":     func(a, b *Ban) int { return cmp.Compare(first(a).Jail, first(b).Jail) },
	}[q.Sort]
	if compare != nil {
		slices.SortStableFunc(bans, func(a, b Ban) int { return compare(&a, &b) })
	}
}

func start(r Record) int64    { return int64(r.Start) }
func failures(r Record) int64 { return int64(r.Failures) }
