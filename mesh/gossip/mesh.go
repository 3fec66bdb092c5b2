package gossip

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"banmesh/internal/random"

	"github.com/hashicorp/memberlist"
)

// errClosed is returned by calls after Shutdown.
var errClosed = errors.New("the mesh is shut down")

// ErrNameTaken means that another live member has this one's name.
var ErrNameTaken = errors.New("name taken")

// Mesh is this member's place in the mesh.
// The fields stand in groups: what is fixed at the start; the wire and who is there; pushes and anti-entropy; small books of
// what was seen or asked; the end of life. Each group's owner is named in the file of its type.
type Mesh struct {
	cfg   Config
	tune  tuning
	set   Set
	log   *slog.Logger
	count counters
	run   uint64                 // drawn at each start, see nodeMeta; even, see nodeMeta.counts
	self  atomic.Pointer[string] // the advertised address, ip:port
	// the address of a member that claims our name, see Squatter; nil without one
	squatter atomic.Pointer[string]
	routed   atomic.Bool // the advertised address comes from a route

	ring *keyring
	wire *wire
	// An atomic pointer and not a lock: memberlist calls the delegate under its own lock, and a lock here would be taken in
	// both orders.
	list  atomic.Pointer[memberlist.Memberlist] // nil while there is none, see readdress
	lists atomic.Uint64                         // how many memberlists have been started
	table *table

	push  *pusher
	gaps  gaps
	sync  syncer
	known *known

	asks asks
	// The books below are filled by what peers send, so each has a bound of its own: a key holder must not fill the memory.
	newcomers   *pace // names never heard before
	strangers   strangers
	recent      recentHeads
	server      chan struct{} // slots for the exchanges being served
	rotate      sync.Mutex    // held during a key change requested here: one at a time
	keyMu       sync.Mutex    // held while the own ring and its file change; taken after rotate
	keyNews     keyNews
	events      chan MemberEvent
	warned      onceEach
	views       viewWatch
	looked      time.Time // keepHouse's own, see look
	looking     atomic.Bool
	started     time.Time
	random      *rand.Rand
	startedWall time.Time // started by this host's wall clock, see drift

	ctx    context.Context // ends with Shutdown
	cancel context.CancelFunc
	wg     sync.WaitGroup
	timers timers
	conns  connSet

	// Taken first of all locks of this package.
	leaveMu sync.Mutex // serialises Leave, Shutdown and readdress
	left    atomic.Bool
	closed  atomic.Bool
}

// New starts a member. It first looks for another live member of its name, for at most tuning.NameCheck, and refuses to start
// with ErrNameTaken if there is one. Joining goes on in the background for as long as it takes.
func New(ctx context.Context, cfg Config) (*Mesh, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	ring, err := openKeyring(&cfg)
	if err != nil {
		return nil, err
	}
	m := newMesh(cfg, ring)
	if err := m.openWire(); err != nil {
		m.cancel()
		return nil, err
	}
	if err := m.start(ctx); err != nil {
		_ = m.Shutdown()
		return nil, err
	}
	return m, nil
}

// newMesh makes the parts that need neither the network nor a goroutine.
func newMesh(cfg Config, ring *keyring) *Mesh {
	m := &Mesh{
		cfg: cfg, tune: cfg.tuning.withDefaults(cfg.Profile), set: cfg.Set, log: cfg.Logger, ring: ring,
		random: random.New(cfg.Random), table: newTable(cfg.Name),
		server: make(chan struct{}, maxServed), events: make(chan MemberEvent, 4096),
		newcomers: newPace(newcomersRate, newcomersBurst),
		started:   time.Now(), startedWall: cfg.Now().Round(0),
	}
	m.run = max(m.random.Uint64()&^1, 2) // even and not zero: this member counts its packets, see runCounts
	if m.tune.run != 0 {
		m.run = m.tune.run
	}
	m.table.every = cfg.memberlistConfig().ProbeInterval
	m.setAddr(netip.AddrPortFrom(netip.IPv4Unspecified(), 0)) // until the real one is found
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.timers.wg = &m.wg
	m.sync.init(m)
	m.push = newPusher(m)
	m.known = newKnown(m)
	return m
}

