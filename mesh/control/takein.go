package control

import (
	"fmt"
	"net/netip"
)

// MaxTakeIn bounds the bans in one TakeInCall.
const MaxTakeIn = 50_000

// TakeInCall gives the agent the bans that the local fail2ban holds, each with its own times.
type TakeInCall struct {
	Bans []HeldBan `json:"bans"`
}

// HeldBan is a ban that fail2ban holds, in this router's time.
type HeldBan struct {
	Prefix netip.Prefix `json:"prefix"`
	Jail   string       `json:"jail"`
	Start  Time         `json:"start"`
	Until  Until        `json:"until"` // Never means without end
}

// TakeInReply counts what became of the bans: the counts of BanReply and Unshared add up to their number.
type TakeInReply struct {
	BanReply
	Unshared int `json:"unshared"` // stay on this router because of share or bans.min_duration, or start in the future
}

// Validate checks the call by itself, before the agent is asked. The store has the last word.
func (c TakeInCall) Validate() error {
	if len(c.Bans) == 0 || len(c.Bans) > MaxTakeIn {
		return fmt.Errorf("%d bans in one call: want 1 to %d", len(c.Bans), MaxTakeIn)
	}
	for i := range c.Bans {
		b := &c.Bans[i]
		if err := CheckJail(b.Jail); err != nil {
			return err
		}
		if !b.Prefix.IsValid() {
			return fmt.Errorf("ban %d of jail %s has no prefix", i+1, b.Jail)
		}
		if b.Start <= 0 || b.Until <= 0 {
			return fmt.Errorf("ban of %s in jail %s lacks a time", b.Prefix, b.Jail)
		}
	}
	return nil
}
