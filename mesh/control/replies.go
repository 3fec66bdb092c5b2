package control

// Ban is a banned prefix with the live records behind it, as `list --json` shows it.
type Ban struct {
	Prefix             string   `json:"prefix"`
	Effective          bool     `json:"effective"`
	ReasonNotEffective string   `json:"reason_not_effective,omitempty"`
	Except             Prefixes `json:"except,omitempty"` // parts of it that allows and never-bans exempt
	Until              Until    `json:"until"`
	Committed          bool     `json:"committed"`
	Records            []Record `json:"records"`

	WaitsForQuorum *QuorumWait `json:"waits_for_quorum,omitempty"` // too few routers have seen it for the conductor
	Held           bool        `json:"held,omitempty"`             // this router does not block it until an operator confirms it
}

// QuorumWait says how many routers have seen an address in one jail, and how many must before the conductor gets it.
type QuorumWait struct {
	Jail   string `json:"jail"`
	Seen   int    `json:"seen"`
	Needed int    `json:"needed"`
}

// Record is one router's ban of a prefix.
type Record struct {
	Origin   string `json:"origin"`
	Jail     string `json:"jail"`
	Start    Time   `json:"start"`
	Until    Until  `json:"until"`
	Failures uint32 `json:"failures"`
	Reason   string `json:"reason"`
}

// Why holds everything that covers an address or a network, as `why --json` shows it. Known is false if nothing covers it.
// For a network it also has the allows and never-bans inside.
type Why struct {
	IP                 string        `json:"ip"` // the address or network in question
	Known              bool          `json:"known"`
	Banned             bool          `json:"banned"`    // a live ban covers it
	Effective          bool          `json:"effective"` // banned and not exempt
	ReasonNotEffective string        `json:"reason_not_effective,omitempty"`
	Except             Prefixes      `json:"except,omitempty"` // the parts of a banned network that are exempt
	Inside             int           `json:"inside,omitempty"` // how many prefixes within the network are banned
	Committed          bool          `json:"committed"`
	CommittedSince     Time          `json:"committed_since,omitempty"` // at the latest; it may have been there before
	WaitsForQuorum     *QuorumWait   `json:"waits_for_quorum,omitempty"`
	Origins            int           `json:"origins"` // routers that banned it, as far as remembered
	Times              int           `json:"times"`   // offences for which they banned it
	Bans               []WhyBan      `json:"bans"`
	Lifts              []WhyLift     `json:"lifts"`
	Allows             []Allow       `json:"allows"`
	NeverBans          []WhyNeverBan `json:"never_bans"`
	Place                            // of the address, or of the network's first one
}

// WhyBan is one record that covers the queried address, live or not.
type WhyBan struct {
	Prefix string `json:"prefix"`
	Record
	State    string   `json:"state"`               // live, lifted, expired, or why it does not count
	LiftedBy []string `json:"lifted_by,omitempty"` // the routers where it was unbanned
}

// WhyLift is one unban that covers the queried address.
type WhyLift struct {
	Prefix   string `json:"prefix"`
	Origin   string `json:"origin"`   // who lifted
	Offences int    `json:"offences"` // that it lifted, of those whose bans are still held: newer bans take their place
	Time     Time   `json:"time"`     // when it was lifted, by its author's clock
	Until    Until  `json:"until"`
	Ignored  string `json:"ignored,omitempty"` // why it does not count
}

// WhyNeverBan is one never-ban entry that covers the queried address or network, or part of it. Origin is "builtin" for
// entries that every agent has.
type WhyNeverBan struct {
	Prefix  string `json:"prefix"`
	Origin  string `json:"origin"`
	Ignored string `json:"ignored,omitempty"` // why it does not count
}

// Member is one agent of the mesh, as `members --json` shows it. State is alive, left or failed.
type Member struct {
	Name    string `json:"name"`
	Addr    string `json:"addr"`
	State   string `json:"state"`
	Self    bool   `json:"self"`
	Leader  bool   `json:"leader"`
	InSync  bool   `json:"in_sync"`
	Unknown bool   `json:"unknown,omitempty"` // not heard from for too long to say whether it is in sync
	Mute    string `json:"mute,omitempty"`    // no UDP arrives from it, or at it, although TCP does: "from" or "to"
	NoTCP   string `json:"no_tcp,omitempty"`  // why it does not answer by TCP
	Stuck   string `json:"stuck,omitempty"`   // why it is not in sync after several exchanges
	SkewMS  int64  `json:"skew_ms"`           // its clock minus ours
	Version string `json:"version"`
	Seen    Time   `json:"seen,omitempty"` // when it was last heard from
}

// Status shows the agent on one screen, as `status --json` does. Each warning says what is wrong and what to do.
type Status struct {
	Name       string        `json:"name"`
	Version    string        `json:"version"`
	UptimeS    int64         `json:"uptime_s"`
	Members    MemberCount   `json:"members"`
	Leader     *string       `json:"leader"`
	Term       uint64        `json:"term"`
	Since      Time          `json:"leader_since"`               // when Leader last changed
	Eligible   bool          `json:"eligible"`                   // this member could lead
	Why        string        `json:"why_not_eligible,omitempty"` // why it could not
	InSync     bool          `json:"in_sync"`
	Unknown    int           `json:"unknown,omitempty"` // alive members that may or may not be in sync
	Root       string        `json:"root"`
	SkewMS     int64         `json:"skew_ms"` // our clock minus the members' median
	Bans       BanCount      `json:"bans"`
	Allows     int           `json:"allows"`
	Spooled    int           `json:"spooled"` // calls waiting in the spools
	Store      *StoreStatus  `json:"store,omitempty"`
	Frozen     bool          `json:"frozen"`
	FrozenBy   string        `json:"frozen_by,omitempty"`
	Blocked    []string      `json:"blocked,omitempty"` // origins whose records do not count
	Commit     CommitStatus  `json:"commit"`
	Warnings   []string      `json:"warnings"`
	Further    []string      `json:"further_warnings,omitempty"` // those of Warnings that tell what no other field does
	Doubts     []Doubt       `json:"doubts,omitempty"`           // oddities in the members' addresses
	Unnotified []Unnotified  `json:"unnotified,omitempty"`       // routers whose fail2ban goes on blocking lifted bans
	Fail2ban   string        `json:"fail2ban,omitempty"`         // state of the local fail2ban, in words
	Enforce    *Enforcement  `json:"enforce,omitempty"`          // nil if none is configured
	Replicate  *ReplicateNow `json:"replication,omitempty"`
}

