package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"banmesh/mesh/control"
)

// within runs f with the network of a host: sockets that it opens stay there.
func (l *lab) within(host string, f func() error) {
	l.t.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		h, err := netns.GetFromName(host)
		if err == nil {
			defer h.Close()
			if err = netns.Set(h); err == nil {
				err = f()
			}
		}
		done <- err
	}()
	if err := <-done; err != nil {
		l.t.Fatalf("in %s: %v", host, err)
	}
}

// sink takes UDP packets on a host and notes when the last one came from each
// source.
type sink struct {
	conn *net.UDPConn
	mu   sync.Mutex
	last map[netip.Addr]time.Time
	n    map[netip.Addr]int
}

const sinkPort = 9999

func (l *lab) sink(host string) *sink {
	l.t.Helper()
	s := &sink{last: make(map[netip.Addr]time.Time), n: make(map[netip.Addr]int)}
	l.within(host, func() (err error) {
		s.conn, err = net.ListenUDP("udp", &net.UDPAddr{Port: sinkPort})
		return err
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64)
		for {
			_, from, err := s.conn.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			s.mu.Lock()
			from = netip.AddrPortFrom(from.Addr().Unmap(), 0)
			s.last[from.Addr()] = time.Now()
			s.n[from.Addr()]++
			s.mu.Unlock()
		}
	}()
	l.t.Cleanup(func() { s.conn.Close(); <-done })
	return s
}

func (s *sink) got(from string) (n int, last time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := netip.MustParseAddr(from)
	return s.n[a], s.last[a]
}

// stream sends a packet each millisecond, from an address of a host, until the
// test ends or stop is called.
func (l *lab) stream(host, from, to string) (stop func()) {
	l.t.Helper()
	var conn *net.UDPConn
	l.within(host, func() (err error) {
		conn, err = net.DialUDP("udp", &net.UDPAddr{IP: net.ParseIP(from)}, &net.UDPAddr{IP: net.ParseIP(to), Port: sinkPort})
		return err
	})
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-end:
				return
			case <-ticker.C:
				conn.Write([]byte("knock")) // refused or not: the next one is sent
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(end); <-done; conn.Close() })
	l.t.Cleanup(stop)
	return stop
}

// passes waits until packets from an address arrive.
func (s *sink) passes(t testing.TB, from string) {
	t.Helper()
	before, _ := s.got(from)
	eventually(t, 10*time.Second, "packets from "+from, func() bool { n, _ := s.got(from); return n > before+3 })
}

// stops waits until no packet from an address has arrived for a while, and
// returns when the last one did.
func (s *sink) stops(t testing.TB, from string) time.Time {
	t.Helper()
	var last time.Time
	eventually(t, 10*time.Second, "no more packets from "+from, func() bool {
		_, last = s.got(from)
		return time.Since(last) > 150*time.Millisecond
	})
	return last
}

// enforced are the settings of an agent that drops.
var enforced = settings{extra: "enforce: {driver: nftables}\nlog: {level: warn}\n"}

// droppers are three routers that drop, and a fourth host with addresses of its
// own, 10.77.0.100 and so on and fd00:77::100 and so on, that knocks.
type droppers struct {
	*lab
	agents  []*agent
	sink    *sink  // on the second router
	knocker string // the host
}

const secondRouter, secondRouter6 = "10.77.0.2", "fd00:77::2"

func newDroppers(t testing.TB, addresses int) *droppers {
	t.Helper()
	d := &droppers{lab: newLab(t, 4)}
	d.knocker = d.name(3)
	d.ip("-n", d.name(1), "addr", "add", secondRouter6+"/64", "dev", "eth0", "nodad")
	for i := range addresses {
		d.ip("-n", d.knocker, "addr", "add", from4(i)+"/24", "dev", "eth0")
		d.ip("-n", d.knocker, "addr", "add", from6(i)+"/64", "dev", "eth0", "nodad")
	}
	for i := range 3 {
		d.agents = append(d.agents, d.agent(i, enforced).start())
	}
	awaitMembers(t, d.agents, 3)
	d.sink = d.lab.sink(d.name(1))
	for _, a := range d.agents {
		eventually(t, 10*time.Second, a.name+" to enforce", func() bool { return strings.Contains(enforcing(a), "nftables on") })
	}
	return d
}

func from4(i int) string { return fmt.Sprintf("10.77.0.%d", 100+i) }
func from6(i int) string { return fmt.Sprintf("fd00:77::%x", 0x100+i) }

