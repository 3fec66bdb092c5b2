package fail2ban

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Feed is who keeps the peers' bans in a jail of this fail2ban. What happens in
// that jail is told to it, and not to the mesh: the jail's bans are not this
// router's own. No method may ask fail2ban, which waits for the call to return.
type Feed interface {
	// Jail is the name of the jail.
	Jail() string
	// Unbanned says that the jail let a prefix go before the time of its ban was
	// over: fail2ban was told to, by a human or by the Feed itself. start is the
	// ban's in fail2ban.
	Unbanned(ctx context.Context, prefix netip.Prefix, start time.Time) error
	// Emptied says that somebody unbanned all, at that time.
	Emptied(ctx context.Context, at time.Time) error
	// Started says that the jail has started, perhaps with nothing in it.
	Started()
}

// ourUnban is how the unban hook of an action of ours calls.
const ourUnban = "fail2ban unban --jail="

// Shape is what a running jail does.
type Shape struct {
	Detects        bool          // it has a filter
	Blocks         bool          // it has an action beside ours
	NotifiesBans   bool          // an action of it tells banmesh of bans
	NotifiesUnbans bool          // likewise of unbans
	Flushes        bool          // what tells of unbans is not called for each ban at a stop
	BanTime        time.Duration // negative: without end
}

// feeds reports whether the jail looks like one that is fed with the mesh's
// bans: it tells banmesh of unbans, but not of bans.
func (s Shape) feeds() bool { return s.NotifiesUnbans && !s.NotifiesBans }

// Shape looks at a running jail. ErrNoJail where fail2ban has no such jail.
func (c *Client) Shape(ctx context.Context, jail string) (Shape, error) {
	s, err := c.actionsOf(ctx, jail)
	if err != nil {
		return s, err
	}
	filter, err := c.ask(ctx, "get", jail, "failregex")
	if err != nil {
		return s, err
	}
	s.Detects = len(listed(filter)) > 0
	bantime, err := c.ask(ctx, "get", jail, "bantime")
	if err != nil {
		return s, err
	}
	s.BanTime, err = parseBanTime(bantime)
	return s, err
}

// actionsOf looks at a jail's actions only.
func (c *Client) actionsOf(ctx context.Context, jail string) (s Shape, err error) {
	out, err := c.ask(ctx, "get", jail, "actions")
	if err != nil {
		return s, err
	}
	s.Flushes = true
	for _, name := range actionNames(out) {
		a, err := c.action(ctx, jail, name)
		if err != nil {
			return s, err
		}
		if !a.isCommand() {
			s.Blocks = true
			continue
		}
		ban, err := a.get(ctx, "actionban")
		if err != nil {
			return s, err
		}
		unban, err := a.get(ctx, "actionunban")
		if err != nil {
			return s, err
		}
		bans, unbans := strings.Contains(ban, ourCommand), strings.Contains(unban, ourUnban)
		s.NotifiesBans = s.NotifiesBans || bans
		s.NotifiesUnbans = s.NotifiesUnbans || unbans
		s.Blocks = s.Blocks || !bans && ban != ""
		if unbans {
			flush, err := a.get(ctx, "actionflush")
			if err != nil {
				return s, err
			}
			s.Flushes = s.Flushes && flush != ""
		}
	}
	return s, nil
}

// actionNames reads the answer to `get JAIL actions`: a heading, then the names.
func actionNames(out string) []string {
	_, list, _ := strings.Cut(out, "\n")
	return splitList(list)
}

// action is an action of a running jail.
type action struct {
	client     *Client
	jail, name string
	has        []string // its settings
}

// action finds which settings an action has. Asking for another one leaves an
// error in fail2ban's log.
func (c *Client) action(ctx context.Context, jail, name string) (action, error) {
	out, err := c.ask(ctx, "get", jail, "actionproperties", name)
	return action{c, jail, name, actionNames(out)}, err
}

// isCommand reports whether the action runs commands; one written in Python does
// not.
func (a action) isCommand() bool { return slices.Contains(a.has, "actionban") }

// get returns a setting; one that is not set is empty.
func (a action) get(ctx context.Context, setting string) (string, error) {
	if !slices.Contains(a.has, setting) {
		return "", nil
	}
	out, err := a.client.ask(ctx, "get", a.jail, "action", a.name, setting)
	return strings.TrimSpace(out), err
}

// Feeds returns the jails that are fed with the mesh's bans, by their Shape. What
// they hold comes from the mesh and must not go back into it as this router's
// own.
func Feeds(ctx context.Context, client *Client) ([]string, error) {
	jails, err := client.jails(ctx)
	if err != nil {
		return nil, err
	}
	var feeds []string
	for _, jail := range jails {
		shape, err := client.actionsOf(ctx, jail)
		if errors.Is(err, ErrNoJail) {
			continue // stopped meanwhile
		}
		if err != nil {
			return nil, err
		}
		if shape.feeds() {
			feeds = append(feeds, jail)
		}
	}
	return feeds, nil
}
