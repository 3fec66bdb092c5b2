package control

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"banmesh/store/text"
)

// Bounds of one call. A client with more makes several calls.
const (
	maxPrefixes = 250_000 // prefixes in one call
	MaxReason   = 256     // bytes of a reason or comment
	maxFailures = 1 << 31 // failures of a ban
	maxAddrs    = 1000    // addresses in one join
)

// BanCall asks for bans of all its prefixes with the same attributes, or of Each with its own. The caller fixes the times, so
// that a call keeps its meaning while it waits in the spool.
type BanCall struct {
	Prefixes Prefixes `json:"prefixes"`
	Jail     string   `json:"jail,omitempty"`     // "" means "manual"
	Start    Time     `json:"start,omitempty"`    // when the offence was; zero means now
	Until    Until    `json:"until,omitempty"`    // Never means without end
	Failures uint32   `json:"failures,omitempty"` // 0 for a manual ban
	Reason   string   `json:"reason,omitempty"`
	Restored bool     `json:"restored,omitempty"` // fail2ban repeats it at its start
	Force    bool     `json:"force,omitempty"`    // allows prefixes wider than usual and times longer than bans.max_duration
	Each     OneBans  `json:"each,omitempty"`     // instead of the prefixes and their attributes
	DryRun   bool     `json:"dry_run,omitempty"`  // only report what it would do
}

// BanReply counts what became of the prefixes; the five counts add up to the number of requested ones.
type BanReply struct {
	New         int      `json:"new"`
	Extended    int      `json:"extended"`
	Known       int      `json:"known"`                  // nothing had to be written
	StaysLifted int      `json:"stays_lifted"`           // this offence has been unbanned
	Expired     int      `json:"expired"`                // the end was already past
	Lifted      Prefixes `json:"lifted,omitempty"`       // those that stay lifted, at most 100
	Exempted    Prefixes `json:"exempted,omitempty"`     // stored, but a never-ban or an allow covers at least a part, at most 100
	Until       Until    `json:"until,omitempty"`        // when the last of the bans ends, written or known
	ShortenedTo Until    `json:"shortened_to,omitempty"` // set if bans.max_duration cut the requested end
}

// UnbanCall asks to lift every ban of exactly these prefixes, or of all.
type UnbanCall struct {
	Prefixes  Prefixes `json:"prefixes"`
	All       bool     `json:"all,omitempty"`       // every ban (of Jail, and of this router if Mine)
	Jail      string   `json:"jail,omitempty"`      // only of this jail
	Mine      bool     `json:"mine,omitempty"`      // only this router's own
	Hold      Until    `json:"hold,omitempty"`      // also allow them until then; zero does not
	Confirmed bool     `json:"confirmed,omitempty"` // an operator confirmed a bulk command
	At        Time     `json:"at,omitempty"`        // when it was requested: an unban from the spool spares bans that began later
	DryRun    bool     `json:"dry_run,omitempty"`   // only report what it would do
}

// Lifted is what an unban did to one prefix.
type Lifted struct {
	Prefix   string   `json:"prefix"`
	Offences int      `json:"offences"`           // lifted; 0 means that it was not banned
	Covering Prefixes `json:"covering,omitempty"` // wider bans that still cover it
}

// UnbanReply has one entry for each requested prefix in order, or with All for each lifted one.
type UnbanReply struct {
	Lifted     []Lifted     `json:"lifted"`
	Unnotified []Unnotified `json:"unnotified,omitempty"` // routers whose fail2ban goes on blocking
}

// Unnotified is a router whose agent cannot tell its fail2ban about lifted bans.
type Unnotified struct {
	Router string `json:"router"`
	Why    string `json:"why"`
}

// AllowCall asks that no ban of these prefixes takes effect until then.
type AllowCall struct {
	Prefixes  Prefixes `json:"prefixes"`
	Until     Until    `json:"until"`
	Comment   string   `json:"comment,omitempty"`
	Confirmed bool     `json:"confirmed,omitempty"` // needed for prefixes wider than /8
}

