package world

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"banmesh/mesh/control"
	"banmesh/store"
)

// act makes one thing happen: usually everyday load, sometimes a fault.
func (w *World) act() {
	n := w.rng.IntN(1000)
	if w.cfg.Calm {
		n = w.rng.IntN(830)
	}
	m := w.some()
	if m == nil {
		return
	}
	switch {
	case n < 520:
		w.attack(m)
	case n < 580:
		w.burst(m)
	case n < 680:
		w.unban(m)
	case n < 700:
		w.unbanNothing(m)
	case n < 740:
		w.allow(m)
	case n < 760:
		w.dropAllow(m)
	case n < 770:
		w.freeze(m)
	case n < 785:
		w.revoke(m)
	case n < 800:
		w.banByHand(m)
	case n < 815:
		w.wrongCommands(m)
	case n < 830:
		w.now("restart the fail2ban of %s", m.name)
		m.watchdog.restart()
	default:
		w.goWrong(m, n-830)
	}
}

// attacker picks an address, often one that was used before.
func (w *World) attacker() netip.Addr {
	n := w.rng.IntN(60)
	if w.rng.IntN(4) == 0 {
		n = w.rng.IntN(2000)
	}
	if n%17 == 3 {
		return netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 9, byte(n >> 8), byte(n)})
	}
	return netip.AddrFrom4([4]byte{198, 51, byte(100 + n>>8), byte(n)})
}

func (w *World) life() time.Duration {
	return []time.Duration{20 * time.Second, 2 * time.Minute, 10 * time.Minute, 10 * time.Minute, time.Hour, time.Hour, 5 * time.Hour, 30 * time.Hour}[w.rng.IntN(8)]
}

// attack makes one attacker try one router or, in turn, several.
func (w *World) attack(m *Member) {
	a, jail, life := w.attacker(), jails[w.rng.IntN(len(jails))], w.life()
	w.now("%v attacks %s at %s for %v", a, jail, m.name, life)
	m.watchdog.attack(jail, a, life)
	for w.rng.IntN(3) == 0 {
		if o := w.some(); o != nil {
			o.watchdog.attack(jail, a, life)
		}
	}
}

func (w *World) burst(m *Member) {
	n, life := 5+w.rng.IntN(40), w.life()
	w.now("%d attack %s for %v", n, m.name, life)
	for range n {
		m.watchdog.attack(jails[w.rng.IntN(len(jails))], w.attacker(), life)
	}
}

// live picks a prefix that is banned at a member, with everything held there about it.
func (w *World) live(m *Member) (netip.Prefix, bool) {
	list := m.agent.Load().Set().List(store.Query{})
	if len(list) == 0 {
		return netip.Prefix{}, false
	}
	slices.SortFunc(list, func(a, b store.Entry) int {
		if c := a.Prefix.Addr().Compare(b.Prefix.Addr()); c != 0 {
			return c
		}
		return a.Prefix.Bits() - b.Prefix.Bits()
	})
	return list[w.rng.IntN(len(list))].Prefix, true
}

func (w *World) unban(m *Member) {
	p, any := w.live(m)
	if !any {
		return
	}
	w.now("unban %v at %s", p, m.name)
	a := m.agent.Load()
	seen := held(a, p)
	if len(seen) == 0 {
		return
	}
	reply, err := a.Unban(short(), control.UnbanCall{Prefixes: control.Prefixes{p}})
	switch {
	case err != nil:
		w.refused(m, "unban", err)
		w.book.doubtful(seen)
		return
	case len(reply.Lifted) != 1 || reply.Lifted[0].Offences == 0:
		w.fault("unban of %v at %s: %d offences are held and the answer is %+v", p, m.name, len(seen), reply)
	}
	for o := range held(a, p) {
		if _, was := seen[o]; was {
			w.fault("%s answered that %v is unbanned and still holds %v", m.name, p, show(o))
		}
	}
	w.book.lifted(m, seen)
}

