package gossip

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"net/netip"

	"banmesh/mesh/packed"
)

// known remembers members and seeds over restarts and keeps trying those that are not alive: memberlist gives up on a member
// soon after its death, so that without this a partition that outlasts it would never heal.
type known struct {
	m    *Mesh
	wake chan struct{} // something must be saved
	book seedBook

	mu      sync.Mutex
	members map[string]*knownMember
	seeds   []string // from calls of Join
	tried   map[string]time.Time
	dirty   bool
	saved   time.Time // when they were last written down
}

// knownMember is a member to look for after a restart or a long cut. The exported fields are saved.
type knownMember struct {
	Name string
	Addr string
	// It said that it would not come back; it is not looked for, and joins by itself if it does.
	Left bool
	Seen int64 // Unix seconds
	met  bool  // it has answered this member. Only those are saved.
}

// knownFile is what the store keeps under knownKey. Seeds are the addresses that `banmesh join` was given.
type knownFile struct {
	Members []knownMember
	Seeds   []string
}

const (
	knownKey     = "gossip.known"
	knownVersion = 1
	// Twice the alive members that are allowed.
	maxKnown = 4096
	maxSeeds = 64
	// A crash within it loses a member's address, not a record: the seeds find it again.
	saveDelay = time.Second
	// keepFailed is how long a silent member is looked for. Configured seeds are tried for ever.
	keepFailed = 30 * 24 * time.Hour
	// keepLeft is how long a member that left is remembered, showLeft how long it is shown.
	keepLeft = 7 * 24 * time.Hour
	showLeft = 24 * time.Hour
	// keepUnmet is how long one that has never answered is looked for: anybody with the gossip key makes up any number.
	keepUnmet = time.Hour
	// saveSeen is how often all are saved while nothing changes: after a power loss, the living would seem to have been gone since
	// the last change.
	saveSeen = 24 * time.Hour
)

// keeps is how long a member is kept after it was last there.
func keeps(met, left bool, ifLeft time.Duration) time.Duration {
	switch {
	case !met:
		return keepUnmet
	case left:
		return ifLeft
	}
	return keepFailed
}

// newKnown begins without the remembered members if they cannot be read: one configured member, or one that
// contacts this one, suffices to find all.
func newKnown(m *Mesh) *known {
	k := &known{m: m, wake: make(chan struct{}, 1), members: make(map[string]*knownMember), tried: make(map[string]time.Time), saved: m.started}
	b, ok := m.set.Meta(knownKey)
	if !ok {
		return k
	}
	var f knownFile
	if len(b) < 2 || b[0] != knownVersion || packed.Decode(b[1:], 2, &f) != nil {
		m.log.Warn("the remembered members are unreadable, starting with the configured ones")
		return k
	}
	for _, e := range f.Members {
		if e.Name != m.cfg.Name && checkName(e.Name) == nil {
			e.met = true
			k.members[e.Name] = &e
		}
	}
	k.seeds = f.Seeds
	return k
}

// changed records a member's new state. It does not block.
func (k *known) changed(member Member) {
	k.mu.Lock()
	defer k.mu.Unlock()
	e := k.members[member.Name]
	if e == nil {
		if len(k.members) >= maxKnown {
			k.evict()
		}
		e = &knownMember{Name: member.Name}
		k.members[member.Name] = e
	}
	e.Addr, e.Left, e.Seen = member.Addr, member.State == Left, member.Seen.Unix()
	k.touch()
}

// evict forgets the member seen longest ago, one that has never answered if there is any. Called with the lock held.
// Those who live are seen all the time, so this is one that is gone.
func (k *known) evict() {
	var first *knownMember
	for _, e := range k.members {
		if first == nil || e.met != first.met && first.met || e.met == first.met && e.Seen < first.Seen {
			first = e
		}
	}
	delete(k.members, first.Name)
}

// review notes who is there and who has answered by now, and forgets who has not been there for too long. The table's lock is taken
// under this one's.
func (k *known) review(now time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// This router may itself have been off for longer than a silent member is kept.
	looked := now.Sub(k.m.started) >= keepUnmet
	if now.Sub(k.saved) >= saveSeen {
		k.touch()
	}
	for name, e := range k.members {
		alive, met := k.m.table.here(name)
		if met && !e.met {
			e.met = true
			k.touch()
		}
		switch {
		case alive:
			e.Seen = now.Unix()
		case looked && now.Sub(time.Unix(e.Seen, 0)) > keeps(e.met, e.Left, keepLeft):
			delete(k.members, name)
		}
	}
}

