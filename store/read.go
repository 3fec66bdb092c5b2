package store

import "net/netip"

// Query selects and orders entries. The zero Query selects all of them. It selects an entry if one of its live bans matches
// Jail, Origin, Since and Until together.
type Query struct {
	Prefix        netip.Prefix // the prefix itself, what covers it and what is inside it; the zero Prefix selects all
	Jail, Origin  string       // "" selects all
	Since, Until  Millis       // Since: the offence began then or later; Until: it began before then. 0 is no bound
	Effective     *bool        // nil selects both
	Sort          Sort
	Offset, Limit int // within the ordered entries; Limit 0 is no limit
}

// Sort is an order of entries. Ties are in the order of prefixes.
type Sort int

// The orders of entries.
const (
	ByPrefix   Sort = iota
	ByUntil         // what ends first comes first
	ByStart         // the latest offence comes first
	ByRouters       // what most routers have banned comes first
	ByFailures      // the most failures come first
	ByOrigin        // by the router of the first record
	ByJail          // by the jail of the first record
)

// Entry is a banned prefix: one that has a live ban.
type Entry struct {
	Prefix    netip.Prefix
	Effective bool
	Reason    string         // why it is not effective
	Except    []netip.Prefix // parts of it that are exempt
	Held      bool           // effective, but held on this member until an operator confirms it, see Guard
	Until     Millis         // the latest until of its live bans
	Records   []BanRecord
}

// BanRecord is one live ban of an entry.
type BanRecord struct {
	Origin, Jail string
	Start, Until Millis
	Failures     uint32
	Reason       string
	Ignored      bool // live, but not counting: its origin is blocked or exceeds a limit
}

// Explanation is everything held that covers one prefix.
type Explanation struct {
	Facts     []Fact
	Banned    bool           // a live ban covers it and counts
	Exemption string         // why it is not effective although banned; "" if it is
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
	Why          string   // why it does not count: its origin is blocked or exceeds a limit
}

// FactState is what became of a record.
type FactState uint8

// The states of a record.
const (
	FactLive FactState = iota + 1
	FactLifted
	FactExpired
	FactIgnored // live, but does not count: see Why
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
	Pieces  []netip.Prefix // the prefix itself, unless allows and never-bans cut holes; valid until the next one is yielded
	Until   Millis         // the latest until of its bans
	Newest  Millis         // the latest start of its bans
	Origins int            // how many members reported it
	ByPeer  bool           // another member has banned it too
	Held    bool           // held on this member until an operator confirms it, see Guard
	Records int
	Jails   []JailSeen // the jails of its bans; valid until the next one is yielded
	Seen    []Sighting // each member and jail once; valid until the next one is yielded
}

// Sighting is a member's live, counting ban of a prefix in one jail.
type Sighting struct {
	Jail, Origin string
}

// JailSeen is how many members have a live, counting ban of a prefix in one jail.
type JailSeen struct {
	Jail    string
	Origins int
}

// Gone says why a placed prefix is no longer wanted.
type Gone struct {
	Cause     GoneCause
	Confirmed bool // lifted by a bulk command that an operator confirmed
}

// GoneCause is the reason of a Gone.
type GoneCause uint8

// The causes. GoneNot: an effective ban covers it, so it is wanted. GoneUnknown: nothing is held of it any more.
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
	Start  Millis // when it was placed or its lease renewed; the latest, if several members placed it
	Until  Millis // of the lease; the latest, likewise
	First  Millis // the earliest Start that is still held: it was placed no later than that
}

// AllowEntry is a live Allow.
type AllowEntry struct {
	Prefix  netip.Prefix
	Until   Millis
	Comment string
	Start   Millis // when it was given
	Origin  string
	Reason  string // why it does not count; "" if it does
}

// NeverBanEntry is one prefix of a member's NeverBan that counts.
type NeverBanEntry struct {
	Prefix netip.Prefix
	Origin string
}

// Counts are the sizes of the set.
type Counts struct {
	Live, Effective, Own int // prefixes with a live ban, of them effective, of them banned by this member
	Allows               int // live allows
	Records, Logs        int // held, of all kinds
	Held                 int // prefixes held on this member, see Guard
	OverLimit            int // records that do not count because their origin exceeds a limit
}