// AllowReply says how many live bans the allows now cover.
type AllowReply struct {
	Covered int `json:"covered"`
}

// DropAllowCall asks to end the allows of exactly these prefixes, whichever router made them.
type DropAllowCall struct {
	Prefixes Prefixes `json:"prefixes"`
}

// DropAllowReply counts the allows that ended and names the prefixes that had none.
type DropAllowReply struct {
	Dropped int      `json:"dropped"`
	Missing Prefixes `json:"missing,omitempty"`
	// Limited counts those not ended, because the limits allow only so many of other routers' per minute.
	Limited int `json:"limited,omitempty"`
}

// Allow is one live entry of the allow-list.
type Allow struct {
	Prefix  string `json:"prefix"`
	Until   Until  `json:"until"`
	Comment string `json:"comment"`
	Origin  string `json:"origin"`
	Since   Time   `json:"since,omitempty"`   // when it was allowed, by its author's clock
	Ignored string `json:"ignored,omitempty"` // why it does not count
}

// HookEvent is the command of a fail2ban action that calls the hook.
type HookEvent string

// The hooks: actionstart, actionstop, actionflush, actionban, actionprolong, actionunban.
const (
	HookStart   HookEvent = "start"
	HookStop    HookEvent = "stop"
	HookFlush   HookEvent = "flush"
	HookBan     HookEvent = "ban"
	HookProlong HookEvent = "prolong"
	HookUnban   HookEvent = "unban"
)

// HookCall is the call of a hook of the fail2ban action. Prefixes holds exactly one prefix for ban, prolong and unban, and
// none for the others.
type HookCall struct {
	Event    HookEvent `json:"event"`
	Jail     string    `json:"jail"`
	Prefixes Prefixes  `json:"prefixes"`
	Start    Time      `json:"start,omitempty"` // fail2ban's <time>; zero if not given
	Until    Until     `json:"until,omitempty"` // <time> + <bantime>; Never for -1; zero if not given
	Failures uint32    `json:"failures,omitempty"`
	Restored bool      `json:"restored,omitempty"`
	At       Time      `json:"at"` // when the hook ran
}

// HookReply says what became of a hook's call if that is not what fail2ban expects. Note is a sentence for the log, or empty.
type HookReply struct {
	Note string `json:"note,omitempty"`
}

// JoinCall names members to join, as host:port.
type JoinCall struct {
	Addrs []string `json:"addrs"`
}

// JoinReply says how many answered, and why the others did not.
type JoinReply struct {
	Joined int      `json:"joined"`
	Failed []string `json:"failed,omitempty"`
}

// InviteCall asks for a token that lets one machine into the mesh.
type InviteCall struct {
	Name string   `json:"name,omitempty"` // that the machine must take; "" leaves the choice to it
	Life int64    `json:"life"`           // seconds that the token is valid
	Addr []string `json:"addr,omitempty"` // host:port at which the new machine reaches this one, besides the advertised address
}

// InviteReply holds a token, which is a secret until it is used or has expired.
type InviteReply struct {
	Token string   `json:"token"`
	Until Time     `json:"until"`
	Addrs []string `json:"addrs"` // addresses in the token
}

// Invitation is an open invitation: its token is neither used nor expired. The token itself is not stored.
type Invitation struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"` // that the machine must take; "" leaves the choice to it
	Made  Time   `json:"made"`
	Until Time   `json:"until"`
}

// UninviteCall cancels the open invitations for that name, or the one with that id.
type UninviteCall struct {
	Which string `json:"which"`
}

// Validate checks the call by itself, before the agent is asked.
func (c UninviteCall) Validate() error {
	if c.Which == "" || len(c.Which) > 255 {
		return fmt.Errorf("invite: %s: want the name or the id of an open invitation", Show(c.Which))
	}
	return nil
}

// UninviteReply names the cancelled invitations.
type UninviteReply struct {
	Cancelled []Invitation `json:"cancelled"`
}

