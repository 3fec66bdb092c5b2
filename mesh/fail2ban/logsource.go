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
	Journal bool     // systemd's journal, with a match
	match   []string // the journal's match, as journalctl takes it
}

// LogSources returns where each running jail reads, in fail2ban's order. A jail
// without a source is fed by hand or by another program.
func (c *Client) LogSources(ctx context.Context) ([]LogSource, error) {
	jails, err := c.jails(ctx)
	if err != nil {
		return nil, err
	}
	var out []LogSource
	for _, jail := range jails {
		s, err := c.logSource(ctx, jail)
		if errors.Is(err, ErrNoJail) {
			continue // stopped meanwhile
		}
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func (c *Client) logSource(ctx context.Context, jail string) (LogSource, error) {
	s := LogSource{Jail: jail}
	// A jail of the journal has no files, and the other way round: either is an
	// answer too.
	files, err := c.ask(ctx, "get", jail, "logpath")
	if errors.Is(err, ErrNoJail) {
		return s, err
	}
	if err == nil {
		s.Files = listed(files)
	}
	if journal, err := c.ask(ctx, "get", jail, "journalmatch"); err == nil && !strings.Contains(journal, "No journal match") {
		s.Journal = true
		_, match, _ := strings.Cut(journal, "\n")
		s.match = strings.Fields(match)
	}
	return s, nil
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
