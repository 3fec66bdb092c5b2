package gossip

import (
	"fmt"
	"net"
	"sync"
	"time"
)

// keyNewsFor is how long a change of the keys is told of: an operator who changes keys is done by then, and one who does not must
// be able to see it.
const keyNewsFor = time.Hour

// keyNews is what other members have lately changed in this member's keyring. A holder of the key can add keys of its own and so
// stay in. The lock is a leaf.
type keyNews struct {
	mu    sync.Mutex
	at    time.Time // of the last change
	text  string    // it
	count int       // changes, none of them more than keyNewsFor after the one before
}

// note keeps the last change and how many came close together: a warning names the one and tells of a series.
func (n *keyNews) note(op keyOp, key, by, from string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Sub(n.at).Abs() > keyNewsFor {
		n.count = 0
	}
	n.count++
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		host = from
	}
	n.at, n.text = now, fmt.Sprintf("%s of %s by %s at %s", keyOpNames[op], key, by, host)
}

// KeyNews says in one line that other members have changed this member's keys within the last hour, "" if none has.
func (m *Mesh) KeyNews() string {
	n := &m.keyNews
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.count == 0 || m.cfg.Now().Sub(n.at).Abs() > keyNewsFor {
		return ""
	}
	times := "once"
	if n.count > 1 {
		times = fmt.Sprintf("%d times", n.count)
	}
	return fmt.Sprintf("another member changed this router's gossip keys %s, last at %s (%s): if no operator did that, somebody has the key; `banmesh keyring list` shows the keys", times, n.at.UTC().Format("2006-01-02 15:04:05 UTC"), n.text)
}
