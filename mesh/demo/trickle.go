package demo

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"banmesh/mesh/control"
)

// The pace and the life of the bans that keep a staying demo going: about a
// hundred are live at a time.
const (
	trickleLeast, trickleMost = 500 * time.Millisecond, 3 * time.Second
	trickleLife               = 4 * time.Minute
)

// trickle makes up what fail2ban would find on a quiet day.
type trickle struct {
	rand *rand.Rand
	last []netip.Addr // attackers that will try another router
}

func newTrickle() *trickle { return &trickle{rand: rand.New(rand.NewPCG(7, 946))} }

// next is a ban and the router that makes it, of so many.
func (t *trickle) next(routers int, now time.Time) (at int, call control.BanCall) {
	addr := t.attacker()
	life := trickleLife/2 + time.Duration(t.rand.Int64N(int64(trickleLife)))
	jails := []string{"sshd", "sshd", "sshd", "postfix-sasl", "nginx-http-auth", "recidive"}
	return t.rand.IntN(routers), control.BanCall{
		Prefixes: control.Prefixes{netip.PrefixFrom(addr, addr.BitLen())}, Jail: jails[t.rand.IntN(len(jails))],
		Until: control.UntilAt(now.Add(life)), Failures: uint32(maxRetry + t.rand.IntN(20)),
	}
}

// attacker is a new address, or in one of four cases one that was banned before.
func (t *trickle) attacker() netip.Addr {
	const remembered = 12
	if len(t.last) > 0 && t.rand.IntN(4) == 0 {
		return t.last[t.rand.IntN(len(t.last))]
	}
	var addr netip.Addr
	switch t.rand.IntN(4) {
	case 0:
		addr = netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + t.rand.IntN(150))})
	case 1:
		addr = netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + t.rand.IntN(250))})
	case 2:
		addr = netip.AddrFrom4([4]byte{203, 0, 113, byte(1 + t.rand.IntN(250))})
	default:
		addr = netip.AddrFrom16([16]byte{0x20, 0x01, 0x0d, 0xb8, 14: byte(t.rand.IntN(256)), 15: byte(1 + t.rand.IntN(250))})
	}
	t.last = append(t.last, addr)
	t.last = t.last[max(0, len(t.last)-remembered):]
	return addr
}

// run bans until ctx ends.
func (t *trickle) run(ctx context.Context, routers []*router) error {
	for {
		pause := trickleLeast + time.Duration(t.rand.Int64N(int64(trickleMost-trickleLeast)))
		if err := sleep(ctx, pause); err != nil {
			return nil
		}
		at, call := t.next(len(routers), time.Now())
		if _, err := routers[at].agent.Ban(ctx, call); err != nil && ctx.Err() == nil {
			return fmt.Errorf("%s: ban %v: %w", routers[at].name, call.Prefixes[0].Addr(), err)
		}
	}
}
