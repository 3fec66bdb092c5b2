package gossip

import (
	"fmt"
	"net"
	"slices"
	"strings"
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
	last  []keyChange // the last few, oldest first: one that matters must not hide behind one that does not
	count int         // changes, none of them more than keyNewsFor after the one before
}

type keyChange struct {
	at   time.Time
	text string
}

// mostKeyNews is how many changes are told of one by one.
const mostKeyNews = 5

// note keeps the last changes and how many came close together.
func (n *keyNews) note(op keyOp, key, by, from string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if k := len(n.last); k > 0 && now.Sub(n.last[k-1].at).Abs() > keyNewsFor {
		n.count, n.last = 0, nil
	}
	n.count++
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		host = from
	}
	if len(n.last) == mostKeyNews {
		n.last = slices.Delete(n.last, 0, 1)
	}
	n.last = append(n.last, keyChange{now, fmt.Sprintf("%s of %s by %s at %s", keyOpNames[op], key, by, host)})
}

// KeyNews says in one line that other members have changed this member's keys within the last hour, "" if none has.
func (m *Mesh) KeyNews() string {
	n := &m.keyNews
	n.mu.Lock()
	defer n.mu.Unlock()
	k := len(n.last)
	if k == 0 || m.cfg.Now().Sub(n.last[k-1].at).Abs() > keyNewsFor {
		return ""
	}
	times := "once"
	if n.count > 1 {
		times = fmt.Sprintf("%d times", n.count)
	}
	texts := make([]string, 0, k)
	for _, c := range slices.Backward(n.last) {
		texts = append(texts, c.text)
	}
	more := ""
	if n.count > k {
		more = fmt.Sprintf(" and %d before", n.count-k)
	}
	return fmt.Sprintf("another member changed this router's gossip keys %s, last at %s (%s%s): if no operator did that, somebody has the key; `banmesh keyring list` shows the keys", times, n.last[k-1].at.UTC().Format("2006-01-02 15:04:05 UTC"), strings.Join(texts, ", "), more)
}