// CommitCall asks for a commit now.
type CommitCall struct {
	Force  bool `json:"force,omitempty"`   // also what the guards hold back
	DryRun bool `json:"dry_run,omitempty"` // only report what it would do
}

// Validate accepts every commit: the two switches do not exclude each other.
func (CommitCall) Validate() error { return nil }

// CommitReply says what was committed, or with DryRun would be.
type CommitReply struct {
	Diff
	Committed bool   `json:"committed"`
	Leader    string `json:"leader,omitempty"` // who committed
	Detail    string `json:"detail,omitempty"`
}

// RevokeCall lifts one router's bans.
type RevokeCall struct {
	Origin    string `json:"origin"`
	Since     Time   `json:"since,omitempty"` // only offences that began then or later; zero means all
	Block     bool   `json:"block,omitempty"`
	Unblock   bool   `json:"unblock,omitempty"`
	Confirmed bool   `json:"confirmed,omitempty"`
	DryRun    bool   `json:"dry_run,omitempty"` // only report what it would do
}

// RevokeReply counts the prefixes whose bans by that router were lifted.
type RevokeReply struct {
	Lifted int `json:"lifted"`
}

// ForgetCall makes all members forget a failed one.
type ForgetCall struct {
	Name string `json:"name"`
}

// Validate checks the call by itself, before the agent is asked.
func (c ForgetCall) Validate() error {
	if c.Name == "" || len(c.Name) > 255 {
		return fmt.Errorf("forget: %s: want a member's name", Show(c.Name))
	}
	return nil
}

// KeyringCall lists or changes the gossip keys of the whole mesh.
type KeyringCall struct {
	Op  string `json:"op"` // list, install, use, remove
	Key string `json:"key,omitempty"`
	// Force leaves out members that do not answer, for use and remove.
	Force bool `json:"force,omitempty"`
}

// KeyringReply shows each key with the number of members that hold it, out of how many.
type KeyringReply struct {
	Keys    []KeyState `json:"keys"`
	Members int        `json:"members"`
	Failed  []string   `json:"failed,omitempty"` // members that have not confirmed
}

// KeyState is one key of the mesh.
type KeyState struct {
	Key     string `json:"key"` // its name, which does not reveal the key
	Holders int    `json:"holders"`
	Primary int    `json:"primary"` // members that encrypt with it
}

// CheckJail refuses invalid names of jails; package text defines the grammar.
func CheckJail(s string) error {
	if err := text.CheckName(s); err != nil {
		return fmt.Errorf("jail %s: %w", Show(s), err)
	}
	return nil
}

// CheckText refuses a reason or comment that is too long, is not UTF-8 or has control characters; what names it in the error.
func CheckText(what, s string) error {
	if len(s) > MaxReason {
		return fmt.Errorf("%s %s: at most %d bytes", what, Show(s), MaxReason)
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("%s %s: not UTF-8", what, Show(s))
	}
	if i := strings.IndexFunc(s, unicode.IsControl); i >= 0 {
		return fmt.Errorf("%s %s: holds control characters", what, Show(s))
	}
	return nil
}

func checkPrefixes(ps Prefixes) error {
	if len(ps) == 0 {
		return fmt.Errorf("no prefixes given")
	}
	if len(ps) > maxPrefixes {
		return fmt.Errorf("%d prefixes in one call: at most %d", len(ps), maxPrefixes)
	}
	return nil
}

// Validate checks the call by itself, before the agent is asked. The store has the last word.
func (c BanCall) Validate() error {
	if len(c.Each) > 0 {
		if len(c.Prefixes) > 0 {
			return fmt.Errorf("want prefixes or each, and not both")
		}
		return c.Each.validate()
	}
	if err := checkPrefixes(c.Prefixes); err != nil {
		return err
	}
	return checkBan(c.Jail, c.Start, c.Until, c.Reason)
}

