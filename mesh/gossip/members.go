package gossip

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// MemberState is the state of a member as this one sees it.
type MemberState uint8

// The states. A suspected member is still alive.
const (
	Alive  MemberState = iota
	Left               // it said so
	Failed             // it fell silent
)

func (s MemberState) String() string {
	switch s {
	case Alive:
		return "alive"
	case Left:
		return "left"
	}
	return "failed"
}

// Member is one member, possibly this one.
type Member struct {
	Name     string
	Addr     string // ip:port
	State    MemberState
	Self     bool
	Eligible bool
	Priority int
	Agrees   Agreement     // whether its root agrees with this member's
	Agreed   time.Time     // when it last agreed; zero for never
	Mute     MuteDirection // a direction in which UDP does not pass although TCP does
	NoStream error         // why it does not answer by a stream; nil where it does
	Stuck    error         // why it still does not agree after several exchanges
	Skew     time.Duration // its clock minus ours, 0 until measured
	Version  string
	Seen     time.Time // when it was last heard of
	Since    time.Time // since when it is in its state; zero for this member
}

// Agreement says whether another member is known to hold the same records.
type Agreement uint8

// The agreements. Unknown means that nothing was heard of it for longer than expected.
const (
	Unknown Agreement = iota
	Agrees
	Differs
)

func (a Agreement) String() string { return [...]string{"unknown", "yes", "no"}[a] }

// MuteDirection is a direction in which UDP does not pass between two members.
type MuteDirection uint8

// The directions, seen from this member.
const (
	MuteNone MuteDirection = iota
	MuteFrom               // packets from the other one do not arrive here
	MuteTo                 // packets from this one do not arrive there
)

func (m MuteDirection) String() string { return [...]string{"", "from", "to"}[m] }

// EventKind says what happened to a member.
type EventKind uint8

// The kinds of member events.
const (
	MemberJoined EventKind = iota
	MemberLeft
	MemberFailed
	MemberUpdated
	NameConflict // another live member has our name; Member.Addr is its address
)

func (k EventKind) String() string {
	return [...]string{"join", "leave", "failed", "update", "conflict"}[k]
}

// MemberEvent is passed to Config.OnMember.
type MemberEvent struct {
	Kind   EventKind
	Member Member
}

// peer is another member, present or past.
type peer struct {
	name  string
	addr  string
	meta  nodeMeta
	state MemberState
	since time.Time // when the state began
	seen  time.Time

	sync       Agreement // when last compared
	compared   time.Time
	agreed     time.Time // when roots were last the same
	differing  int       // comparisons in a row in which the roots differed
	asked      time.Time
	unanswered time.Time     // the first probe or question by UDP since the last answer
	packet     time.Time     // the last packet that came from its known address
	stream     time.Time     // last exchange by stream
	looked     time.Time     // when a stream to it was last opened to see whether that can be done
	noStream   error         // why that failed the last time
	lost       int           // times in a row that it failed
	stuck      error         // why the last exchange led nowhere
	stalls     int           // exchanges in a row that led nowhere
	skew       time.Duration // its clock minus the steady time since our start
	hasSkew    bool

	// fruitless counts the exchanges in a row that left the roots different and brought nothing new, or sent the same again.
	// Such exchanges become rarer and rarer.
	fruitless int
	gave      [16]byte // own root when something was last sent to it
	nextSync  time.Time

	leavingRun uint64 // the run that announced its leave
	leavingAt  time.Time
}

// target is an alive other member, as needed to send to it.
type target struct{ name, addr string }

// table is this member's view of the members. memberlist calls it under its node lock, so its own lock is a leaf: nothing of
// memberlist, the set or a callback is called under it.
type table struct {
	self  string
	every time.Duration // between two probes
	mu    sync.Mutex
	all   map[string]*peer

	view   atomic.Pointer[[]target]        // alive others, by name
	proven atomic.Pointer[[]target]        // those of them that have answered at their advertised address, by name
	digest atomic.Uint32                   // sum of the hashes of the names of all alive members
	places atomic.Pointer[map[string]bool] // addresses of members; true where packets are counted
	homes  atomic.Pointer[map[home]bool]   // addresses of members with their runs
}

