package model

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"banmesh/internal/need"
	"banmesh/store"
)

var (
	flagSeed  = flag.Uint64("seed", 0, "run the history of this seed alone, and print it")
	flagFrom  = flag.Uint64("from", 1, "the first seed of many")
	flagSteps = flag.Int("steps", 200, "steps of a history")
	flagCount = flag.Uint64("histories", 400, "how many TestHistories runs")
	flagLimit = flag.Duration("within", 20*time.Second, "how long it may take")
	flagKinds = flag.Int("kinds", 5, "kinds of findings after which no more are looked for")
)

// action is what a step does.
type action uint8

const (
	actBanByHand action = iota
	actBan
	actProlong
	actReplay
	actUnban
	actUnbanJail
	actUnbanMine
	actUnbanAll
	actRevoke
	actAllow
	actDisallow
	actFreeze
	actThaw
	actBlock
	actUnblock
	actPlace
	actUnplace
	actNeverBan
	actPull
	actPullPart
	actLate
	actMeet
	actPartition
	actHeal
	actRestart
	actStop
	actStart
	actCrash
	actBackup
	actRestore
	actWipe
	actStep
	actWrong
	actRight
	actHours
	actDays
	actTime
)

// weights say how often each action is drawn.
var weights = map[action]int{
	actBanByHand: 8, actBan: 14, actProlong: 9, actReplay: 5, actUnban: 10, actUnbanJail: 5, actUnbanMine: 3, actUnbanAll: 1,
	actRevoke: 2, actAllow: 5, actDisallow: 4, actFreeze: 2, actThaw: 2, actBlock: 2, actUnblock: 2, actPlace: 4, actUnplace: 4,
	actNeverBan: 2, actPull: 12, actPullPart: 6, actLate: 8, actMeet: 2, actPartition: 2, actHeal: 2, actRestart: 2, actStop: 1,
	actStart: 3, actCrash: 3, actBackup: 2, actRestore: 1, actWipe: 1, actStep: 3, actWrong: 1, actRight: 2, actHours: 2, actDays: 1,
	actTime: 5,
}

var lots = func() (out []action) {
	for a := actBanByHand; a <= actTime; a++ {
		for range weights[a] {
			out = append(out, a)
		}
	}
	return out
}()

// step is one step: an action, and random numbers that it reads as the state allows. So a history stays one when steps of it
// are left out.
type step struct {
	action action
	dt     store.Millis
	a, b   uint32
	fate   uint32
}

// history is all that one run depends on, but for the epochs.
type history struct {
	conf  settings
	steps []step
}

func newHistory(seed uint64, length int) history {
	r := rand.New(rand.NewPCG(seed, 0))
	h := history{conf: settings{
		nodes: 3 + r.IntN(5),
		max:   []time.Duration{4 * time.Hour, 24 * time.Hour, 720 * time.Hour, 720 * time.Hour}[r.IntN(4)],
		files: seed%32 == 0, // they take five times as long
	}}
	if r.IntN(4) == 0 {
		h.conf.live = 1 + r.IntN(3)
	}
	for range length {
		s := step{action: lots[r.IntN(len(lots))], a: r.Uint32(), b: r.Uint32(), fate: r.Uint32(), dt: store.Millis(r.IntN(3000))}
		if r.IntN(10) == 0 {
			s.dt = store.Millis(r.IntN(60000))
		}
		h.steps = append(h.steps, s)
	}
	if h.conf.least = h.conf.max; r.IntN(2) == 0 {
		h.conf.least = min(h.conf.max, 4*time.Hour)
	}
	return h
}

// run plays a history and returns the first finding, and at which step.
func (h history) run(dir string, trace func(string, ...any)) (at int, err error) {
	w := newWorld(dir, h.conf, trace)
	defer func() {
		if p := recover(); p != nil {
			panic(p) // a store that panicked holds its lock: to close it would wait for ever
		}
		w.close()
	}()
	for at, s := range h.steps {
		clear(w.touched)
		w.do(s)
		for i := range w.nodes {
			if w.touched[i] || at%16 == 15 {
				w.check(i)
			}
		}
		if w.err != nil {
			return at, w.err
		}
	}
	w.finish()
	return len(h.steps), w.err
}

// byHand is the jail of bans that no fail2ban gave.
const byHand = "manual"