// enforcing is what status says of enforcement.
func enforcing(a *agent) string {
	a.t.Helper()
	var s struct {
		Enforce  *control.Enforcement `json:"enforce"`
		Warnings []string             `json:"warnings"`
	}
	if err := json.Unmarshal([]byte(a.must("status", "--json")), &s); err != nil {
		a.t.Fatal(err)
	}
	if s.Enforce == nil {
		s.Enforce = new(control.Enforcement)
	}
	return fmt.Sprintf("%s %s, %d in force\n", s.Enforce.Driver, s.Enforce.State, s.Enforce.InForce) + strings.Join(s.Warnings, "\n")
}

// rules are the rules of a host.
func (l *lab) rules(host int) string {
	l.t.Helper()
	line := append(l.inside(host), "nft", "list", "ruleset")
	out, err := exec.Command(line[0], line[1:]...).CombinedOutput()
	if err != nil {
		l.t.Fatalf("nft list ruleset in %s: %v: %s", l.name(host), err, out)
	}
	return string(out)
}

// TestAPeersBanDropsPackets: bans of the first router, packets to the second and
// through it, beside a firewall that accepts what is established.
func TestAPeersBanDropsPackets(t *testing.T) {
	t.Parallel()
	d := newDroppers(t, 8)
	one, two := d.agents[0], d.agents[1]
	d.nft(1, "table inet firewall {\n\tchain input {\n\t\ttype filter hook input priority filter\n\t\tct state established,related accept\n\t}\n}\n")

	t.Log("dropped and let in again")
	{
		for _, from := range []string{from4(0), from6(0)} {
			to := secondRouter
			if strings.Contains(from, ":") {
				to = secondRouter6
			}
			stop := d.stream(d.knocker, from, to)
			d.sink.passes(t, from)
			one.must("ban", from, "--for", "1h")
			d.sink.stops(t, from)
			one.must("unban", from)
			d.sink.passes(t, from)
			stop()
		}
	}

	t.Log("an established connection is cut")
	{
		conn, peer := d.connect(from4(1), secondRouter)
		talk := func(wait time.Duration) error {
			b := make([]byte, 1)
			peer.SetReadDeadline(time.Now().Add(wait))
			if _, err := conn.Write([]byte("x")); err != nil {
				return err
			}
			_, err := io.ReadFull(peer, b)
			return err
		}
		if err := talk(5 * time.Second); err != nil {
			t.Fatal(err)
		}
		one.must("ban", from4(1), "--for", "1h")
		eventually(t, 5*time.Second, "the connection to be cut", func() bool { return talk(300*time.Millisecond) != nil })
		if err := talk(time.Second); err == nil {
			t.Error("bytes come through after the ban")
		}
		one.must("unban", from4(1))
		eventually(t, 10*time.Second, "the connection to go on", func() bool { return talk(300*time.Millisecond) == nil })
	}

	t.Log("allows and members come last")
	{
		one.must("allow", "add", from4(3))
		d.stream(d.knocker, from4(2), secondRouter)
		d.stream(d.knocker, from4(3), secondRouter)
		d.stream(d.name(2), d.addr(2), secondRouter)
		d.sink.passes(t, from4(2))
		one.must("ban", "10.77.0.0/24", "--for", "1h")
		d.sink.stops(t, from4(2))
		d.sink.passes(t, from4(3))
		d.sink.passes(t, d.addr(2))
		if got := d.agents[2].status().Members.Alive; got != 3 {
			t.Errorf("%d members are alive, want 3", got)
		}
		one.must("allow", "remove", from4(3))
		d.sink.stops(t, from4(3))
		one.must("unban", "10.77.0.0/24")
		d.sink.passes(t, from4(2))
	}

	t.Log("forwarded packets too")
	{
		inner := d.id + "-inner"
		d.namespace(inner)
		d.ip("link", "add", "in0", "netns", d.name(1), "type", "veth", "peer", "name", "eth0", "netns", inner)
		d.ip("-n", d.name(1), "addr", "add", "10.88.0.1/24", "dev", "in0")
		d.ip("-n", d.name(1), "link", "set", "in0", "up")
		d.ip("-n", inner, "addr", "add", "10.88.0.2/24", "dev", "eth0")
		d.ip("-n", inner, "link", "set", "eth0", "up")
		d.ip("-n", inner, "route", "add", "default", "via", "10.88.0.1")
		d.ip("-n", d.knocker, "route", "add", "10.88.0.0/24", "via", secondRouter)
		d.ip("netns", "exec", d.name(1), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
		behind := d.lab.sink(inner)
		d.stream(d.knocker, from4(4), "10.88.0.2")
		behind.passes(t, from4(4))
		one.must("ban", from4(4), "--for", "1h")
		behind.stops(t, from4(4))
	}

	t.Log("freeze stops additions")
	{
		d.stream(d.knocker, from4(5), secondRouter)
		d.stream(d.knocker, from4(6), secondRouter)
		one.must("ban", from4(5), "--for", "1h")
		d.sink.stops(t, from4(5))
		one.must("freeze")
		eventually(t, 5*time.Second, "router2 to be frozen", func() bool { return strings.Contains(enforcing(two), "nftables frozen") })
		one.must("ban", from4(6), "--for", "1h")
		one.must("unban", from4(5))
		d.sink.passes(t, from4(5))
		d.sink.passes(t, from4(6))
		one.must("thaw")
		d.sink.stops(t, from4(6))
	}

	t.Log("what is flushed comes back")
	{
		d.nft(1, "delete table inet banmesh\n")
		d.sink.stops(t, from4(6))
		d.nft(1, "delete table inet banmesh\n")
		one.must("ban", from4(7), "--for", "1h") // the next change finds the table missing
		d.sink.stops(t, from4(6))
	}

	t.Log("leave takes it off, and nothing else")
	{
		two.must("leave")
		<-two.ended
		rules := d.rules(1)
		if strings.Contains(rules, "banmesh") || !strings.Contains(rules, "ct state established,related accept") {
			t.Errorf("after leave the rules are\n%s", rules)
		}
		d.sink.passes(t, from4(6))
	}
}

// connect makes a TCP connection from an address of the knocker's.
func (d *droppers) connect(from, to string) (conn, peer net.Conn) {
	d.t.Helper()
	var ln net.Listener
	d.within(d.name(1), func() (err error) {
		ln, err = net.Listen("tcp", net.JoinHostPort(to, "0"))
		return err
	})
	defer ln.Close()
	d.within(d.knocker, func() (err error) {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		conn, err = dialer.Dial("tcp", ln.Addr().String())
		return err
	})
	peer, err := ln.Accept()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close(); peer.Close() })
	return conn, peer
}

