package fail2ban

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// MeshJail keeps the peers' bans in one jail of this fail2ban. Hooks of that jail go to it and not to the mesh, because its
// bans are not this router's own. No method may ask fail2ban, which waits for the call to return.
type MeshJail interface {
	// Jail is the name of the jail.
	Jail() string
	// Unbanned reports that the jail unbanned a prefix before its ban time was over, by request of a human or of the enforcement
	// itself. start is the ban's start in fail2ban.
	Unbanned(ctx context.Context, prefix netip.Prefix, start time.Time) error
	// Emptied reports that somebody unbanned everything at that time.
	Emptied(ctx context.Context, at time.Time) error
	// Started reports that the jail has started, perhaps empty.
	Started()
}

// ourUnban matches the unban command of one of our actions.
const ourUnban = "fail2ban unban --jail="

// Shape is what a running jail does.
type Shape struct {
	Detects        bool          // it has a filter
	Blocks         bool          // it has an action besides ours
	NotifiesBans   bool          // one of its actions reports bans to banmesh
	NotifiesUnbans bool          // one of its actions reports unbans to banmesh
	Flushes        bool          // at a stop, the action that reports unbans is not called for each ban
	BanTime        time.Duration // negative: without end
}

// isMeshJail reports whether the jail looks like one for the mesh's bans: it reports unbans to banmesh, but no bans.
func (s Shape) isMeshJail() bool { return s.NotifiesUnbans && !s.NotifiesBans }

// Shape examines a running jail. It returns ErrNoJail if fail2ban has no such jail.
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

// actionsOf examines only a jail's actions.
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

// action finds out which settings an action has, because asking for a missing one leaves an error in fail2ban's log.
func (c *Client) action(ctx context.Context, jail, name string) (action, error) {
	out, err := c.ask(ctx, "get", jail, "actionproperties", name)
	return action{c, jail, name, actionNames(out)}, err
}

// isCommand reports whether the action runs commands; one written in Python does not.
func (a action) isCommand() bool { return slices.Contains(a.has, "actionban") }

// get returns a setting, "" if it is not set.
func (a action) get(ctx context.Context, setting string) (string, error) {
	if !slices.Contains(a.has, setting) {
		return "", nil
	}
	out, err := a.client.ask(ctx, "get", a.jail, "action", a.name, setting)
	return strings.TrimSpace(out), err
}

// MeshJails returns the jails that hold the mesh's bans, by their Shape. Their bans come from the mesh and must not go back
// into it as this router's own.
func MeshJails(ctx context.Context, client *Client) ([]string, error) {
	jails, err := client.jails(ctx)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, jail := range jails {
		shape, err := client.actionsOf(ctx, jail)
		if errors.Is(err, ErrNoJail) {
			continue // it has stopped meanwhile
		}
		if err != nil {
			return nil, err
		}
		if shape.isMeshJail() {
			found = append(found, jail)
		}
	}
	return found, nil
}
