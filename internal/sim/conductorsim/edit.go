package conductorsim

import (
	"encoding/xml"
	"net/netip"
	"slices"
	"strings"
)

// editor applies one edit-config to a configuration (RFC 6241 §7.2). It builds a new configuration and leaves the old one
// unchanged, so that a refused edit changes nothing.
type editor struct {
	storage Storage
	noPath  bool // data-missing and data-exists do not name the place
	assigns bool // a new tenant gets values that nobody asked for
	errs    RPCErrors
}

// Operations, as in the attribute and in default-operation.
const (
	opMerge   = "merge"
	opReplace = "replace"
	opCreate  = "create"
	opDelete  = "delete"
	opRemove  = "remove"
	opNone    = "none"
)

// maxErrors bounds the errors reported for one edit.
const maxErrors = 200

// apply edits root by the children of config. The result is valid only if no errors were found.
func (ed *editor) apply(root *Node, config *Element, defaultOp string) *Node {
	if defaultOp == opReplace {
		root, defaultOp = &Node{}, opMerge
	}
	return ed.inside(root, config, deviceSchema(), defaultOp, "")
}

func (ed *editor) fail(e *RPCError) {
	if len(ed.errs) < maxErrors {
		ed.errs = append(ed.errs, e)
	}
}

// siblings holds a node's children during an edit: a removed one leaves a hole, so that nothing moves. Only the children that
// the edit may touch are indexed, because edits are usually small and the children may be many.
type siblings struct {
	nodes []*Node
	index map[ident]int
}

// newSiblings indexes the nodes that elements in edits may refer to.
func newSiblings(nodes []*Node, edits []*Element, parent *schema, storage Storage) *siblings {
	s := &siblings{nodes: slices.Clone(nodes), index: make(map[ident]int, len(edits))}
	if len(edits)*4 > len(nodes) {
		for i, n := range nodes {
			s.index[n.ident()] = i
		}
		return s
	}
	values := make(map[string]bool, len(edits)) // that a touched leaf-list entry may have
	for _, e := range edits {
		if c, _ := parent.child(e.Name); c != nil && c.kind == LeafList {
			values[c.stored(e.Text, storage)] = true
		}
	}
	for i, n := range nodes {
		if n.Kind != LeafList || values[n.Value] {
			s.index[n.ident()] = i
		}
	}
	return s
}

func (s *siblings) get(id ident) *Node {
	if i, ok := s.index[id]; ok {
		return s.nodes[i]
	}
	return nil
}

func (s *siblings) put(id ident, n *Node) {
	if i, ok := s.index[id]; ok {
		s.nodes[i] = n
		return
	}
	s.index[id] = len(s.nodes)
	s.nodes = append(s.nodes, n)
}

func (s *siblings) remove(id ident) {
	if i, ok := s.index[id]; ok {
		s.nodes[i] = nil
		delete(s.index, id)
	}
}

func (s *siblings) compact() []*Node {
	return slices.DeleteFunc(s.nodes, func(n *Node) bool { return n == nil })
}

// inside edits the children of old (a container, a list entry or the root) by those of e.
func (ed *editor) inside(old *Node, e *Element, sch *schema, op, path string) *Node {
	if e.Text != "" {
		ed.fail(&RPCError{Type: "application", Tag: "invalid-value", Path: path, Message: "text where elements belong"})
	}
	kids := newSiblings(old.Children, e.Children, sch, ed.storage)
	for _, c := range e.Children {
		ed.one(kids, c, sch, op, path)
	}
	n := *old
	n.Children = kids.compact()
	ed.order(&n, sch)
	return &n
}

// order moves a list entry's key to the front, as RFC 7950 §7.8.5 requires, and sorts addresses if they are stored
// canonically.
func (ed *editor) order(n *Node, sch *schema) {
	if sch == nil {
		return
	}
	if n.Kind == List && len(n.Children) > 0 && n.Children[0].Name.Local != sch.key {
		slices.SortStableFunc(n.Children, func(a, b *Node) int {
			return boolOrder(a.Name.Local == sch.key) - boolOrder(b.Name.Local == sch.key)
		})
	}
	if ed.storage != Canonical {
		return
	}
	for _, c := range sch.children {
		if c.prefixes {
			sortAddresses(n.Children, c.name)
		}
	}
}

// boolOrder orders true before false.
func boolOrder(first bool) int {
	if first {
		return 0
	}
	return 1
}