// openWire takes the sockets, or the transport that the configuration gives, and puts the sealing and the screening of packets
// and streams around it. Nothing is read from it before start.
func (m *Mesh) openWire() error {
	inner := m.cfg.Transport
	if inner == nil {
		l, err := newLink(m.cfg.Bind, m.log, &m.count)
		if err != nil {
			return err
		}
		inner = l
	}
	m.wire = newWire(inner, m.ring, m.cfg.Label, m.log, &m.count)
	m.wire.serve = m.serveStream
	if m.cfg.Guest != nil {
		m.wire.guestByte, m.wire.guest = m.cfg.GuestByte, m.serveGuest
	}
	m.wire.run, m.wire.now = m.run, m.cfg.Now
	m.wire.counts, m.wire.lives, m.wire.probed = m.table.counts, m.table.lives, m.table.probed
	m.wire.outreach.answered = m.table.answeredAt
	m.wire.floods.rate, m.wire.floods.at = m.tune.PacketRate, m.table.aliveAt
	return nil
}

// serveGuest hands a stream that is not gossip's over, but keeps it among those that Shutdown closes.
func (m *Mesh) serveGuest(c net.Conn, host string) {
	if !m.conns.add(c) {
		_ = c.Close()
		return
	}
	defer m.conns.remove(c)
	m.cfg.Guest(m.ctx, c, host)
}

// listConfig is memberlist's configuration, with the address to advertise; "" leaves that to the transport.
func (m *Mesh) listConfig(advertise string, port int) *memberlist.Config {
	mc := m.cfg.memberlistConfig()
	mc.Transport = instance{m.wire}
	mc.Logger = bridge(m.log)
	d := delegate{m, m.lists.Load()}
	mc.Delegate, mc.Events, mc.Ping, mc.Conflict, mc.Alive = d, d, d, d, d
	if m.cfg.Bind.IsValid() {
		mc.BindAddr, mc.BindPort = m.cfg.Bind.Addr().String(), int(m.cfg.Bind.Port())
	}
	mc.AdvertiseAddr, mc.AdvertisePort = advertise, port
	return mc
}

// start finds the address, looks whether the name is taken, joins memberlist and starts the loops, in that
// order: until the name is known to be free nobody must hear of this member. On an error the caller closes
// what was opened.
func (m *Mesh) start(ctx context.Context) error {
	advertise, advertisePort := "", 0
	switch {
	case m.cfg.Advertise != "":
		a, err := parseAdvertise(m.cfg.Advertise, 0)
		if err != nil {
			return err
		}
		advertise, advertisePort = a.Addr().String(), int(a.Port())
	case m.guessesAddress():
		a, err := m.findAddress(ctx)
		if err != nil {
			return fmt.Errorf("start gossip: %w", err)
		}
		advertise = a.String()
	}
	// The transport knows the port it got when 0 was configured; memberlist asks for the same thing again in Create.
	ip, port, err := m.wire.FinalAdvertiseAddr(advertise, advertisePort)
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	if advertise != "" {
		advertisePort = port
	}
	own, ok := netip.AddrFromSlice(ip)
	if !ok {
		return fmt.Errorf("start gossip: %v is no address", ip)
	}
	own = own.Unmap()
	m.setAddr(netip.AddrPortFrom(own, uint16(port)))
	// validate saw the configuration only. The address that was found may be a public one although nothing in the file says
	// so.
	if m.ring == nil && !m.cfg.Insecure && !own.IsLoopback() && m.cfg.Transport == nil {
		return fmt.Errorf("gossip.keyring is not set, and the address %s that others reach is not loopback: make a key with banmesh keygen, or set gossip.insecure: true", m.addr())
	}
	// Before memberlist exists: the search for our name needs streams, and a second member of one name would make both of
	// them unreachable to some of the others.
	m.wire.start()
	if err := m.searchName(ctx); err != nil {
		return err
	}
	// From here on memberlist takes what arrives. Earlier its channels had no reader, and one packet would have blocked all
	// others.
	m.wire.members.Store(true)
	list, err := memberlist.Create(m.listConfig(advertise, advertisePort))
	if err != nil {
		return fmt.Errorf("start gossip: %w", err)
	}
	m.list.Store(list)
	for _, f := range []func(){func() { m.receive(m.wire.frames) }, func() { m.receive(m.wire.records) }, m.dispatch, m.push.loop, m.sync.loop, m.known.loop, m.known.saver, m.keepHouse} {
		m.wg.Add(1)
		go func() {
			defer m.wg.Done()
			f()
		}()
	}
	return nil
}

