package fail2ban

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"time"

	"banmesh/store"
)

// ignoreEvery is how often the ignore lists are checked while an allow lives: `fail2ban-client reload` clears added entries,
// and no hook reports it.
const ignoreEvery = 5 * time.Minute

// notifyAllows brings the ignore lists of all jails in line with the live allows, and has the jails unban what those cover.
func (n *Notifier) notifyAllows(ctx context.Context, notices []store.Notice) error {
	now := n.now()
	var live []netip.Prefix
	for _, a := range n.set.Allows() {
		if a.Reason == "" && a.Until > store.At(now) { // an allow that does not count must not exempt from the local fail2ban either
			live = append(live, a.Prefix)
		}
	}
	live = n.allowance.narrow(live)
	lives := setOf(live)
	if len(live) == 0 && len(n.ignored) == 0 {
		n.done(ctx, notices)
		return nil
	}
	pending := slices.DeleteFunc(slices.Clone(notices), func(notice store.Notice) bool {
		return !lives.has(notice.Prefix) // the allow was dropped before fail2ban heard of it
	})
	if len(pending) == 0 && time.Until(n.next) > 0 && !n.stale(lives) {
		n.done(ctx, notices)
		return nil
	}
	jails, err := n.client.jails(ctx)
	if errors.Is(err, ErrNoClient) && len(n.known) == 0 {
		n.done(ctx, notices) // there is no fail2ban on this router and never was
		n.next = time.Now().Add(ignoreEvery)
		return nil
	}
	if err != nil {
		return err
	}
	held := 0
	for jail := range n.ignored {
		if !slices.Contains(jails, jail) {
			delete(n.ignored, jail) // ignore lists end with their jail
		}
	}
	for _, jail := range jails {
		if n.hooks.isMeshJail(jail) {
			continue // package jail handles allows itself
		}
		n.meet(ctx, jail)
		left, err := n.ignore(ctx, jail, live, lives)
		if err != nil && !errors.Is(err, ErrNoJail) {
			return err
		}
		held += left
		if left, err = n.release(ctx, jail, pending); err != nil && !errors.Is(err, ErrNoJail) {
			return err
		}
		held += left
	}
	n.allowance.leave("allow", held)
	if held > 0 {
		// Next minute's allowance lets more of them through.
		return nil // the notices stay and are tried again
	}
	n.done(ctx, notices)
	n.next = time.Now().Add(ignoreEvery)
	return nil
}

// stale reports whether an ignore list holds prefixes that are no longer allowed.
func (n *Notifier) stale(lives prefixes) bool {
	for _, told := range n.ignored {
		for _, p := range told {
			if !lives.has(p) {
				return true
			}
		}
	}
	return false
}

// ignore makes one jail ignore exactly what is allowed, besides what its own configuration ignores. left is how many wait for
// the next minute's allowance.
func (n *Notifier) ignore(ctx context.Context, jail string, live []netip.Prefix, lives prefixes) (left int, err error) {
	listed, err := n.client.ignored(ctx, jail)
	if err != nil {
		return 0, err
	}
	has, before := setOf(listed), setOf(n.ignored[jail])
	var add, told []netip.Prefix
	for _, p := range live {
		switch {
		case !has.has(p) && n.allowance.take(time.Now(), 1) == 0:
			left++
		case !has.has(p):
			add = append(add, p)
			told = append(told, p)
		// Ours from before. What the jail's own configuration ignores is not noted, and so never taken away.
		case before.has(p):
			told = append(told, p)
		}
	}
	for _, p := range n.ignored[jail] {
		// Still allowed, or gone from the list without us, as after a reload.
		if lives.has(p) || !has.has(p) {
			continue
		}
		if err := n.client.unignore(ctx, jail, p); err != nil {
			return left, err
		}
	}
	// Remember it first: an entry that was added and forgotten would be ignored for ever.
	if !slices.Equal(n.ignored[jail], told) {
		n.ignored[jail] = told
		if len(told) == 0 {
			delete(n.ignored, jail)
		}
		if err := save(ctx, n.set, ignoredKey, n.ignored); err != nil {
			return left, err
		}
	}
	return left, n.client.ignore(ctx, jail, add)
}

// release has one jail unban what new allows cover. The mesh keeps those bans, covered, so their unban hooks must not lift
// them. left is how many wait for the next minute's allowance.
func (n *Notifier) release(ctx context.Context, jail string, notices []store.Notice) (left int, err error) {
	if len(notices) == 0 {
		return 0, nil
	}
	held, err := n.client.Banned(ctx, jail)
	if err != nil {
		return 0, err
	}
	allowed := make(prefixes, len(notices))
	for _, notice := range notices {
		allowed[notice.Prefix] = struct{}{}
	}
	var meant []Banned
	for _, b := range held {
		if allowed.covers(b.Prefix) {
			meant = append(meant, b)
		}
	}
	may := n.allowance.take(time.Now(), len(meant))
	left, meant = len(meant)-may, meant[:may]
	for batch := range slices.Chunk(meant, maxBatch) {
		prefixes := make([]netip.Prefix, len(batch))
		for i, b := range batch {
			prefixes[i] = b.Prefix
		}
		if err := n.unban(ctx, jail, prefixes, batch); err != nil {
			return left, err
		}
	}
	return left, nil
}

// prefixes are for looking up: a holder of the gossip key can make hundreds of thousands of allows, and comparing each with each
// would take minutes in which the agent does not even stop.
type prefixes map[netip.Prefix]struct{}

func setOf(list []netip.Prefix) prefixes {
	s := make(prefixes, len(list))
	for _, p := range list {
		s[p] = struct{}{}
	}
	return s
}

func (s prefixes) has(p netip.Prefix) bool { _, ok := s[p]; return ok }

// covers reports whether one of them holds all of p.
func (s prefixes) covers(p netip.Prefix) bool {
	for bits := p.Bits(); bits >= 0; bits-- {
		if outer, err := p.Addr().Prefix(bits); err == nil && s.has(outer) {
			return true
		}
	}
	return false
}

func covers(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}