// sortAddresses sorts the addresses among nodes, after everything else.
func sortAddresses(nodes []*Node, name xml.Name) {
	type entry struct {
		prefix netip.Prefix
		node   *Node
	}
	var entries []entry
	rest := nodes[:0:0]
	for _, n := range nodes {
		if n.Name != name {
			rest = append(rest, n)
			continue
		}
		p, _ := netip.ParsePrefix(n.Value)
		entries = append(entries, entry{p, n})
	}
	less := func(a, b entry) int {
		if c := a.prefix.Addr().Compare(b.prefix.Addr()); c != 0 {
			return c
		}
		return a.prefix.Bits() - b.prefix.Bits()
	}
	if slices.IsSortedFunc(entries, less) && len(rest) == 0 {
		return
	}
	slices.SortStableFunc(entries, less)
	for _, e := range entries {
		rest = append(rest, e.node)
	}
	copy(nodes, rest)
}

// one applies the element c to the children kids of its parent.
func (ed *editor) one(kids *siblings, c *Element, parent *schema, op, path string) {
	sch, wrong := parent.child(c.Name)
	if wrong || c.Name.Space == "" {
		ed.fail(ed.unknown(c, parent, path))
		return
	}
	op, ok := ed.operation(c, op, path)
	if !ok {
		return
	}
	if parent != nil && parent.kind == List && c.Name.Local == parent.key {
		ed.key(kids, c, sch, op, path)
		return
	}
	n := &Node{Name: c.Name}
	here := ""
	switch {
	case sch != nil:
		n.Kind = sch.kind
	case len(c.Children) == 0:
		n.Kind = Leaf
		if o := kids.get(n.ident()); o != nil {
			n.Kind = o.Kind // <thing operation="delete"/> of a container
		}
	case named(c) != nil:
		n.Kind = List
		sch = &schema{name: c.Name, kind: List, key: "name"}
	}
	switch n.Kind {
	case List:
		key := keyOf(c, sch.key)
		if key == nil {
			ed.fail(&RPCError{Type: "protocol", Tag: "missing-element", Path: xpath(path, c.Name, "", ""),
				BadElement: sch.key, Message: "the list's key " + sch.key + " is missing"})
			return
		}
		n.Key = key.Text
		here = xpath(path, c.Name, sch.key, n.Key)
	case LeafList:
		n.Value = c.Text
		here = xpath(path, c.Name, "", "")
	default:
		n.Value = c.Text
		here = xpath(path, c.Name, "", "")
	}
	if n.Kind == Leaf || n.Kind == LeafList {
		if !ed.value(n, c, sch, here) {
			return
		}
	} else {
		n.Value = ""
	}
	ed.put(kids, n, c, sch, op, here)
}

// key handles the key leaf of a list entry: it is created and deleted together with the entry.
func (ed *editor) key(kids *siblings, c *Element, sch *schema, op, path string) {
	n := &Node{Name: c.Name, Kind: Leaf, Value: c.Text}
	here := xpath(path, c.Name, "", "")
	old := kids.get(n.ident())
	switch {
	case op == opDelete || op == opRemove:
		ed.fail(&RPCError{Type: "protocol", Tag: "bad-attribute", Path: here, BadAttribute: "operation",
			BadElement: c.Name.Local, Message: "a list's key goes with its entry only"})
	case old != nil && old.Value != n.Value:
		ed.fail(&RPCError{Type: "protocol", Tag: "bad-element", Path: here, BadElement: c.Name.Local,
			Message: "the key is given twice"})
	case old == nil && ed.value(n, c, sch, here):
		kids.put(n.ident(), n)
	}
}

// put applies op to n.
func (ed *editor) put(kids *siblings, n *Node, c *Element, sch *schema, op, here string) {
	id := n.ident()
	old := kids.get(id)
	isLeaf := n.Kind == Leaf || n.Kind == LeafList
	switch op {
	case opDelete, opRemove:
		if old == nil {
			if op == opDelete {
				ed.fail(ed.missing(here, n))
			}
			return
		}
		kids.remove(id)
		return
	case opNone:
		if old == nil {
			ed.fail(ed.missing(here, n))
			return
		}
		if isLeaf {
			return // a key, or something that is there: untouched
		}
		kids.put(id, ed.inside(old, c, sch, op, here))
		return
	case opCreate:
		if old != nil {
			e := &RPCError{Type: "application", Tag: "data-exists", Path: here, Message: "it exists already"}
			if ed.noPath {
				e.Path = ""
			}
			ed.fail(e)
			return
		}
	}
	if isLeaf {
		if old == nil || old.Value != n.Value || old.Kind != n.Kind {
			kids.put(id, n)
		}
		return
	}
	created := old == nil || op == opReplace || old.Kind != n.Kind
	if created {
		old = n
	}
	// The content of something created or replaced is new, so it is merged.
	n = ed.inside(old, c, sch, opMerge, here)
	if created && ed.assigns && n.Name.Local == "tenant" {
		ed.assign(n)
	}
	kids.put(id, n)
}