var jails = []string{"sshd", "nginx"}

var lives = []store.Millis{20 * second, 5 * minute, 10 * minute, hour, hour, 3 * hour, 30 * hour}

func (w *world) do(s step) {
	w.pass(s.dt)
	i := int(s.a % uint32(len(w.nodes)))
	a, b := s.a/8, s.b
	n := w.nodes[i]
	prefix := universe[b%uint32(len(universe))]
	b /= 16
	writes := s.action <= actNeverBan
	if writes && n.s != nil && n.crash && n.snap != nil {
		w.crash(i)
	}
	if n.s == nil && (writes || s.action == actPull || s.action == actPullPart) {
		return
	}
	now := w.clockOf(n)
	life := lives[b%uint32(len(lives))] + store.Millis(a%1000)
	switch s.action {
	case actBanByHand:
		w.ban(i, store.BanRequest{Prefix: prefix, Jail: byHand, Until: now + life})
	case actBan:
		// Starts are 10 s apart, or those of one offence.
		start := (now - store.Millis(a%600)*second) / (10 * second) * (10 * second)
		f := offence{origin: n.name, jail: jails[a%2], prefix: prefix, start: start}
		n.fail2ban = append(n.fail2ban, f)
		w.banOffence(i, f, start+life, false)
	case actProlong, actReplay:
		if len(n.fail2ban) == 0 {
			return
		}
		k := len(n.fail2ban) - 1 - int(a)%min(len(n.fail2ban), 6)
		f := n.fail2ban[k]
		jitter := store.Millis(0)
		if w.maxOf(n) >= 30*day {
			jitter = store.Millis(b%2) * second
		}
		if now+life > f.start+w.maxOf(n) {
			jitter = 0
		}
		f.start += jitter
		if now+life <= f.start {
			return // its clock was ahead then
		}
		w.banOffence(i, f, now+life, s.action == actReplay)
	case actUnban:
		w.lift(i, store.LiftRequest{Prefixes: []netip.Prefix{prefix}})
	case actUnbanJail:
		w.lift(i, store.LiftRequest{Prefixes: []netip.Prefix{prefix}, Jail: jails[a%2], Mine: true, FromFail2ban: true})
	case actUnbanMine:
		w.lift(i, store.LiftRequest{Prefixes: []netip.Prefix{prefix}, Mine: true})
	case actUnbanAll:
		w.lift(i, store.LiftRequest{All: true, Confirmed: true})
	case actRevoke:
		q := store.LiftRequest{Origin: w.nodes[a%uint32(len(w.nodes))].name, Confirmed: true}
		if b%2 == 0 {
			q.Since = now - store.Millis(b%600)*second
		}
		w.lift(i, q)
	case actAllow:
		until := now + life
		if a%4 == 0 {
			until = 0
		}
		w.allow(i, prefix, until)
	case actDisallow:
		w.disallow(i, prefix)
	case actFreeze:
		w.freeze(i)
	case actThaw:
		w.thaw(i)
	case actBlock:
		target := w.nodes[a%uint32(len(w.nodes))].name
		w.block(i, target)
	case actUnblock:
		w.unblock(i, w.nodes[a%uint32(len(w.nodes))].name)
	case actPlace:
		w.place(i, prefix, w.now+7*day)
	case actUnplace:
		w.unplace(i, prefix)
	case actNeverBan:
		ps := []netip.Prefix{prefix}
		if q := universe[a%uint32(len(universe))]; q != prefix {
			ps = append(ps, q)
		}
		w.neverBan(i, ps)
	case actPull, actPullPart:
		j := int(a % uint32(len(w.nodes)))
		if i == j || w.nodes[j].s == nil || n.group != w.nodes[j].group {
			return
		}
		w.trace("%s takes from %s", n.name, w.nodes[j].name)
		if s.action == actPull {
			w.pull(i, j, nil, false)
		} else {
			w.pull(i, j, func(k int) bool { return b>>k&1 == 1 }, false)
		}
	case actLate:
		w.arrive(int(a))
	case actMeet:
		for i := range w.nodes {
			for j := range w.nodes {
				if w.nodes[i].group == w.nodes[j].group {
					w.pull(i, j, nil, false)
				}
			}
		}
		w.trace("all that can meet exchange")
	case actPartition:
		for k, p := range w.nodes {
			p.group = int(b >> k & 1)
		}
		w.trace("partition %b", b&127)
	case actHeal:
		for _, p := range w.nodes {
			p.group = 0
		}
		w.trace("heal")
	case actRestart:
		if n.s != nil {
			w.trace("%s restarts", n.name)
			w.stop(n)
			w.pass(2 * second)
			w.open(i)
		}
	case actStop:
		if n.s != nil {
			w.trace("%s stops", n.name)
			w.stop(n)
		}
	case actStart:
		for j, p := range w.nodes {
			if p.s == nil {
				w.trace("%s starts", p.name)
				w.pass(2 * second)
				w.open(j)
				return
			}
		}
	case actCrash:
		if n.s == nil {
			return
		}
		if n.snap != nil {
			w.crash(i)
		} else {
			n.crash = true
		}
	case actBackup:
		if n.s == nil {
			return
		}
		w.trace("%s is stopped, copied, started", n.name)
		w.stop(n)
		data, err := n.copied()
		if err != nil {
			w.fail("%v", err)
		}
		n.backup, n.backupSet = data, slices.Clone(n.known)
		w.pass(2 * second)
		w.open(i)
	case actRestore:
		if n.backup != nil {
			w.trace("%s is restored from its copy", n.name)
			w.pass(2 * second)
			w.reopen(i, n.backup, slices.Clone(n.backupSet))
		}
	case actWipe:
		w.trace("%s is wiped", n.name)
		w.pass(2 * second)
		w.reopen(i, nil, nil)
	case actStep:
		to := store.Millis(b%40001) - 20*second
		if !n.right() {
			return
		}
		w.set(n, to)
		w.trace("the clock of %s is %v off", n.name, time.Duration(to)*time.Millisecond)
	case actWrong:
		w.set(n, store.Millis(b%(5*3600))*second-2*hour)
		if n.right() {
			w.set(n, 2*hour)
		}
		w.trace("the clock of %s is %v off", n.name, time.Duration(n.clock)*time.Millisecond)
	case actRight:
		if !n.right() {
			w.set(n, 0)
			w.trace("the clock of %s is right", n.name)
		}
	case actHours:
		d := store.Millis(b%300) * minute
		w.pass(d)
		w.trace("%v pass", time.Duration(d)*time.Millisecond)
	case actDays:
		d := store.Millis(b%2400) * hour / 10
		w.pass(d)
		w.trace("%v pass", time.Duration(d)*time.Millisecond)
	case actTime:
		w.pass(store.Millis(b % 600000))
	}
	if s.action == actTime || s.action == actHours || s.action == actDays || s.action == actStep || s.action == actWrong || s.action == actRight {
		for i := range w.nodes {
			w.touched[i] = true
		}
	}
	if writes && b%8 != 0 {
		w.push(i, s.fate)
	}
}

