package fail2ban

import (
	"context"
	"errors"
	"sync"
	"time"
)

// lookEvery is how often fail2ban is asked whether it can be told, where there is
// nothing to tell: before the first unban is too late to learn that it cannot.
const lookEvery = time.Minute

// lookAgain is how often while it cannot be told: status must not keep warning
// of what has been fixed.
const lookAgain = 5 * time.Second

// trouble is why fail2ban as a whole cannot be told.
type trouble struct {
	mu   sync.Mutex
	why  string
	next time.Time // Run's goroutine alone: when to look again
}

// note keeps the last outcome; nil ends the trouble.
func (t *trouble) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.why = ""; err != nil {
		t.why = err.Error()
	}
}

// Trouble says why the local fail2ban cannot be told what the mesh lifts and
// allows, "" where it can, or where there is no fail2ban on this router.
func (n *Notifier) Trouble() string {
	n.trouble.mu.Lock()
	defer n.trouble.mu.Unlock()
	return n.trouble.why
}

// look finds out whether fail2ban can be told, where a jail of it has ever called.
func (n *Notifier) look(ctx context.Context) {
	if n.silent || len(n.known) == 0 || time.Until(n.trouble.next) > 0 {
		return
	}
	n.trouble.next = time.Now().Add(lookEvery)
	_, err := n.client.jails(ctx)
	if ctx.Err() == nil {
		n.trouble.note(whole(err))
	}
	if n.Trouble() != "" {
		n.trouble.next = time.Now().Add(lookAgain)
	}
}

// whole is err where it is of fail2ban as a whole, and not of one jail. One that does
// not run, or is not there, blocks nothing: it took its rules away when it stopped,
// and what waits for it is told when it runs.
func whole(err error) error {
	if err == nil || errors.Is(err, ErrNoJail) || errors.Is(err, ErrNotRunning) || errors.Is(err, ErrNoClient) {
		return nil
	}
	return err
}
