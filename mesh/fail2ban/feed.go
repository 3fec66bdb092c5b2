package fail2ban

import (
	"context"
	"errors"
	"strings"
)

// ourUnban is how the unban hook of an action of ours calls.
const ourUnban = "fail2ban unban --jail="

// Feeds returns the jails that are fed with the mesh's bans: they tell banmesh
// of unbans, but not of bans. What they hold comes from the mesh and must not go
// back into it as this router's own.
func Feeds(ctx context.Context, client *Client) ([]string, error) {
	jails, err := client.Jails(ctx)
	if err != nil {
		return nil, err
	}
	c := checker{client: client}
	var feeds []string
	for _, jail := range jails {
		fed, err := c.fed(ctx, jail)
		if errors.Is(err, ErrNoJail) {
			continue // stopped meanwhile
		}
		if err != nil {
			return nil, err
		}
		if fed {
			feeds = append(feeds, jail)
		}
	}
	return feeds, nil
}

func (c *checker) fed(ctx context.Context, jail string) (bool, error) {
	out, err := c.client.ask(ctx, "get", jail, "actions")
	if err != nil {
		return false, err
	}
	_, list, _ := strings.Cut(out, "\n")
	unbans := false
	for _, action := range splitList(list) {
		ban, err := c.property(ctx, jail, action, "actionban")
		if err != nil {
			continue // one written in Python has no command
		}
		if strings.Contains(ban, ourCommand) {
			return false, nil
		}
		unban, err := c.property(ctx, jail, action, "actionunban")
		unbans = unbans || err == nil && strings.Contains(unban, ourUnban)
	}
	return unbans, nil
}
