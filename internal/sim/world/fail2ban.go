package world

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"banmesh/mesh/control"
	"banmesh/mesh/fail2ban"
)

// jails are the jails of each router's fail2ban.
var jails = []string{"sshd", "web"}

// watchdog is a router's fail2ban in memory. Like fail2ban 1.0 it bans, prolongs, unbans at the end, restores bans after a
// restart, runs the hooks of the banmesh action and answers its client's commands. While it runs an action it answers nobody.
type watchdog struct {
	m *Member

	busy turn // held while an action runs

	mu      sync.Mutex
	bans    map[jailed]sentence
	ignored map[netip.Prefix]bool
	down    bool
}

type jailed struct {
	jail string
	addr netip.Addr
}

type sentence struct {
	start time.Time // by the router's clock, whole milliseconds
	life  time.Duration
	off   time.Duration // of that clock then
}

// off is how far the router's clock was off when an address was banned.
func (d *watchdog) off(jail string, addr netip.Addr) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bans[jailed{jail, addr}].off
}

func newWatchdog(m *Member) *watchdog {
	return &watchdog{m: m, busy: make(turn, 1), bans: make(map[jailed]sentence), ignored: make(map[netip.Prefix]bool)}
}

func (d *watchdog) keys() []jailed { return keysOf(d.bans) }

func keysOf(bans map[jailed]sentence) []jailed {
	out := make([]jailed, 0, len(bans))
	for k := range bans {
		out = append(out, k)
	}
	slices.SortFunc(out, func(a, b jailed) int {
		if c := strings.Compare(a.jail, b.jail); c != 0 {
			return c
		}
		return a.addr.Compare(b.addr)
	})
	return out
}

// attack makes a jail ban an address for a while, or prolong its ban.
func (d *watchdog) attack(jail string, addr netip.Addr, life time.Duration) {
	d.busy.take()
	defer d.busy.give()
	k, now := jailed{jail, addr}, d.m.now().Truncate(time.Millisecond)
	d.mu.Lock()
	if d.down || d.ignored[netip.PrefixFrom(addr, addr.BitLen())] {
		d.mu.Unlock()
		return
	}
	s, held := d.bans[k]
	event := control.HookBan
	if held {
		if !now.Add(life).After(s.start.Add(s.life)) {
			d.mu.Unlock() // it is banned already, and for longer, as after a step back of the clock
			return
		}
		event, s.life = control.HookProlong, now.Sub(s.start)+life
	} else {
		s = sentence{now, life, time.Until(now)}
	}
	d.bans[k] = s
	d.mu.Unlock()
	d.m.hook(call(event, k, s, now, false))
}

func call(event control.HookEvent, k jailed, s sentence, now time.Time, restored bool) control.HookCall {
	c := control.HookCall{
		Event: event, Jail: k.jail, Prefixes: control.Prefixes{netip.PrefixFrom(k.addr, k.addr.BitLen())},
		Start: control.At(s.start), Until: control.Until(control.At(s.start.Add(s.life))),
		Failures: 5, Restored: restored, At: control.At(now),
	}
	return c
}

// pass unbans what has ended. It is called every few seconds.
func (d *watchdog) pass() {
	d.busy.take()
	defer d.busy.give()
	now := d.m.now()
	d.mu.Lock()
	if d.down {
		d.mu.Unlock()
		return
	}
	over := make(map[jailed]sentence)
	for _, k := range d.keys() {
		if s := d.bans[k]; now.After(s.start.Add(s.life)) {
			over[k] = s
			delete(d.bans, k)
		}
	}
	d.mu.Unlock()
	for _, k := range keysOf(over) {
		d.m.hook(call(control.HookUnban, k, over[k], now, false))
	}
}

// restart restores the bans that have not ended.
func (d *watchdog) restart() {
	d.busy.take()
	defer d.busy.give()
	d.m.w.reached("fail2ban: restarted and replayed")
	now := d.m.now()
	d.mu.Lock()
	clear(d.ignored)
	keys := d.keys()
	bans := make(map[jailed]sentence, len(keys))
	for _, k := range keys {
		bans[k] = d.bans[k]
	}
	d.mu.Unlock()
	for _, jail := range jails {
		d.m.hook(control.HookCall{Event: control.HookStart, Jail: jail, At: control.At(now)})
	}
	for _, k := range keys {
		if s := bans[k]; now.Before(s.start.Add(s.life)) {
			d.m.hook(call(control.HookBan, k, s, now, true))
		}
	}
}

// client answers a command.
func (d *watchdog) client(ctx context.Context, args ...string) (string, error) {
	if err := pause(ctx, 100*time.Millisecond); err != nil {
		return "", err
	}
	d.mu.Lock()
	down := d.down
	d.mu.Unlock()
	if down {
		return "", fail2ban.ErrNotRunning
	}
	select { // until the actions have run, or the caller gives up
	case d.busy <- struct{}{}:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	defer d.busy.give()
	at := func(i int) string {
		if i < len(args) {
			return args[i]
		}
		return ""
	}
	switch {
	case at(0) == "status" && len(args) == 1:
		return fmt.Sprintf("Status\n|- Number of jail:\t%d\n`- Jail list:\t%s", len(jails), strings.Join(jails, ", ")), nil
	case at(0) == "status" || at(0) == "get" || at(0) == "set":
		if jail := at(1); !slices.Contains(jails, jail) {
			return "", fail2ban.ErrNoJail
		}
	}
	switch {
	case at(0) == "status":
		return "Status for the jail", nil
	case at(0) == "get" && at(2) == "banip":
		d.mu.Lock()
		defer d.mu.Unlock()
		var out strings.Builder
		const layout = "2006-01-02 15:04:05"
		for _, k := range d.keys() {
			if s := d.bans[k]; k.jail == at(1) {
				fmt.Fprintf(&out, "%v \t%s + %d = %s\n", k.addr, s.start.Local().Format(layout), int(s.life.Seconds()), s.start.Add(s.life).Local().Format(layout))
			}
		}
		return out.String(), nil
	case at(0) == "get" && at(2) == "ignoreip":
		d.mu.Lock()
		defer d.mu.Unlock()
		out := "These IP addresses/networks are ignored:\n"
		for p := range d.ignored {
			out += "|- " + p.String() + "\n"
		}
		return out, nil
	case at(0) == "set" && at(2) == "unbanip":
		for _, text := range args[3:] {
			addr, err := netip.ParseAddr(strings.TrimSuffix(text, "/32"))
			if err != nil {
				continue
			}
			k := jailed{at(1), addr}
			d.mu.Lock()
			s, held := d.bans[k]
			delete(d.bans, k)
			d.mu.Unlock()
			if held {
				d.m.w.reached("fail2ban: was told of a lift")
				d.m.hook(call(control.HookUnban, k, s, d.m.now(), false))
			}
		}
		return "1", nil
	case at(0) == "set" && (at(2) == "addignoreip" || at(2) == "delignoreip"):
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, text := range args[3:] {
			p, err := netip.ParsePrefix(text)
			if err != nil {
				a, err := netip.ParseAddr(text)
				if err != nil {
					continue
				}
				p = netip.PrefixFrom(a, a.BitLen())
			}
			if at(2) == "addignoreip" {
				d.ignored[p] = true
			} else {
				delete(d.ignored, p)
			}
		}
		return "", nil
	}
	//lint:ignore ST1005 fail2ban's own words
	return "", errors.New("Invalid command")
}