// TestNoPacketPassesWhileAnAgentIsAway: killed, restarted, stopped and started
// again, under a stream from a banned source; what happens meanwhile is made up
// for, and what ends meanwhile ends by itself.
func TestNoPacketPassesWhileAnAgentIsAway(t *testing.T) {
	t.Parallel()
	d := newDroppers(t, 4)
	one, two := d.agents[0], d.agents[1]
	banned, lifted, late, brief := from4(0), from4(1), from4(2), from4(3)
	d.stream(d.knocker, banned, secondRouter)
	d.stream(d.knocker, lifted, secondRouter)
	d.stream(d.knocker, late, secondRouter)
	d.stream(d.knocker, brief, secondRouter)
	one.must("ban", banned, lifted, "--for", "1h")
	d.sink.stops(t, banned)
	d.sink.stops(t, lifted)
	passed, _ := d.sink.got(banned)

	t.Log("longer and within others: what changes is changed in one step")
	for i := range 20 {
		one.must("ban", banned, "--for", fmt.Sprintf("%dh", 2+i))
		if wide := []string{"10.77.0.100/31", "10.77.0.100/30", "10.77.0.96/29", "10.77.0.96/28"}; i%5 == 2 {
			one.must("ban", wide[i/5], "--for", fmt.Sprintf("%dm", 130+60*i))
		} else if i%5 == 4 {
			one.must("unban", wide[i/5])
		}
	}
	d.sink.passes(t, late)

	two.kill()
	one.must("ban", late, "--for", "1h")
	one.must("unban", lifted)
	d.sink.passes(t, late) // router2 is on its own
	two.start()
	d.sink.stops(t, late)
	d.sink.passes(t, lifted)
	eventually(t, 10*time.Second, "router2 to enforce again", func() bool { return strings.Contains(enforcing(two), "nftables on") })

	two.terminate()
	d.sink.passes(t, lifted)
	d.nft(1, "add chain inet banmesh of_another_version\n")
	two.start()
	eventually(t, 10*time.Second, "router2 to enforce once more", func() bool { return strings.Contains(enforcing(two), "nftables on") })

	t.Log("a ban that ends while nobody is there to end it")
	began := time.Now()
	one.must("ban", brief, "--for", "4s")
	d.sink.stops(t, brief)
	two.kill()
	eventually(t, 10*time.Second, "the kernel to let it in again", func() bool { _, last := d.sink.got(brief); return last.Sub(began) > time.Second })
	if after := time.Since(began); after < 3500*time.Millisecond || after > 6*time.Second {
		t.Errorf("a ban of 4 s ended after %v", after)
	}
	two.start()

	d.sink.passes(t, lifted)
	if n, _ := d.sink.got(banned); n != passed {
		t.Errorf("%d packets of a banned source passed", n-passed)
	}
}

