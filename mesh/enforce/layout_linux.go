package enforce

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// What the driver makes, as `nft list table inet banmesh` shows it:
//
//	table inet banmesh {
//		set banned4 { type ipv4_addr; flags timeout; gc-interval 1m; comment "managed by banmesh" }
//		set banned6 { type ipv6_addr; flags timeout; gc-interval 1m; comment "managed by banmesh" }
//		set prefixes4 { type ipv4_addr; flags interval,timeout; gc-interval 1m; comment "managed by banmesh" }
//		set prefixes6 { type ipv6_addr; flags interval,timeout; gc-interval 1m; comment "managed by banmesh" }
//		chain prerouting {
//			type filter hook prerouting priority raw; policy accept;
//			ip saddr @banned4 counter drop comment "managed by banmesh"
//			ip saddr @prefixes4 counter drop comment "managed by banmesh"
//			ip6 saddr @banned6 counter drop comment "managed by banmesh"
//			ip6 saddr @prefixes6 counter drop comment "managed by banmesh"
//		}
//		chain ingress {
//			type filter hook ingress devices = { … } priority raw; policy accept;
//			…the same rules
//		}
//	}
//
// Single addresses are in sets without intervals: the kernel hashes those, and a change of one costs the same at any size.
// The chain comes before connection tracking and routing, which a dropped packet then does not cost; it sees what is for
// this host and what goes through it. That an established connection is cut needs no priority: an accept ends one chain,
// a drop ends all. What a bridge takes from its ports never comes there; the second chain, made where interfaces are named
// for it, sees a frame before the bridge does.
const (
	tableName    = "banmesh"
	chainName    = "prerouting"
	ingressChain = "ingress"
	comment      = "managed by banmesh"
	priority     = nftables.ChainPriority(-300) // raw, see above

	// gcInterval is how often the kernel frees what has expired, by going through all of a set; it looks at the time of what
	// it finds in any case. Its default of a second costs a core several percent where there are a million.
	gcInterval = time.Minute
)

// setID is one of the table's sets.
type setID int

const (
	banned4 setID = iota
	banned6
	prefixes4
	prefixes6
	sets
)

// setOf is the set for an element.
func setOf(e *Element) setID {
	id := banned4
	if !e.From.Is4() {
		id = banned6
	}
	if e.From != e.To {
		id += prefixes4
	}
	return id
}

func (id setID) name() string { return [...]string{"banned4", "banned6", "prefixes4", "prefixes6"}[id] }

// number stands for the name within a transaction.
func (id setID) number() uint32 { return uint32(id) + 1 }

func (id setID) interval() bool { return id >= prefixes4 }

func (id setID) family() family { return family(id % setID(families)) }

// keyType decides what the kernel compares: 4 bytes or 16.
func (id setID) keyType() nftables.SetDatatype {
	if id.family() == v6 {
		return nftables.TypeIP6Addr
	}
	return nftables.TypeIPAddr
}

func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// ruleExprs drop and count the packets whose source is in a set.
func ruleExprs(id setID) []expr.Any {
	protocol, offset := byte(unix.NFPROTO_IPV4), uint32(12)
	if id.family() == v6 {
		protocol, offset = unix.NFPROTO_IPV6, 8
	}
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
		&expr.Payload{Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: id.keyType().Bytes, DestRegister: 1},
		&expr.Lookup{SourceRegister: 1, SetName: id.name(), SetID: id.number()},
		&expr.Counter{},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}

// ruleOrder is the order of the rules: what is most likely to match a packet of a family comes first.
var ruleOrder = [sets]setID{banned4, prefixes4, banned6, prefixes6}

// replaceTable puts into a transaction that whatever has the table's name goes, and the table as it should be comes.
func (s *script) replaceTable(ports []string) error {
	s.deleteTable()
	s.table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE)
	for id := range sets {
		s.set(id)
	}
	return s.chains(ports)
}

// deleteTable deletes the table, where there is one.
func (s *script) deleteTable() {
	s.table(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE) // so that it is there to be deleted
	s.table(unix.NFT_MSG_DELTABLE, 0)
}

// table creates or deletes the table; flags of 0 keep it active (not dormant).
func (s *script) table(kind, flags uint16) {
	at := s.message(kind, flags)
	s.text(unix.NFTA_TABLE_NAME, s.in)
	if kind == unix.NFT_MSG_NEWTABLE {
		s.number(unix.NFTA_TABLE_FLAGS, 0)
	}
	s.close(at)
}

