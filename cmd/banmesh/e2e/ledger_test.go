package e2e

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"banmesh/mesh/control"
)

// fate is what those who called know of an offence.
type fate uint8

const (
	isAsked   fate = iota // the call has not answered, or failed: banned or not
	isBanned              // acknowledged: listed until somebody lifts it
	isLifting             // an unban has begun, or failed: banned or not
	isLifted              // acknowledged: never listed again
	isNothing             // asked, and it came to nothing: never listed
)

// promise is what was promised of an address. Each is banned once, by one router
// in one jail, so that the address names the offence.
type promise struct {
	fate    fate
	origin  string       // the router that was asked to ban it
	lifter  string       // the one that was asked to lift it
	start   control.Time // of the offence
	spooled bool         // the last word was taken by the spool and may not have reached the agent
	shared  bool         // every router had it when they last agreed
	place   int          // in standing, where banned
}

// ledger is what was acknowledged to callers, to judge by what the agents list.
type ledger struct {
	mu       sync.Mutex
	made     uint32
	promises map[netip.Prefix]*promise
	standing []netip.Prefix // those that are banned, in no order

	bans, lifts, unknown, spools int // acknowledged; without an answer; taken by the spool
}

func newLedger() *ledger { return &ledger{promises: make(map[netip.Prefix]*promise)} }

// ask notes that a router is asked to ban n new addresses.
func (l *ledger) ask(origin string, n int, start control.Time) control.Prefixes {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(control.Prefixes, n)
	for i := range out {
		v := l.made
		l.made++
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{20, byte(v >> 16), byte(v >> 8), byte(v)}), 32)
		if v%4 == 3 {
			out[i] = netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 12: byte(v >> 24), 13: byte(v >> 16), 14: byte(v >> 8), 15: byte(v)}), 128)
		}
		l.promises[out[i]] = &promise{origin: origin, start: start}
	}
	return out
}

// answered notes how the call to ban them ended.
func (l *ledger) answered(ps control.Prefixes, acknowledged, spooled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !acknowledged {
		l.unknown += len(ps)
		return
	}
	for _, p := range ps {
		l.stand(p).spooled = spooled
		l.bans++
		if spooled {
			l.spools++
		}
	}
}

func (l *ledger) stand(p netip.Prefix) *promise {
	x := l.promises[p]
	x.fate, x.place = isBanned, len(l.standing)
	l.standing = append(l.standing, p)
	return x
}

func (l *ledger) unstand(x *promise) {
	last := l.standing[len(l.standing)-1]
	l.standing[x.place] = last
	l.promises[last].place = x.place
	l.standing = l.standing[:len(l.standing)-1]
}

// choose picks up to n addresses to lift at a router; shared takes only those
// that all routers are known to have.
func (l *ledger) choose(rng *rand.Rand, n int, lifter string, shared bool) control.Prefixes {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out control.Prefixes
	for tries := 0; len(out) < n && tries < 4*n && len(l.standing) > 0; tries++ {
		p := l.standing[rng.IntN(len(l.standing))]
		x := l.promises[p]
		if shared && !x.shared {
			continue
		}
		l.unstand(x)
		x.fate, x.lifter = isLifting, lifter
		out = append(out, p)
	}
	return out
}

// gone notes that the lift of an address was acknowledged.
func (l *ledger) gone(p netip.Prefix, spooled bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	x := l.promises[p]
	x.fate, x.spooled = isLifted, spooled
	l.lifts++
	if spooled {
		l.spools++
	}
}

// doubtful counts lifts whose outcome is not known.
func (l *ledger) doubtful(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unknown += n
}

// size is the number of addresses that stand banned.
func (l *ledger) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.standing)
}

// replay picks offences of a router that were lifted, as its fail2ban would ban
// them again from its database.
func (l *ledger) replay(origin string, n int) (out []control.BanCall) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, x := range l.promises { // whichever comes first
		if len(out) == n {
			break
		}
		if x.origin == origin && x.fate == isLifted && !x.spooled {
			out = append(out, control.BanCall{Prefixes: control.Prefixes{p}, Jail: crashJail, Start: x.start, Until: crashUntil(x.start), Restored: true})
		}
	}
	return out
}

