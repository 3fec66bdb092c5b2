package world

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"go4.org/netipx"

	"banmesh/mesh/enforce"
)

// kernel is a router's packet filter in memory, as strict as nftables: a change is applied whole or not at all, missing
// elements cannot be deleted, elements do not overlap, and each expires by itself.
type kernel struct {
	w *World
	m *Member

	mu   sync.Mutex
	held map[netip.Addr]element // by first address
	gone bool                   // the table was removed
	fail error
	tell func(enforce.News)
}

type element struct {
	to    netip.Addr
	until time.Time // zero means never
}

func newKernel(w *World, m *Member) *kernel {
	return &kernel{w: w, m: m, held: make(map[netip.Addr]element), gone: true}
}

// expire drops expired elements. The caller holds the lock.
func (k *kernel) expire() {
	now := time.Now()
	for from, e := range k.held {
		if !e.until.IsZero() && !now.Before(e.until) {
			delete(k.held, from)
		}
	}
}

func (k *kernel) Name() string   { return "nftables" }
func (k *kernel) Caveat() string { return "" }

func (k *kernel) Fix(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.fail != nil:
		return k.fail
	case k.gone:
		return enforce.ErrAbsent
	}
	return nil
}

func (k *kernel) Held(context.Context, time.Duration) ([]enforce.Element, error) {
	return k.which(func(from, to netip.Addr) bool { return true })
}

func (k *kernel) Look(_ context.Context, addresses []netip.Addr) ([]enforce.Element, error) {
	return k.which(func(from, to netip.Addr) bool {
		return slices.ContainsFunc(addresses, func(a netip.Addr) bool { return !a.Less(from) && !to.Less(a) })
	})
}

func (k *kernel) which(want func(from, to netip.Addr) bool) (out []enforce.Element, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return nil, k.fail
	}
	k.expire()
	now := time.Now()
	for from, e := range k.held {
		if !want(from, e.to) {
			continue
		}
		x := enforce.Element{From: from, To: e.to}
		if !e.until.IsZero() {
			x.Left = e.until.Sub(now)
		}
		out = append(out, x)
	}
	return out, nil
}

func (k *kernel) Apply(_ context.Context, c enforce.Change) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	if k.gone && !c.Anew {
		return enforce.ErrStale
	}
	k.expire()
	held := k.held
	if c.Anew {
		held = make(map[netip.Addr]element)
		k.w.reached("kernel: the set was made anew")
	}
	for _, d := range c.Del {
		if e, ok := held[d.From]; !ok || e.to != d.To {
			return enforce.ErrStale
		}
	}
	for _, a := range c.Add {
		if _, ok := held[a.From]; ok && !slices.ContainsFunc(c.Del, func(d enforce.Element) bool { return d.From == a.From }) {
			return enforce.ErrStale
		}
	}
	if !c.Anew && len(c.Add) > 0 && k.m.frozen() {
		k.w.reached("kernel: a change while frozen")
		var before netipx.IPSetBuilder
		for from, e := range held {
			before.AddRange(netipx.IPRangeFrom(from, e.to))
		}
		had := ipset(&before)
		for _, a := range c.Add {
			if !had.ContainsRange(netipx.IPRangeFrom(a.From, a.To)) {
				k.w.fault("the kernel set of %s was given %v to %v while it was frozen", k.m.name, a.From, a.To)
			}
		}
	}
	for _, d := range c.Del {
		delete(held, d.From)
	}
	now := time.Now()
	for _, a := range c.Add {
		for p := range *k.w.sacredAddrs.Load() {
			if !p.Less(a.From) && !a.To.Less(p) {
				k.w.fault("the kernel set of %s was given %v to %v, which holds %v of never_ban", k.m.name, a.From, a.To, p)
			}
		}
		e := element{to: a.To}
		if a.Left > 0 {
			e.until = now.Add(a.Left)
		}
		held[a.From] = e
	}
	k.held, k.gone = held, false
	return nil
}

func (k *kernel) Watch(ctx context.Context, tell func(enforce.News)) error {
	k.mu.Lock()
	k.tell = tell
	k.mu.Unlock()
	tell(enforce.News{Lost: true})
	<-ctx.Done()
	return nil
}

func (k *kernel) Dropped(context.Context) (enforce.Drops, error) { return enforce.Drops{}, nil }

func (k *kernel) Remove(context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.held)
	k.gone = true
	return nil
}

// vanish removes the table, as a firewall's reload does; the agent is told.
func (k *kernel) vanish() {
	k.mu.Lock()
	clear(k.held)
	k.gone = true
	tell := k.tell
	k.mu.Unlock()
	if tell != nil {
		tell(enforce.News{Layout: true})
	}
}

// meddle deletes an element behind the agent's back; the agent is told.
func (k *kernel) meddle() {
	k.mu.Lock()
	var news enforce.News
	for _, from := range sorted(k.held) {
		news.Elements = []netip.Addr{from, k.held[from].to}
		delete(k.held, from)
		break
	}
	tell := k.tell
	k.mu.Unlock()
	if tell != nil && news.Elements != nil {
		tell(news)
	}
}

func sorted[V any](m map[netip.Addr]V) []netip.Addr {
	out := make([]netip.Addr, 0, len(m))
	for a := range m {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// elements returns the ranges in force.
func (k *kernel) elements() map[netip.Addr]element {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expire()
	out := make(map[netip.Addr]element, len(k.held))
	for a, e := range k.held {
		out[a] = e
	}
	return out
}

var _ enforce.Driver = (*kernel)(nil)