func (w *World) unbanNothing(m *Member) {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(w.rng.IntN(256))}), 32)
	w.now("unban %v at %s, which is not banned", p, m.name)
	reply, err := m.agent.Load().Unban(short(), control.UnbanCall{Prefixes: control.Prefixes{p}})
	if err != nil {
		w.refused(m, "unban", err)
	} else if len(reply.Lifted) != 1 || reply.Lifted[0].Offences != 0 {
		w.fault("%s answered that it unbanned %v, which nobody had banned: %+v", m.name, p, reply)
	}
}

func (w *World) allow(m *Member) {
	a := w.attacker()
	p := netip.PrefixFrom(a, a.BitLen())
	until := control.Until(control.At(m.now().Add(time.Minute + time.Duration(w.rng.Int64N(int64(6*time.Hour))))))
	w.now("allow %v at %s", p, m.name)
	agent := m.agent.Load()
	before := allowsAt(agent)[allowed{m.name, p}]
	if _, err := agent.Allow(short(), control.AllowCall{Prefixes: control.Prefixes{p}, Until: until, Comment: "simulated"}); err != nil {
		w.refused(m, "allow", err)
		w.book.unsureAllows(m.name, p)
		return
	}
	w.book.allow(m, agent, p, before)
}

func (w *World) dropAllow(m *Member) {
	allows := m.agent.Load().Set().Allows()
	if len(allows) == 0 {
		return
	}
	slices.SortFunc(allows, func(a, b store.AllowEntry) int { return a.Prefix.Addr().Compare(b.Prefix.Addr()) })
	p := allows[w.rng.IntN(len(allows))].Prefix
	w.now("drop the allow of %v at %s", p, m.name)
	agent := m.agent.Load()
	seen := allowsAt(agent)
	reply, err := agent.DropAllow(short(), control.DropAllowCall{Prefixes: control.Prefixes{p}})
	if err != nil {
		w.refused(m, "drop allow", err)
		w.book.unsureAllows("", p)
		return
	}
	if reply.Dropped == 0 {
		w.fault("%s holds the allow of %v and answered that there is none", m.name, p)
	}
	for k := range allowsAt(agent) {
		if _, was := seen[k]; was && k.prefix == p {
			w.fault("%s answered that the allow of %v is dropped and still holds that of %s", m.name, p, k.origin)
		}
	}
	w.book.dropped(m, p, seen)
}

func (w *World) freeze(m *Member) {
	w.now("freeze at %s", m.name)
	if err := m.agent.Load().Freeze(short()); err != nil {
		w.refused(m, "freeze", err)
		return
	}
	if frozen, _ := m.agent.Load().Set().Frozen(); !frozen {
		w.fault("%s answered that it is frozen, and is not", m.name)
	}
	w.in(time.Duration(w.rng.Int64N(int64(10*time.Minute))), w.thaw)
}

func (w *World) thaw() {
	for _, m := range w.running() {
		if frozen, _ := m.agent.Load().Set().Frozen(); frozen {
			if err := m.agent.Load().Thaw(short()); err != nil {
				w.refused(m, "thaw", err)
			}
		}
	}
}

func (w *World) revoke(m *Member) {
	origin := w.members[w.rng.IntN(len(w.members))].name
	a := m.agent.Load()
	seen := make(map[offence]store.Millis)
	for _, e := range a.Set().List(store.Query{}) {
		for _, r := range e.Records {
			if r.Origin == origin {
				seen[offence{r.Origin, r.Jail, e.Prefix, r.Start}] = r.Until
			}
		}
	}
	if len(seen) == 0 || len(seen) > 60 && w.rng.IntN(10) > 0 {
		return
	}
	w.now("revoke %d of %s at %s", len(seen), origin, m.name)
	if _, err := a.Revoke(short(), control.RevokeCall{Origin: origin, Confirmed: true}); err != nil {
		w.refused(m, "revoke", err)
		w.book.doubtful(seen)
		return
	}
	w.book.lifted(m, seen)
}

