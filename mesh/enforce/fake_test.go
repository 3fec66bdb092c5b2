package enforce

import (
	"context"
	"iter"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go4.org/netipx"

	"banmesh/store"
)

// fakeSet is a set of bans and allows without the rest of a store.
type fakeSet struct {
	mu         sync.Mutex
	now        func() time.Time
	bans       map[netip.Prefix]store.Millis
	exemptions *netipx.IPSet
	allows     []netip.Prefix
	frozen     bool
	whole      int // how often all was asked for
	exempted   int // how often all exemptions were
}

func newFakeSet(now func() time.Time) *fakeSet {
	return &fakeSet{now: now, bans: make(map[netip.Prefix]store.Millis), exemptions: new(netipx.IPSet)}
}

func (s *fakeSet) ban(p string, until store.Millis) store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	prefix := netip.MustParsePrefix(p)
	s.bans[prefix] = until
	return store.Change{Events: []store.Event{{Kind: store.EventBan, Prefix: prefix, Until: until}}}
}

func (s *fakeSet) lift(p string) store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	prefix := netip.MustParsePrefix(p)
	delete(s.bans, prefix)
	return store.Change{Events: []store.Event{{Kind: store.EventLift, Prefix: prefix}}}
}

// allow replaces what is allowed. It makes no event where a lease runs out.
func (s *fakeSet) allow(prefixes ...string) store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	var c store.Change
	for _, p := range s.allows {
		c.Events = append(c.Events, store.Event{Kind: store.EventDisallow, Prefix: p})
	}
	s.allows = nil
	var b netipx.IPSetBuilder
	for _, text := range prefixes {
		p := netip.MustParsePrefix(text)
		b.AddPrefix(p)
		s.allows = append(s.allows, p)
		c.Events = append(c.Events, store.Event{Kind: store.EventAllow, Prefix: p})
	}
	s.exemptions, _ = b.IPSet()
	return c
}

func (s *fakeSet) freeze(frozen bool) store.Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = frozen
	return store.Change{Events: []store.Event{{Kind: store.EventFreeze}}}
}

func (s *fakeSet) Frozen() (bool, string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.frozen, "router9"
}

func (s *fakeSet) Exemptions() *netipx.IPSet {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.exempted++
	return s.exemptions
}

func (s *fakeSet) EffectiveParts() iter.Seq[store.EffectiveBan] {
	s.mu.Lock()
	s.whole++
	s.mu.Unlock()
	return s.those(func(netip.Prefix) bool { return true })
}

func (s *fakeSet) EffectiveIn(p netip.Prefix) iter.Seq[store.EffectiveBan] {
	return s.those(p.Overlaps)
}

func (s *fakeSet) those(want func(netip.Prefix) bool) iter.Seq[store.EffectiveBan] {
	return func(yield func(store.EffectiveBan) bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for p, until := range s.bans {
			if !want(p) || until <= store.At(s.now()) {
				continue
			}
			e := store.EffectiveBan{Prefix: p, Pieces: []netip.Prefix{p}, Until: until}
			if s.exemptions.OverlapsPrefix(p) {
				var b netipx.IPSetBuilder
				b.AddPrefix(p)
				b.RemoveSet(s.exemptions)
				pieces, _ := b.IPSet()
				e.Pieces = pieces.Prefixes()
			}
			if len(e.Pieces) > 0 && !yield(e) {
				return
			}
		}
	}
}

func (s *fakeSet) asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.whole
}

// until is until when an address should be dropped: 0 is not at all.
func (s *fakeSet) until(a netip.Addr) (until store.Millis) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for p, u := range s.bans {
		if p.Contains(a) && !s.exemptions.Contains(a) {
			until = max(until, u)
		}
	}
	if until <= store.At(s.now()) {
		return 0
	}
	return until
}

// fakeKernel is a driver as strict as the kernel: a step is done as a whole or not at all, an element that is not there
// cannot be deleted, none may overlap another, each expires by itself.
type fakeKernel struct {
	mu      sync.Mutex
	now     func() time.Time
	held    []timed
	fail    error
	gone    bool
	alien   bool
	deaf    bool // nobody is told of what others do
	slow    time.Duration
	applied int
	read    int
	removed bool
	tell    func(News)
	watch   func(held []timed) // at each step, under the lock
}

