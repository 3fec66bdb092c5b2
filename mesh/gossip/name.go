package gossip

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"banmesh/mesh/packed"
)

// whoInfo asks whether some member has a name, before this one takes it.
type whoInfo struct {
	From string
	Name string
	Run  uint64
}

// holderInfo tells what the asked member knows. Its own name and run are in it, so that the asker recognises
// itself.
type holderInfo struct {
	From string
	Run  uint64
	Addr string // of the member that has the requested name, "" if none is alive
}

// who asks the member at the address for its own name and run, and for the address of the named member.
// It serves three purposes: whether our name is taken, whether a stream opens at all (see look), and why a seed does not
// answer.
func (m *Mesh) who(ctx context.Context, addr, name string, timeout time.Duration) (holderInfo, error) {
	var h holderInfo
	s, done, err := m.talk(addr, timeout)
	if err != nil {
		return h, err
	}
	defer done()
	defer context.AfterFunc(ctx, func() { _ = s.c.Close() })()
	s.stall = timeout
	if err := s.writeMsg(kindWho, whoInfo{From: m.cfg.Name, Name: name, Run: m.run}); err != nil {
		return h, fmt.Errorf("ask %s: %w", addr, err)
	}
	if err := s.expect(kindHolder, 3, &h); err != nil {
		return h, fmt.Errorf("ask %s: %w", addr, err)
	}
	return h, nil
}

// serveWho answers from the table, without asking anybody else: the asker asks several.
func (m *Mesh) serveWho(s *messages, payload []byte, from string) {
	var w whoInfo
	// The asker may have our own name: that is what it wants to find out.
	if err := packed.Decode(payload, 3, &w); err != nil || checkName(w.Name) != nil {
		m.refuse(from, "malformed frame")
		return
	}
	h := holderInfo{From: m.cfg.Name, Run: m.run}
	// The run in the answer tells the asker whether that is itself: it may have reached its own address by way of a seed.
	if w.Name == m.cfg.Name {
		h.Addr = m.addr()
	} else {
		m.table.with(w.Name, func(p *peer) {
			if p.state == Alive {
				h.Addr = p.addr
			}
		})
	}
	if err := s.writeMsg(kindHolder, h); err != nil {
		m.count.drop("stream ended early")
	}
}

// maxNameChecks bounds how many members are asked at the start.
// Enough to outvote one member that lies, and few enough to ask within NameCheck.
const maxNameChecks = 8

// searchName asks the seeds and known members whether another live member has our name. A holder that nobody reaches is most
// likely an earlier run of this member and does not count. Neither does one member's word against all others, nor any number of
// members against the seeds, which an operator named: a holder of the key can make up members, and could otherwise keep any
// router from starting.
func (m *Mesh) searchName(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, m.tune.NameCheck)
	defer cancel()
	addrs, seeds := m.known.first(ctx, maxNameChecks)
	type vote struct {
		verdict
		seed bool
	}
	said := make(chan vote, len(addrs))
	for i, a := range addrs {
		go func() { said <- vote{m.holder(ctx, a), i < seeds} }()
	}
	at, votes := "", []vote{}
	for range addrs {
		select {
		case v := <-said:
			if v.at != "" {
				at = v.at
			}
			if v.at != "" || v.answered {
				votes = append(votes, v)
			}
			continue
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return ctx.Err()
			}
		}
		break // silent members cannot be asked; a conflict shows later
	}
	anySeed := slices.ContainsFunc(votes, func(v vote) bool { return v.seed })
	// By hosts, not by names: one machine can claim any number of names.
	taken, free := make(map[string]bool), make(map[string]bool)
	for _, v := range votes {
		switch {
		case anySeed && !v.seed:
		case v.at != "":
			taken[voice(v.by)] = true
		default:
			free[voice(v.by)] = true
		}
	}
	switch {
	case at == "":
		return nil
	case len(taken) > len(free):
		return fmt.Errorf("%w: another live member at %s is named %s; give each router its own name", ErrNameTaken, at, m.cfg.Name)
	}
	m.squatter.Store(&at)
	m.log.Error("a member says that it has this one's name, and the others do not confirm it", "name", m.cfg.Name, "at", at)
	return nil
}

// Squatter is the address of a member that claimed this member's name at the start, "" if there was none. The others did not
// confirm the claim.
func (m *Mesh) Squatter() string {
	if at := m.squatter.Load(); at != nil {
		return *at
	}
	return ""
}

// verdict is what the member at an address answers about our name.
type verdict struct {
	by       string
	at       string // where the name's holder is and answers; "" if nowhere
	answered bool
}

// holder asks the member at addr for the other live member of our name.
func (m *Mesh) holder(ctx context.Context, addr string) verdict {
	v := verdict{by: addr}
	if addr == m.addr() {
		return v
	}
	h, err := m.who(ctx, addr, m.cfg.Name, m.tune.NameCheck)
	if err != nil {
		return v
	}
	v.answered = h.Run != m.run
	if h.From == m.cfg.Name && h.Run != m.run {
		v.at = addr
		return v
	}
	if _, err := netip.ParseAddrPort(h.Addr); err != nil || h.Addr == m.addr() {
		return v
	}
	other, err := m.who(ctx, h.Addr, m.cfg.Name, m.tune.NameCheck)
	if err == nil && other.From == m.cfg.Name && other.Run != m.run {
		v.at = h.Addr
	}
	return v
}

// conflict checks another address that claims our name: if a live member answers there, both are running and an operator must
// rename one.
func (m *Mesh) conflict(addr string) {
	if addr == m.addr() || !m.warned.first("conflict "+addr) {
		return
	}
	m.timers.after(0, func() {
		h, err := m.who(m.ctx, addr, m.cfg.Name, m.tune.DialTimeout)
		if err != nil || h.From != m.cfg.Name || h.Run == m.run {
			return
		}
		m.log.Error("another live member has this one's name: rename one of them", "name", m.cfg.Name, "own", m.addr(), "other", addr)
		m.event(NameConflict, Member{Name: m.cfg.Name, Addr: addr})
	})
}