// Addr is the advertised address, ip:port.
func (m *Mesh) Addr() string { return m.addr() }

func (m *Mesh) addr() string { return *m.self.Load() }

func (m *Mesh) setAddr(a netip.AddrPort) {
	s := a.String()
	m.self.Store(&s)
}

// Announce reports that the own log has grown. It never blocks.
// The store's change callback calls it, and that must not wait.
func (m *Mesh) Announce() { m.push.announce() }

// Members lists all known members, including those that are gone, by name.
func (m *Mesh) Members() []Member {
	out := m.table.members(m.drift())
	state, agrees := Alive, Unknown
	if _, differ, _ := m.table.agreement(); m.InSync() {
		agrees = Agrees
	} else if differ > 0 {
		agrees = Differs
	}
	if m.left.Load() {
		state = Left
	}
	// This member is not in its own table.
	out = append(out, Member{
		Name: m.cfg.Name, Addr: m.addr(), State: state, Self: true, Eligible: m.cfg.Eligible,
		Priority: m.cfg.Priority, Agrees: agrees, Version: m.cfg.Version, Seen: time.Now(),
	})
	slices.SortFunc(out, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Member returns what is known of another member; ok is false if nothing is.
func (m *Mesh) Member(name string) (_ Member, ok bool) { return m.table.named(name, m.drift()) }

// Send carries a payload of at most 1,200 bytes to another member's OnMessage, at most once and without a guarantee.
// It tries once: heartbeats and reports are sent again a second later, and a forwarded request has its own timeout.
func (m *Mesh) Send(to string, payload []byte) error {
	if m.closed.Load() {
		return errClosed
	}
	if len(payload) > maxMessage {
		return fmt.Errorf("message of %d bytes to %s is longer than %d", len(payload), to, maxMessage)
	}
	addr, ok := m.table.addr(to)
	if !ok {
		return fmt.Errorf("no member is named %s", to)
	}
	return m.sendTo(addr, encode(kindMessage, messageMsg{From: m.cfg.Name, Payload: payload}))
}

// sendTo seals one frame and sends it.
func (m *Mesh) sendTo(addr string, frame []byte) error {
	if len(frame) > maxFrame {
		m.count.drop("frame too long")
		return fmt.Errorf("frame of %d bytes does not fit a packet", len(frame))
	}
	return m.send(addr, m.wire.envelope(frame))
}

// A packet that cannot be sent is counted and forgotten: UDP promises no more, and anti-entropy brings what matters.
func (m *Mesh) send(addr string, e *envelope) error {
	if _, err := m.wire.send(e, addr); err != nil {
		m.count.drop("send error")
		return fmt.Errorf("send to %s: %w", addr, err)
	}
	return nil
}

// stamp is this member's own stamp.
// The root is computed for the minute by the members' clocks, which the stamp names: expiry between two members' minutes must
// not look like a difference.
func (m *Mesh) stamp() []byte {
	minute := m.minute()
	return stamp{
		root: m.set.Root(minute), minute: minute,
		millis: m.cfg.Now().UnixMilli(), members: m.table.digest.Load(),
	}.encode()
}

// Stats returns a copy of the counters.
func (m *Mesh) Stats() Stats { return m.count.snapshot() }

// Leave tells the others that this member leaves for good and need not be looked for. It waits until one of them has heard so
// or the context ends. Shutdown must still follow.
func (m *Mesh) Leave(ctx context.Context) error {
	m.leaveMu.Lock()
	defer m.leaveMu.Unlock()
	if m.closed.Load() {
		return errClosed
	}
	if m.left.Swap(true) {
		return nil
	}
	m.sayLeaving()
	// memberlist waits until its message has gone out to a few members, not until all have it.
	timeout := 2 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = min(timeout, max(time.Until(d), time.Millisecond))
	}
	// memberlist spreads its own leave message; ours only distinguishes it from a death.
	var err error
	if list := m.list.Load(); list != nil {
		err = list.Leave(timeout)
	}
	m.sayLeaving()
	if err != nil {
		return fmt.Errorf("leave the mesh: %w", err)
	}
	return ctx.Err()
}

// sayLeaving tells everybody straight away that this member leaves for good. memberlist's own message cannot
// be told from a death.
func (m *Mesh) sayLeaving() {
	b := m.wire.envelope(encode(kindLeaving, leavingMsg{From: m.cfg.Name, Run: m.run}))
	for _, t := range m.table.others() {
		_ = m.send(t.addr, b)
	}
}

// Shutdown stops everything and waits for it. The others take it for a crash unless Leave came first.
// The order matters: no new work (cancel, timers), then no memberlist that would call the delegate, then the wire, whose end
// lets blocked readers return, then the streams. Only then can the goroutines be waited for, and what they learnt last be
// saved.
func (m *Mesh) Shutdown() error {
	m.leaveMu.Lock()
	defer m.leaveMu.Unlock()
	if m.closed.Swap(true) {
		return nil
	}
	m.cancel()
	m.timers.stop()
	var err error
	if list := m.list.Load(); list != nil {
		err = list.Shutdown()
	}
	if werr := m.wire.Shutdown(); err == nil {
		err = werr
	}
	m.conns.closeAll()
	m.wire.wg.Wait()
	m.wg.Wait()
	m.known.save()
	if err != nil {
		return fmt.Errorf("shut the mesh down: %w", err)
	}
	return nil
}

// dispatch delivers the events in order.
func (m *Mesh) dispatch() {
	for {
		select {
		case <-m.ctx.Done():
			return
		case e := <-m.events:
			m.log.Info("member "+e.Kind.String(), "name", e.Member.Name, "addr", e.Member.Addr)
			if m.cfg.OnMember != nil {
				m.cfg.OnMember(e)
			}
		}
	}
}

// It runs under memberlist's node lock. A slow receiver therefore loses events instead of stopping the mesh; the members
// themselves are always right in the table.
func (m *Mesh) event(kind EventKind, member Member) {
	select {
	case m.events <- MemberEvent{kind, member}:
	default:
		m.count.drop("member event")
	}
}

// keepHouse runs the periodic chores once a second.
func (m *Mesh) keepHouse() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case now := <-t.C:
			offset, _ := m.Offset()
			m.wire.offset.Store(int64(offset))
			// Four a second cost little, and reach a thousand members in the time of a few probes.
			for _, to := range m.table.toAsk(4, now) {
				m.ask(to.name, to.addr)
			}
			m.sync.wantUnanswered()
			m.look(now)
			m.asks.expire(now)
			m.recent.expire(now)
			m.table.forget(now)
			m.sync.settle()
		}
	}
}

// jitter varies d by a quarter either way, so that members do not act in lockstep.
func (m *Mesh) jitter(d time.Duration) time.Duration {
	return d*3/4 + random.Below(m.random, d/2+1)
}
