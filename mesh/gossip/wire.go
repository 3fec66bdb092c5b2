package gossip

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"

	"banmesh/internal/ipranges"
)

const (
	// maxStreams bounds inbound streams that are open at once, including memberlist's and those that have not shown a key yet:
	// 16 KiB each.
	// memberlist's push/pulls, exchanges, looks and key changes of a mesh of a thousand stay well below.
	maxStreams = 256
	// maxMemberStream is how much memberlist may read of one stream: its push/pull state is about 200 bytes a member.
	maxMemberStream = 8 << 20
	// A hello fits one packet each way; a slower peer holds a slot for nothing.
	helloTimeout = 5 * time.Second
	// maxGreeting bounds the streams of one host that have not shown a key yet: one host must not shut out all others.
	maxGreeting = maxStreams / 4
	// maxGreetingStrangers bounds such streams of all hosts together that have never shown one: many hosts must not shut out the members.
	maxGreetingStrangers = maxStreams / 2
	// maxGreeted bounds the hosts that are remembered for having shown a key.
	maxGreeted = 4096
	// frameQueue bounds the frames that wait for a receiver, about 5 MB.
	frameQueue = 4096
)

// inbound is one received frame of this package.
type inbound struct {
	frame []byte
	from  string
	run   uint64 // of the sender, 0 if its packets are not counted
}

// wire is the transport that memberlist gets: it seals and opens everything on the way to the real one, and diverts this
// package's own frames and streams.
// It stands below memberlist and not inside it, because memberlist's own encryption reads up to 20 MiB before it looks at a
// key and keeps no replay window.
type wire struct {
	inner memberlist.Transport
	ring  *keyring // nil: not encrypted
	label string
	log   *slog.Logger
	count *counters

	packets chan *memberlist.Packet
	streams chan net.Conn
	frames  chan inbound              // small messages: who is there, who leads, who agrees
	records chan inbound              // frames that are merged or looked up in the set, and may have to wait for the store
	serve   func(*secureConn, string) // frame streams; set before start
	guest   func(net.Conn, string)    // streams that begin with guestByte; may be nil; set before start

	guestByte byte

	// The mesh sets these before start.
	run      uint64
	now      func() time.Time
	counts   func(addr string) bool             // whether packets to the address are counted
	lives    func(addr string, run uint64) bool // whether a member of that run is there
	counter  packetCounter
	probed   func(name string) // memberlist is about to probe a member
	replays  replays
	offset   atomic.Int64 // the members' clocks minus the own one, see Mesh.Offset
	knocks   knocks
	outreach outreach
	floods   floods

	slots   chan struct{}
	greets  greeting
	members atomic.Bool // memberlist is running and takes its packets and streams
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
	warned  onceEach
}

var _ memberlist.NodeAwareTransport = (*wire)(nil)

// newWire answers the questions about members with no until Mesh puts its own answers in place, which it does
// before start.
func newWire(inner memberlist.Transport, ring *keyring, label string, log *slog.Logger, count *counters) *wire {
	return &wire{
		inner: inner, ring: ring, label: label, log: log, count: count,
		outreach: newOutreach(),
		// Small: memberlist reads it all the time and keeps a queue of its own.
		packets: make(chan *memberlist.Packet, 64),
		streams: make(chan net.Conn),
		frames:  make(chan inbound, frameQueue),
		records: make(chan inbound, frameQueue),
		now:     time.Now,
		counts:  func(string) bool { return false },
		lives:   func(string, uint64) bool { return false },
		probed:  func(string) {},
		slots:   make(chan struct{}, maxStreams),
		done:    make(chan struct{}),
		floods:  floods{rate: 6000, at: func(netip.Prefix) []string { return nil }},
	}
}

func (w *wire) start() {
	w.wg.Add(2)
	go w.pumpPackets()
	go w.pumpStreams()
}

// pumpPackets is one goroutine: packets of one sender keep their order as far as the network kept it.
func (w *wire) pumpPackets() {
	defer w.wg.Done()
	for {
		select {
		case <-w.done:
			return
		case p := <-w.inner.PacketCh():
			if p != nil {
				w.packet(p)
			}
		}
	}
}

