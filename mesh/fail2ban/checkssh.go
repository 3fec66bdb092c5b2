package fail2ban

import (
	"context"
	"fmt"
	"strings"

	"banmesh/internal/shell"
)

// sshFilter matches the failregex of a jail that looks for failed sshd logins.
const sshFilter = "not allowed because not listed in AllowUsers"

// ssh checks whether a jail for sshd reads what this machine's sshd writes. Matching the wrong name is no error to fail2ban:
// the jail runs and bans nobody. From OpenSSH 9.8 on the lines come from sshd-session, from 10 on some come from sshd-auth.
func (c *checker) ssh(ctx context.Context, jail string) error {
	regexes, err := c.client.ask(ctx, "get", jail, "failregex")
	if err != nil || !strings.Contains(regexes, sshFilter) {
		return err
	}
	source, err := c.client.logSource(ctx, jail)
	if err != nil {
		return err
	}
	session := false
	for _, path := range source.Files {
		session = session || strings.Contains(tail(path), " sshd-session[")
	}
	if source.Journal {
		newest := []string{"SYSLOG_IDENTIFIER=sshd-session", "+", "SYSLOG_IDENTIFIER=sshd-auth"}
		session = session || c.inJournal(ctx, newest)
		any := append(newest, "+", "SYSLOG_IDENTIFIER=sshd")
		if c.inJournal(ctx, any) && !c.inJournal(ctx, source.match) {
			c.add(Serious, fmt.Sprintf("jail %s reads nothing of what sshd writes into the journal", jail),
				fmt.Sprintf("Its journalmatch is %s, and no entry fits it, so the jail bans nobody.", strings.Join(source.match, " ")),
				"take journalmatch out of the jail, or install examples/fail2ban/jail.d/ssh-journal.conf, then fail2ban-client reload --restart "+shell.Quote(jail))
			return nil
		}
	}
	prefix, err := c.client.ask(ctx, "get", jail, "prefregex")
	if err != nil {
		return err
	}
	if session && strings.Contains(prefix, "sshd") && !strings.Contains(prefix, "-session") {
		c.add(Serious, fmt.Sprintf("the filter of jail %s does not know sshd-session, by whose name this sshd logs", jail),
			"OpenSSH 9.8 and later log by that name, so the jail finds hardly anybody.",
			`set filter = sshd[_daemon="sshd(?:-session|-auth)?"] in the jail, then fail2ban-client reload --restart `+shell.Quote(jail))
	}
	return nil
}

// inJournal reports whether an entry of the last week matches. Without a journal nothing does.
func (c *checker) inJournal(ctx context.Context, match []string) bool {
	args := append([]string{"--quiet", "--no-pager", "--output=cat", "--lines=1", "--since=-7d"}, match...)
	out, err := c.client.journal(ctx, args...)
	return err == nil && strings.TrimSpace(out) != ""
}
