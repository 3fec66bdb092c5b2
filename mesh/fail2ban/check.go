package fail2ban

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"banmesh/internal/shell"
)

// Severity says how much a Finding matters.
type Severity string

// The severities. Serious: bans are lost or lifted, or not shared at all.
const (
	Serious Severity = "serious"
	Warning Severity = "warning"
	Note    Severity = "note"
)

// Finding is something about the local fail2ban that an operator should know.
type Finding struct {
	Severity Severity `json:"severity"`
	What     string   `json:"what"`
	Why      string   `json:"why,omitempty"`
	Fix      string   `json:"fix,omitempty"` // a command, if there is one
}

// slowAction is the largest `timeout` of the action, in seconds, that causes no finding.
const slowAction = 15

// Check looks for what keeps bans from being shared, in the running fail2ban and in its configuration as far as that is
// readable. meshJail is the jail that holds the peers' bans, "" if there is none. Check changes nothing. No findings is good; the
// end of ctx is the only error.
func Check(ctx context.Context, client *Client, meshJail string) ([]Finding, error) {
	c := checker{client: client, meshJail: meshJail}
	c.all(ctx)
	return c.findings, ctx.Err()
}

// checker collects what a series of checks finds; one that cannot ask leaves the others going.
type checker struct {
	client   *Client
	meshJail string
	findings []Finding
}

func (c *checker) add(severity Severity, what, why, fix string) {
	c.findings = append(c.findings, Finding{severity, what, why, fix})
}

// all adds everything that it finds. What fail2ban answers now comes first and its configuration second: a jail that lacks the
// action although its file has it is the trap that is hardest to see.
func (c *checker) all(ctx context.Context) {
	jails, err := c.client.jails(ctx)
	switch {
	case errors.Is(err, ErrNoClient):
		c.add(Serious, err.Error(), "Nothing on this router detects attacks, or `fail2ban.client` names the wrong program.",
			"apt-get install fail2ban, or set fail2ban.client in banmesh.yaml")
		return
	case errors.Is(err, ErrNotRunning):
		c.down(ctx)
		return
	case errors.Is(err, ErrDenied):
		c.add(Serious, "no permission for fail2ban's socket",
			"The agent cannot tell fail2ban of what was lifted elsewhere, and this check sees nothing.",
			"run this check as root; for the agent systemctl enable --now banmesh-fail2ban.socket")
		return
	case err != nil:
		c.add(Serious, err.Error(), "fail2ban cannot be asked.", "fail2ban-client status")
		return
	}
	c.opened()
	configured, err := c.configured(ctx)
	if err != nil {
		c.add(Note, "fail2ban's configuration cannot be read: "+err.Error(),
			"What is configured and not running yet cannot be told.", "fail2ban-client -t")
	}
	if c.meshJail != "" {
		c.ofMeshJail(ctx, slices.Contains(jails, c.meshJail))
	}
	hooked := 0
	for _, jail := range jails {
		// What it bans comes from the mesh, and must not go back there.
		if jail == c.meshJail {
			continue
		}
		ours, err := c.jail(ctx, jail)
		if ours {
			hooked++
		}
		if err == nil && c.meshJail != "" {
			err = c.counts(ctx, jail)
		}
		if err != nil {
			c.add(Warning, fmt.Sprintf("jail %s cannot be looked at: %v", jail, err), "It may have been stopped meanwhile.", "fail2ban-client status "+shell.Quote(jail))
		}
		// Shared, or already told.
		if ours || err != nil {
			continue
		}
		if slices.Contains(configured, jail) {
			c.add(Serious, fmt.Sprintf("jail %s runs without banmesh although its configuration has it", jail),
				"fail2ban drops an action that is added to a running jail with `reload`, and says nothing.",
				"fail2ban-client reload --restart "+shell.Quote(jail))
			continue
		}
		c.add(Note, fmt.Sprintf("jail %s does not use the action banmesh", jail), "Its bans stay on this router.",
			"add `banmesh` to the jail's action, after the ban action, if they should be shared")
	}
	if hooked == 0 {
		c.add(Serious, "no running jail uses the action banmesh", "No ban of this router's fail2ban reaches the mesh.",
			"install examples/fail2ban/action.d/banmesh.conf and jail.d/banmesh.conf, then systemctl restart fail2ban")
	}
}

// opened warns of a fail2ban socket that others than root may use, which an older version of banmesh advised.
func (c *checker) opened() {
	for _, path := range c.client.sockets {
		info, err := os.Stat(path)
		if err != nil || info.Mode().Type() != fs.ModeSocket || info.Mode().Perm()&0o022 == 0 {
			continue
		}
		c.add(Serious, fmt.Sprintf("fail2ban's socket %s is open to others than root (mode %04o)", path, info.Mode().Perm()),
			"Anyone who can write to it can make fail2ban run any command as root.",
			"rm -f /etc/systemd/system/fail2ban.service.d/banmesh.conf, systemctl daemon-reload, systemctl restart fail2ban, then systemctl enable --now banmesh-fail2ban.socket")
		return
	}
}

// configuredAction matches a line of `fail2ban-client -d` that gives a jail an action.
var configuredAction = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^\['set', ['"](.+)['"], 'addaction', '([^']+)'`)
})

// ourCommand matches the command of one of our actions, whatever its program is called.
const ourCommand = "fail2ban ban --jail="

