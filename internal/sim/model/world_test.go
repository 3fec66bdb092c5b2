package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"banmesh/store"
)

const (
	second = store.Millis(1000)
	minute = 60 * second
	hour   = 60 * minute
	day    = 24 * hour
)

// begin is when every history begins.
var begin = store.At(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))

var universe = func() (ps []netip.Prefix) {
	for _, s := range []string{
		"203.0.113.1/32", "203.0.113.2/32", "203.0.113.5/32", "203.0.113.33/32", "203.0.113.0/30", "203.0.113.4/30", "203.0.113.0/28",
		"2001:db8::1/128", "2001:db8::2/128", "2001:db8::/126",
	} {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}()

// node is a real store and what it knows by the model.
type node struct {
	name     string
	path     string
	volume   *store.Volume // in place of the file at path, nil where that is real
	s        *store.Store  // nil while it is down
	clock    store.Millis  // how far its clock is ahead
	shows    atomic.Int64  // its clock, as its store reads it
	known    set
	counting map[who]bool // what counts by its store, as last looked at
	log      store.LogID
	head     uint64       // the last number it has written
	tidied   store.Millis // when it last looked for what says nothing more, by its clock
	pushed   uint64       // up to where it has pushed
	group    int          // the side of the partition

	fail2ban []offence // what its fail2ban remembers, whatever becomes of the store

	settled bool   // nothing merged since its file was last known to be complete
	snap    *image // the file at that moment, once something was merged
	snapSet set
	crash   bool // at the next chance

	backup    *image
	backupSet set
}

// image is a copy of a store's file.
type image struct {
	volume *store.Volume
	file   []byte
}

// copied copies the file of a node, which is writing nothing.
func (n *node) copied() (*image, error) {
	if n.volume != nil {
		return &image{volume: n.volume.Clone()}, nil
	}
	data, err := os.ReadFile(n.path)
	return &image{file: data}, err
}

// put puts a copy in the place of the file of a node that is down, or nothing.
func (n *node) put(c *image) error {
	if n.volume != nil {
		n.volume = store.NewVolume()
		if c != nil {
			n.volume = c.volume.Clone()
		}
		return nil
	}
	if err := os.Remove(n.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if c == nil {
		return nil
	}
	return os.WriteFile(n.path, c.file, 0o600)
}

// packet is a push that is under way.
type packet struct {
	to    int
	chunk []byte
	ops   []*op
}

// world runs one history.
type world struct {
	dir     string
	ctx     context.Context
	conf    settings
	now     store.Millis // true time
	nodes   []*node
	ops     []*op
	flying  []packet
	trace   func(format string, args ...any)
	touched map[int]bool
	err     error // the first finding
}

// settings are drawn for each history.
type settings struct {
	nodes int
	max   time.Duration // bans.max_duration of most members
	least time.Duration // of the second and the fourth
	live  int           // limits.live_per_origin, 0 for more than are given
	files bool          // stores write real files
}

func (w *world) fail(format string, args ...any) {
	if w.err == nil {
		w.err = fmt.Errorf(format, args...)
	}
}

// pass lets time pass.
func (w *world) pass(d store.Millis) {
	w.now += d
	for _, n := range w.nodes {
		n.shows.Store(int64(w.clockOf(n)))
	}
}

// set sets the clock of a node, ahead of the true time.
func (w *world) set(n *node, ahead store.Millis) {
	n.clock = ahead
	n.shows.Store(int64(w.clockOf(n)))
}

// maxOf is a member's bans.max_duration.
func (w *world) maxOf(n *node) store.Millis {
	d := w.conf.max
	if n.name == "r2" || n.name == "r4" {
		d = w.conf.least
	}
	return store.Millis(d.Milliseconds())
}

func (w *world) clockOf(n *node) store.Millis { return w.now + n.clock }

// right reports whether a node's clock agrees with the others'.
func (n *node) right() bool { return -minute <= n.clock && n.clock <= minute }

func newWorld(dir string, conf settings, trace func(string, ...any)) *world {
	w := &world{dir: dir, conf: conf, ctx: context.Background(), now: begin, trace: trace, touched: map[int]bool{}}
	for i := range conf.nodes {
		name := fmt.Sprintf("r%d", i+1)
		n := &node{name: name, path: filepath.Join(dir, name+".db")}
		if !conf.files {
			n.volume = store.NewVolume()
		}
		w.nodes = append(w.nodes, n)
		w.pass(0)
		w.open(i)
	}
	return w
}

func (w *world) close() {
	for _, n := range w.nodes {
		if n.s != nil {
			n.s.Close()
		}
	}
}

func (w *world) open(i int) {
	n := w.nodes[i]
	limits := store.DefaultLimits()
	if w.conf.live > 0 {
		limits.LivePerOrigin = w.conf.live
	}
	s, err := store.Open(store.Config{
		Path: n.path, Volume: n.volume, Origin: n.name, MaxDuration: time.Duration(w.maxOf(n)) * time.Millisecond, Limits: limits,
		Now: func() time.Time { return store.Millis(n.shows.Load()).Time() },
	})
	if err != nil {
		w.fail("%s does not open: %v", n.name, err)
		return
	}
	if d := s.Doubt(); d != "" {
		w.fail("%s doubts its file: %s", n.name, d)
	}
	s.HeardMaxDuration("another", w.conf.max) // the members tell each other
	n.s, n.log, n.head, n.pushed, n.tidied = s, s.Head().Log, 0, 0, 0
	n.settled, n.snap, n.crash = true, nil, false
	w.touched[i] = true
}

func (w *world) stop(n *node) {
	if err := n.s.Close(); err != nil {
		w.fail("%s does not close: %v", n.name, err)
	}
	n.s = nil
}

// wrote records the operations of a call of n. If the store wrote nothing they do not exist.
func (w *world) wrote(n *node, ops ...*op) bool {
	head := n.s.Head()
	if head.Log != n.log {
		w.fail("%s has changed its log from %v to %v while it runs", n.name, n.log, head.Log)
		return false
	}
	if head.Seq == n.head {
		return false
	}
	for _, o := range ops {
		o.id = len(w.ops)
		o.at = w.clockOf(n)
		o.log, o.first, o.last = n.log, n.head+1, head.Seq
		w.ops = append(w.ops, o)
		n.known.add(o)
	}
	n.head = head.Seq
	n.settled, n.snap = true, nil // what was merged before it is written with it
	return true
}

// merge gives a node a chunk.
func (w *world) merge(n *node, chunk []byte, ops []*op) {
	if n.settled {
		n.settled = false
		snap, err := n.copied()
		if err != nil {
			w.fail("%v", err)
			return
		}
		n.snap, n.snapSet = snap, slices.Clone(n.known)
	}
	m, err := n.s.Merge(chunk)
	if err != nil {
		w.fail("%s refuses a chunk: %v", n.name, err)
		return
	}
	if m.Refused+m.Unreadable > 0 {
		w.fail("%s refuses %d records of %v, and cannot read %d", n.name, m.Refused, m.Log, m.Unreadable)
	}
	for _, o := range ops {
		n.known.add(o)
	}
}

// push sends what n has written since the last push to each of the others, as the bits of fate say: two bits a peer.
func (w *world) push(i int, fate uint32) {
	n := w.nodes[i]
	if n.s == nil || n.pushed == n.head {
		return
	}
	chunk, last := n.s.Since(n.pushed, 1<<20)
	if chunk == nil {
		n.pushed = n.head
		return
	}
	if last != n.head {
		w.fail("%s pushes up to %d of %d", n.name, last, n.head)
	}
	var ops []*op
	for o := range n.known.all {
		if o.log == n.log && o.first > n.pushed {
			ops = append(ops, o)
		}
	}
	n.pushed = n.head
	for j, p := range w.nodes {
		if i == j {
			continue
		}
		f := fate >> (2 * j) & 3
		if n.group != p.group || p.s == nil {
			f = 0
		}
		switch f {
		case 0: // lost
		case 1:
			w.trace("    push %s → %s", n.name, p.name)
			w.merge(p, chunk, ops)
			w.touched[j] = true
		case 2: // late
			w.flying = append(w.flying, packet{j, chunk, ops})
		case 3: // doubled
			w.trace("    push %s → %s, twice", n.name, p.name)
			w.merge(p, chunk, ops)
			w.touched[j] = true
			w.flying = append(w.flying, packet{j, chunk, ops})
		}
	}
}

func (w *world) arrive(k int) {
	if len(w.flying) == 0 {
		return
	}
	k %= len(w.flying)
	p := w.flying[k]
	w.flying = slices.Delete(w.flying, k, k+1)
	n := w.nodes[p.to]
	if n.s == nil {
		return
	}
	w.trace("    a push of %s arrives late at %s", p.ops[0].origin(), n.name)
	w.merge(n, p.chunk, p.ops)
	w.touched[p.to] = true
}

// pull lets node i take what node j holds and it lacks, of the origins that choose tells, all for nil. Not of single logs: what
// one run of a member replaces of an earlier one is gone from the log of that.
func (w *world) pull(i, j int, choose func(k int) bool, thorough bool) {
	n, p := w.nodes[i], w.nodes[j]
	if n.s == nil || p.s == nil || n == p {
		return
	}
	at := store.Minute(w.now.Time())
	var digest []byte
	var logs []store.LogID
	if choose == nil {
		digest = n.s.Digest(at)
	} else {
		for o := range p.known.all {
			if k := slices.IndexFunc(w.nodes, func(m *node) bool { return m.name == o.origin() }); choose(k) && !slices.Contains(logs, o.log) {
				logs = append(logs, o.log)
			}
		}
		if len(logs) == 0 {
			return
		}
		digest = n.s.DigestOf(at, logs...)
	}
	deltas := p.s.Deltas
	if thorough {
		deltas = p.s.Thorough
	}
	for chunk, err := range deltas(digest, 1<<18) {
		if err != nil {
			w.fail("%s does not answer the digest of %s: %v", p.name, n.name, err)
			return
		}
		w.merge(n, slices.Clone(chunk), nil)
	}
	gone := map[int]bool{} // of what is asked for, by a log that is not
	for x := range p.known.all {
		if choose != nil && !slices.Contains(logs, x.log) {
			for _, g := range x.gone {
				gone[g] = gone[g] || w.ops[g].origin() == x.origin()
			}
		}
	}
	for o := range p.known.all {
		if choose == nil || slices.Contains(logs, o.log) && !gone[o.id] {
			if o.kind == store.KindLift && o.origin() == n.name && !n.known.has(o.id) {
				n.pushed = n.head // what an earlier run said may replace what this one has not pushed yet: exchanges bring it
			}
			n.known.add(o)
		}
	}
	w.touched[i] = true
}

// ban asks for one ban and judges the outcome.
func (w *world) ban(i int, q store.BanRequest) {
	n := w.nodes[i]
	now := w.clockOf(n)
	v := look(n.known, now)

	f := offence{origin: n.name, jail: q.Jail, prefix: q.Prefix, start: q.Start}
	if q.Start == 0 {
		f.start, f.tag = now, len(w.ops)+1
		for _, o := range v.held {
			if g := o.offence; g.origin == n.name && g.jail == q.Jail && g.prefix == q.Prefix && now-second <= g.start && g.start <= now {
				f = g // said twice
			}
		}
	}
	var mine []*op
	for o := range n.known.all {
		if o.kind == store.KindBan && !v.dead[o.id] && o.offence.same(f) {
			mine = append(mine, o)
		}
	}
	until := q.Until
	if !q.Force {
		start := f.start
		for _, o := range mine {
			start = min(start, o.offence.start)
		}
		until = min(until, start+w.maxOf(n))
	}
	var longest, surely, same store.Millis
	named := f // by the start that the offence has already, which is what revoke goes by
	named.start = 0
	for _, b := range v.held {
		if b.origin() == n.name && b.prefix == q.Prefix && b.offence.jail == q.Jail {
			longest = max(longest, b.until)
			if !w.left(b.until) {
				surely = max(surely, b.until)
			}
			if b.offence.same(f) {
				same = max(same, b.until)
				named.start = max(named.start, b.offence.start)
			}
		}
	}
	var want []store.BanOutcome
	switch lifted := v.lifted(f); {
	case !n.right() || v.mute(n.name):
	case lifted && until <= now:
		want = []store.BanOutcome{store.BanStaysLifted, store.BanExpired}
	case lifted:
		want = []store.BanOutcome{store.BanStaysLifted}
	case until <= now && longest > 0:
		want = []store.BanOutcome{store.BanExpired, store.BanKnown}
	case until <= now:
		want = []store.BanOutcome{store.BanExpired}
	case longest == 0 && len(mine) == 0:
		want = []store.BanOutcome{store.BanNew}
	case longest == 0:
		want = []store.BanOutcome{store.BanNew, store.BanExtended}
	case same >= until:
		want = []store.BanOutcome{store.BanKnown}
	case same > 0 && until > longest+second:
		want = []store.BanOutcome{store.BanExtended}
	default:
		want = []store.BanOutcome{store.BanExtended, store.BanKnown}
	}
	banned, err := n.s.Ban(w.ctx, []store.BanRequest{q})
	if err != nil {
		w.fail("%s: ban: %v", n.name, err)
		return
	}
	out := banned[0].Outcome
	w.trace("%s ban %v jail %q start %s until %s → %v", n.name, q.Prefix, q.Jail, w.show(f.start), w.show(q.Until), out)
	if want != nil && !slices.Contains(want, out) {
		w.fail("%s: ban of %v jail %q start %s until %s: the answer is %q, want %v", n.name, q.Prefix, q.Jail, w.show(f.start), w.show(q.Until), out, want)
	}
	if named.start == 0 {
		named = f
	}
	o := &op{kind: store.KindBan, prefix: q.Prefix, until: max(until, longest), offence: named}
	if got := banned[0].Until; max(until, surely) <= got && got < o.until || v.unclear && until <= got {
		o.until = got // where it is unclear what is lifted, so is which bans it may not end before
	}
	// Within a log the newer ban of a prefix and jail replaces the older one, also a newer offence.
	for b := range n.known.all {
		if b.kind == store.KindBan && b.log == n.log && b.prefix == q.Prefix && b.offence.jail == q.Jail {
			o.gone = append(o.gone, b.id)
			o.replaces = true
		}
	}
	written := w.wrote(n, o)
	says := out == store.BanNew || out == store.BanExtended
	if written != says {
		w.fail("%s: ban of %v is %q, but written: %v", n.name, q.Prefix, out, written)
	}
	if got := banned[0].Until; says && got != o.until {
		w.fail("%s: ban of %v until %s is answered with %s, want %s", n.name, q.Prefix, w.show(q.Until), w.show(got), w.show(o.until))
	}
	for _, e := range n.s.List(store.Query{Prefix: q.Prefix}) {
		for _, r := range e.Records {
			known := slices.ContainsFunc(v.held, func(b *op) bool { return b.prefix == e.Prefix && b.offence.start == r.Start })
			if says && q.Start == 0 && e.Prefix == q.Prefix && r.Origin == n.name && r.Start > now && !known {
				w.fail("%s: a ban of %v, given at %s, starts at %s", n.name, q.Prefix, w.show(now), w.show(r.Start))
			}
		}
	}
	w.touched[i] = true
}

// left reports whether what ends then has left the root by the true time, or is about to. No exchange brings it any more, so that a
// member whose clock is hours behind, and for which it still holds, does not get it back after a loss of its file.
func (w *world) left(until store.Millis) bool { return until+hour <= w.now+2*minute }

// lift asks for a lift and judges the answer.
func (w *world) lift(i int, q store.LiftRequest) {
	n := w.nodes[i]
	now := w.clockOf(n)
	v := look(n.known, now)
	fits := func(f offence) bool {
		return (q.Prefixes == nil || slices.Contains(q.Prefixes, f.prefix)) && (q.Jail == "" || q.Jail == f.jail) &&
			(!q.Mine || f.origin == n.name) && (q.Origin == "" || f.origin == q.Origin) && f.start >= q.Since
	}
	want := map[netip.Prefix]int{}
	var counted []offence
	for _, b := range v.held {
		if fits(b.offence) && !slices.ContainsFunc(counted, b.offence.same) {
			counted = append(counted, b.offence)
			want[b.prefix]++
		}
	}
	for o := range n.known.all {
		// Nobody can tell whether the writer still has what expired an hour ago: exchanges need not bring it. Where it matters the
		// history goes another way.
		if o.kind == store.KindBan && fits(o.offence) && o.until+hour <= max(w.now, now)+2*minute &&
			slices.ContainsFunc(w.ops, func(p *op) bool {
				return p.kind == store.KindBan && p.offence.same(o.offence) && (p.until+2*hour > w.now || !n.right()) // it forgets nothing then
			}) {
			return
		}
	}
	if v.blocked[n.name] {
		for o := range n.known.all {
			if o.origin() == n.name && slices.ContainsFunc(o.lifts, fits) {
				return // its word does not count, and it repeats itself: who lacks the first one learns it by an exchange
			}
		}
	}
	got, err := n.s.Lift(w.ctx, q)
	if err != nil {
		w.fail("%s: lift: %v", n.name, err)
		return
	}
	w.trace("%s lift %v jail %q mine %v origin %q since %s → %v", n.name, q.Prefixes, q.Jail, q.Mine, q.Origin, w.show(q.Since), got)
	var ops []*op
	answered := map[netip.Prefix]int{}
	for _, l := range got {
		answered[l.Prefix] = l.Offences
		if l.Limited {
			w.fail("%s: the lift of %v exceeds limits", n.name, l.Prefix)
		}
		if l.Offences == 0 {
			continue
		}
		o := &op{kind: store.KindLift, prefix: l.Prefix}
		for b := range n.known.all {
			if b.kind == store.KindBan && b.prefix == l.Prefix && fits(b.offence) {
				// What a lift that the writer holds names already need not be named again: that lift is under way itself.
				if !v.lifted(b.offence) && !v.dead[b.id] && b.until+hour > max(w.now, now)+2*minute {
					o.lifts = append(o.lifts, b.offence)
					o.until = max(o.until, n.known.retained(b), b.offence.start+store.Millis(w.conf.max.Milliseconds()))
				} else {
					o.perhaps = append(o.perhaps, b.offence)
				}
			}
		}
		w.carry(n, o)
		ops = append(ops, o)
	}
	if n.right() && !v.mute(n.name) {
		for p, k := range want {
			if answered[p] != k {
				w.fail("%s: lift of %v: the answer is %d offences, want %d", n.name, p, answered[p], k)
			}
		}
		for p, k := range answered {
			if want[p] != k {
				w.fail("%s: lift of %v: the answer is %d offences, want %d", n.name, p, k, want[p])
			}
		}
		if q.Prefixes != nil && len(got) != len(q.Prefixes) {
			w.fail("%s: lift of %v: %d answers", n.name, q.Prefixes, len(got))
		}
	}
	if w.wrote(n, ops...) && len(ops) == 0 {
		w.fail("%s: a lift that lifted nothing was written", n.name)
	}
	w.touched[i] = true
}

func (w *world) allow(i int, p netip.Prefix, until store.Millis) {
	n := w.nodes[i]
	if err := n.s.Allow(w.ctx, []store.AllowRequest{{Prefix: p, Until: until}}); err != nil {
		w.fail("%s: allow: %v", n.name, err)
		return
	}
	if until == 0 {
		until = store.Never
	}
	w.trace("%s allow %v until %s", n.name, p, w.show(until))
	o := &op{kind: store.KindAllow, prefix: p, until: until, replaces: true}
	o.gone = replacedBy(n, o)
	if len(o.gone) > 0 { // they are withdrawn
		o.covers = w.dead(n, o.gone)
	}
	w.wrote(n, o)
	w.touched[i] = true
}

// replacedBy returns what an allow or a placing of n takes the place of, also what others have lifted meanwhile. What n has taken
// back before is not among it unless it ends no later: a member that has not heard of that learns it from the withdrawal.
func replacedBy(n *node, o *op) (gone []int) {
	back := map[int]bool{}
	for p := range n.known.all {
		if p.replaces && p.origin() == n.name {
			for _, g := range p.gone {
				back[g] = true
			}
		}
	}
	for b := range n.known.all {
		if b.kind == o.kind && b.prefix == o.prefix && b.origin() == n.name && (b.log == n.log && b.until <= o.until || !back[b.id]) {
			gone = append(gone, b.id)
		}
	}
	return gone
}

func (w *world) disallow(i int, p netip.Prefix) {
	n := w.nodes[i]
	v := look(n.known, w.clockOf(n))
	if v.mute(n.name) {
		return // its word does not count, and it repeats itself
	}
	gone := v.live(store.KindAllow, func(o *op) bool { return o.prefix == p })
	counting := slices.ContainsFunc(v.allows(), func(o *op) bool { return o.prefix == p })
	dropped, err := n.s.DropAllow(w.ctx, []netip.Prefix{p})
	if err != nil {
		w.fail("%s: disallow: %v", n.name, err)
		return
	}
	w.trace("%s disallow %v → %d", n.name, p, dropped)
	if n.right() && !v.mute(n.name) && (counting && dropped != 1 || len(gone) == 0 && dropped != 0) {
		w.fail("%s: disallow of %v: the answer is %d, but allowed there: %v", n.name, p, dropped, counting)
	}
	w.withdraw(i, p, gone)
}

// withdraw records that operations are taken back: own ones by a withdrawal, others' by a lift by dot, of a prefix or of what
// has none.
func (w *world) withdraw(i int, p netip.Prefix, gone []int) {
	n := w.nodes[i]
	own := &op{kind: store.KindLift, until: store.Never, replaces: true}
	lift := &op{kind: store.KindLift, prefix: p}
	for _, id := range gone {
		if w.ops[id].origin() == n.name {
			own.gone = append(own.gone, id)
		} else {
			lift.gone = append(lift.gone, id)
			lift.until = max(lift.until, n.known.retained(n.known[id]))
		}
	}
	var ops []*op
	if len(own.gone) > 0 {
		own.covers = w.dead(n, own.gone)
		ops = append(ops, own)
	}
	if len(lift.gone) > 0 {
		w.carry(n, lift)
		ops = append(ops, lift)
	}
	w.wrote(n, ops...)
	w.touched[i] = true
}

// dead returns what n wrote and knows to be gone, or perhaps to be gone: a withdrawal may say it again.
func (w *world) dead(n *node, gone []int) (ids []int) {
	v := look(n.known, w.clockOf(n))
	perhaps := map[int]bool{}
	for o := range n.known.all {
		for _, g := range o.covers {
			perhaps[g] = true
		}
	}
	for o := range n.known.all {
		if o.origin() == n.name && o.at+10*minute <= v.now {
			for _, g := range o.gone {
				if w.ops[g].origin() != n.name {
					ids = append(ids, g) // a lift of what is no longer held
				}
			}
		}
		switch o.kind {
		case store.KindAllow, store.KindPlaced, store.KindFreeze, store.KindBlock:
			if o.origin() == n.name && (v.dead[o.id] || perhaps[o.id] || o.until <= v.now) && !slices.Contains(gone, o.id) {
				ids = append(ids, o.id)
			}
		}
	}
	return ids
}

// tick lets time pass at a store, which may then withdraw what has nothing left to say.
func (w *world) tick(n *node, agree bool) {
	n.s.Tick(agree)
	n.s.HeardMaxDuration("another", w.conf.max)
	now := w.clockOf(n)
	if now < n.tidied+minute && now >= n.tidied {
		return // it calls itself once a minute at most
	}
	n.tidied = now
	if err := n.s.SaveMeta(w.ctx, "tick", []byte{1}); err != nil { // after it the store's own call has been answered
		w.fail("%s: %v", n.name, err)
	}
	if n.s.Head().Seq == n.head {
		return
	}
	v := look(n.known, now)
	o := &op{kind: store.KindLift, until: store.Never, replaces: true}
	for p := range n.known.all {
		if p.origin() != n.name {
			continue
		}
		if p.kind == store.KindPlaced && v.dead[p.id] && p.at+11*minute <= now {
			o.gone = append(o.gone, p.id)
		}
	}
	o.covers = append(o.covers, w.dead(n, o.gone)...)
	w.trace("%s withdraws what says nothing more", n.name)
	w.wrote(n, o)
}

// carry has a Lift say what the older ones of its writer and prefix said, as far as it must still be said: of bans, or of
// what is lifted by dot. One of its own bans alone carries none of others' bans: the limits count those.
func (w *world) carry(n *node, o *op) {
	for b := range n.known.all {
		if b.kind == store.KindLift && b.prefix == o.prefix && b.origin() == n.name && (b.lifts == nil) == (o.lifts == nil) &&
			b.until > w.clockOf(n) && (foreign(o.lifts, n.name) || !foreign(b.lifts, n.name) && !takenUp(n, b)) {
			o.lifts = append(o.lifts, b.lifts...)
			o.perhaps = append(o.perhaps, b.perhaps...)
			for _, g := range b.gone {
				switch {
				case w.ops[g].origin() == n.name:
				case b.at+10*minute <= w.clockOf(n): // it may be withdrawn
					o.covers = append(o.covers, g)
				default:
					o.gone = append(o.gone, g)
				}
			}
			o.until = max(o.until, b.until)
		}
	}
}

// takenUp reports whether a lift of n's own bans is said by a later one of others' bans as well, which has replaced it.
func takenUp(n *node, b *op) bool {
	for c := range n.known.all {
		if len(b.lifts) > 0 && c.id > b.id && c.kind == store.KindLift && c.prefix == b.prefix && c.origin() == n.name && foreign(c.lifts, n.name) &&
			!slices.ContainsFunc(b.lifts, func(f offence) bool { return !slices.Contains(c.lifts, f) }) {
			return true
		}
	}
	return false
}

func foreign(lifts []offence, name string) bool {
	return slices.ContainsFunc(lifts, func(f offence) bool { return f.origin != name })
}

func (w *world) freeze(i int) {
	n := w.nodes[i]
	v := look(n.known, w.clockOf(n))
	own := v.live(store.KindFreeze, func(o *op) bool { return o.origin() == n.name })
	if err := n.s.Freeze(w.ctx); err != nil {
		w.fail("%s: freeze: %v", n.name, err)
		return
	}
	w.trace("%s freeze", n.name)
	if w.wrote(n, &op{kind: store.KindFreeze, until: store.Never}) && len(own) > 0 && !v.mute(n.name) {
		w.fail("%s: a freeze was written while its own held", n.name)
	}
	w.touched[i] = true
}

func (w *world) thaw(i int) {
	n := w.nodes[i]
	v := look(n.known, w.clockOf(n))
	if v.mute(n.name) {
		return // its word does not count, and it repeats itself
	}
	if err := n.s.Thaw(w.ctx); err != nil {
		w.fail("%s: thaw: %v", n.name, err)
		return
	}
	w.trace("%s thaw", n.name)
	w.withdraw(i, netip.Prefix{}, v.live(store.KindFreeze, func(*op) bool { return true }))
}

func (w *world) block(i int, target string) {
	n := w.nodes[i]
	if err := n.s.Block(w.ctx, target); err != nil {
		w.fail("%s: block: %v", n.name, err)
		return
	}
	w.trace("%s block %s", n.name, target)
	w.wrote(n, &op{kind: store.KindBlock, until: store.Never, target: target})
	w.touched[i] = true
}

func (w *world) unblock(i int, target string) {
	n := w.nodes[i]
	v := look(n.known, w.clockOf(n))
	if v.unclear || target == n.name && v.blocked[n.name] {
		return // its word does not count, and it repeats itself
	}
	if err := n.s.Unblock(w.ctx, target); err != nil {
		w.fail("%s: unblock: %v", n.name, err)
		return
	}
	w.trace("%s unblock %s", n.name, target)
	w.withdraw(i, netip.Prefix{}, v.live(store.KindBlock, func(o *op) bool { return o.target == target }))
}

func (w *world) place(i int, p netip.Prefix, until store.Millis) {
	n := w.nodes[i]
	if err := n.s.Place(w.ctx, []netip.Prefix{p}, until); err != nil {
		w.fail("%s: place: %v", n.name, err)
		return
	}
	w.trace("%s place %v until %s", n.name, p, w.show(until))
	o := &op{kind: store.KindPlaced, prefix: p, until: until, replaces: true}
	o.gone = replacedBy(n, o)
	if len(o.gone) > 0 { // they are withdrawn
		o.covers = w.dead(n, o.gone)
	}
	w.wrote(n, o)
	w.touched[i] = true
}

func (w *world) unplace(i int, p netip.Prefix) {
	n := w.nodes[i]
	v := look(n.known, w.clockOf(n))
	if v.mute(n.name) {
		return // its word does not count, and it repeats itself
	}
	if err := n.s.Unplace(w.ctx, []netip.Prefix{p}); err != nil {
		w.fail("%s: unplace: %v", n.name, err)
		return
	}
	w.trace("%s unplace %v", n.name, p)
	w.withdraw(i, p, v.live(store.KindPlaced, func(o *op) bool { return o.prefix == p }))
}

func (w *world) neverBan(i int, ps []netip.Prefix) {
	n := w.nodes[i]
	now := w.clockOf(n)
	if err := n.s.PublishNeverBan(w.ctx, ps, now+day); err != nil {
		w.fail("%s: never-ban: %v", n.name, err)
		return
	}
	w.trace("%s never-ban %v", n.name, ps)
	o := &op{kind: store.KindNeverBan, prefixes: ps, until: now + day, kept: now + day, replaces: true}
	for b := range n.known.all {
		switch {
		case b.kind != store.KindNeverBan || b.origin() != n.name:
		case b.log == n.log:
			o.kept = max(o.kept, b.kept)
		default:
			o.kept = max(o.kept, b.kept+1)
		}
	}
	w.wrote(n, o)
	w.touched[i] = true
}

// show writes a time as the distance from now.
func (w *world) show(m store.Millis) string {
	switch m {
	case 0:
		return "0"
	case store.Never:
		return "never"
	}
	return fmt.Sprintf("%+.3fs", float64(m-w.now)/1000)
}

// check compares all that can be seen of a node with the model.
func (w *world) check(i int) {
	n := w.nodes[i]
	if n.s == nil || w.err != nil {
		return
	}
	now := w.clockOf(n)
	w.tick(n, n.right())
	v := look(n.known, now)
	if v.unclear {
		n.counting = nil
		return
	}
	if got, want := n.s.Blocked(), slices.Sorted(maps.Keys(v.blocked)); !slices.Equal(got, want) {
		w.fail("%s: blocked %v, want %v", n.name, got, want)
	}
	// A member whose clock is behind by hours may see what the others have forgotten already, or never get it from them.
	optional := func(until store.Millis) bool { return !n.right() && until <= w.now+minute }

	want := v.byWho()
	got := map[who]store.Millis{}
	entries := n.s.List(store.Query{})
	// What of an origin counts where it exceeds its limit, the store may choose; all stores must choose the same.
	counting, each, over := map[who]bool{}, map[string]int{}, map[string]bool{}
	isEffective := map[netip.Prefix]bool{}
	for _, e := range entries {
		for _, r := range e.Records {
			if r.Until <= now {
				w.fail("%s lists a ban of %v by %s jail %q that has expired %s", n.name, e.Prefix, r.Origin, r.Jail, w.show(r.Until))
			}
			k := who{e.Prefix, r.Origin, r.Jail}
			if r.Ignored && (w.conf.live == 0 || v.blocked[r.Origin]) {
				continue
			}
			if !r.Ignored {
				counting[k] = true
				each[r.Origin]++
			} else {
				over[r.Origin] = true
			}
			got[k] = max(got[k], r.Until)
		}
		isEffective[e.Prefix] = e.Effective
	}
	for k, until := range want {
		if got[k] != until && !optional(until) {
			w.fail("%s: %v is banned by %s jail %q until %s, it says %s", n.name, k.prefix, k.origin, k.jail, w.show(until), w.show(got[k]))
		}
	}
	for k, until := range got {
		if want[k] != until && !optional(until) {
			w.fail("%s: says that %v is banned by %s jail %q until %s, it is %s", n.name, k.prefix, k.origin, k.jail, w.show(until), w.show(want[k]))
		}
	}
	for origin, k := range each {
		if w.conf.live > 0 && (k > w.conf.live || k < w.conf.live && over[origin]) {
			w.fail("%s: %d bans of %s count, some do not: %v, limit %d", n.name, k, origin, over[origin], w.conf.live)
		}
	}
	n.counting = counting
	if w.err != nil {
		return
	}

	effective := map[netip.Prefix]mask{}
	for e := range n.s.Effective() {
		var m mask
		for _, p := range e.Pieces {
			a, in := maskOf(p)
			if !in {
				w.fail("%s: a piece %v of %v", n.name, p, e.Prefix)
			}
			m = m.or(a)
		}
		effective[e.Prefix] = m
		if until := v.until(e.Prefix); until != e.Until && !optional(e.Until) && w.conf.live == 0 {
			w.fail("%s: %v is effective until %s, want %s", n.name, e.Prefix, w.show(e.Until), w.show(until))
		}
	}
	if n.right() {
		for p, m := range v.effective(func(b *op) bool { return w.conf.live == 0 || counting[who{b.prefix, b.origin(), b.offence.jail}] }) {
			if effective[p] != m {
				w.fail("%s: effective of %v is %x, want %x", n.name, p, effective[p], m)
			}
			if isEffective[p] != (m != mask{}) {
				w.fail("%s: list says effective of %v: %v", n.name, p, isEffective[p])
			}
			delete(effective, p)
		}
		for p, m := range effective {
			if m != (mask{}) {
				w.fail("%s: %v is effective and not banned", n.name, p)
			}
		}
	}

	wantAllows, gotAllows := map[who]store.Millis{}, map[who]store.Millis{}
	for _, o := range v.allows() {
		k := who{o.prefix, o.origin(), ""}
		wantAllows[k] = max(wantAllows[k], o.until)
	}
	for _, e := range n.s.Allows() {
		if e.Reason == "" {
			k := who{e.Prefix, e.Origin, ""}
			gotAllows[k] = max(gotAllows[k], e.Until)
		}
	}
	w.same(n, "allows", wantAllows, gotAllows, optional)

	placed := map[who]store.Millis{}
	wantPlaced, either := v.placed()
	for p, until := range wantPlaced {
		if !either[p] {
			placed[who{prefix: p}] = until
		}
	}
	gotPlaced := map[who]store.Millis{}
	for _, e := range n.s.Placed() {
		if !either[e.Prefix] {
			gotPlaced[who{prefix: e.Prefix}] = e.Until
		}
	}
	w.same(n, "placed", placed, gotPlaced, optional)

	if by := v.frozen(); true {
		if is, who := n.s.Frozen(); is != (by != "") || who != by {
			w.fail("%s: frozen %v by %q, want by %q", n.name, is, who, by)
		}
	}
}

func (w *world) same(n *node, what string, want, got map[who]store.Millis, optional func(store.Millis) bool) {
	for k, until := range want {
		if got[k] != until && !optional(until) {
			w.fail("%s: %s: %v of %s until %s, it says %s", n.name, what, k.prefix, k.origin, w.show(until), w.show(got[k]))
		}
	}
	for k, until := range got {
		if want[k] != until && !optional(until) {
			w.fail("%s: %s: it says %v of %s until %s, want %s", n.name, what, k.prefix, k.origin, w.show(until), w.show(want[k]))
		}
	}
}

// settle lets every two members exchange until all roots are equal, and checks that they become so.
func (w *world) settle() {
	for round := range 4 {
		for i := range w.nodes {
			for j := range w.nodes {
				w.pull(i, j, nil, round == 2)
			}
		}
		if w.roots() {
			break
		}
		if round == 3 {
			var b strings.Builder
			for _, n := range w.nodes {
				fmt.Fprintf(&b, " %s %x", n.name, n.s.Root(store.Minute(w.now.Time())))
			}
			w.fail("the roots differ after all have exchanged with all:%s", &b)
		}
	}
	for i, n := range w.nodes {
		w.check(i)
		if first := w.nodes[0].counting; w.err == nil && first != nil && n.counting != nil && !maps.Equal(n.counting, first) {
			w.fail("%s and %s do not agree on which bans count", w.nodes[0].name, n.name)
		}
	}
}

func (w *world) roots() bool {
	at := store.Minute(w.now.Time())
	var first [16]byte
	for i, n := range w.nodes {
		w.tick(n, n.right())
		if r := n.s.Root(at); i == 0 {
			first = r
		} else if r != first {
			return false
		}
	}
	return true
}

// finish heals all and compares.
func (w *world) finish() {
	w.trace("heal, all clocks right, all exchange")
	for i, n := range w.nodes {
		n.group = 0
		w.set(n, 0)
		if n.s == nil {
			w.open(i)
		}
		if w.err != nil {
			return
		}
	}
	w.pass(second)
	for _, n := range w.nodes {
		w.tick(n, true)
	}
	w.settle()
}

func (w *world) reopen(i int, c *image, known set) {
	n := w.nodes[i]
	if n.s != nil {
		w.stop(n)
	}
	if err := n.put(c); err != nil {
		w.fail("%v", err)
	}
	n.known = known
	w.open(i)
}