// assign adds what the system sets in a new tenant: leaves, and a container of defaults.
func (ed *editor) assign(n *Node) {
	for _, own := range []struct{ local, value string }{{"id", "4711"}, {"generated", "false"}} {
		if n.Child(own.local, "") == nil {
			n.Children = append(n.Children, &Node{Name: xml.Name{Space: n.Name.Space, Local: own.local}, Kind: Leaf, Value: own.value})
		}
	}
	if n.Child("defaults", "") == nil {
		in := func(local string, kind Kind, value string, kids ...*Node) *Node {
			return &Node{Name: xml.Name{Space: n.Name.Space, Local: local}, Kind: kind, Value: value, Children: kids}
		}
		n.Children = append(n.Children, in("defaults", Container, "", in("priority", Leaf, "0"), in("inherited", Container, "")))
	}
}

// operation returns the operation that applies to c.
func (ed *editor) operation(c *Element, inherited, path string) (op string, ok bool) {
	op = inherited
	for _, a := range c.Attrs {
		switch {
		case isDeclaration(a):
		case a.Name.Space == nsBase && a.Name.Local == "operation":
			op = a.Value
			if !slices.Contains([]string{opMerge, opReplace, opCreate, opDelete, opRemove}, op) {
				ed.fail(&RPCError{Type: "protocol", Tag: "bad-attribute", Path: xpath(path, c.Name, "", ""),
					BadAttribute: "operation", BadElement: c.Name.Local, Message: "operation is " + op})
				return "", false
			}
		default:
			ed.fail(&RPCError{Type: "protocol", Tag: "unknown-attribute", Path: xpath(path, c.Name, "", ""),
				BadAttribute: a.Name.Local, BadElement: c.Name.Local, Message: "this attribute is not known here"})
			return "", false
		}
	}
	return op, true
}

// value checks a leaf's value and, where addresses are stored canonically, rewrites it.
func (ed *editor) value(n *Node, c *Element, sch *schema, here string) bool {
	if len(c.Children) > 0 {
		ed.fail(&RPCError{Type: "application", Tag: "unknown-element", Path: here,
			BadElement: c.Children[0].Name.Local, Message: "a leaf holds no elements"})
		return false
	}
	if sch == nil || sch.check == nil {
		return true
	}
	if n.Kind == Leaf && n.Value == "" && hasOperation(c, opDelete, opRemove) {
		return true // a leaf is deleted by its name alone
	}
	if err := sch.check(n.Value); err != nil {
		ed.fail(&RPCError{Type: "application", Tag: "invalid-value", Path: here, BadElement: c.Name.Local,
			Message: `"` + clip(n.Value) + `" is not a valid value: ` + err.Error()})
		return false
	}
	n.Value = sch.stored(n.Value, ed.storage)
	return true
}

func hasOperation(c *Element, ops ...string) bool {
	op, ok := c.attr(nsBase, "operation")
	return ok && slices.Contains(ops, op)
}

// clip shortens a value for a message.
func clip(s string) string {
	if len(s) > 100 {
		return strings.ToValidUTF8(s[:100], "") + "…"
	}
	return s
}

func (ed *editor) missing(here string, n *Node) *RPCError {
	e := &RPCError{Type: "application", Tag: "data-missing", Path: here, Message: "it does not exist"}
	if n.Kind == LeafList {
		e.Path = here + xpath("", xml.Name{}, ".", n.Value)[1:]
	}
	if ed.noPath {
		e.Path = ""
	}
	return e
}

// unknown returns the refusal of an element that the model does not have here.
func (ed *editor) unknown(c *Element, parent *schema, path string) *RPCError {
	e := &RPCError{Type: "application", Tag: "unknown-element", Path: xpath(path, c.Name, "", ""), BadElement: c.Name.Local,
		Message: "there is no such element here"}
	if parent == nil {
		return e
	}
	for _, s := range parent.children {
		if s.name.Local == c.Name.Local && s.name.Space != c.Name.Space {
			e.Tag, e.BadNamespace = "unknown-namespace", c.Name.Space
			e.Message = "the element is of namespace " + s.name.Space
		}
	}
	return e
}

// keyOf returns the child that is a list entry's key.
func keyOf(c *Element, key string) *Element {
	for _, k := range c.Children {
		if k.Name.Local == key && k.Name.Space == c.Name.Space && len(k.Children) == 0 {
			return k
		}
	}
	return nil
}

// named returns the key of an element outside the model, if it has a name.
func named(c *Element) *Element { return keyOf(c, "name") }
