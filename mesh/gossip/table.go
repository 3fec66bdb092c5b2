package gossip

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// target is an alive other member, as needed to send to it.
type target struct{ name, addr string }

// table is this member's view of the members. memberlist calls it under its node lock, so its own lock is a leaf: nothing of
// memberlist, the set or a callback is called under it.
type table struct {
	self  string
	every time.Duration // between two probes
	mu    sync.Mutex
	all   map[string]*peer
	// doubtedNow: the last look was at a member that had not answered the one before.
	doubtedNow bool
	askedAgain time.Time // when a member that agreed was last asked again

	// The six below are rebuilt by refresh whenever a member changes, and read without the lock on every packet.
	view   atomic.Pointer[[]target] // alive others, by name
	proven atomic.Pointer[[]target] // those of them that have answered at their advertised address, by name
	// A sum does not depend on the order. Two members with equal digests know the same members, see viewWatch.
	digest atomic.Uint32                   // sum of the hashes of the names of all alive members
	places atomic.Pointer[map[string]bool] // addresses of members; true where packets are counted
	homes  atomic.Pointer[map[home]bool]   // addresses of members with their runs
	// answered are the addresses of living members that have answered there.
	answered atomic.Pointer[map[string]bool]
}

const (
	// maxPeers bounds the table; a mesh has about a thousand members.
	maxPeers = 8192
	// maxMembers bounds the alive members. newcomersRate and newcomersBurst bound the new names that memberlist accepts, a
	// second and at once, because it keeps each for half a minute after its death.
	// Twice the largest mesh that is supported. Invented members cost memory and probes on every router.
	maxMembers = 2048
	// Enough for a mesh that starts all at once, since each proves itself with its first answer.
	maxUnproven = 256 // members that have not answered at their advertised address
	// Several agents on one host are tests or containers; a key holder with one machine must not become most of the relays.
	maxPerHost     = 32 // proven members of one host
	newcomersRate  = 50
	newcomersBurst = 1024
)

// newTable begins with this member alone. Mesh replaces every by the interval of memberlist's probes.
func newTable(self string) *table {
	t := &table{self: self, every: time.Second, all: make(map[string]*peer)}
	t.refresh()
	return t
}

// refresh rebuilds the view. Called with the lock held, or before the table is in use.
func (t *table) refresh() {
	view, proven := make([]target, 0, len(t.all)), make([]target, 0, len(t.all))
	sum := nameHash(t.self, 0)
	for _, p := range t.all {
		if p.state == Alive {
			view = append(view, target{p.name, p.addr})
			sum += nameHash(p.name, 0)
		}
	}
	places, homes := make(map[string]bool, len(t.all)), make(map[home]bool, len(t.all))
	for _, p := range t.all {
		// Two members may have had one address, one after the other. The living one decides.
		if _, taken := places[p.addr]; !taken || p.state == Alive {
			places[p.addr] = p.meta.counts()
		}
		homes[home{p.addr, p.meta.Run}] = true
	}
	t.places.Store(&places)
	t.homes.Store(&homes)
	slices.SortFunc(view, func(a, b target) int { return cmp.Compare(a.name, b.name) })
	hosts, answered := make(map[string]int), make(map[string]bool)
	for _, to := range view {
		if !t.all[to.name].hasSkew {
			continue
		}
		answered[to.addr] = true
		if h := voice(to.addr); hosts[h] < maxPerHost {
			hosts[h]++
			proven = append(proven, to)
		}
	}
	t.answered.Store(&answered)
	t.view.Store(&view)
	t.proven.Store(&proven)
	t.digest.Store(sum)
}

func (t *table) others() []target { return *t.view.Load() }

// counts says whether the member at the address sends counted packets.
func (t *table) counts(addr string) bool { return (*t.places.Load())[addr] }

// answeredAt reports whether a living member at the address has answered.
func (t *table) answeredAt(addr string) bool {
	return (*t.answered.Load())[addr]
}

// aliveAt returns the names of the members that live at the host and have answered, in order.
func (t *table) aliveAt(host netip.Prefix) (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		if ap, err := netip.ParseAddrPort(p.addr); err == nil && p.state == Alive && p.met && host.Contains(ap.Addr().Unmap()) {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	return names
}

// home is the address of a run according to its member data.
type home struct {
	addr string
	run  uint64
}

// lives says whether a member of that run is at the address.
func (t *table) lives(addr string, run uint64) bool { return (*t.homes.Load())[home{addr, run}] }

// heeds says why a message of that name and run does not count, "" if it does.
func (t *table) heeds(name string, run uint64, sealed bool) (reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	switch {
	case p == nil || p.state != Alive:
		return "message of nobody alive"
	case sealed && p.meta.counts() && run != p.meta.Run:
		return "message of another run"
	}
	return ""
}

// receivers returns the members to which a push is sent: all, or, in a mesh too large for sending straight to each, only those
// that have answered. Invented members must not become relays.
func (t *table) receivers(direct int) []target {
	all := t.others()
	if proven := *t.proven.Load(); len(all)+1 > direct && len(proven) > 0 {
		return proven
	}
	return all
}

// admits says whether memberlist may accept a member of that name: a known one, or a new one while new names come at the pace
// of a mesh and not of a flood.
func (t *table) admits(name string, pace *pace) bool {
	if name == t.self {
		return true
	}
	t.mu.Lock()
	_, known := t.all[name]
	t.mu.Unlock()
	unproven := len(t.others()) - len(*t.proven.Load())
	return known || unproven < maxUnproven && t.alive() < maxMembers && pace.take(1) == 0
}

// size is the number of other members in the table.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.all)
}