// packet opens a packet and passes it on to memberlist or to one of our queues. It runs in the goroutine that reads the socket and
// so never waits for a store or a member.
func (w *wire) packet(p *memberlist.Packet) {
	w.count.packetsReceived.Add(1)
	w.count.bytesReceived.Add(uint64(len(p.Buf)))
	from := ""
	if p.From != nil {
		from = p.From.String()
	}
	w.floods.note(from, traffic{packets: 1}, time.Now())
	channel, payload, err := openPacket(w.ring, w.label, p.Buf)
	if err != nil {
		w.unopened(from, err)
		return
	}
	// After the seal, before anything looks at the content: a replayed packet is as well formed as a fresh one.
	channel, payload, run, reason := w.uncount(channel, payload, from)
	if reason != "" {
		w.floods.note(from, traffic{useless: 1}, time.Now())
		w.count.drop(reason)
		return
	}
	switch channel {
	case chanMembers:
		// memberlist does not exist yet, see Mesh.start.
		if !w.members.Load() {
			w.count.drop("early packet")
			return
		}
		if payload = screenPacket(payload, from, w.screened(from)); payload == nil {
			return
		}
		select {
		case w.packets <- &memberlist.Packet{Buf: payload, From: p.From, Timestamp: p.Timestamp}:
		case <-w.done:
		}
	case chanFrames:
		queue := w.frames
		if ofRecords(payload) {
			queue = w.records
		}
		// A full queue loses the newest frame, as a socket does: anti-entropy brings it.
		select {
		case queue <- inbound{payload, from, run}:
		default:
			w.count.drop("receive queue full")
		}
	default:
		w.count.drop("unknown channel")
	}
}

// refuse counts what is dropped, and logs it once for each host and reason: a scanner must not fill the log.
func (w *wire) refuse(from, reason string, more ...any) {
	w.count.drop(reason)
	w.floods.note(from, traffic{useless: 1}, time.Now())
	if host := hostOf(from); w.warned.first(host + "\x00" + reason) {
		w.log.Warn("dropped gossip", append([]any{"from", host, "reason", reason}, more...)...)
	}
}

// unopened refuses what could not be opened.
func (w *wire) unopened(from string, err error) {
	w.refuse(from, dropReason(err), "detail", err.Error())
}

// pumpStreams gives each stream a slot before it is greeted. A stream without one is closed rather than
// queued: an attacker who opens many would keep the members' waiting behind them.
func (w *wire) pumpStreams() {
	defer w.wg.Done()
	for {
		select {
		case <-w.done:
			return
		case c := <-w.inner.StreamCh():
			if c == nil {
				continue
			}
			from := c.RemoteAddr().String()
			w.floods.note(from, traffic{streams: 1}, time.Now())
			host := hostOf(from)
			known, refused := w.greets.enter(host)
			if refused != "" {
				w.count.drop(refused)
				_ = c.Close()
				continue
			}
			select {
			case w.slots <- struct{}{}:
				w.wg.Add(1)
				go w.stream(c, host, known)
			default:
				w.greets.leave(host, known)
				w.count.drop("too many streams")
				_ = c.Close()
			}
		}
	}
}

// stream serves one inbound stream; known is what the greeting said of its host.
func (w *wire) stream(c net.Conn, host string, known bool) {
	defer w.wg.Done()
	from := c.RemoteAddr().String()
	c, guest := w.isGuest(c)
	if guest {
		w.greets.leave(host, known)
		w.guest(c, host)
		<-w.slots
		return
	}
	s, channel, err := acceptStream(c, w.ring, w.label, helloTimeout, w.count)
	w.greets.leave(host, known)
	if err != nil {
		var ne net.Error
		if errors.As(err, &ne) || errors.Is(err, net.ErrClosed) {
			w.count.drop("stream without hello")
		} else {
			w.knocks.note(from, err)
			w.unopened(from, err)
		}
		_ = c.Close()
		<-w.slots
		return
	}
	// Its next streams are not counted among the strangers'.
	w.greets.showed(host)
	w.count.streamsTaken.Add(1)
	// memberlist closes its streams by itself, and later than this function returns.
	s.onClose = func() { <-w.slots }
	switch {
	case channel == chanMembers && w.members.Load():
		select {
		case w.streams <- w.screenStream(s, from): // memberlist closes it
		case <-w.done:
			_ = s.Close()
		}
	case channel == chanFrames:
		w.serve(s, from)
		_ = s.Close()
	default:
		w.count.drop("unknown channel")
		_ = s.Close()
	}
}

// send writes a frame in its envelope.
func (w *wire) send(e *envelope, to string) (time.Time, error) {
	if !w.outreach.packet(to) {
		w.count.drop("packet to a stranger")
		return time.Now(), nil // lost, as any packet may be
	}
	b := e.to(to)
	w.count.packetsSent.Add(1)
	w.count.bytesSent.Add(uint64(len(b)))
	return w.inner.WriteTo(b, to)
}

func (w *wire) envelope(frame []byte) *envelope {
	return &envelope{w: w, channel: chanFrames, payload: frame}
}

