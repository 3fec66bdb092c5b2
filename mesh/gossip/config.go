package gossip

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"banmesh/store"
	"banmesh/store/text"

	"github.com/hashicorp/memberlist"
)

// Set is the replicated set as this package needs it: chunks, digests and roots are opaque here. *store.Store implements it.
type Set interface {
	Head() store.Head
	Since(after uint64, max int) (chunk []byte, last uint64)
	Holds(log store.LogID, seq uint64) bool
	Merge(chunk []byte) (store.Merged, error)
	// Minutes are Unix minutes of the members' median clock, see Mesh.minute.
	Digest(minute int64) []byte
	DigestOf(minute int64, logs ...store.LogID) []byte
	Deltas(digest []byte, max int) iter.Seq2[[]byte, error]
	Thorough(digest []byte, max int) iter.Seq2[[]byte, error] // for a peer that Deltas did not bring into agreement
	Root(minute int64) [16]byte
	SaveMeta(ctx context.Context, key string, value []byte) error
	Meta(key string) ([]byte, bool)
}

// Limits of names and labels: a record of 1,200 bytes must still fit a packet together with its sender's name.
const (
	// Also what bounds a stream of thousands of members and every log line that names one.
	maxName    = 64
	maxLabel   = 32
	maxMessage = 1200 // payload of Send
)

// Config is what a member of the mesh starts with.
type Config struct {
	Name      string         // stable, at most 64 bytes; the origin of this member's records
	Version   string         // of the program, shown to the others
	Bind      netip.AddrPort // both UDP and TCP; port 0 takes a free one
	Advertise string         // "ip" or "ip:port" at which others reach it; empty: derived from Bind
	Profile   string         // lan, wan or local: the pace of failure detection
	// Sent in the clear only where nothing is encrypted; otherwise it is authenticated with each packet.
	Label    string // keeps apart meshes that can reach each other
	Insecure bool   // permits no encryption although an address is not loopback

	// KeyringFile holds a JSON array of base64 keys; the first one encrypts. Keys holds them directly (16, 24 or 32 bytes each)
	// and takes precedence.
	KeyringFile string
	Keys        [][]byte
	// LocalKeyring refuses all keyring changes that other members request.
	// For operators who distribute keys by their own means: a key holder can then change no key here.
	LocalKeyring bool
	// Ignore reports the members that do not count: they get no keys and may not change any. Optional.
	Ignore func(name string) bool

	Join     []string // "host:port", "ip:port", "host" or "ip" (port 7946)
	Eligible bool     // may lead
	Priority int      // rank among the eligible

	Set       Set
	Now       func() time.Time                  // this host's clock; default time.Now
	Transport memberlist.Transport              // default: UDP and TCP on Bind
	Random    rand.Source                       // of random choices, not of keys; default the system
	Lookup    Lookup                            // resolves the names in Join; default the system
	OnMember  func(MemberEvent)                 // in order, from one goroutine
	OnMessage func(from string, payload []byte) // receives what Send carried; must not block
	// Guest receives each stream that begins with GuestByte, and the host that it comes from (IPv6: its /64). It closes the
	// stream and must return soon: it runs in the stream's own goroutine, and Shutdown, which ends ctx, waits for it. It may be
	// called before New has returned. Optional.
	Guest     func(ctx context.Context, c net.Conn, host string)
	GuestByte byte
	Logger    *slog.Logger

	// Unexported: tests shorten the times, and nobody has had to set one.
	tuning tuning
}

// Lookup finds the addresses of a host by its name.
type Lookup func(ctx context.Context, host string) ([]netip.Addr, error)