// alive is the number of alive members, this one included.
func (t *table) alive() int { return len(t.others()) + 1 }

// up records that memberlist considers the member alive. news is false if nothing worth reporting changed.
func (t *table) up(name, addr string, meta nodeMeta, now time.Time) (kind EventKind, news bool, m Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil {
		if len(t.all) >= maxPeers {
			t.evict()
		}
		// Failed, so that the switch below sees a change to alive.
		p = &peer{name: name, state: Failed}
		t.all[name] = p
	}
	// memberlist does not tell a restart within the probe's time from an update of the member's data.
	restarted := p.state == Alive && p.meta.Run != meta.Run
	switch {
	case p.state != Alive || restarted:
		kind, news = MemberJoined, true
		p.since = now
		// What was known of the earlier run does not hold for this one: its store may have been wiped. Only when it last
		// agreed is kept, for the judgement of how stale it can be.
		p.comparison = comparison{compared: now, agreed: p.agreed}
		p.reach = reach{packet: now, looked: now}
		p.clock, p.goodbye = p.clock.again(p.host == voice(addr)), goodbye{}
	case p.addr != addr || p.meta != meta:
		kind, news = MemberUpdated, true
	}
	if p.addr != addr {
		p.addr, p.host = addr, voice(addr)
	}
	p.meta, p.state, p.seen = meta, Alive, now
	t.refresh()
	return kind, news, t.member(p)
}

// down records that memberlist considers the member dead or left; it does not distinguish the two.
func (t *table) down(name string, now time.Time) (kind EventKind, news bool, m Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil || p.state != Alive {
		return 0, false, Member{}
	}
	p.state, kind = Failed, MemberFailed
	if p.leavingRun != 0 && p.leavingRun == p.meta.Run && now.Sub(p.leavingAt) < leavingFor {
		p.state, kind = Left, MemberLeft
	}
	p.since = now
	t.refresh()
	return kind, true, t.member(p)
}

// leavingFor is how long after an announced leave silence is taken as that leave.
const leavingFor = time.Minute

// leaving records that a member announced its leave. It is ignored if it names an earlier run, or while memberlist still sees
// the member alive: otherwise any key holder could send all members away.
func (t *table) leaving(name string, run uint64, now time.Time) (news bool, m Member) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil || p.meta.Run != run || p.state == Left {
		return false, Member{}
	}
	p.leavingRun, p.leavingAt = run, now
	if p.state == Alive {
		return false, Member{}
	}
	p.state, p.since = Left, now
	t.refresh()
	return true, t.member(p)
}

// evict makes room by forgetting the member that is gone longest.
// The living are never evicted: admits bounds them.
func (t *table) evict() {
	var oldest *peer
	for _, p := range t.all {
		if p.state != Alive && (oldest == nil || p.since.Before(oldest.since)) {
			oldest = p
		}
	}
	if oldest != nil {
		delete(t.all, oldest.name)
	}
}

// forget drops members that have been gone for long enough.
func (t *table) forget(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, p := range t.all {
		if p.state != Alive && now.Sub(p.since) > keeps(p.met, p.state == Left, showLeft) {
			delete(t.all, name)
		}
	}
}

// here reports whether the member is alive, and whether it has ever answered this one.
func (t *table) here(name string) (alive, met bool) {
	t.with(name, func(p *peer) { alive, met = p.state == Alive, p.met })
	return alive, met
}

// member copies a peer. Called with the lock held.
func (t *table) member(p *peer) Member {
	m := Member{
		Name: p.name, Addr: p.addr, State: p.state,
		Eligible: p.meta.Eligible, Priority: int(p.meta.Priority), Version: p.meta.Version,
		Agrees: t.agrees(p, time.Now()), Agreed: p.agreed, Mute: t.mute(p, time.Now()), NoStream: p.streamTrouble(), Stuck: p.stuckBy(), Seen: p.seen, Since: p.since,
	}
	if p.hasSkew {
		m.Skew = p.skew // without the drift, which members() adds
	}
	return m
}

// members returns copies. Skews are kept against the steady time; drift turns them into differences to the
// clock as it is now.
func (t *table) members(drift time.Duration) []Member {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]Member, 0, len(t.all)+1)
	for _, p := range t.all {
		m := t.member(p)
		if p.hasSkew {
			m.Skew -= drift
		}
		out = append(out, m)
	}
	return out
}

// named returns the member of the name.
func (t *table) named(name string, drift time.Duration) (m Member, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil {
		return Member{}, false
	}
	m = t.member(p)
	if p.hasSkew {
		m.Skew -= drift
	}
	return m, true
}

// addr is the last known address of the named member.
func (t *table) addr(name string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil {
		return "", false
	}
	return p.addr, true
}

// at returns the member at an address: preferably an alive one, otherwise one that has left or failed.
func (t *table) at(addr string) (name string, state MemberState, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		if p.addr != addr {
			continue
		}
		if p.state == Alive {
			return p.name, Alive, true
		}
		name, state, ok = p.name, p.state, true
	}
	return name, state, ok
}

// with runs f on the named peer under the lock.
func (t *table) with(name string, f func(*peer)) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil {
		return false
	}
	f(p)
	return true
}