const (
	// maxPeers bounds the table; a mesh has about a thousand members.
	maxPeers = 8192
	// maxMembers bounds the alive members. newcomersRate and newcomersBurst bound the new names that memberlist accepts, a
	// second and at once, because it keeps each for half a minute after its death.
	maxMembers     = 2048
	maxUnproven    = 256 // members that have not answered at their advertised address
	maxPerHost     = 32  // proven members of one host
	newcomersRate  = 50
	newcomersBurst = 1024
)

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
		if _, taken := places[p.addr]; !taken || p.state == Alive {
			places[p.addr] = p.meta.counts()
		}
		homes[home{p.addr, p.meta.Run}] = true
	}
	t.places.Store(&places)
	t.homes.Store(&homes)
	slices.SortFunc(view, func(a, b target) int { return cmp.Compare(a.name, b.name) })
	hosts := make(map[string]int)
	for _, to := range view {
		if !t.all[to.name].hasSkew {
			continue
		}
		if h := voice(to.addr); hosts[h] < maxPerHost {
			hosts[h]++
			proven = append(proven, to)
		}
	}
	t.view.Store(&view)
	t.proven.Store(&proven)
	t.digest.Store(sum)
}

func (t *table) others() []target { return *t.view.Load() }

// counts says whether the member at the address sends counted packets.
func (t *table) counts(addr string) bool { return (*t.places.Load())[addr] }

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
		p = &peer{name: name, state: Failed}
		t.all[name] = p
	}
	restarted := p.state == Alive && p.meta.Run != meta.Run
	switch {
	case p.state != Alive || restarted:
		kind, news = MemberJoined, true
		p.since = now
		p.sync, p.differing, p.fruitless, p.leavingRun = Unknown, 0, 0, 0
		p.compared, p.unanswered, p.packet, p.stream = now, time.Time{}, now, time.Time{}
		p.nextSync, p.asked = time.Time{}, time.Time{}
		p.looked, p.noStream, p.lost, p.stuck, p.stalls = now, nil, 0, nil, 0
		p.hasSkew, p.skew = false, 0
	case p.addr != addr || p.meta != meta:
		kind, news = MemberUpdated, true
	}
	p.addr, p.meta, p.state, p.seen = addr, meta, Alive, now
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