// tuning holds the knobs whose defaults suit everybody. A zero field takes its default.
type tuning struct {
	// DirectMax is the largest mesh (self included) in which a ban goes straight to each member. In larger ones it goes to two
	// relays in each of √N slices: its author sends fewer packets, for one more hop.
	DirectMax int
	// CoalesceGap is how long after a frame the next one may leave if it is not full: records that arrive meanwhile join it.
	// Short against what a human or a second ban can notice, and long enough that a burst of bans fills its packets.
	CoalesceGap time.Duration
	// Reannounce is when after the last push the others are asked what they hold, and when those that have not answered with the
	// same are told the head, so that a receiver that lost the push sees its gap. The first is before a probe would notice a loss.
	Reannounce [2]time.Duration
	// PacketRate and PacketBurst pace pushes, in packets a second and at once. A push that has waited longer than PaceWait is
	// left to anti-entropy.
	PacketRate  int
	PacketBurst int
	// A burst that is longer than this is cheaper as a stream.
	PaceWait time.Duration
	// PullGrace lets a reordered push arrive before its gap is pulled.
	// Reordered packets are milliseconds apart; pulling at once would ask for what is already on the way.
	PullGrace time.Duration
	// RecheckAfter is the time between the two comparisons of a root that differs.
	// One differing root usually means that a push is under way.
	RecheckAfter time.Duration
	// RejoinEvery is the time between attempts to reach members that are not alive.
	RejoinEvery time.Duration
	// SettleAfter is how long a member waits for its first exchanges.
	// Until then a member that restarts neither commits nor enforces: acting on half the set would unban.
	SettleAfter time.Duration
	// ChunkSize bounds one chunk of an exchange. ExchangeBytes bounds what one exchange may bring before it is cut (the next
	// one resumes). Both are in bytes.
	ChunkSize     int
	ExchangeBytes int64
	// Stall is how long an exchange may make no progress.
	// The other side may wait for its disk between two chunks.
	Stall time.Duration
	// DialTimeout bounds the opening of a stream.
	DialTimeout time.Duration
	// NameCheck bounds the search for another member of this name at the start.
	NameCheck time.Duration

	run uint64 // 0: drawn
}

// DefaultConfig is a member on all addresses, port 7946, of a local network,
// eligible to lead. Name and Set are the caller's.
func DefaultConfig() Config {
	return Config{
		Bind:     netip.AddrPortFrom(netip.IPv4Unspecified(), defaultPort),
		Profile:  "lan",
		Eligible: true,
	}
}

const defaultPort = 7946

// withDefaults fills in what a caller need not give.
func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Lookup == nil {
		c.Lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Profile == "" {
		c.Profile = "lan"
	}
	return c
}

// withDefaults fills in what is zero. Tests set some; the configuration knows only the profile.
func (t tuning) withDefaults(profile string) tuning {
	// A burst must fit the receivers' socket buffers (208 KiB by default) while they are busy; the rate is what a small
	// router's uplink (wan) or a switched network (lan) carries without harm.
	// At 1,400 bytes a packet that is 67 Mbit/s on a LAN, 22 on a WAN.
	rate, burst := 6000, 1500
	switch profile {
	case "wan":
		rate, burst = 2000, 500
	case "local":
		rate, burst = 20000, 3000
	}
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	dur := func(v *time.Duration, d time.Duration) {
		if *v == 0 {
			*v = d
		}
	}
	def(&t.DirectMax, 64)
	def(&t.PacketRate, rate)
	def(&t.PacketBurst, burst)
	def(&t.ChunkSize, 256<<10)
	if t.ExchangeBytes == 0 {
		t.ExchangeBytes = 512 << 20
	}
	dur(&t.CoalesceGap, 2*time.Millisecond)
	dur(&t.Reannounce[0], 200*time.Millisecond)
	dur(&t.Reannounce[1], 600*time.Millisecond)
	dur(&t.PaceWait, 100*time.Millisecond)
	dur(&t.PullGrace, 30*time.Millisecond)
	dur(&t.RecheckAfter, time.Second)
	dur(&t.RejoinEvery, 3*time.Second)
	dur(&t.SettleAfter, 30*time.Second)
	dur(&t.Stall, 10*time.Second)
	dur(&t.DialTimeout, 3*time.Second)
	dur(&t.NameCheck, 1500*time.Millisecond)
	return t
}

// validate names the first field that cannot work, with its value.
func (c Config) validate() error {
	if err := checkName(c.Name); err != nil {
		return err
	}
	if len(c.Label) > maxLabel {
		return fmt.Errorf("gossip.label %q is longer than %d bytes", c.Label, maxLabel)
	}
	switch c.Profile {
	case "lan", "wan", "local":
	default:
		return fmt.Errorf("gossip.profile %q must be one of lan, wan, local", c.Profile)
	}
	if c.Transport == nil && !c.Bind.IsValid() {
		return errors.New("gossip.bind is not an address with a port, like 0.0.0.0:7946")
	}
	if c.Advertise != "" {
		if _, err := parseAdvertise(c.Advertise, defaultPort); err != nil {
			return err
		}
	}
	for _, a := range c.Join {
		if err := CheckAddr(a); err != nil {
			return fmt.Errorf("join: %w", err)
		}
	}
	if c.Set == nil {
		return errors.New("gossip: no set to replicate")
	}
	if len(c.Version) > 64 {
		return fmt.Errorf("gossip: version %q is longer than 64 bytes", c.Version)
	}
	if c.encrypted() || c.Insecure || c.loopbackOnly() {
		return nil
	}
	return fmt.Errorf("gossip.keyring is not set, and %s is not loopback: make a key with banmesh keygen and give every member the same file, or set gossip.insecure: true to run without encryption", c.exposed())
}

