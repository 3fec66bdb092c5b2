package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

// syslogSocket is where the machine's log takes messages (syslog(3), systemd-journald(8)).
const syslogSocket = "/dev/log"

// syslogTime bounds a message: fail2ban's jails wait for it.
const syslogTime = 50 * time.Millisecond

// toSyslog leaves a warning in the machine's log. A hook that exits 0 is otherwise heard by nobody: fail2ban shows what it
// writes at the level DEBUG only. Not log/syslog: it has no deadline and blocks where the log's reader hangs.
func (c *console) toSyslog(text string) {
	conn, err := net.DialTimeout("unixgram", c.syslog, syslogTime)
	if err != nil {
		return // it has been said on stderr
	}
	defer conn.Close()
	const daemonWarning = 3<<3 | 4 // RFC 3164 §4.1.1
	conn.SetDeadline(time.Now().Add(syslogTime))
	fmt.Fprintf(conn, "<%d>%s banmesh[%d]: %s", daemonWarning, c.now().Format(time.Stamp), os.Getpid(), text)
}