type timed struct {
	from, to netip.Addr
	until    time.Time // zero: never
}

func (k *fakeKernel) live() []timed {
	return slices.DeleteFunc(slices.Clone(k.held), func(t timed) bool { return !t.until.IsZero() && !k.now().Before(t.until) })
}

func (k *fakeKernel) Name() string { return "fake" }

func (k *fakeKernel) Caveat() string { return "the kernel is a fake" }

func (k *fakeKernel) Fix(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.fail != nil:
		return k.fail
	case k.gone:
		return ErrAbsent
	case k.alien:
		return ErrUnreadable
	}
	return nil
}

func (k *fakeKernel) Held(context.Context, time.Duration) ([]Element, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.read++
	if k.fail != nil {
		return nil, k.fail
	}
	out := k.elements(func(timed) bool { return true })
	if k.slow > 0 {
		k.mu.Unlock()
		time.Sleep(k.slow)
		k.mu.Lock()
	}
	return out, nil
}

func (k *fakeKernel) elements(which func(timed) bool) (out []Element) {
	for _, t := range k.live() {
		if !which(t) {
			continue
		}
		e := Element{From: t.from, To: t.to}
		if !t.until.IsZero() {
			e.Left = t.until.Sub(k.now())
		}
		out = append(out, e)
	}
	return out
}

func (k *fakeKernel) Look(_ context.Context, addresses []netip.Addr) ([]Element, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.elements(func(t timed) bool {
		return slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !a.Less(t.from) && !t.to.Less(a) })
	}), k.fail
}

func (k *fakeKernel) Watch(ctx context.Context, tell func(News)) error {
	k.mu.Lock()
	k.tell = tell
	k.mu.Unlock()
	tell(News{Lost: true})
	<-ctx.Done()
	return nil
}

func (k *fakeKernel) Apply(_ context.Context, c Change) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	held := k.live()
	if c.Anew {
		held = nil
	} else if k.gone || k.alien {
		return ErrStale
	}
	for _, d := range c.Del {
		i := slices.IndexFunc(held, func(t timed) bool { return t.from == d.From && t.to == d.To })
		if i < 0 {
			return ErrStale
		}
		held = slices.Delete(held, i, i+1)
	}
	for _, a := range c.Add {
		for _, t := range held {
			if !t.to.Less(a.From) && !a.To.Less(t.from) {
				return ErrStale
			}
		}
		t := timed{from: a.From, to: a.To}
		if a.Left > 0 {
			t.until = k.now().Add(a.Left)
		}
		held = append(held, t)
	}
	if k.watch != nil {
		k.watch(held)
	}
	k.held, k.alien, k.gone = held, false, false
	k.applied++
	return nil
}

func (k *fakeKernel) Dropped(context.Context) (Drops, error) { return Drops{7, 700}, nil }

func (k *fakeKernel) Remove(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.removed = nil, true
	return nil
}

func (k *fakeKernel) steps() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.applied
}

// until is until when an address is dropped.
func (k *fakeKernel) until(a netip.Addr) (until store.Millis) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, t := range k.live() {
		if a.Less(t.from) || t.to.Less(a) {
			continue
		}
		if t.until.IsZero() {
			return store.Never
		}
		return store.At(t.until)
	}
	return 0
}

// meddle changes what the kernel holds behind the driver's back, which is told of it.
func (k *fakeKernel) meddle(f func(held []timed) []timed) {
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.live()
	k.held = f(slices.Clone(before))
	var n News
	for _, lists := range [][2][]timed{{before, k.held}, {k.held, before}} {
		for _, t := range lists[0] {
			if !slices.Contains(lists[1], t) {
				n.Elements = append(n.Elements, t.from, t.to)
			}
		}
	}
	k.inform(n)
}

// vanish takes everything away, as a firewall's reload does.
func (k *fakeKernel) vanish() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held, k.gone = nil, true
	k.inform(News{Layout: true})
}

func (k *fakeKernel) inform(n News) {
	if k.tell != nil && !k.deaf {
		k.tell(n)
	}
}

func (k *fakeKernel) refuse(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}
