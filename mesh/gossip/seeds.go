package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"

	"banmesh/internal/excerpt"
)

// Finds out, as far as possible, why a member that this one joins does not answer.
var (
	errNoAgent  = errors.New("refused, no agent listens there")
	errSilent   = errors.New("no answer: it is down, or a firewall drops TCP")
	errNoRoute  = errors.New("there is no route to it")
	errOtherKey = errors.New("it hangs up at once: its gossip key or label is another one, or it has none")
	errItself   = errors.New("that is this router itself")
)

// seedWait is how long a member to join may take before status asks for the reason.
const seedWait = 10 * time.Second

// whyNot asks the address itself why it exchanged no member list.
func (m *Mesh) whyNot(ctx context.Context, addr string) error {
	h, err := m.who(ctx, addr, m.cfg.Name, m.tune.DialTimeout)
	switch {
	case err == nil && h.Run == m.run:
		return errItself
	case err == nil:
		return errors.New("it answers, and exchanges no list of members")
	}
	return plainly(err)
}

// isAt reports whether streams to the address end at this member: besides the advertised one, loopback and what a NAT translates do.
func (m *Mesh) isAt(ctx context.Context, addr string) bool {
	return addr == m.addr() || errors.Is(m.whyNot(ctx, addr), errItself)
}

// plainly says in an operator's words why a stream could not be opened.
func plainly(err error) error {
	var ne net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errNoAgent
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return errNoRoute
	case errors.Is(err, errUnsealed), errors.Is(err, errLabel):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, errNoKey):
		return errOtherKey
	case errors.As(err, &ne) && ne.Timeout():
		return errSilent
	}
	return err
}

// seedBook records the attempts to join since the start.
type seedBook struct {
	mu       sync.Mutex
	answered map[string]bool
	failed   map[string]error
}

// note records the outcome of an attempt at one of a seed's addresses.
func (b *seedBook) note(seed string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered == nil {
		b.answered, b.failed = make(map[string]bool), make(map[string]error)
	}
	if err == nil || errors.Is(err, errItself) {
		b.answered[seed] = true
		delete(b.failed, seed)
		return
	}
	b.failed[seed] = err
}

// trouble returns why a seed could not be reached, nil once it has answered in this run: that it is silent
// now is then said of the member.
func (b *seedBook) trouble(seed string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.answered[seed] {
		return nil
	}
	return b.failed[seed]
}

func (b *seedBook) hasAnswered(seed string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.answered[seed]
}

// Unanswered says for each member to join that has not answered since the start why it has not.
func (m *Mesh) Unanswered() []string {
	if time.Since(m.started) < seedWait {
		return nil
	}
	var w []string
	for _, seed := range m.known.hosts() {
		if err := m.known.book.trouble(seed); err != nil {
			w = append(w, fmt.Sprintf("%s, which this router joins, has not answered since the start: %v", seed, err))
		}
	}
	return w
}

// NeverMet reports whether there are members to join, one at least has not answered, and this one has never met any, in this
// run or an earlier one.
func (m *Mesh) NeverMet() bool {
	return m.metNobody(func(seed string) bool { return m.known.book.trouble(seed) != nil })
}

// unmet is NeverMet from the start on: a member that was not tried yet has not answered either.
func (m *Mesh) unmet() bool {
	return m.metNobody(func(seed string) bool { return !m.known.book.hasAnswered(seed) })
}

// metNobody reports whether this one has never met any member, and lacks one of those that it joins.
func (m *Mesh) metNobody(lacks func(seed string) bool) bool {
	if m.table.size() > 0 {
		return false
	}
	m.known.mu.Lock()
	met := len(m.known.members) > 0
	m.known.mu.Unlock()
	if met {
		return false
	}
	return slices.ContainsFunc(m.known.hosts(), func(h string) bool { return h != m.addr() && lacks(h) })
}

// knocks are hosts that opened a stream without a key of this mesh.
type knocks struct {
	mu   sync.Mutex
	last map[string]knock
}

// knock is the last attempt of a host whose packets cannot be opened.
type knock struct {
	at  time.Time
	err error
}

const (
	// Long enough for an operator who has just started the other router to see it here.
	knockFor  = 10 * time.Minute
	maxKnocks = 64
)

// note remembers hosts that seem to want to join with another key or label, so that both operators are told.
// A host beyond maxKnocks is left out rather than one that is known.
func (k *knocks) note(from string, err error) {
	// A port scanner speaks no gossip and is no router that wants to join.
	if !errors.Is(err, errNoKey) && !errors.Is(err, errUnsealed) && !errors.Is(err, errLabel) {
		return
	}
	ap, perr := netip.ParseAddrPort(from)
	if perr != nil {
		return
	}
	host := ap.Addr().Unmap().String()
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for h, e := range k.last {
		if now.Sub(e.at) > knockFor {
			delete(k.last, h)
		}
	}
	if k.last == nil {
		k.last = make(map[string]knock)
	}
	if _, known := k.last[host]; known || len(k.last) < maxKnocks {
		k.last[host] = knock{now, err}
	}
}

// Knocks lists the hosts that have lately tried to join with another key or label.
func (m *Mesh) Knocks() []string {
	k := &m.wire.knocks
	k.mu.Lock()
	defer k.mu.Unlock()
	var w []string
	for host, e := range k.last {
		if time.Since(e.at) <= knockFor {
			w = append(w, fmt.Sprintf("%s asks to join, and is refused: %v", host, e.err))
		}
	}
	slices.Sort(w)
	if n := len(w) - excerpt.Most; n > 1 {
		w = append(w[:excerpt.Most], fmt.Sprintf("%d more hosts ask to join, and are refused", n))
	}
	return w
}
