package conductorsim

import (
	"encoding/xml"
	"iter"
	"slices"

	"banmesh/internal/sim/conductorsim/history"
)

// Kind is what a Node is in the sense of YANG (RFC 7950 §4.2.2).
type Kind uint8

// The kinds of Node.
const (
	Container Kind = iota
	List           // one entry of a list
	Leaf
	LeafList // one entry of a leaf-list
)

// Node is one node of a configuration. A Node that is part of a configuration is never changed: an edit makes new
// ones and shares what it leaves alone, so that a snapshot costs nothing.
type Node struct {
	Name     xml.Name
	Kind     Kind
	Key      string // List: the value of its key leaf
	Value    string // Leaf and LeafList
	Children []*Node
}

// ident tells a node from its siblings.
type ident struct {
	name xml.Name
	key  string
}

func (n *Node) ident() ident {
	switch n.Kind {
	case List:
		return ident{n.Name, n.Key}
	case LeafList:
		return ident{n.Name, n.Value}
	default:
		return ident{n.Name, ""}
	}
}

// Child returns the first child of that local name and key (the value, in a leaf-list; "" for container and leaf), or
// nil.
func (n *Node) Child(local, key string) *Node {
	if n == nil {
		return nil
	}
	for _, c := range n.Children {
		if c.Name.Local == local && c.ident().key == key {
			return c
		}
	}
	return nil
}

// All yields the children of that local name.
func (n *Node) All(local string) iter.Seq[*Node] {
	return func(yield func(*Node) bool) {
		if n == nil {
			return
		}
		for _, c := range n.Children {
			if c.Name.Local == local && !yield(c) {
				return
			}
		}
	}
}

// Text returns the value of the leaf of that name, "" when it is absent.
func (n *Node) Text(local string) string {
	if leaf := n.Child(local, ""); leaf != nil {
		return leaf.Value
	}
	return ""
}

// authority returns the container that everything a conductor configures is in, or nil.
func (n *Node) authority() *Node { return n.Child("config", "").Child("authority", "") }

// diff yields the lines (see package history) by which b differs from a: added ones, then removed ones. Order of
// siblings and empty containers make no difference. Either may be nil.
func diff(a, b *Node) (added, removed []string) {
	d := differ{}
	d.children("", a, b)
	return d.added, d.removed
}

// same reports whether a and b hold the same configuration.
func same(a, b *Node) bool {
	if a == b {
		return true
	}
	d := differ{first: true}
	d.children("", a, b)
	return !d.any
}

type differ struct {
	added, removed []string
	first          bool // stop at the first difference and keep no lines
	any            bool
}

func (d *differ) children(path string, a, b *Node) {
	if a == b || d.any && d.first {
		return
	}
	var as, bs []*Node
	if a != nil {
		as = a.Children
	}
	if b != nil {
		bs = b.Children
	}
	as, bs = unshared(as, bs)
	old := make(map[ident]*Node, len(as))
	for _, c := range as {
		old[c.ident()] = c
	}
	for _, c := range bs {
		id := c.ident()
		o := old[id]
		delete(old, id)
		d.pair(path, o, c)
	}
	for _, c := range as {
		if _, left := old[c.ident()]; left {
			d.pair(path, c, nil)
		}
	}
}

// unshared returns what of two children lists is not the same node in the same order. An edit leaves nearly everything
// where it was, so that this finds nearly all of it without comparing anything; what it misses costs only time.
func unshared(as, bs []*Node) (a, b []*Node) {
	const ahead = 16
	find := func(list []*Node, n *Node) int { return slices.Index(list[:min(ahead, len(list))], n) }
	for len(as) > 0 && len(bs) > 0 {
		switch skipA, skipB := find(as, bs[0]), find(bs, as[0]); {
		case skipA == 0:
			as, bs = as[1:], bs[1:]
		case skipA > 0:
			a, as = append(a, as[:skipA]...), as[skipA:]
		case skipB > 0:
			b, bs = append(b, bs[:skipB]...), bs[skipB:]
		default:
			a, b = append(a, as[0]), append(b, bs[0])
			as, bs = as[1:], bs[1:]
		}
	}
	return append(a, as...), append(b, bs...)
}

// pair compares two nodes of one ident; one of them may be nil.
func (d *differ) pair(path string, a, b *Node) {
	if a == b {
		return
	}
	if a != nil && b != nil && (a.Kind != b.Kind) {
		d.pair(path, a, nil)
		d.pair(path, nil, b)
		return
	}
	n := a
	if n == nil {
		n = b
	}
	if n.Kind == Container || n.Kind == List {
		next := ""
		if !d.first {
			next = path + step(n)
		}
		d.children(next, a, b)
		return
	}
	if a != nil && b != nil && a.Value == b.Value {
		return
	}
	d.any = true
	if d.first {
		return
	}
	if b != nil {
		d.added = append(d.added, path+step(b)+"="+history.Quote(b.Value))
	}
	if a != nil {
		d.removed = append(d.removed, path+step(a)+"="+history.Quote(a.Value))
	}
}

// step is one step of a line's way.
func step(n *Node) string {
	name := n.Name.Local
	if prefixOf(n.Name.Space) == "" {
		name = "{" + n.Name.Space + "}" + name
	}
	if n.Kind == List {
		return "/" + name + "[" + history.Quote(n.Key) + "]"
	}
	return "/" + name
}

// lines returns the whole configuration as sorted lines.
func lines(n *Node) []string {
	added, _ := diff(nil, n)
	slices.Sort(added)
	return added
}