// configured returns the jails whose configuration has our action.
func (c *checker) configured(ctx context.Context) ([]string, error) {
	out, err := c.client.ask(ctx, "-d")
	if err != nil {
		return nil, err
	}
	var jails []string
	jail := ""
	for line := range strings.Lines(out) {
		if m := configuredAction().FindStringSubmatch(line); m != nil {
			jail = m[1]
		}
		if jail != "" && strings.Contains(line, ourCommand) && !slices.Contains(jails, jail) {
			jails = append(jails, jail)
		}
	}
	return jails, nil
}

// jail checks one jail and reports whether its bans reach banmesh.
func (c *checker) jail(ctx context.Context, jail string) (ours bool, err error) {
	out, err := c.client.ask(ctx, "get", jail, "actions")
	if err != nil {
		return false, err
	}
	actions := actionNames(out)
	for i, name := range actions {
		a, err := c.client.action(ctx, jail, name)
		if err != nil {
			return ours, err
		}
		// An action in Python has no command to look at.
		if !a.isCommand() {
			continue
		}
		command, err := a.get(ctx, "actionban")
		if err != nil {
			return ours, err
		}
		if !strings.Contains(command, ourCommand) {
			continue
		}
		ours = true
		if i == 0 && len(actions) > 1 {
			c.add(Warning, fmt.Sprintf("jail %s runs banmesh before %s", jail, strings.Join(actions[1:], ", ")),
				"The local firewall should act first.", "list banmesh last in the jail's action")
		}
		if err := c.action(ctx, a, command); err != nil {
			return ours, err
		}
	}
	if ours {
		err = c.sources(ctx, jail)
	}
	if ours && err == nil {
		err = c.ssh(ctx, jail)
	}
	return ours, err
}

// action checks how one jail runs our action.
func (c *checker) action(ctx context.Context, a action, ban string) error {
	const install = "install examples/fail2ban/action.d/banmesh.conf unchanged, then systemctl restart fail2ban"
	in := fmt.Sprintf("jail %s, action %s: ", a.jail, a.name)

	flush, err := a.get(ctx, "actionflush")
	if err != nil {
		return err
	}
	switch {
	case flush == "":
		c.add(Serious, in+"no actionflush", "Without it each stop or restart of fail2ban unbans every address, everywhere.", install)
	case !strings.Contains(flush, "family"):
		c.add(Warning, in+"actionflush is the same for IPv4 and IPv6",
			"fail2ban never runs again what it ran for the other family: a second `unban --all` may not be told.", install)
	}
	prolong, err := a.get(ctx, "actionprolong")
	if err != nil {
		return err
	}
	increment, err := c.client.ask(ctx, "get", a.jail, "bantime.increment")
	if err != nil {
		return err
	}
	if prolong == "" {
		severity := Warning
		// Only then are bans prolonged, and each prolongation would be lost.
		if strings.TrimSpace(increment) == "True" {
			severity = Serious
		}
		c.add(severity, in+"no actionprolong", "With bantime.increment the true ban time is told by it only.", install)
	}
	if strings.Contains(ban, "matches>") {
		c.add(Serious, in+"actionban passes log lines on", "They hold users' data.", install)
	}
	if unquoted().MatchString(ban) {
		c.add(Serious, in+"actionban has a tag outside of double quotes", "Its value reaches a shell.", install)
	}
	norestored, err := a.get(ctx, "norestored")
	if err != nil {
		return err
	}
	if truth(norestored) {
		c.add(Serious, in+"norestored is set", "Unbans of addresses that fail2ban restored at its start are never told.", install)
	}
	timeout, err := a.get(ctx, "timeout")
	if seconds, bad := strconv.Atoi(timeout); err == nil && bad == nil && seconds > slowAction {
		c.add(Warning, fmt.Sprintf("%stimeout is %d s", in, seconds),
			"fail2ban runs one command at a time: one that hangs stalls all jails for twice that.", "set timeout = 5 in the action's [Init]")
	}
	if program, _, _ := strings.Cut(strings.TrimLeft(ban, "\"'"), " "); program != "" {
		if _, err := exec.LookPath(strings.Trim(program, "\"'")); err != nil {
			c.add(Serious, in+err.Error(), "Every ban fails, and fail2ban does not try again.", "set bin in the action to where banmesh is installed")
		}
	}
	return nil
}

// unquoted matches a tag that does not follow `="` or other text in quotes.
var unquoted = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`(^|\s)(--\w+=)?<[\w./?=-]+>`) })

// neverAttackers are source addresses that cannot be an attacker's.
var neverAttackers = []netip.Prefix{
	netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("fe80::/10"),
}

// sources looks for bans of addresses that show that a log lacks true sources.
func (c *checker) sources(ctx context.Context, jail string) error {
	held, err := c.client.Banned(ctx, jail)
	if err != nil {
		return err
	}
	for _, b := range held {
		if slices.ContainsFunc(neverAttackers, func(p netip.Prefix) bool { return covers(p, b.Prefix) }) {
			c.add(Serious, fmt.Sprintf("jail %s bans %s", jail, formatPrefix(b.Prefix)),
				"The log shows an inner address for everybody: on a Session Smart Router the native SSH service rewrites the source.",
				"disable the native host-service for SSH, make a service of its own, then fail2ban-client set "+shell.Quote(jail)+" unbanip "+formatPrefix(b.Prefix))
		}
	}
	return nil
}

// truth reads a boolean of fail2ban's configuration.
func truth(s string) bool {
	switch strings.ToLower(s) {
	case "1", "true", "yes", "on":
		return true
	}
	return false
}