// Validate checks the call by itself, before the agent is asked.
func (c UnbanCall) Validate() error {
	if c.All == (len(c.Prefixes) > 0) {
		return fmt.Errorf("want prefixes or all, and not both")
	}
	if c.All && c.Hold != 0 {
		return fmt.Errorf("hold needs prefixes, not all")
	}
	if len(c.Prefixes) > 0 {
		if err := checkPrefixes(c.Prefixes); err != nil {
			return err
		}
	}
	if c.Jail != "" {
		return CheckJail(c.Jail)
	}
	return nil
}

// Validate checks the call by itself, before the agent is asked.
func (c AllowCall) Validate() error {
	if err := checkPrefixes(c.Prefixes); err != nil {
		return err
	}
	if c.Until <= 0 {
		return fmt.Errorf("until is missing: want a time, or null for without end")
	}
	if !c.Confirmed {
		for _, p := range c.Prefixes {
			if p.Bits() < 8 {
				return fmt.Errorf("allow %s is wider than /8: it must be confirmed", p)
			}
		}
	}
	return CheckText("comment", c.Comment)
}

// Validate checks the call by itself, before the agent is asked.
func (c DropAllowCall) Validate() error { return checkPrefixes(c.Prefixes) }

// Validate checks the call by itself, before the agent is asked.
func (c HookCall) Validate() error {
	if err := CheckJail(c.Jail); err != nil {
		return err
	}
	switch c.Event {
	case HookStart, HookStop, HookFlush:
		if len(c.Prefixes) != 0 {
			return fmt.Errorf("hook %s takes no address", c.Event)
		}
	case HookBan, HookProlong, HookUnban:
		if len(c.Prefixes) != 1 {
			return fmt.Errorf("hook %s takes one address, not %d", c.Event, len(c.Prefixes))
		}
		if c.Event != HookUnban && c.Until <= 0 {
			return fmt.Errorf("hook %s needs the ban's time", c.Event)
		}
	default:
		return fmt.Errorf("hook %s: want one of start, stop, flush, ban, prolong, unban", Show(string(c.Event)))
	}
	if c.Start < 0 || c.At < 0 {
		return fmt.Errorf("hook %s: a time before 1970", c.Event)
	}
	return nil
}

// Validate checks the call by itself, before the agent is asked.
func (c JoinCall) Validate() error {
	if len(c.Addrs) == 0 || len(c.Addrs) > maxAddrs {
		return fmt.Errorf("join takes 1 to %d addresses, not %d", maxAddrs, len(c.Addrs))
	}
	for _, a := range c.Addrs {
		if a == "" || len(a) > 260 || strings.ContainsFunc(a, func(r rune) bool { return r <= ' ' || r > '~' }) {
			return fmt.Errorf("join: %s is not host:port", Show(a))
		}
	}
	return nil
}

// Validate checks the call by itself, before the agent is asked.
func (c InviteCall) Validate() error {
	if c.Life <= 0 {
		return fmt.Errorf("invite: the token needs a time for which it is good")
	}
	if len(c.Addr) > 7 {
		return fmt.Errorf("invite: %d addresses: at most 7 beside the agent's own", len(c.Addr))
	}
	return nil
}

// Validate checks the call by itself, before the agent is asked.
func (c RevokeCall) Validate() error {
	if c.Origin == "" || len(c.Origin) > 255 {
		return fmt.Errorf("revoke: origin %s: want a member's name", Show(c.Origin))
	}
	if c.Block && c.Unblock {
		return fmt.Errorf("revoke: block and unblock exclude each other")
	}
	if !c.Confirmed && !c.Unblock && !c.DryRun {
		return fmt.Errorf("revoke: it must be confirmed")
	}
	return nil
}

// Validate checks the call by itself, before the agent is asked.
func (c KeyringCall) Validate() error {
	switch c.Op {
	case "list":
		return nil
	case "install", "use", "remove":
		if c.Key == "" || len(c.Key) > 64 {
			return fmt.Errorf("keyring %s: the key is missing or too long", c.Op)
		}
		return nil
	}
	return fmt.Errorf("keyring: %s: want one of list, install, use, remove", Show(c.Op))
}