// banByHand bans what an operator types, sometimes more than permitted.
func (w *World) banByHand(m *Member) {
	p := netip.PrefixFrom(w.attacker(), 32)
	if p.Addr().Is6() {
		p = netip.PrefixFrom(p.Addr(), 64).Masked()
	}
	switch w.rng.IntN(4) {
	case 0:
		p = netip.MustParsePrefix("10.0.0.0/24") // contains the members' own addresses
	case 1:
		p = netip.PrefixFrom(w.conductorAddr.Addr(), 30).Masked()
	}
	w.now("ban %v by hand at %s", p, m.name)
	a := m.agent.Load()
	until := control.At(m.now().Add(time.Duration(1+w.rng.IntN(300)) * time.Minute))
	reply, err := a.Ban(short(), control.BanCall{Prefixes: control.Prefixes{p}, Until: control.Until(until), Reason: "simulated"})
	if err != nil {
		w.refused(m, "ban", err)
		return
	}
	w.book.mu.Lock()
	found := w.book.banned(m, a, "manual", p)
	w.book.mu.Unlock()
	if !found && w.calmFor(time.Minute) {
		w.fault("%s answered %+v to the ban of %v and does not hold it", m.name, reply, p)
	}
	var last store.Millis // of this member's bans: one from before a loss of the disk may have another start
	for o, until := range held(a, p) {
		if o.origin == m.name && o.jail == "manual" {
			last = max(last, until)
		}
	}
	if reply.New+reply.Extended > 0 && last != 0 && last != store.Millis(reply.Until) &&
		!w.stepped { // the answer is in the time of the router's own clock
		w.fault("%s answered that %v is banned until %v and holds %v", m.name, p, store.Millis(reply.Until).Time(), last.Time())
	}
}

// wrongCommands issues commands that must all be refused and change nothing.
func (w *World) wrongCommands(m *Member) {
	w.now("wrong commands at %s", m.name)
	a := m.agent.Load()
	head := a.Set().Head()
	later := control.Until(control.At(m.now().Add(time.Hour)))
	for _, c := range []control.BanCall{
		{Prefixes: control.Prefixes{netip.MustParsePrefix("0.0.0.0/0")}, Until: later, Force: true},
		{Prefixes: control.Prefixes{netip.MustParsePrefix("60.0.0.0/4")}, Until: later},
		{Prefixes: control.Prefixes{netip.MustParsePrefix("203.0.113.7/32")}, Until: later, Jail: "a\nb"},
	} {
		if reply, err := a.Ban(short(), c); err == nil {
			w.fault("%s took the ban of %v (jail %q): %+v", m.name, c.Prefixes, c.Jail, reply)
		}
		w.reached("a wrong command was refused")
	}
	if head.Log == a.Set().Head().Log && len(held(a, netip.MustParsePrefix("203.0.113.7/32"))) > 0 {
		w.fault("%s refused a ban and holds it", m.name)
	}
}

// refused judges an error: only a full disk or a stop may refuse a call.
func (w *World) refused(m *Member, what string, err error) {
	m.disk.Lock()
	ill := m.disk.fail != nil || m.disk.slow > 0
	m.disk.Unlock()
	w.reached("an operator's command was refused")
	var e *control.Error
	if errors.As(err, &e) && e.Code == control.CodeConflict && strings.Contains(err.Error(), "limits.") {
		return
	}
	if !ill && w.calmFor(time.Minute) && m.running() {
		w.fault("%s at %s: %v", what, m.name, err)
	}
}

func short() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	time.AfterFunc(6*time.Second, cancel)
	return ctx
}

// wrong is one fault, and how it is repaired.
type wrong struct {
	name  string
	least int // members that must be running
	do    func(w *World, m *Member, d time.Duration)
}

