package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ListQuery selects and orders bans. The zero ListQuery selects all, ordered by prefix. A ban is selected if one of its
// records satisfies Jail, Origin, Since and Until together.
type ListQuery struct {
	Prefix       netip.Prefix // this prefix, prefixes that cover it and prefixes inside it
	Jail, Origin string
	Since, Until Time // the offence began at Since or later, and before Until
	Effective    *bool
	Sort         string // one of ListSorts; "" means prefix
	Offset       int    // how many to skip
	Limit        int    // 0 means no limit
}

// ListSorts are the orders of a list: by prefix; the first to end, the latest offence, the most routers or the most failures
// first; by the router's or the jail's name in the first record.
var ListSorts = []string{"prefix", "until", "start", "routers", "failures", "origin", "jail"}

// Validate refuses an unknown order.
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

// query builds the query of a request. net/url would make the commands that fail2ban waits for load slower.
type query []byte

// set adds a value unless it is "".
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

// encode returns the query of a request, "" for all.
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

// ParseListQuery parses what encode writes; get returns the value of a key, or "".
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
