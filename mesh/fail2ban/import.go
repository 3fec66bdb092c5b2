package fail2ban

import (
	"context"
	"errors"
	"slices"

	"banmesh/store"
)

// Import returns the bans that the local fail2ban holds, of all jails but those
// named, as the requests that its action would have made. They are marked as
// repeated: a known one changes nothing, and a lifted one stays lifted.
func Import(ctx context.Context, client *Client, except ...string) ([]store.BanRequest, error) {
	jails, err := client.jails(ctx)
	if err != nil {
		return nil, err
	}
	var bans []store.BanRequest
	for _, jail := range jails {
		if slices.Contains(except, jail) {
			continue
		}
		held, err := client.Banned(ctx, jail)
		if errors.Is(err, ErrNoJail) {
			continue // stopped meanwhile
		}
		if err != nil {
			return nil, err
		}
		for _, b := range held {
			bans = append(bans, b.request(jail))
		}
	}
	return bans, nil
}

// request marks the ban as restored: a known one changes nothing, and a lifted one stays lifted.
func (b Banned) request(jail string) store.BanRequest {
	c := Call{Jail: jail, Prefix: b.Prefix, Start: b.Start, BanTime: b.BanTime}
	return store.BanRequest{
		Prefix:   b.Prefix,
		Jail:     jail,
		Start:    store.At(b.Start),
		Until:    c.until(),
		Restored: true,
	}
}
