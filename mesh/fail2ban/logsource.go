package fail2ban

import (
	"context"
	"errors"
	"strings"
)

// LogSource is where a jail's filter reads.
type LogSource struct {
	Jail    string
	Files   []string
	Journal bool // systemd's journal, with a match
}

// LogSources returns where each running jail reads, in fail2ban's order. A jail
// without a source is fed by hand or by another program.
func (c *Client) LogSources(ctx context.Context) ([]LogSource, error) {
	jails, err := c.Jails(ctx)
	if err != nil {
		return nil, err
	}
	var out []LogSource
	for _, jail := range jails {
		files, err := c.ask(ctx, "get", jail, "logpath")
		if errors.Is(err, ErrNoJail) {
			continue // stopped meanwhile
		}
		s := LogSource{Jail: jail}
		if err == nil { // a jail of the journal has no such property
			s.Files = listed(files)
		}
		if journal, err := c.ask(ctx, "get", jail, "journalmatch"); err == nil {
			s.Journal = !strings.Contains(journal, "No journal match")
		}
		out = append(out, s)
	}
	return out, nil
}

// listed reads the entries of a list as fail2ban-client draws it:
//
//	Current monitored log file(s):
//	|- /var/log/auth.log
//	`- /var/log/secure
func listed(out string) []string {
	var entries []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		for _, mark := range []string{"|- ", "`- "} {
			if entry, ok := strings.CutPrefix(line, mark); ok {
				entries = append(entries, entry)
			}
		}
	}
	return entries
}