var wrongs = []wrong{
	{"one-way cut", 2, func(w *World, m *Member, d time.Duration) {
		o := w.members[w.rng.IntN(len(w.members))]
		if o != m {
			w.net.Cut(m.addr.Addr(), o.addr.Addr())
			w.in(d, func() { w.net.Uncut(m.addr.Addr(), o.addr.Addr()) })
		}
	}},
	{"partition", 3, func(w *World, m *Member, d time.Duration) {
		var a, b []netip.Addr
		for _, o := range w.members {
			if w.rng.IntN(2) == 0 {
				a = append(a, o.addr.Addr())
			} else {
				b = append(b, o.addr.Addr())
			}
		}
		w.net.Partition(a, b)
		if w.rng.IntN(2) == 0 {
			for _, o := range w.members {
				if slices.Contains(b, o.addr.Addr()) {
					o.cutOff.Store(true)
				}
			}
		}
		w.reached("network: a partition")
		w.in(d, w.heal)
	}},
	{"cut off from the conductor", 1, func(w *World, m *Member, d time.Duration) {
		m.cutOff.Store(true)
		w.in(d, func() { m.cutOff.Store(false) })
	}},
	{"kill", 2, func(w *World, m *Member, d time.Duration) { w.restart(m, d, func() { m.kill(false) }) }},
	{"power loss", 2, func(w *World, m *Member, d time.Duration) { w.restart(m, d, func() { m.kill(true) }) }},
	{"restart", 2, func(w *World, m *Member, d time.Duration) { w.restart(m, d, m.halt) }},
	{"wipe", 3, func(w *World, m *Member, d time.Duration) {
		w.restart(m, d, func() {
			m.kill(true)
			w.book.lostDisk(m)
			m.put(nil)
			w.reached("disk: wiped")
		})
	}},
	{"restore of an old copy", 3, func(w *World, m *Member, d time.Duration) {
		old := m.copyOut()
		w.in(time.Duration(w.rng.Int64N(int64(3*time.Hour))), func() {
			if len(w.running()) < 3 || !m.running() {
				return
			}
			w.now("restore the old copy of %s", m.name)
			w.troubled()
			m.kill(true)
			w.book.lostDisk(m)
			m.put(old)
			w.reached("disk: an old copy was put back")
			if err := m.start(); err != nil {
				w.fault("start %s with an old copy: %v", m.name, err)
			}
		})
	}},
	{"full disk", 1, func(w *World, m *Member, d time.Duration) {
		m.disk.Lock()
		m.disk.fail = errors.New("no space left on device")
		m.disk.Unlock()
		w.in(min(d, 20*time.Minute), func() { m.disk.Lock(); m.disk.fail = nil; m.disk.Unlock() })
	}},
	{"slow disk", 1, func(w *World, m *Member, d time.Duration) {
		m.disk.Lock()
		m.disk.slow = time.Duration(w.rng.Int64N(int64(3 * time.Second)))
		m.disk.Unlock()
		w.in(min(d, 20*time.Minute), func() { m.disk.Lock(); m.disk.slow = 0; m.disk.Unlock() })
	}},
	{"drifting clock", 1, func(w *World, m *Member, d time.Duration) {
		m.offset.Store(int64(time.Duration(w.rng.Int64N(int64(20*time.Second))) - 10*time.Second))
		w.in(d, func() { m.offset.Store(0) })
	}},
	{"stepping clock", 3, func(w *World, m *Member, d time.Duration) {
		if w.stepped {
			return // with two wrong clocks out of three, nobody can tell the time
		}
		w.stepped = true
		step := []time.Duration{-time.Hour, time.Hour, -5 * time.Minute, 3 * time.Hour}[w.rng.IntN(4)]
		m.offset.Store(int64(step))
		w.reached("clock: stepped by more than a minute")
		w.in(min(d, 30*time.Minute), func() { m.offset.Store(0); w.stepped = false })
	}},
	{"fail2ban down", 1, func(w *World, m *Member, d time.Duration) {
		m.watchdog.mu.Lock()
		m.watchdog.down = true
		m.watchdog.mu.Unlock()
		w.in(d, func() {
			m.watchdog.mu.Lock()
			m.watchdog.down = false
			m.watchdog.mu.Unlock()
			m.watchdog.restart()
		})
	}},
	{"the packet filter is reloaded", 1, func(w *World, m *Member, _ time.Duration) {
		w.reached("kernel: the table was taken away")
		m.kernel.vanish()
	}},
	{"an element of the packet filter is deleted", 1, func(w *World, m *Member, _ time.Duration) { m.kernel.meddle() }},
	{"the packet filter fails", 1, func(w *World, m *Member, d time.Duration) {
		m.kernel.mu.Lock()
		m.kernel.fail = errors.New("device or resource busy")
		m.kernel.mu.Unlock()
		w.in(min(d, 10*time.Minute), func() { m.kernel.mu.Lock(); m.kernel.fail = nil; m.kernel.mu.Unlock() })
	}},
	{"another administrator", 1, func(w *World, m *Member, _ time.Duration) {
		n := w.rng.IntN(250)
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, 0, byte(n)}), 32)
		var add, remove []netip.Prefix
		switch w.rng.IntN(3) {
		case 0:
			add = []netip.Prefix{p}
		case 1:
			if all := w.console.addresses(); len(all) > 0 {
				remove = []netip.Prefix{all[w.rng.IntN(len(all))]}
			}
		}
		w.reached("conductor: another administrator edited")
		hold, locked := time.Duration(w.rng.Int64N(int64(2*time.Minute))), w.rng.IntN(3) > 0
		go w.console.administrator(hold, locked, add, remove)
	}},
	{"the conductor is reset", 1, func(w *World, m *Member, _ time.Duration) {
		w.console.reset()
		w.reached("conductor: reset")
	}},
	{"the conductor is down", 1, func(w *World, m *Member, d time.Duration) {
		w.console.set(func(c *console) { c.down = true })
		w.in(min(d, time.Hour), func() { w.console.set(func(c *console) { c.down = false }) })
	}},
	{"the conductor is slow", 1, func(w *World, m *Member, d time.Duration) {
		w.console.set(func(c *console) { c.slow = 3 * time.Second })
		w.in(min(d, time.Hour), func() { w.console.set(func(c *console) { c.slow = 0 }) })
	}},
	{"answers to commits are lost", 1, func(w *World, m *Member, _ time.Duration) {
		w.console.set(func(c *console) { c.lose = 1 + w.rng.IntN(3) })
	}},
	{"commits are refused", 1, func(w *World, m *Member, _ time.Duration) {
		w.console.set(func(c *console) { c.refuse = 1 + w.rng.IntN(3) })
	}},
}