// touch wakes the saver. Called with the lock held.
func (k *known) touch() {
	k.dirty = true
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// saver writes changes to the set's durable values with a delay of one second, so that a mesh that starts costs one write and
// not one for each member.
func (k *known) saver() {
	for {
		select {
		case <-k.m.ctx.Done():
			return
		case <-k.wake:
		}
		t := time.NewTimer(saveDelay)
		select {
		case <-k.m.ctx.Done():
			t.Stop()
			return // Shutdown does the last save
		case <-t.C:
		}
		k.save()
	}
}

// save writes the members down for the next start and forgets those not seen for long. Those that have left are kept for a while
// too: an operator may start one again.
func (k *known) save() {
	k.review(time.Now())
	k.mu.Lock()
	if !k.dirty {
		k.mu.Unlock()
		return
	}
	k.dirty, k.saved = false, time.Now()
	var f knownFile
	for _, e := range k.members {
		if e.met {
			f.Members = append(f.Members, *e)
		}
	}
	f.Seeds = slices.Clone(k.seeds)
	k.mu.Unlock()
	b := encode(0, f)
	b[1] = knownVersion
	ctx, cancel := context.WithTimeout(context.WithoutCancel(k.m.ctx), 5*time.Second)
	defer cancel()
	// Tried again with the next change or at the shutdown.
	if err := k.m.set.SaveMeta(ctx, knownKey, b[1:]); err != nil {
		k.m.log.Warn("the known members were not saved", "error", err)
		k.mu.Lock()
		k.dirty = true
		k.mu.Unlock()
	}
}

// hopes reports whether there is anybody to look for.
func (k *known) hopes() bool {
	// A list of seeds that is the same on all members includes this one. A router that finds only itself there need not wait for
	// anybody.
	if slices.ContainsFunc(k.hosts(), func(h string) bool { return h != k.m.addr() }) {
		return true
	}
	return k.others()
}

// others reports whether there is a member that has not left, of this run or an
// earlier one.
func (k *known) others() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.members {
		if !e.Left {
			return true
		}
	}
	return false
}

// hosts lists the configured seeds and those of calls of Join.
func (k *known) hosts() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := slices.Clone(k.m.cfg.Join)
	for _, s := range k.seeds {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// first lists at most n addresses to ask at the start, those of seeds first, and says how many those are.
func (k *known) first(ctx context.Context, n int) (out []string, seeds int) {
	add := func(a string) {
		if len(out) < n && a != k.m.addr() && !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	for _, h := range k.hosts() {
		addrs, err := k.resolve(ctx, h)
		if err != nil {
			continue // the loop reports it
		}
		k.m.wire.outreach.named(addrs...)
		for _, a := range addrs {
			add(a)
		}
	}
	seeds = len(out)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, e := range k.members {
		if !e.Left {
			add(e.Addr)
		}
	}
	return out, seeds
}

// resolve turns a seed into ip:port. memberlist's own resolver would begin with a DNS query of type ANY over TCP.
func (k *known) resolve(ctx context.Context, seed string) ([]string, error) {
	host, port, err := splitHostPort(seed)
	if err != nil {
		return nil, err
	}
	num, err := net.LookupPort("tcp", port)
	if err != nil {
		return nil, fmt.Errorf("join address %q: %w", seed, err)
	}
	port = strconv.Itoa(num)
	if a, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(a.Unmap().String(), port)}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	ips, err := k.m.cfg.Lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("join address %q: %w", seed, err)
	}
	var out []string
	for _, a := range ips {
		out = append(out, net.JoinHostPort(a.Unmap().String(), port))
	}
	return out, nil
}

// loop tries one known member that is not alive and one seed, at the start and every RejoinEvery; all seeds while no other
// member is alive.
func (k *known) loop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-k.m.ctx.Done():
			return
		case <-timer.C:
		}
		if !k.m.left.Load() {
			k.round()
		}
		timer.Reset(k.m.jitter(k.m.tune.RejoinEvery))
	}
}

// round looks for members that are not alive: one known member and one seed, or many seeds while there is nobody else.
func (k *known) round() {
	k.m.lookAtAddress()
	k.review(time.Now())
	alone := len(k.m.table.others()) == 0
	tries := make(map[string][]string)        // seeds by address
	for _, met := range []bool{true, false} { // those that somebody made up take no turn of the others
		if a := k.nextMember(met); a != "" {
			tries[a] = nil
		}
	}
	// One a round keeps a healthy mesh quiet: names are looked up and silent addresses dialled at that pace only.
	most := 1
	if alone {
		most = maxNameChecks
	}
	for seed, addrs := range k.nextSeeds(most, alone) {
		k.m.wire.outreach.named(addrs...)
		for _, a := range addrs {
			tries[a] = append(tries[a], seed)
		}
	}
	// All at once: a silent address takes its whole timeout.
	var wg sync.WaitGroup
	for a, seeds := range tries {
		wg.Add(1)
		go func() {
			defer wg.Done()
			err := k.m.pushPull(k.m.ctx, a)
			if err != nil {
				k.m.log.Debug("member not reached", "addr", a, "error", err)
				if len(seeds) > 0 {
					// memberlist's error names no cause; a stream of our own tells a closed port from a wrong key.
					err = k.m.whyNot(k.m.ctx, a)
				}
			}
			for _, seed := range seeds {
				k.book.note(seed, err)
			}
		}()
	}
	wg.Wait()
}