// open opens a stream that is sealed with the first key of the ring.
func (w *wire) open(to string, channel byte, ring *keyring, timeout time.Duration) (*secureConn, error) {
	answered, err := w.outreach.try(to)
	if err != nil {
		return nil, err
	}
	c, err := w.inner.DialTimeout(to, timeout)
	if err != nil {
		return nil, err
	}
	s, err := dialStream(c, ring, w.label, channel, timeout, w.count)
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("open stream to %s: %w", to, err)
	}
	w.count.streamsOpened.Add(1)
	answered()
	return s, nil
}

// The rest implements memberlist's transport.

func (w *wire) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	return w.inner.FinalAdvertiseAddr(ip, port)
}

func (w *wire) WriteTo(b []byte, addr string) (time.Time, error) {
	return w.send(&envelope{w: w, channel: chanMembers, payload: b}, addr)
}

// WriteToAddress also tells Mesh whom memberlist probes, so that a member that stops answering shows before
// it is declared dead.
func (w *wire) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	if isPing(b) {
		w.probed(addr.Name)
	}
	return w.WriteTo(b, addr.Addr)
}

// isPing reports whether a memberlist packet begins with a probe: other messages ride behind it.
func isPing(b []byte) bool {
	if len(b) == 0 || b[0] != mlCompound {
		return len(b) > 0 && b[0] == mlPing
	}
	parts, ok := compoundParts(b[1:])
	return ok && len(parts) > 0 && len(parts[0]) > 0 && parts[0][0] == mlPing
}

func (w *wire) PacketCh() <-chan *memberlist.Packet { return w.packets }
func (w *wire) StreamCh() <-chan net.Conn           { return w.streams }

// DialTimeout opens a stream for memberlist, screened like one that comes in: the member at the other end is
// believed no more.
func (w *wire) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	c, err := w.open(addr, chanMembers, w.ring, timeout)
	if err != nil {
		return nil, err
	}
	return w.screenStream(c, addr), nil
}

// screenStream is what memberlist gets of a stream.
func (w *wire) screenStream(s *secureConn, from string) net.Conn {
	l := &limitedConn{secureConn: s, left: maxMemberStream, drop: func() { w.count.drop("stream too long") }}
	return &screenedConn{Conn: l, peer: from, drop: w.screened(from)}
}

// screened returns what counts and logs what is withheld from memberlist.
func (w *wire) screened(from string) func(reason string) {
	return func(reason string) { w.refuse(from, reason) }
}

func (w *wire) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	// memberlist waits ten seconds for a silent address, which would delay the attempts to rejoin the others.
	return w.DialTimeout(addr.Addr, min(timeout, 3*time.Second))
}

func (w *wire) Shutdown() error {
	var err error
	w.once.Do(func() {
		close(w.done)
		err = w.inner.Shutdown()
	})
	return err
}

// greeting counts the streams that have not shown a key yet, and remembers the hosts that have once shown one.
type greeting struct {
	mu        sync.Mutex
	from      map[string]int // by host
	strangers int            // of hosts that are not in greeted
	greeted   map[string]struct{}
}

// enter returns why a stream of a host is refused, "" if it is not. Unless it is, leave gets known in the end.
func (g *greeting) enter(host string) (known bool, refused string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, known = g.greeted[host]
	switch {
	case g.from[host] >= maxGreeting:
		return known, "too many streams of a host"
	case !known && g.strangers >= maxGreetingStrangers:
		return known, "too many streams of strangers"
	}
	if g.from == nil {
		g.from = make(map[string]int)
	}
	if g.from[host]++; !known {
		g.strangers++
	}
	return known, ""
}

// leave is called when the greeting is over, with a key or without.
func (g *greeting) leave(host string, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.from[host]--; g.from[host] <= 0 {
		delete(g.from, host)
	}
	if !known {
		g.strangers--
	}
}

// showed remembers a host that has shown a key, in place of any other where there are too many.
func (g *greeting) showed(host string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.greeted == nil {
		g.greeted = make(map[string]struct{})
	}
	if _, known := g.greeted[host]; !known && len(g.greeted) >= maxGreeted {
		// Any one: the hosts of living members come back into it within seconds.
		for other := range g.greeted {
			delete(g.greeted, other)
			break
		}
	}
	g.greeted[host] = struct{}{}
}

// hostOf returns the host that an address with a port belongs to.
func hostOf(addr string) string {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return addr
	}
	return ipranges.Host(ap.Addr()).String()
}

// onceEach remembers what was logged, up to a bound.
type onceEach struct {
	mu   sync.Mutex
	seen map[string]struct{}
}

const maxOnceEach = 1024

// first reports whether the key is new. Beyond maxOnceEach nothing is: a warning that is left out does no
// harm, a log that is filled does.
func (o *onceEach) first(key string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, ok := o.seen[key]; ok || len(o.seen) >= maxOnceEach {
		return false
	}
	if o.seen == nil {
		o.seen = make(map[string]struct{})
	}
	o.seen[key] = struct{}{}
	return true
}