// of is what one router has itself acknowledged, and so must have on its disk.
func (l *ledger) of(router string) map[netip.Prefix]fate {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[netip.Prefix]fate)
	for p, x := range l.promises {
		if x.spooled {
			continue
		}
		if x.origin == router && x.fate == isBanned || x.lifter == router && x.fate == isLifted {
			out[p] = x.fate
		}
	}
	return out
}

// judgeOwn compares a router's list, taken after of, with it.
func (l *ledger) judgeOwn(own map[netip.Prefix]fate, list map[netip.Prefix]control.Ban) (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, f := range own {
		_, there := list[p]
		switch {
		case f == isBanned && !there && l.promises[p].fate == isBanned:
			wrong = append(wrong, fmt.Sprintf("its own acknowledged ban of %v is lost", p))
		case f == isLifted && there:
			wrong = append(wrong, fmt.Sprintf("%v is banned again, and its unban was acknowledged here", p))
		}
	}
	return wrong
}

// judge compares a router's list with all promises. The routers agree and nobody
// calls meanwhile. waits says that something that the spool took has yet to be
// seen.
func (l *ledger) judge(list map[netip.Prefix]control.Ban) (wrong []string, waits bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, b := range list {
		x := l.promises[p]
		switch {
		case x == nil:
			wrong = append(wrong, fmt.Sprintf("%v is banned, and nobody asked for it", p))
		case x.fate == isLifted && x.spooled:
			wrong, waits = append(wrong, fmt.Sprintf("%v is banned, and the spool took its unban", p)), true
		case x.fate == isLifted:
			wrong = append(wrong, fmt.Sprintf("%v is banned again, and its unban was acknowledged by %s", p, x.lifter))
		case x.fate == isNothing:
			wrong = append(wrong, fmt.Sprintf("%v is banned, and was on no router when they last agreed", p))
		case !b.Effective:
			wrong = append(wrong, fmt.Sprintf("%v is not effective: %s", p, b.ReasonNotEffective))
		case len(b.Records) != 1 || b.Records[0].Origin != x.origin:
			wrong = append(wrong, fmt.Sprintf("%v has the records %+v, want one of %s", p, b.Records, x.origin))
		}
	}
	for _, p := range l.standing {
		if _, there := list[p]; !there {
			wrong = append(wrong, fmt.Sprintf("the ban of %v, acknowledged by %s, is lost", p, l.promises[p].origin))
			waits = waits || l.promises[p].spooled
		}
	}
	return wrong, waits
}

// agreed settles what was open, by what all routers list now.
func (l *ledger) agreed(list map[netip.Prefix]control.Ban) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, x := range l.promises {
		x.spooled = false
		_, there := list[p]
		x.shared = there
		switch {
		case x.fate == isAsked && there:
			l.stand(p)
		case x.fate == isAsked:
			x.fate = isNothing
		case x.fate == isLifting && !there:
			x.fate = isLifted
		}
	}
}

// TestLedgerSeesWhatIsWrong: the judge of the crash tests finds each kind of
// broken promise.
func TestLedgerSeesWhatIsWrong(t *testing.T) {
	l := newLedger()
	ps := l.ask("router1", 4, 1)
	l.answered(ps, true, false)
	entry := func(p netip.Prefix) control.Ban {
		return control.Ban{Prefix: p.String(), Effective: true, Records: []control.Record{{Origin: "router1"}}}
	}
	list := map[netip.Prefix]control.Ban{}
	for _, p := range ps {
		list[p] = entry(p)
	}
	expect := func(what string, words ...string) {
		t.Helper()
		wrong, _ := l.judge(list)
		if len(wrong) != len(words) || len(words) == 1 && !strings.Contains(wrong[0], words[0]) {
			t.Errorf("%s: %q, want %q", what, wrong, words)
		}
	}
	expect("all there")
	delete(list, ps[1])
	expect("one lost", "is lost")
	list[ps[1]] = entry(ps[1])
	lift := l.choose(rand.New(rand.NewPCG(1, 1)), 1, "router2", false)
	expect("an unban under way")
	l.gone(lift[0], false)
	expect("one resurrected", "banned again")
	if own := l.judgeOwn(map[netip.Prefix]fate{lift[0]: isLifted}, list); len(own) != 1 {
		t.Errorf("own lift resurrected: %q", own)
	}
	delete(list, lift[0])
	expect("lifted")
	list[pfx("192.0.2.1/32")] = entry(pfx("192.0.2.1/32"))
	expect("not asked for", "nobody asked")
}

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }
