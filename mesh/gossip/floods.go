package gossip

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"banmesh/internal/excerpt"
	"banmesh/internal/ipranges"
)

// floods counts what each host sends, and remembers those that send more than members can have to say. Nothing is refused for it:
// the bounds on queues, streams and records do that, whoever sends. An operator must know whom to keep out. Under the lock only the
// table's is taken.
type floods struct {
	mu    sync.Mutex
	began time.Time // of the counting
	hosts map[netip.Prefix]*traffic
	more  traffic // of hosts beyond maxFloodHosts: forged sources are many
	told  map[netip.Prefix]flood

	rate int                              // packets a second that a member may send, see tuning.PacketRate
	at   func(host netip.Prefix) []string // the living members there
}

// traffic is what a host has sent within floodWindow.
type traffic struct{ packets, useless, streams int }

type flood struct {
	at   time.Time
	text string
}

const (
	floodWindow = 3 * time.Second
	// floodFor is how long a flood that is over is told of.
	floodFor      = 10 * time.Minute
	maxFloodHosts = 1024
	maxFloods     = 64
	// What a second may bring of a host. Of useless packets a member sends none; one without the right key, or whose clock or
	// version is odd, sends a few. Streams are opened every few seconds, by members that start or have lost packets more often.
	mostUseless = 200
	mostStreams = 50
	// mostStrange is the same of all packets of a host at which no member lives.
	mostStrange = 1000
	// mostHousemates bounds how many members' share one host has: members can be made up.
	mostHousemates = 16
)

// note counts. It costs a packet some 100 ns.
func (f *floods) note(from string, t traffic, now time.Time) {
	ap, err := netip.ParseAddrPort(from)
	if err != nil {
		return
	}
	host := ipranges.Host(ap.Addr())
	f.mu.Lock()
	defer f.mu.Unlock()
	if past := now.Sub(f.began); past >= floodWindow || past < 0 {
		f.judge(now, past)
	}
	h := f.hosts[host]
	switch {
	case h != nil:
	case len(f.hosts) >= maxFloodHosts:
		h = &f.more
	default:
		h = &traffic{}
		f.hosts[host] = h
	}
	h.packets += t.packets
	h.useless += t.useless
	h.streams += t.streams
}

// judge looks at what was counted, and counts anew. Called with the lock held.
func (f *floods) judge(now time.Time, past time.Duration) {
	if f.began.IsZero() || past < 0 {
		past = floodWindow
	}
	seconds := past.Seconds()
	for host, h := range f.hosts {
		if text := f.excess(host, h, seconds); text != "" {
			f.tell(host, now, text)
		}
	}
	if text := f.excess(netip.Prefix{}, &f.more, seconds); text != "" {
		f.tell(netip.Prefix{}, now, text)
	}
	f.began, f.more, f.hosts = now, traffic{}, make(map[netip.Prefix]*traffic)
}

func (f *floods) tell(host netip.Prefix, now time.Time, text string) {
	if f.told == nil {
		f.told = make(map[netip.Prefix]flood)
	}
	maps.DeleteFunc(f.told, func(_ netip.Prefix, x flood) bool { return now.Sub(x.at) > floodFor })
	if _, known := f.told[host]; known || len(f.told) < maxFloods {
		f.told[host] = flood{now, text}
	}
}

// excess says in words what of a host's traffic is too much, "" if nothing is. The host is zero for many hosts together.
func (f *floods) excess(host netip.Prefix, h *traffic, seconds float64) string {
	per := func(n int) int { return int(float64(n) / seconds) }
	packets, useless, streams := per(h.packets), per(h.useless), per(h.streams)
	if packets <= mostUseless && useless <= mostUseless && streams <= mostStreams {
		return ""
	}
	var names []string
	if host.IsValid() {
		names = f.at(host)
	}
	n := min(max(len(names), 1), mostHousemates)
	most := mostStrange
	if len(names) > 0 {
		most = n * f.rate
	}
	var what string
	switch {
	case useless > n*mostUseless:
		what = fmt.Sprintf("%d gossip packets a second that no member sends", useless)
	case packets > most:
		what = fmt.Sprintf("%d gossip packets a second", packets)
	case streams > n*mostStreams:
		what = fmt.Sprintf("%d gossip streams a second", streams)
	default:
		return ""
	}
	switch {
	case !host.IsValid():
		return "many addresses together send " + what + ": let only routers reach the gossip port, by a firewall"
	case len(names) == 0:
		return fmt.Sprintf("%s, where no member lives, sends %s: let only routers reach the gossip port, by a firewall", hostText(host), what)
	}
	return fmt.Sprintf("%s, the address of %s, sends %s: look what runs there; if it is none of yours, keep the address out by a firewall and change the gossip key", hostText(host), excerpt.Names(names), what)
}

// hostText is the address alone, where the host is one.
func hostText(host netip.Prefix) string {
	if host.IsSingleIP() {
		return host.Addr().String()
	}
	return host.String()
}

// Floods says which hosts have lately sent this member more than members have to say.
func (m *Mesh) Floods() []string {
	f := &m.wire.floods
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	var last []flood
	for _, x := range f.told {
		if now.Sub(x.at) <= floodFor {
			last = append(last, x)
		}
	}
	slices.SortFunc(last, func(a, b flood) int { return cmp.Or(b.at.Compare(a.at), cmp.Compare(a.text, b.text)) })
	var w []string
	for _, x := range last {
		w = append(w, x.text)
	}
	if n := len(w) - excerpt.Most; n > 1 {
		w = append(w[:excerpt.Most], fmt.Sprintf("%d more hosts flood the gossip port", n))
	}
	return w
}
