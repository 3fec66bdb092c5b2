package fail2ban

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// causes are common reasons why fail2ban does not start, recognised by its messages (0.11 to 1.1), and how to fix them.
var causes = []struct{ says, fix string }{
	{"Backend 'systemd' failed to initialize", "apt-get install python3-systemd (python3-systemd on Red Hat's too), then systemctl restart fail2ban"},
	{"Have not found any log file", "where sshd logs to the journal only, as on Debian 12: apt-get install python3-systemd, install examples/fail2ban/jail.d/ssh-journal.conf in /etc/fail2ban/jail.d, then systemctl restart fail2ban"},
	{"'action.d/banmesh'", "install examples/fail2ban/action.d/banmesh.conf in /etc/fail2ban/action.d, or take banmesh out of the actions in /etc/fail2ban/jail.d and jail.local, then systemctl restart fail2ban"},
	{"Found no accessible config files", "install the file that it names, or take its name out of /etc/fail2ban/jail.d and jail.local, then systemctl restart fail2ban"},
	{"parsing errors", "correct the line that it names, then systemctl restart fail2ban"},
}

// logTail is how much of the end of fail2ban's log is read: its longest line holds the whole configuration.
const logTail = 64 << 10

// down says why fail2ban does not run. Errors found by its own configuration test come first; errors that only a start finds
// are in its log.
func (c *checker) down(ctx context.Context) {
	const what, why = "fail2ban does not run", "Nothing on this router detects attacks."
	var said []string
	if _, err := c.client.ask(ctx, "-t"); err != nil {
		said = strings.Split(err.Error(), "\n")
	} else {
		said = c.lastErrors(ctx)
	}
	for _, cause := range causes {
		if i := slices.IndexFunc(said, func(line string) bool { return strings.Contains(line, cause.says) }); i >= 0 {
			c.add(Serious, what+": "+around(said[i], cause.says), why, cause.fix)
			return
		}
	}
	if len(said) > 0 {
		c.add(Serious, what+": "+clip(said[len(said)-1]), why, "correct what it says, then systemctl restart fail2ban")
		return
	}
	c.add(Serious, what, why, "systemctl start fail2ban, and where that fails journalctl -u fail2ban")
}

// around is the rest of a line from the searched words on: a time and fail2ban's own name precede them.
func around(line, words string) string {
	text := line[strings.Index(line, words):]
	if i := nextEntry().FindStringIndex(text); i != nil {
		text = text[:i[0]] // its answer is all on one line
	}
	return clip(text)
}

// nextEntry is the beginning of a line of fail2ban's log.
var nextEntry = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\s+\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ `)
})

// lastErrors are the errors of fail2ban's last start, from its log and from its
// unit's lines in the journal.
func (c *checker) lastErrors(ctx context.Context) []string {
	var text string
	if out, err := c.client.ask(ctx, "-d"); err == nil {
		if m := logTarget().FindStringSubmatch(out); m != nil {
			text = tail(m[1])
		}
	}
	// Without a journal there is nothing to add.
	if lines, err := c.client.journal(ctx, "--quiet", "--no-pager", "--output=cat", "--lines=50", "--unit=fail2ban.service"); err == nil {
		text += "\n" + lines
	}
	if i := strings.LastIndex(text, "Starting Fail2ban"); i >= 0 {
		text = text[i:]
	}
	var found []string
	for line := range strings.Lines(text) {
		if strings.Contains(line, "ERROR") {
			found = append(found, strings.TrimSpace(line))
		}
	}
	return found
}

// logTarget is the line of `fail2ban-client -d` that says where its log is.
var logTarget = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`\['set', 'logtarget', '(/[^']+)'\]`)
})

// tail is the end of a file, "" if it cannot be read.
func tail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return ""
	}
	b := make([]byte, min(info.Size(), logTail))
	n, _ := f.ReadAt(b, info.Size()-int64(len(b)))
	return string(b[:n])
}
