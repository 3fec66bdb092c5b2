package control

import (
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
	Offset       int    // how many of them are left out at the front
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
	if q.Offset < 0 {
		return fmt.Errorf("offset %d: want 0 or a number above it", q.Offset)
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
	count := func(key string, n int) {
		if n > 0 {
			e.set(key, strconv.Itoa(n))
		}
	}
	count("offset", q.Offset)
	count("limit", q.Limit)
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
	for key, to := range map[string]*int{"offset": &q.Offset, "limit": &q.Limit} {
		if s := get(key); s != "" {
			if *to, err = strconv.Atoi(s); err != nil {
				return q, fmt.Errorf("%s %s: want a number", key, Show(s))
			}
		}
	}
	return q, q.Validate()
}