// TestOnlyTheOneCapabilityIsNeeded: an agent of a user without rights, with and
// without CAP_NET_ADMIN.
func TestOnlyTheOneCapabilityIsNeeded(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	if err := os.Chmod(filepath.Dir(banmesh), 0o755); err != nil {
		t.Fatal(err)
	}
	const nobody = 65534
	start := func(host int, caps string) *agent {
		a := l.agent(host, enforced)
		keyring := filepath.Join(a.dir, "keyring.json")
		key, err := os.ReadFile(l.keyring)
		if err != nil {
			t.Fatal(err)
		}
		config, err := os.ReadFile(a.config)
		if err != nil {
			t.Fatal(err)
		}
		config = []byte(strings.ReplaceAll(string(config), l.keyring, keyring))
		for path, content := range map[string][]byte{keyring: key, a.config: config} {
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chown(path, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chown(a.dir, nobody, nobody); err != nil {
			t.Fatal(err)
		}
		a.wrap = append(a.wrap, "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs",
			"--bounding-set", "-all"+caps, "--inh-caps", "-all"+caps, "--ambient-caps", "-all"+caps)
		return a.start()
	}
	able, unable := start(0, ",+net_admin"), start(1, "")
	awaitMembers(t, []*agent{able, unable}, 2)

	process, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", able.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000001000", "CapBnd:\t0000000000001000", "CapAmb:\t0000000000000000"} { // nothing for those it starts
		if !strings.Contains(string(process), want) {
			t.Errorf("%q is not in\n%s", want, process)
		}
	}

	eventually(t, 10*time.Second, "the warning", func() bool { return strings.Contains(enforcing(unable), "nftables failing") })
	if s := enforcing(unable); !strings.Contains(s, "AmbientCapabilities=CAP_NET_ADMIN") {
		t.Errorf("status does not say what to do: %s", s)
	}
	unable.must("ban", "192.0.2.1", "--for", "1h") // all else works
	eventually(t, 10*time.Second, "the ban at the other", func() bool { return able.banned("192.0.2.1/32") != nil })
	eventually(t, 10*time.Second, "the ban in the other's kernel", func() bool { return strings.Contains(l.rules(0), "192.0.2.1 ") })
	if rules := l.rules(1); rules != "" {
		t.Errorf("rules made without the capability:\n%s", rules)
	}
	able.must("leave")
	<-able.ended
	if rules := l.rules(0); rules != "" {
		t.Errorf("left behind after leave:\n%s", rules)
	}
}

// TestFiguresBanDropsPacketsElsewhere: also with 100,000 others in force. From the start of `banmesh ban` on one
// router to the last packet that another one takes from that source.
func TestFiguresBanDropsPacketsElsewhere(t *testing.T) {
	const each = 10
	d := newDroppers(t, 10*each)
	next := 0
	measure := func(int) (took []time.Duration) {
		for range each {
			i := next
			next++
			for _, way := range [][2]string{{from4(i), secondRouter}, {from6(i), secondRouter6}} {
				stop := d.stream(d.knocker, way[0], way[1])
				d.sink.passes(t, way[0])
				began := time.Now()
				d.agents[0].must("ban", way[0], "--for", "1h")
				took = append(took, max(d.sink.stops(t, way[0]).Sub(began), 0))
				stop()
			}
		}
		return took
	}
	quietest(t, "source dropped by another router", 50*time.Millisecond, measure)
	const many = 100_000
	var list strings.Builder
	for i := range many { // no two of them neighbours, which would be one element
		fmt.Fprintf(&list, "20.%d.%d.%d\n", i>>15, i>>7&255, i<<1&255)
	}
	file := filepath.Join(t.TempDir(), "list.txt")
	if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	d.agents[0].must("import", file, "--for", "1d")
	began := time.Now()
	eventually(t, 60*time.Second, "the other to enforce all", func() bool {
		var n int
		_, err := fmt.Sscanf(enforcing(d.agents[1]), "nftables on, %d in force", &n)
		return err == nil && n >= many
	})
	t.Logf("%d bans in force elsewhere %v after their import", many, time.Since(began).Round(10*time.Millisecond))
	quietest(t, "source dropped by another router beside 100,000", 50*time.Millisecond, measure)
}