// nextMember picks the member tried longest ago of those that are neither alive nor left, and that have answered before or have not.
func (k *known) nextMember(met bool) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	alive := make(map[string]bool)
	for _, t := range k.m.table.others() {
		alive[t.name] = true
	}
	var best *knownMember
	for _, e := range k.members {
		if e.met != met || e.Left || alive[e.Name] || e.Addr == k.m.addr() {
			continue
		}
		if best == nil || k.tried[e.Addr].Before(k.tried[best.Addr]) {
			best = e
		}
	}
	if best == nil {
		return ""
	}
	k.try(best.Addr)
	return best.Addr
}

// nextSeeds picks seeds at which nobody is alive. A seed whose member left is tried only if nobody else is there.
func (k *known) nextSeeds(most int, alone bool) map[string][]string {
	hosts := k.hosts()
	k.mu.Lock()
	slices.SortStableFunc(hosts, func(a, b string) int { return k.tried[a].Compare(k.tried[b]) })
	k.mu.Unlock()
	out := make(map[string][]string)
	for _, h := range hosts {
		if len(out) >= most || k.m.ctx.Err() != nil {
			break
		}
		addrs, err := k.resolve(k.m.ctx, h)
		if err != nil {
			k.book.note(h, err)
			if k.m.warned.first("resolve " + h) {
				k.m.log.Warn("a member to join is not found", "error", err)
			}
			continue
		}
		var open []string
		for _, a := range addrs {
			_, state, ok := k.m.table.at(a)
			if a == k.m.addr() || ok && state == Alive || ok && state == Left && !alone {
				open = nil // one address of each host suffices
				k.book.note(h, nil)
				break
			}
			open = append(open, a)
		}
		if len(open) > 0 {
			k.mu.Lock()
			k.try(h)
			k.mu.Unlock()
			out[h] = open
		}
	}
	return out
}

// try records an attempt. Called with the lock held.
func (k *known) try(what string) {
	// Forgetting the order of attempts costs one round out of turn.
	if len(k.tried) > 2*maxKnown {
		clear(k.tried)
	}
	k.tried[what] = time.Now()
}

// remember keeps a seed that an operator named, even if the member there had left.
func (k *known) remember(seed string, addrs []string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !slices.Contains(k.seeds, seed) && !slices.Contains(k.m.cfg.Join, seed) {
		k.seeds = append(k.seeds, seed)
	}
	// The newest are kept: an old one that still lives is a known member anyway.
	if n := len(k.seeds); n > maxSeeds {
		k.seeds = slices.Clone(k.seeds[n-maxSeeds:])
	}
	for _, e := range k.members {
		// The operator knows better than the announcement.
		if e.Left && slices.Contains(addrs, e.Addr) {
			e.Left = false
		}
	}
	k.touch()
}

// Join joins the members at the addresses ("host:port" and the like) and
// remembers those that answered over restarts. It returns how many did; an error
// when none did.
func (m *Mesh) Join(ctx context.Context, addrs []string) (joined int, err error) {
	if m.closed.Load() || m.left.Load() {
		return 0, errClosed
	}
	var errs []error
	for _, s := range addrs {
		found, err := m.known.resolve(ctx, s)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.wire.outreach.named(found...)
		var answered []string
		for _, a := range found {
			if err := m.pushPull(ctx, a); err != nil {
				errs = append(errs, fmt.Errorf("join %s: %w", a, m.whyNot(ctx, a)))
				continue
			}
			if m.isAt(ctx, a) {
				errs = append(errs, fmt.Errorf("join %s: %w", a, errItself))
				continue
			}
			answered = append(answered, a)
		}
		if len(answered) > 0 {
			m.known.remember(s, answered)
		}
		joined += len(answered)
	}
	if joined == 0 {
		return 0, errors.Join(errs...)
	}
	return joined, nil
}

// pushPull exchanges member lists with the member at the address. memberlist's Join cannot be interrupted: when ctx ends it is left
// to finish on its own.
func (m *Mesh) pushPull(ctx context.Context, addr string) error {
	list := m.list.Load()
	if list == nil || m.closed.Load() {
		return errClosed
	}
	joined := make(chan error, 1)
	go func() {
		_, err := list.Join([]string{addr})
		joined <- err
	}()
	select {
	case err := <-joined:
		if err != nil {
			return fmt.Errorf("join %s: no member answered there", addr)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("join %s: %w", addr, ctx.Err())
	}
}