// checkName is stricter than the store about a member's own name. Names of others in a record follow the
// store's grammar.
func checkName(name string) error {
	if name == "" {
		return errors.New("name is empty")
	}
	if len(name) > maxName {
		return fmt.Errorf("name %q is longer than %d bytes", name, maxName)
	}
	// Spaces and slashes would make lines that list names ambiguous.
	// A name that the store refuses could steer a terminal.
	if text.CheckName(name) != nil || strings.ContainsAny(name, " /") {
		return fmt.Errorf("name %q holds a space, a slash, or what cannot be shown", name)
	}
	return nil
}

func (c Config) encrypted() bool { return len(c.Keys) > 0 || c.KeyringFile != "" }

func (c Config) loopbackOnly() bool { return c.exposed() == "" }

// exposed returns the first configured address that is not loopback, "" if all are.
func (c Config) exposed() string {
	if c.Bind.IsValid() && !c.Bind.Addr().IsLoopback() {
		return "gossip.bind " + c.Bind.String()
	}
	if c.Advertise != "" {
		if a, err := parseAdvertise(c.Advertise, defaultPort); err != nil || !a.Addr().IsLoopback() {
			return "gossip.advertise " + c.Advertise
		}
	}
	for _, j := range c.Join {
		host, _, err := splitHostPort(j)
		if err != nil {
			return "join " + j
		}
		if a, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !a.IsLoopback()) {
			return "join " + j
		}
	}
	return ""
}

// parseAdvertise takes an address with or without a port; port is what it gets without.
func parseAdvertise(s string, port uint16) (netip.AddrPort, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.AddrPortFrom(a.Unmap(), port), nil
	}
	ap, err := netip.ParseAddrPort(s)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("gossip.advertise %q is neither an IP address nor one with a port", s)
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// CheckAddr says why a text does not name a member to join: it must be a host or an IP address, with or without a port.
func CheckAddr(text string) error {
	_, _, err := splitHostPort(text)
	return err
}

// splitHostPort takes "host", "ip", "host:port", "[ip6]:port", "[ip6]" and a bare
// IPv6 address.
func splitHostPort(s string) (host, port string, err error) {
	bare := s
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if inner, ok = strings.CutSuffix(inner, "]"); ok {
			bare = inner
		}
	}
	if a, err := netip.ParseAddr(bare); err == nil {
		return a.String(), "7946", nil
	}
	host, port, err = net.SplitHostPort(s)
	var ae *net.AddrError
	if errors.As(err, &ae) && ae.Err == "missing port in address" && bare == s {
		host, port, err = s, "7946", nil
	}
	if err != nil || host == "" || port == "" {
		return "", "", fmt.Errorf("%q is neither HOST nor HOST:PORT", s)
	}
	if p, perr := net.LookupPort("tcp", port); perr != nil || p == 0 {
		return "", "", fmt.Errorf("%q has the port %q: 1..65535 is wanted", s, port)
	}
	return host, port, nil
}

// memberlistConfig tunes the library's defaults for the profile.
func (c Config) memberlistConfig() *memberlist.Config {
	var mc *memberlist.Config
	switch c.Profile {
	case "wan":
		mc = memberlist.DefaultWANConfig()
	case "local":
		mc = memberlist.DefaultLocalConfig()
	default:
		mc = memberlist.DefaultLANConfig()
	}
	mc.Name = c.Name
	// screenMember refuses any other: one member that claims another version would have memberlist refuse everybody.
	mc.ProtocolVersion = memberlist.ProtocolVersion2Compatible
	// LZW costs 68 µs and 78 KB of garbage a packet, and does not shrink ours.
	mc.EnableCompression = false
	// Encryption and label are handled below memberlist, see wire.
	mc.Keyring, mc.SecretKey, mc.Label = nil, nil, ""
	mc.UDPBufferSize = maxPacket - packetOverhead
	// Joins and deaths are the only gossip left in memberlist, and are cheap enough to spread fast.
	mc.GossipInterval /= 2
	// The full push/pull of member lists is memberlist's one large idle cost (20 KB a side at a hundred members). Stamps show
	// within seconds what it would repair.
	mc.PushPullInterval = 4 * time.Minute
	// How long memberlist insists on a dead member's old address: a router that comes back under a new one is let in after
	// that.
	mc.DeadNodeReclaimTime = 30 * time.Second
	mc.HandoffQueueDepth = 4096
	return mc
}
