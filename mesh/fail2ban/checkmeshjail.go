package fail2ban

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"banmesh/internal/shell"
)

// leastMeshTime is the shortest ban time of the mesh jail that causes no finding: what the jail itself unbans is fed again within
// a minute, with a gap.
const leastMeshTime = 7 * 24 * time.Hour

// ofMeshJail checks the jail that holds the peers' bans.
func (c *checker) ofMeshJail(ctx context.Context, runs bool) {
	const install = "install examples/fail2ban/jail.d/mesh.conf"
	jail := c.meshJail
	restart := ", then fail2ban-client reload --restart " + shell.Quote(jail)
	if !runs {
		c.add(Serious, fmt.Sprintf("fail2ban has no jail %s, the one of enforce.jail", jail),
			"What other routers ban takes effect here only once the conductor has committed it.", install+", then fail2ban-client reload")
		return
	}
	shape, err := c.client.Shape(ctx, jail)
	if err != nil {
		c.add(Warning, fmt.Sprintf("jail %s cannot be looked at: %v", jail, err), "It may have been stopped meanwhile.", "fail2ban-client status "+shell.Quote(jail))
		return
	}
	if shape.Detects {
		c.add(Serious, fmt.Sprintf("jail %s, the one of enforce.jail, has a filter", jail),
			"It is for other routers' bans only, so the agent leaves it alone and shares none of its bans.",
			"name a jail in enforce.jail that has none: "+install)
	}
	if shape.NotifiesBans {
		c.add(Serious, fmt.Sprintf("jail %s, the one of enforce.jail, tells banmesh of its bans", jail),
			"What other routers ban would come back as this router's own, so the agent leaves the jail alone.",
			`write banmesh[actionban="", actionprolong=""] in its action`+restart)
	}
	if !shape.Blocks {
		c.add(Serious, fmt.Sprintf("jail %s, the one of enforce.jail, has no ban action", jail), "It blocks nobody.", install+restart)
	}
	switch {
	case !shape.NotifiesUnbans:
		c.add(Warning, fmt.Sprintf("jail %s, the one of enforce.jail, does not tell banmesh of unbans", jail),
			"What is unbanned in it by hand is banned again within a minute.", install+restart)
	case !shape.Flushes:
		c.add(Serious, fmt.Sprintf("jail %s, the one of enforce.jail, has no actionflush beside the unban hook", jail),
			"Each stop of fail2ban is taken for an unban of everything by hand: what was banned is not banned again.", install+restart)
	}
	if shape.BanTime >= 0 && shape.BanTime < leastMeshTime {
		c.add(Warning, fmt.Sprintf("jail %s, the one of enforce.jail, has a bantime of %v", jail, shape.BanTime),
			"What it lets go before other routers do is banned again only after up to a minute.", "set bantime = 30d in the jail"+restart)
	}
}

// counts looks for a jail that counts fail2ban's own bans, as recidive does, and therefore also those of the mesh jail. Two
// settings can exclude those: the filter's _jailname, which the filter of 1.1.0 no longer takes from a jail, or the jail's
// ignoreregex, which works in all versions.
func (c *checker) counts(ctx context.Context, jail string) error {
	out, err := c.client.ask(ctx, "get", jail, "failregex")
	if err != nil {
		return err
	}
	name := regexp.QuoteMeta(c.meshJail)
	if !slices.ContainsFunc(listed(out), func(regex string) bool {
		return strings.Contains(regex, `fail2ban\.actions`) && strings.Contains(regex, `Ban\s`) && !strings.Contains(regex, name)
	}) {
		return nil
	}
	out, err = c.client.ask(ctx, "get", jail, "ignoreregex")
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(listed(out), func(regex string) bool { return strings.Contains(regex, name) }) {
		c.add(Warning, fmt.Sprintf("jail %s counts the bans of jail %s too", jail, c.meshJail),
			"What other routers ban counts towards its maxretry, so that its long bans hit who was here only once, or never.",
			fmt.Sprintf(`set ignoreregex = \[%s\]\s+Ban in jail %s, then fail2ban-client reload --restart %s`, name, jail, shell.Quote(jail)))
	}
	return nil
}
