package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MaxPast is how many events one answer of the history holds at most.
const MaxPast = 100_000

// PastKinds are the events that the history knows, as monitor names them; error says that some were lost.
var PastKinds = []string{"ban", "extend", "lift", "expire", "allow", "disallow", "freeze", "thaw", "block", "unblock", "error"}

// HistoryQuery selects what was. The zero HistoryQuery is all of it.
type HistoryQuery struct {
	Prefix       netip.Prefix // what is about it, about what covers it and about what is inside
	Jail, Origin string
	Kinds        []string // of PastKinds; none is all
	Since        Time     // seen then or later
	Limit        int      // the newest; 0 is MaxPast
}

// Validate refuses what cannot be asked.
func (q HistoryQuery) Validate() error {
	if q.Limit < 0 || q.Limit > MaxPast {
		return fmt.Errorf("limit %d: want a number from 0 to %d", q.Limit, MaxPast)
	}
	for _, k := range q.Kinds {
		if !slices.Contains(PastKinds, k) {
			return fmt.Errorf("event %s: want some of %s", Show(k), strings.Join(PastKinds, ", "))
		}
	}
	return nil
}

func (q HistoryQuery) encode() string {
	var e query
	if q.Prefix.IsValid() {
		e.set("prefix", q.Prefix.String())
	}
	e.set("jail", q.Jail)
	e.set("origin", q.Origin)
	e.set("event", strings.Join(q.Kinds, ","))
	e.set("since", q.Since.String())
	if q.Limit > 0 {
		e.set("limit", strconv.Itoa(q.Limit))
	}
	return string(e)
}

// ParseHistoryQuery reads what encode writes: get returns the value of a key, "" where there is none.
func ParseHistoryQuery(get func(key string) string) (q HistoryQuery, err error) {
	q.Jail, q.Origin = get("jail"), get("origin")
	if s := get("prefix"); s != "" {
		if q.Prefix, err = ParsePrefix(s); err != nil {
			return q, err
		}
	}
	if s := get("event"); s != "" {
		q.Kinds = strings.Split(s, ",")
	}
	if s := get("since"); s != "" {
		if q.Since, err = ParseTime(s); err != nil {
			return q, fmt.Errorf("since: %w", err)
		}
	}
	if s := get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil {
			return q, fmt.Errorf("limit %s: want a number", Show(s))
		}
	}
	return q, q.Validate()
}

// History is what was, as far as this router remembers, the newest first.
type History struct {
	Events  []Past `json:"events"`
	More    bool   `json:"more"`           // the limit left some out
	Entries int    `json:"entries"`        // of the whole memory
	From    Time   `json:"from,omitempty"` // when it began
}

// Past is one event as it was seen here, as `history --json` shows it.
type Past struct {
	Time     Time   `json:"time"`
	Event    string `json:"event"` // one of PastKinds
	Prefix   string `json:"prefix,omitempty"`
	Origin   string `json:"origin,omitempty"`
	Jail     string `json:"jail,omitempty"`
	By       string `json:"by,omitempty"` // who lifted
	Start    Time   `json:"start,omitempty"`
	Until    *Until `json:"until,omitempty"` // absent where the event has no end to it
	Failures uint32 `json:"failures,omitempty"`
	Reason   string `json:"reason,omitempty"` // of a ban; the comment of an allow
	Lost     int    `json:"lost,omitempty"`   // events that were not noted
}

// StatsQuery says what is counted.
type StatsQuery struct {
	Since Time // seen then or later; zero is all that is remembered
	Top   int  // entries of each list; 0 is 10
}

// Validate refuses what cannot be asked.
func (q StatsQuery) Validate() error {
	if q.Top < 0 || q.Top > 1000 {
		return fmt.Errorf("top %d: want a number from 1 to 1000", q.Top)
	}
	return nil
}

func (q StatsQuery) encode() string {
	var e query
	e.set("since", q.Since.String())
	if q.Top > 0 {
		e.set("top", strconv.Itoa(q.Top))
	}
	return string(e)
}

// ParseStatsQuery reads what encode writes.
func ParseStatsQuery(get func(key string) string) (q StatsQuery, err error) {
	if s := get("since"); s != "" {
		if q.Since, err = ParseTime(s); err != nil {
			return q, fmt.Errorf("since: %w", err)
		}
	}
	if s := get("top"); s != "" {
		if q.Top, err = strconv.Atoi(s); err != nil {
			return q, fmt.Errorf("top %s: want a number", Show(s))
		}
	}
	return q, q.Validate()
}

// Stats are the offences, live and remembered, in numbers, as `stats --json` shows them. Each offence counts once.
type Stats struct {
	Time      Time         `json:"time"`
	Since     Time         `json:"since,omitempty"` // what was asked; absent for all
	From      Time         `json:"from,omitempty"`  // the first event that was looked at
	Bans      Share        `json:"bans"`
	Lifts     int          `json:"lifts"`
	Expired   int          `json:"expired"`
	Jails     []NamedShare `json:"jails"`
	Routers   []NamedShare `json:"routers"`
	Networks  []NetShare   `json:"networks"` // by /24 and /48
	Distinct  int          `json:"distinct_networks"`
	Repeaters []Repeater   `json:"repeaters"` // prefixes that were banned more than once
	Days      []DayCount   `json:"days"`      // in UTC
	ASNs      []ASNShare   `json:"asns,omitempty"`
	Countries []NamedShare `json:"countries,omitempty"`
	Unplaced  string       `json:"geo_error,omitempty"` // why a database that is configured was not asked
}

// Share counts offences: those whose ban is live, and those that are over.
type Share struct {
	Live  int `json:"live"`
	Past  int `json:"past"`
	Total int `json:"total"`
}

// NamedShare is the share of a jail, a router or a country.
type NamedShare struct {
	Name string `json:"name"`
	Share
}

// NetShare is the share of a network.
type NetShare struct {
	Prefix string `json:"prefix"`
	Share
	ASN     uint32 `json:"asn,omitempty"`
	ASName  string `json:"as_name,omitempty"`
	Country string `json:"country,omitempty"`
}

// ASNShare is the share of an autonomous system.
type ASNShare struct {
	ASN  uint32 `json:"asn"`
	Name string `json:"name"`
	Share
}

// Repeater is a prefix that was banned more than once.
type Repeater struct {
	Prefix string `json:"prefix"`
	Times  int    `json:"times"`
	Live   bool   `json:"live"`
	Last   Time   `json:"last"` // when its last offence was, to the minute
}

// DayCount is one day in UTC, as 2006-01-02.
type DayCount struct {
	Day     string `json:"day"`
	Bans    int    `json:"bans"`
	Lifts   int    `json:"lifts"`
	Expired int    `json:"expired"`
}