// Doubt is an oddity in plain words, and its remedy.
type Doubt struct {
	What string `json:"what"`
	Fix  string `json:"fix"`
}

// StoreStatus says whether what is shared and banned reaches the disk.
type StoreStatus struct {
	Healthy bool   `json:"healthy"`
	Silent  bool   `json:"silent,omitempty"` // a write has neither succeeded nor failed for more than 5 s
	Error   string `json:"error,omitempty"`
}

// Enforcement shows how bans take effect on this router itself. State is waiting, on, frozen, failing or limited; Detail says
// in plain words why, and what to do.
type Enforcement struct {
	Driver       string `json:"driver"` // nftables or fail2ban
	State        string `json:"state"`
	Detail       string `json:"detail,omitempty"`
	Caveat       string `json:"caveat,omitempty"` // what it cannot guarantee on this router
	InForce      int    `json:"in_force"`         // ranges of addresses, or bans in the jail
	Dropped      uint64 `json:"dropped"`          // packets, as far as the driver knows
	DroppedBytes uint64 `json:"dropped_bytes"`    // of those packets
	Behind       *int   `json:"behind"`           // changes that are not in force yet; null if unknown
	BehindMS     int64  `json:"behind_ms"`        // how long the oldest of them has waited
}

// MemberCount counts the members by state; this one counts as alive.
type MemberCount struct {
	Alive  int `json:"alive"`
	Failed int `json:"failed"`
	Left   int `json:"left"`
}

// BanCount counts prefixes: Live with a live ban, Effective without those that are exempt, Own with a live ban by this
// router.
type BanCount struct {
	Live      int `json:"live"`
	Effective int `json:"effective"`
	Own       int `json:"own"`
	OverLimit int `json:"over_limit"` // stored, but over a limit of their origin
	Held      int `json:"held"`       // other routers' bans that this router does not block until an operator confirms them
}

// CommitStatus shows how the commits stand. State is idle, pending, committing, waiting, failing, frozen or off; Detail says
// in plain words what it waits for or why it fails.
type CommitStatus struct {
	Driver        string  `json:"driver"`
	State         string  `json:"state"`
	Detail        string  `json:"detail,omitempty"`
	Committed     int     `json:"committed"`         // as last read
	ReadAt        Time    `json:"read_at,omitempty"` // when the tenant was last read
	ReadBy        string  `json:"read_by,omitempty"` // by which member
	Unread        bool    `json:"unread,omitempty"`  // nobody here has read it, so what is committed is unknown
	PendingAdd    int     `json:"pending_add"`
	PendingRemove int     `json:"pending_remove"`
	Foreign       int     `json:"foreign"`
	Held          int     `json:"held"` // changes waiting for `commit --force`
	Commits       uint64  `json:"commits"`
	LastCommit    Time    `json:"last_commit"`
	LastError     *string `json:"last_error"`
	Features      string  `json:"features,omitempty"` // what the conductor's server offers and how it is edited
}

// ReplicateNow holds counters of the replication by name.
type ReplicateNow struct {
	Counters map[string]uint64 `json:"counters"`
}

// Diff shows what the next commit would change at the conductor.
type Diff struct {
	Add     Prefixes `json:"add"`
	Remove  Prefixes `json:"remove"`
	Foreign Prefixes `json:"foreign"`            // present, but not ours
	Capped  Prefixes `json:"capped"`             // left out because max_addresses is reached
	Held    Prefixes `json:"held,omitempty"`     // removals waiting for `commit --force`
	HeldAdd Prefixes `json:"held_add,omitempty"` // additions waiting for it
}

// MaxNamed bounds the prefixes that an event names, so that one commit of a long list is no line of megabytes.
const MaxNamed = 1000

// Event is one line of `monitor --json`. Event is ban, extend, lift, expire, allow, disallow, join, leave, failed, leader,
// commit, freeze, thaw, block, unblock or error; more may come.
type Event struct {
	Time   Time   `json:"time"`
	Event  string `json:"event"`
	Prefix string `json:"prefix,omitempty"`
	Origin string `json:"origin,omitempty"`
	Jail   string `json:"jail,omitempty"`
	By     string `json:"by,omitempty"` // who lifted
	Start  Time   `json:"start,omitempty"`
	Until  Until  `json:"until,omitempty"`
	Name   string `json:"name,omitempty"` // of the member
	Addr   string `json:"addr,omitempty"`
	Term   uint64 `json:"term,omitempty"`
	Add    int    `json:"add,omitempty"`    // addresses that a commit added
	Remove int    `json:"remove,omitempty"` // addresses that it removed
	// Added and Removed are the first MaxNamed of them. Only the router that made the commit knows them.
	Added   Prefixes `json:"added,omitempty"`
	Removed Prefixes `json:"removed,omitempty"`
	Lost    int      `json:"lost,omitempty"` // events that this reader missed because it was too slow
	Error   string   `json:"error,omitempty"`
	Detail  string   `json:"detail,omitempty"`
}
