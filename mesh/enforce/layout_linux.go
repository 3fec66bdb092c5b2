package enforce

import (
	"errors"
	"slices"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// What the driver makes, as `nft list table inet banmesh` shows it:
//
//	table inet banmesh {
//		set banned4 { type ipv4_addr; flags interval,timeout; comment "managed by banmesh" }
//		set banned6 { type ipv6_addr; flags interval,timeout; comment "managed by banmesh" }
//		chain input {
//			type filter hook input priority raw; policy accept;
//			ip saddr @banned4 counter drop comment "managed by banmesh"
//			ip6 saddr @banned6 counter drop comment "managed by banmesh"
//		}
//		chain forward { the same, at hook forward }
//	}
//
// The priority is before every firewall's own: dropped packets cost nothing more, and are not in its counters. That an
// established connection is cut needs no priority: an accept ends one chain, a drop ends all.
const (
	tableName = "banmesh"
	comment   = "managed by banmesh"
	priority  = nftables.ChainPriority(-300)
)

// dropChain is one of the two chains.
type dropChain struct {
	name string
	hook *nftables.ChainHook
}

func dropChains() []dropChain {
	return []dropChain{{"input", nftables.ChainHookInput}, {"forward", nftables.ChainHookForward}}
}

func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// set describes the set of a family. The number stands for the name within a batch.
func set(f family) *nftables.Set {
	s := &nftables.Set{
		Table: table(), ID: uint32(f) + 1, Name: "banned4", KeyType: nftables.TypeIPAddr,
		Interval: true, HasTimeout: true, Comment: comment,
	}
	if f == v6 {
		s.Name, s.KeyType = "banned6", nftables.TypeIP6Addr
	}
	return s
}

// rule drops and counts the packets of a family whose source is in its set.
func rule(c *nftables.Chain, f family) *nftables.Rule {
	s, protocol, offset := set(f), byte(unix.NFPROTO_IPV4), uint32(12)
	if f == v6 {
		protocol, offset = unix.NFPROTO_IPV6, 8
	}
	return &nftables.Rule{
		Table: c.Table, Chain: c,
		Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
			&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: s.KeyType.Bytes, DestRegister: 1},
			&expr.Lookup{SourceRegister: 1, SetName: s.Name, SetID: s.ID},
			&expr.Counter{},
			&expr.Verdict{Kind: expr.VerdictDrop},
		},
		UserData: userdata.AppendString(nil, userdata.TypeComment, comment),
	}
}

// replaceTable puts into a batch that whatever has the table's name goes, and the table as it should be comes.
func replaceTable(c *nftables.Conn) {
	t := table()
	c.AddTable(t) // so that it is there to be deleted
	c.DelTable(t)
	c.AddTable(t)
	for f := range families {
		// It fails for anonymous sets only.
		_ = c.AddSet(set(f), nil)
	}
	accept, before := nftables.ChainPolicyAccept, priority
	for _, d := range dropChains() {
		chain := c.AddChain(&nftables.Chain{
			Name: d.name, Table: t, Type: nftables.ChainTypeFilter, Hooknum: d.hook, Priority: &before, Policy: &accept,
		})
		for f := range families {
			c.AddRule(rule(chain, f))
		}
	}
}

// look says what the table is now.
func (n *nftTables) look() (tableState, error) {
	c, err := n.conn()
	if err != nil {
		return unknown, err
	}
	if there, err := tableIsThere(c); err != nil {
		return unknown, err
	} else if !there {
		return absent, nil
	}
	for _, check := range []func(*nftables.Conn) (bool, error){setsAreOurs, chainsAreOurs} {
		if ok, err := check(c); errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.ENOENT) || err == nil && !ok {
			return alien, nil
		} else if err != nil {
			return unknown, err
		}
	}
	return ours, nil
}

func tableIsThere(c *nftables.Conn) (bool, error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == tableName }), err
}

func setsAreOurs(c *nftables.Conn) (bool, error) {
	sets, err := c.GetSets(table())
	if err != nil || len(sets) != int(families) {
		return false, err
	}
	for f := range families {
		want, found := set(f), false
		for _, s := range sets {
			found = found || s.Name == want.Name && s.KeyType.GetNFTMagic() == want.KeyType.GetNFTMagic() && s.Interval && s.HasTimeout &&
				!s.Constant && !s.Dynamic && !s.IsMap && !s.Concatenation && s.Size == 0 && s.Timeout == 0
		}
		if !found {
			return false, nil
		}
	}
	return true, nil
}

func chainsAreOurs(c *nftables.Conn) (bool, error) {
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, err
	}
	count := 0
	for _, have := range all {
		if have.Table == nil || have.Table.Name != tableName {
			continue
		}
		count++
		ok := false
		for _, d := range dropChains() {
			ok = ok || have.Name == d.name && have.Hooknum != nil && *have.Hooknum == *d.hook && have.Priority != nil && *have.Priority == priority
		}
		if !ok {
			return false, nil
		}
		if ok, err := rulesAreOurs(c, have.Name); !ok {
			return false, err
		}
	}
	return count == len(dropChains()), nil
}

// rulesAreOurs looks at what matters of the rules: in which set they look, and that they drop.
func rulesAreOurs(c *nftables.Conn, chain string) (bool, error) {
	rules, err := c.GetRules(table(), &nftables.Chain{Name: chain, Table: table()})
	if err != nil || len(rules) != int(families) {
		return false, err
	}
	for f := range families {
		looks, drops := false, false
		for _, e := range rules[f].Exprs {
			switch e := e.(type) {
			case *expr.Lookup:
				looks = e.SetName == set(f).Name && !e.Invert
			case *expr.Verdict:
				drops = e.Kind == expr.VerdictDrop
			}
		}
		if !looks || !drops || len(rules[f].Exprs) != len(rule(&nftables.Chain{}, f).Exprs) {
			return false, nil
		}
	}
	return true, nil
}

// dropped adds up the counters of the rules.
func dropped(c *nftables.Conn) (packets uint64, err error) {
	for _, d := range dropChains() {
		rules, err := c.GetRules(table(), &nftables.Chain{Name: d.name, Table: table()})
		if err != nil {
			return 0, err
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					packets += counter.Packets
				}
			}
		}
	}
	return packets, nil
}

// messageRanges is how many ranges go into one message: its list of elements may have 64 KiB, and one range of IPv6 needs
// 76 bytes.
const messageRanges = 800

// change puts elements into a batch.
func change(c *nftables.Conn, elements []Element, do func(*nftables.Set, []nftables.SetElement) error) error {
	for f := range families {
		var part []nftables.SetElement
		flush := func() error {
			defer func() { part = part[:0] }()
			if len(part) == 0 {
				return nil
			}
			return do(set(f), part)
		}
		for i := range elements {
			e := &elements[i]
			if e.From.Is4() != (f == v4) {
				continue
			}
			// A range is where it begins, and where the next address is that does not belong to it; none comes after the last one.
			part = append(part, nftables.SetElement{Key: e.From.AsSlice(), Timeout: e.Left})
			if end := e.To.Next(); end.IsValid() {
				part = append(part, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
			}
			if len(part) >= 2*messageRanges {
				if err := flush(); err != nil {
					return err
				}
			}
		}
		if err := flush(); err != nil {
			return err
		}
	}
	return nil
}