func (w *world) crash(i int) {
	n := w.nodes[i]
	w.trace("%s crashes and loses what it had merged", n.name)
	w.pass(2 * second)
	w.reopen(i, n.snap, n.snapSet)
}

func (w *world) banOffence(i int, f offence, until store.Millis, restored bool) {
	for _, o := range w.ops {
		// Nobody can tell what a lift covers that its writer had forgotten.
		if slices.ContainsFunc(o.perhaps, f.same) {
			return
		}
	}
	w.ban(i, store.BanRequest{Prefix: f.prefix, Jail: f.jail, Start: f.start, Until: until, Failures: 5, Restored: restored})
}

// shrink leaves out steps for as long as the history still fails: with their time, else without.
func (h history) shrink(fails func(history) bool) history {
	for size := len(h.steps) / 2; size > 0; {
		shorter := false
		for from := 0; from < len(h.steps); {
			to := min(from+size, len(h.steps))
			g := history{h.conf, slices.Concat(h.steps[:from], h.steps[to:])}
			if fails(g) {
				h, shorter = g, true
				continue
			}
			if to < len(h.steps) {
				for _, s := range h.steps[from:to] {
					g.steps[from].dt += s.dt
				}
				if fails(g) {
					h, shorter = g, true
					continue
				}
			}
			from = to
		}
		if !shorter || size > 1 {
			size /= 2
		}
	}
	return h
}