// goWrong causes a fault for a while.
func (w *World) goWrong(m *Member, n int) {
	x := wrongs[n%len(wrongs)]
	if len(w.running()) < x.least {
		return
	}
	d := time.Duration(w.rng.ExpFloat64() * float64(10*time.Minute))
	if w.rng.IntN(10) == 0 {
		d *= 20
	}
	d = min(d, 15*time.Hour)
	w.now("%s: %s for %v", m.name, x.name, d.Round(time.Second))
	w.troubled()
	x.do(w, m, d)
}

func (w *World) heal() {
	w.net.Heal()
	for _, m := range w.members {
		m.cutOff.Store(false)
	}
}

// restart stops a member with stop and starts it after d.
func (w *World) restart(m *Member, d time.Duration, stop func()) {
	stop()
	if w.rng.IntN(3) == 0 {
		d = time.Duration(w.rng.Int64N(int64(10 * time.Second)))
	}
	if w.rng.IntN(6) == 0 {
		m.move()
	}
	w.in(d, func() {
		w.now("start %s", m.name)
		w.troubled()
		if m.running() {
			return
		}
		if err := m.start(); err != nil {
			w.fault("start %s: %v", m.name, err)
		}
	})
}

// move gives a member another address.
func (m *Member) move() {
	all := maps.Clone(*m.w.sacredAddrs.Load())
	delete(all, m.addr.Addr())
	m.w.sacredAddrs.Store(&all)
	b := m.addr.Addr().As4()
	b[2]++
	m.addr = netip.AddrPortFrom(netip.AddrFrom4(b), m.addr.Port())
	m.w.reached("a member has another address")
}

func (c *console) set(f func(*console)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(c)
}
