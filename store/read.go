package store

import "net/netip"

// Query selects and orders entries. The zero Query selects all of them. An entry is selected where one of its live bans
// fits Jail, Origin, Since and Until together.
type Query struct {
	Prefix        netip.Prefix // that prefix, what covers it and what is inside it; the zero Prefix is every one
	Jail, Origin  string       // "" is every one
	Since, Until  Millis       // the offence began then or later; before. 0 is no bound
	Effective     *bool        // nil is both
	Sort          Sort
	Offset, Limit int // of the entries in that order; Limit 0 is no limit
}

// Sort is an order of entries. Entries that are equal in it stand in the order of their prefixes.
type Sort int

// The orders of entries.
const (
	ByPrefix   Sort = iota
	ByUntil         // what ends first is first
	ByStart         // the latest offence first
	ByRouters       // what most routers have banned first
	ByFailures      // the most failures first
	ByOrigin        // by the router of the first record,
	ByJail          // or by its jail
)

// Entry is a banned prefix: one that has a live ban.
type Entry struct {
	Prefix    netip.Prefix
	Effective bool
	Reason    string         // why it is not effective
	Except    []netip.Prefix // parts of it that are not effective although it is
	Held      bool           // effective, and held on this member until an operator confirms it, see Guard
	Until     Millis         // the last until of its live bans
	Records   []BanRecord
}

// BanRecord is one live ban of an entry.
type BanRecord struct {
	Origin, Jail string
	Start, Until Millis
	Failures     uint32
	Reason       string
	Ignored      bool // live, but counts for nothing: its origin is blocked, or exceeds a limit
}

// Explanation is everything held that covers one prefix.
type Explanation struct {
	Prefix    netip.Prefix
	Facts     []Fact
	Banned    bool           // a live ban covers it and counts
	Exemption string         // why it is not effective although banned; "" when it is
	Except    []netip.Prefix // the parts of a banned network that are exempt
	Inside    int            // prefixes within the network that are banned and count
}

// Effective reports whether it should be blocked, apart from Except.
func (e Explanation) Effective() bool { return e.Banned && e.Exemption == "" }

// Fact is one record, or built-in rule, of an Explanation.
type Fact struct {
	Kind         Kind
	Prefix       netip.Prefix
	Origin, Jail string
	Start, Until Millis
	Failures     uint32
	Text         string // reason or comment
	State        FactState
	By           []string // who lifted it
	Why          string   // why it does not count: its origin is blocked, a limit was exceeded
}

// FactState says what became of a record.
type FactState uint8

// The states of a record.
const (
	FactLive FactState = iota + 1
	FactLifted
	FactExpired
	FactIgnored // live, but counts for nothing: see Why
)

// String returns the state in lower case.
func (f FactState) String() string {
	names := [...]string{"", "live", "lifted", "expired", "ignored"}
	if int(f) < len(names) {
		return names[f]
	}
	return ""
}

// EffectiveBan is a prefix that should be blocked.
type EffectiveBan struct {
	Prefix  netip.Prefix
	Pieces  []netip.Prefix // the prefix itself, unless allows and never-bans cut holes
	Until   Millis         // the last until of its bans
	Newest  Millis         // the latest start of its bans
	Origins int            // how many members reported it
	ByPeer  bool           // one of them is not this member
	Held    bool           // kept back on this member until an operator confirms it, see Guard
	Records int
	Jails   []JailSeen // the jails of its bans; valid until the next one is yielded
	Seen    []Sighting // who has it in which jail, each once; likewise
}

// Sighting is that a member has a live ban of a prefix that counts, in a jail.
type Sighting struct {
	Jail, Origin string
}

// JailSeen is how many members have a live ban of a prefix that counts, in one jail.
type JailSeen struct {
	Jail    string
	Origins int
}

// Gone says why a placed prefix is not wanted any more.
type Gone struct {
	Cause     GoneCause
	Confirmed bool // lifted by a bulk command that an operator confirmed
}

// GoneCause is the reason of a Gone.
type GoneCause uint8

// The causes. GoneNot: an effective ban covers it, it is wanted. GoneUnknown: nothing is held of it any more.
const (
	GoneUnknown GoneCause = iota
	GoneNot
	GoneExpired
	GoneLifted
	GoneAllowed
)

// String returns the cause in lower case.
func (g GoneCause) String() string {
	names := [...]string{"unknown", "wanted", "expired", "lifted", "allowed"}
	if int(g) < len(names) {
		return names[g]
	}
	return ""
}

// PlacedEntry is a live Placed.
type PlacedEntry struct {
	Prefix netip.Prefix
	Start  Millis // when it was placed or its lease renewed; the last one, when several members placed it
	Until  Millis // likewise
	First  Millis // the earliest such time that is still held: it was placed then at the latest
}

// AllowEntry is a live Allow.
type AllowEntry struct {
	Prefix  netip.Prefix
	Until   Millis
	Comment string
	Start   Millis // when it was given
	Origin  string
	Reason  string // why it does not count; "" when it does
}

// NeverBanEntry is one prefix of a member's counting NeverBan.
type NeverBanEntry struct {
	Prefix netip.Prefix
	Origin string
	Until  Millis
}

// Counts are the sizes of the set.
type Counts struct {
	Live, Effective, Own int // prefixes with a live ban, of them effective, of them banned by this member
	Allows               int // live allows
	Records, Logs        int // held, of all kinds
	Held                 int // bans that are held on this member
	OverLimit            int // records that are not effective because their origin exceeds a limit
}