// play runs the history of a seed and returns what kind of finding it has, "" for none, and a report of one that is new.
func play(t testing.TB, dir string, seed uint64, isNew func(kind string) bool) (kind, report string) {
	h := newHistory(seed, *flagSteps)
	sub := func(h history, trace func(string, ...any)) error {
		d, err := os.MkdirTemp(dir, "h")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(d)
		_, err = h.run(d, trace)
		return err
	}
	silent := func(string, ...any) {}
	err := sub(h, silent)
	if err == nil {
		return "", ""
	}
	kind = shape(err)
	if !isNew(kind) {
		return kind, ""
	}
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %v\n", seed, err)
	deadline := time.Now().Add(20 * time.Second)
	short := h.shrink(func(g history) bool {
		if time.Now().After(deadline) {
			return false
		}
		e := sub(g, silent)
		return e != nil && shape(e) == kind
	})
	fmt.Fprintf(&b, "shrunk to %d steps of %d stores, max_duration %v:\n", len(short.steps), short.conf.nodes, short.conf.max)
	err = sub(short, func(format string, args ...any) { fmt.Fprintf(&b, "  "+format+"\n", args...) })
	fmt.Fprintf(&b, "→ %v\n", err)
	return kind, b.String()
}

// shape is a finding without its names and numbers.
func shape(err error) string { return numbers.ReplaceAllString(err.Error(), "") }

var numbers = regexp.MustCompile(`\br\d+|[\d.:/+-]+\w*|"\w*"`)

// memory returns a directory for stores, in memory where there is one.
func memory(t testing.TB) string {
	base := "/dev/shm"
	if _, err := os.Stat(base); err != nil {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(base, "banmesh-model-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// campaign runs histories from a seed on, two at a time, until a number of them or a time is reached, or there are -kinds kinds
// of findings, of each of which the first is told.
func campaign(t *testing.T, from uint64, count uint64, limit time.Duration) {
	dir := memory(t)
	defer debug.SetGCPercent(debug.SetGCPercent(1600)) // each history is garbage after some milliseconds
	begun := time.Now()
	var next atomic.Uint64
	var mu sync.Mutex
	kinds := map[string]int{}
	isNew := func(kind string) bool {
		mu.Lock()
		defer mu.Unlock()
		kinds[kind]++
		return kinds[kind] == 1
	}
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(kinds) >= *flagKinds
	}
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for time.Since(begun) < limit && !enough() {
				k := next.Add(1) - 1
				if k >= count {
					return
				}
				if k%1000 == 999 {
					t.Logf("%d histories begun from seed %d", k+1, from)
				}
				if kind, report := play(t, dir, from+k, isNew); report != "" {
					t.Error(report)
				} else if kind != "" {
					t.Logf("seed %d: likewise: %s", from+k, kind)
				}
			}
		})
	}
	wg.Wait()
	n := min(next.Load(), count)
	t.Logf("%d histories of %d steps from seed %d: %.0f/s", n, *flagSteps, from, float64(n)/time.Since(begun).Seconds())
	for kind, n := range kinds {
		t.Logf("%6d × %s", n, kind)
	}
}

// TestHistories runs the first histories, as many as 20 s allow; with -seed one alone.
func TestHistories(t *testing.T) {
	if *flagSeed != 0 {
		if _, report := play(t, memory(t), *flagSeed, func(string) bool { return true }); report != "" {
			t.Fatal(report)
		}
		return
	}
	campaign(t, *flagFrom, *flagCount, *flagLimit)
}

// found are seeds of histories that once had a finding.
var found = []uint64{
	1001627, 1001853, 1005524, 1005827, 1010379, 1011140, 1012495, 3004946, 5014464, 6004764, 6011846, 6012213, 700003299, 710010809, 710013192,
	720001485, 840002391, 870000893, 860013544,
}

// TestHistoriesThatFailedOnce runs them again.
func TestHistoriesThatFailedOnce(t *testing.T) {
	dir := memory(t)
	for _, seed := range found {
		if _, report := play(t, dir, seed, func(string) bool { return true }); report != "" {
			t.Error(report)
		}
	}
}

// TestSoakHistories runs histories for as long as BANMESH_SOAK says: from -from on where it is given, else from any seed.
func TestSoakHistories(t *testing.T) {
	limit := need.Soak(t)
	from := *flagFrom
	if from == 1 {
		from = rand.Uint64N(1 << 40)
	}
	campaign(t, from, math.MaxUint64, limit)
}
