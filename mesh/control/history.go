package control

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// MaxPast bounds the events in one answer of the history.
const MaxPast = 100_000

// PastKinds are the events in the history, as monitor names them; error says that some were lost.
var PastKinds = []string{"ban", "extend", "lift", "expire", "allow", "disallow", "freeze", "thaw", "block", "unblock", "error"}

// EventKinds are the events that monitor shows.
var EventKinds = slices.Concat(PastKinds, []string{"join", "leave", "failed", "leader", "commit"})

// HistoryQuery selects past events. The zero HistoryQuery selects all.
type HistoryQuery struct {
	Prefix       netip.Prefix // selects events about it, about prefixes that cover it and about prefixes inside it
	Jail, Origin string
	Kinds        []string // of PastKinds; none means all
	Since        Time     // seen at that time or later
	Limit        int      // newest events to return; 0 means MaxPast
}

// Validate checks the query.
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

// encode leaves out what is not asked for, so that a query of an older agent stays valid.
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

// ParseHistoryQuery parses what encode writes; get returns the value of a key, or "".
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

// History holds past events as far as this router remembers them, the newest first.
type History struct {
	Events  []Past `json:"events"`
	More    bool   `json:"more"`           // the limit left some out
	Entries int    `json:"entries"`        // in the whole history
	From    Time   `json:"from,omitempty"` // when it begins
}

// Past is one event as this router saw it, as `history --json` shows it.
type Past struct {
	Time     Time   `json:"time"`
	Event    string `json:"event"` // one of PastKinds
	Prefix   string `json:"prefix,omitempty"`
	Origin   string `json:"origin,omitempty"`
	Jail     string `json:"jail,omitempty"`
	By       string `json:"by,omitempty"` // who lifted the ban
	Start    Time   `json:"start,omitempty"`
	Until    *Until `json:"until,omitempty"` // absent if the event has no end
	Failures uint32 `json:"failures,omitempty"`
	Reason   string `json:"reason,omitempty"` // of a ban, or the comment of an allow
	Lost     int    `json:"lost,omitempty"`   // number of events that were not noted
}

// StatsQuery says what to count.
type StatsQuery struct {
	Since Time // seen at that time or later; zero means all that is remembered
	Top   int  // entries of each list; 0 means 10
}

// Validate checks the query.
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

// ParseStatsQuery parses what encode writes.
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

// Stats count the live and remembered offences, as `stats --json` shows them. Each offence counts once.
type Stats struct {
	Time      Time         `json:"time"`
	Since     Time         `json:"since,omitempty"` // as requested; absent for all
	From      Time         `json:"from,omitempty"`  // the first event counted
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
	Unplaced  string       `json:"geo_error,omitempty"` // why a configured database was not used
}

// Share counts offences: those whose ban is live, and those whose ban is over.
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
	Place
}

// Place says to whom an address belongs, as far as the operator's databases know.
type Place struct {
	ASN     uint32 `json:"asn,omitempty"`
	ASName  string `json:"as_name,omitempty"`
	Country string `json:"country,omitempty"`
}

// System names the autonomous system, "" if it is not known.
func (p Place) System() string {
	if p.ASN == 0 {
		return p.ASName
	}
	return strings.TrimSpace(fmt.Sprintf("AS%d %s", p.ASN, p.ASName))
}

// Words names the system and the country, "" if neither is known.
func (p Place) Words() string {
	return strings.Trim(p.System()+", "+p.Country, ", ")
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
	Last   Time   `json:"last"` // start of its last offence, to the minute
}

// DayCount is one day in UTC, as 2006-01-02.
type DayCount struct {
	Day     string `json:"day"`
	Bans    int    `json:"bans"`
	Lifts   int    `json:"lifts"`
	Expired int    `json:"expired"`
}