// set creates a set with a timeout for each element and without a size, since a full set would refuse
// elements. The attributes are those of nf_tables' NFT_MSG_NEWSET.
func (s *script) set(id setID) {
	flags, order := uint32(unix.NFT_SET_TIMEOUT), uint32(2)
	if id.interval() {
		flags |= unix.NFT_SET_INTERVAL
	}
	key := id.keyType()
	at := s.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE)
	s.text(unix.NFTA_SET_TABLE, s.in)
	s.text(unix.NFTA_SET_NAME, id.name())
	s.number(unix.NFTA_SET_FLAGS, flags)
	s.number(unix.NFTA_SET_KEY_TYPE, key.GetNFTMagic())
	s.number(unix.NFTA_SET_KEY_LEN, key.Bytes)
	s.number(unix.NFTA_SET_ID, id.number())
	s.number(unix.NFTA_SET_GC_INTERVAL, uint32(gcInterval.Milliseconds()))
	// What nft shows the set by.
	shown := userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, order)
	s.attribute(unix.NFTA_SET_USERDATA, userdata.AppendString(shown, userdata.NFTNL_UDATA_SET_COMMENT, comment))
	s.close(at)
}

// chains makes the chain of all packets, and that of some ports.
func (s *script) chains(ports []string) error {
	if err := s.chain(chainName, unix.NF_INET_PRE_ROUTING, nil); err != nil || len(ports) == 0 {
		return err
	}
	return s.chain(ingressChain, nfInetIngress, ports)
}

// chain makes a chain and its rules. The hook at ingress is that of some ports.
func (s *script) chain(name string, hooknum uint32, ports []string) error {
	at := s.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE)
	s.text(unix.NFTA_CHAIN_TABLE, s.in)
	s.text(unix.NFTA_CHAIN_NAME, name)
	hook := s.nest(unix.NFTA_CHAIN_HOOK)
	before := priority
	s.number(unix.NFTA_HOOK_HOOKNUM, hooknum)
	s.number(unix.NFTA_HOOK_PRIORITY, uint32(before))
	if len(ports) > 0 {
		devices := s.nest(nftaHookDevs)
		for _, port := range ports {
			s.text(nftaDeviceName, port)
		}
		s.end(devices)
	}
	s.end(hook)
	s.number(unix.NFTA_CHAIN_POLICY, uint32(nftables.ChainPolicyAccept))
	s.text(unix.NFTA_CHAIN_TYPE, string(nftables.ChainTypeFilter))
	s.close(at)
	for _, id := range ruleOrder {
		if err := s.rule(name, id); err != nil {
			return err
		}
	}
	return nil
}

// rule adds a rule whose expressions ruleExprs lists; isRule recognises it when it is read back.
func (s *script) rule(chain string, id setID) error {
	at := s.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND)
	s.text(unix.NFTA_RULE_TABLE, s.in)
	s.text(unix.NFTA_RULE_CHAIN, chain)
	list := s.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, e := range ruleExprs(id) {
		b, err := expr.Marshal(unix.NFPROTO_INET, e)
		if err != nil {
			return err
		}
		s.attribute(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
	}
	s.end(list)
	s.attribute(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, comment))
	s.close(at)
	return nil
}

// fixRules puts into a transaction that the table has our chains, our rules and our sets, and nothing else; its elements
// stay. The sets are as they should be.
func (s *script) fixRules(c contents, ports []string) error {
	at := s.message(unix.NFT_MSG_DELRULE, 0) // all of the table, since some may name others' chains and sets
	s.text(unix.NFTA_RULE_TABLE, s.in)
	s.close(at)
	for _, name := range c.chains {
		at := s.message(unix.NFT_MSG_DELCHAIN, 0)
		s.text(unix.NFTA_CHAIN_TABLE, s.in)
		s.text(unix.NFTA_CHAIN_NAME, name)
		s.close(at)
	}
	for _, name := range c.strange {
		at := s.message(unix.NFT_MSG_DELSET, 0)
		s.text(unix.NFTA_SET_TABLE, s.in)
		s.text(unix.NFTA_SET_NAME, name)
		s.close(at)
	}
	return s.chains(ports)
}

// contents is what the table is made of, elements aside.
type contents struct {
	there   bool
	guarded bool     // a guard was left
	ours    bool     // all is as it should be
	sets    bool     // our sets are
	chains  []string // all
	strange []string // sets that are not ours
}

// contents looks at the table, which is to have a chain at the ingress of some ports.
func (n *nftTables) contents(ports []string) (c contents, err error) {
	conn, done, err := n.library()
	if err != nil {
		return c, err
	}
	defer done()
	if c.there, c.guarded, err = tablesOf(conn); err != nil || !c.there {
		return c, err
	}
	// Something that ends while it is looked at is not as it should be.
	err = errors.Join(c.readSets(conn), c.readChains(conn, n, ports))
	if errors.Is(err, syscall.EINTR) || errors.Is(err, syscall.ENOENT) {
		return contents{there: true, guarded: c.guarded}, nil
	}
	return c, err
}