// measured records a member's clock difference, which also shows that the member has answered.
func (t *table) measured(name string, skew time.Duration, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := t.all[name]
	if p == nil {
		return
	}
	first := !p.hasSkew
	p.skew, p.hasSkew, p.seen, p.unanswered, p.packet = skew, true, now, time.Time{}, now
	if first {
		t.refresh()
	}
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

// forget drops members that have been gone since before the given time.
func (t *table) forget(state MemberState, before time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, p := range t.all {
		if p.state == state && p.since.Before(before) {
			delete(t.all, name)
		}
	}
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

// skews returns the measured clock differences of alive members, or of gone ones if no alive member was measured; drift is that
// of this member's own clock. Each host has one vote, however many members claim to be there: a key holder can invent names,
// but not addresses that answer. measured is the number of members behind the votes.
func (t *table) skews(drift time.Duration) (all []time.Duration, measured int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	alive, gone := make(map[string][]time.Duration), make(map[string][]time.Duration)
	lost := 0
	for _, p := range t.all {
		switch h := voice(p.addr); {
		case !p.hasSkew:
		case p.state == Alive:
			alive[h] = append(alive[h], p.skew-drift)
			measured++
		default:
			gone[h] = append(gone[h], p.skew-drift)
			lost++
		}
	}
	if measured == 0 {
		return voices(gone), lost
	}
	return voices(alive), measured
}

// voice identifies the host whose vote a member's clock belongs to: an IPv4 address or an IPv6 /64. On loopback every port is a
// host of its own.
func voice(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil || ap.Addr().IsLoopback() {
		return addr
	}
	if ap.Addr().Is6() {
		p, err := ap.Addr().WithZone("").Prefix(64)
		if err == nil {
			return p.String()
		}
	}
	return ap.Addr().String()
}

func voices(of map[string][]time.Duration) []time.Duration {
	out := make([]time.Duration, 0, len(of))
	for _, all := range of {
		slices.Sort(all)
		out = append(out, all[len(all)/2])
	}
	return out
}

// patience is how long a member may leave a probe unanswered before its state becomes unknown.
func (t *table) patience() time.Duration { return 3 * t.every }

// silent reports whether the member has not answered by UDP for that long. Called with the lock held.
func (t *table) silent(p *peer, now time.Time) bool {
	return p.state == Alive && !p.unanswered.IsZero() && now.Sub(p.unanswered) > t.patience()
}

// agrees says what is known of a member's root. Called with the lock held.
func (t *table) agrees(p *peer, now time.Time) Agreement {
	if p.state != Alive || t.silent(p, now) && now.Sub(p.compared) > t.patience() {
		return Unknown
	}
	return p.sync
}

// mute says in which direction UDP does not pass. Streams that do pass distinguish this from a member that has just died.
// Called with the lock held.
func (t *table) mute(p *peer, now time.Time) MuteDirection {
	switch {
	case !t.silent(p, now) || !p.stream.After(p.unanswered.Add(t.patience())) || now.Sub(p.stream) > 3*t.patience():
		return MuteNone
	case now.Sub(p.packet) > t.patience():
		return MuteFrom
	}
	return MuteTo
}

// answerWithin is how long this member waits for an answer by UDP before it opens a stream. It is well before the member counts
// as silent: a ban has to cross within three seconds of UDP being closed, and an exchange with a member that answers after all
// costs only two messages.
const answerWithin = 1500 * time.Millisecond

// lacks says whether an answer by UDP is overdue. Called with the lock held.
func (p *peer) lacks(now time.Time) bool {
	return p.state == Alive && !p.unanswered.IsZero() && now.Sub(p.unanswered) >= answerWithin
}

// unanswered lists the members whose answer by UDP is overdue.
func (t *table) unanswered(now time.Time) (names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		if p.lacks(now) {
			names = append(names, p.name)
		}
	}
	return names
}

// probed records that the member owes an answer by UDP.
func (t *table) probed(name string) {
	now := time.Now()
	t.with(name, func(p *peer) {
		if p.unanswered.IsZero() {
			p.unanswered = now
		}
	})
}

// agree records that the roots are the same. Called with the lock held.
func (p *peer) agree(now time.Time) {
	p.sync, p.compared, p.agreed, p.differing, p.fruitless, p.nextSync = Agrees, now, now, 0, 0, time.Time{}
	p.stuck, p.stalls = nil, 0
}

// agreement counts the alive others by what is known of their roots.
func (t *table) agreement() (equal, differ, unknown int) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all {
		if p.state != Alive {
			continue
		}
		switch t.agrees(p, now) {
		case Agrees:
			equal++
		case Differs:
			differ++
		default:
			unknown++
		}
	}
	return equal, differ, unknown
}

// toAsk picks alive members whose root is unknown or differs and was not requested in the last five seconds, and members that
// have left a probe unanswered.
func (t *table) toAsk(max int, now time.Time) []target {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []target
	due := func(p *peer) bool {
		return p.sync != Agrees && now.Sub(p.asked) >= 5*time.Second ||
			!p.unanswered.IsZero() && now.Sub(p.unanswered) >= t.every && now.Sub(p.asked) >= t.every
	}
	pick := func(max int, proven bool) {
		for _, p := range t.all { // in random order
			if len(out) == max {
				return
			}
			if p.state == Alive && p.hasSkew == proven && due(p) {
				p.asked = now
				out = append(out, target{p.name, p.addr})
			}
		}
	}
	pick(max-1, true) // invented members must not take the others' turns
	pick(max, false)
	pick(max, true)
	return out
}