// tablesOf tells which of the driver's tables are there.
func tablesOf(c *nftables.Conn) (there, guarded bool, err error) {
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	for _, t := range tables {
		there, guarded = there || t.Name == tableName, guarded || t.Name == guardName
	}
	return there, guarded, err
}

// readSets compares the table's sets with those that script.set creates. Any other one in the table is
// strange: the table is then made anew.
func (c *contents) readSets(conn *nftables.Conn) error {
	all, err := conn.GetSets(table())
	if err != nil {
		return err
	}
	found := 0
	for _, have := range all {
		id := banned4
		for id < sets && id.name() != have.Name {
			id++
		}
		if id == sets {
			c.strange = append(c.strange, have.Name)
			continue
		}
		key := id.keyType()
		// A set with a size, a default timeout or the constant flag would refuse or forget elements.
		if have.KeyType.GetNFTMagic() == key.GetNFTMagic() && have.Interval == id.interval() && have.HasTimeout && !have.Constant &&
			!have.Dynamic && !have.IsMap && !have.Concatenation && have.Size == 0 && have.Timeout == 0 {
			found++
		}
	}
	c.sets = found == int(sets)
	c.ours = c.sets && len(c.strange) == 0
	return nil
}

// readChains finds out whether the chains hook in at the right place with the right rules. A chain too many
// counts as much as one too few.
func (c *contents) readChains(conn *nftables.Conn, n *nftTables, ports []string) error {
	all, err := conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return err
	}
	want := map[string]nftables.ChainHook{chainName: *nftables.ChainHookPrerouting}
	if len(ports) > 0 {
		want[ingressChain] = nfInetIngress
	}
	right := 0
	for _, have := range all {
		if have.Table == nil || have.Table.Name != tableName {
			continue
		}
		c.chains = append(c.chains, have.Name)
		hook, ok := want[have.Name]
		if !ok || have.Hooknum == nil || *have.Hooknum != hook || have.Priority == nil || *have.Priority != priority {
			continue
		}
		if have.Name == ingressChain {
			if at, err := n.devicesOf(ingressChain); err != nil {
				return err
			} else if !slices.Equal(at, ports) {
				continue
			}
		}
		if ok, err = rulesAreOurs(conn, have.Name); err != nil {
			return err
		} else if ok {
			right++
		}
	}
	c.ours = c.ours && len(c.chains) == len(want) && right == len(want)
	return nil
}

// rulesAreOurs looks at what matters of the rules: of which packets they look for what in which set, and that they drop.
func rulesAreOurs(c *nftables.Conn, chain string) (bool, error) {
	rules, err := c.GetRules(table(), &nftables.Chain{Name: chain, Table: table()})
	if err != nil || len(rules) != int(sets) {
		return false, err
	}
	for i, id := range ruleOrder {
		if !isRule(rules[i].Exprs, id) {
			return false, nil
		}
	}
	return true, nil
}

// isRule compares what decides, not what the kernel adds or numbers itself: registers, counters' values, set
// ids.
func isRule(have []expr.Any, id setID) bool {
	return slices.EqualFunc(have, ruleExprs(id), func(have, want expr.Any) bool {
		switch w := want.(type) {
		case *expr.Meta:
			h, ok := have.(*expr.Meta)
			return ok && h.Key == w.Key && !h.SourceRegister
		case *expr.Cmp:
			h, ok := have.(*expr.Cmp)
			return ok && h.Op == w.Op && slices.Equal(h.Data, w.Data)
		case *expr.Payload:
			h, ok := have.(*expr.Payload)
			return ok && h.Base == w.Base && h.Offset == w.Offset && h.Len == w.Len
		case *expr.Lookup:
			h, ok := have.(*expr.Lookup)
			return ok && h.SetName == w.SetName && !h.Invert
		case *expr.Counter:
			_, ok := have.(*expr.Counter)
			return ok
		case *expr.Verdict:
			h, ok := have.(*expr.Verdict)
			return ok && h.Kind == w.Kind
		}
		return false
	})
}

// dropped adds up the counters of the rules. A chain that is not there has none.
func dropped(c *nftables.Conn) (d Drops, err error) {
	for _, chain := range []string{chainName, ingressChain} {
		rules, err := c.GetRules(table(), &nftables.Chain{Name: chain, Table: table()})
		if err != nil {
			return Drops{}, err
		}
		for _, r := range rules {
			for _, e := range r.Exprs {
				if counter, ok := e.(*expr.Counter); ok {
					d.Packets += counter.Packets
					d.Bytes += counter.Bytes
				}
			}
		}
	}
	return d, nil
}

// tableOf is the name of the table that a message of nftables is about.
func tableOf(data []byte) string {
	for kind, value := range attributes(data) {
		if kind == unix.NFTA_TABLE_NAME { // the same number in all messages
			return string(slices.DeleteFunc(slices.Clone(value), func(b byte) bool { return b == 0 }))
		}
	}
	return ""
}
